"""Notifications of a correct monitoring system: the rule of polls in a row, written plainly."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from lm_openai.hosts.jobs import HEALTH, Job

Key = tuple[str, str, str]
"""DataSource, instance and datapoint."""


class Notice(NamedTuple):
    """Notification: a problem begins or, with `ended`, is over; `alias` names the instance."""

    time: int
    alias: str
    datapoint: str
    ended: bool


class Judge:
    """State of each threshold over polls; a poll without a judgement changes nothing.

    While the API cannot be reached, only that is notified.
    """

    def __init__(self) -> None:
        self._bad: dict[Key, int] = defaultdict(int)
        self._open: set[Key] = set()

    def judge(self, job: Job, text: str, now: int) -> Iterator[Notice]:
        """Yield the notifications after one poll, whose JSON is `text`, empty if it failed."""
        if not text:
            return
        for row in json.loads(text)["instances"]:
            levels = {one["datapoint"]: one for one in row["breaches"]}
            for alert in job.alerts:
                name = alert.datapoint.name
                if name in row["datapoints"] and self._counts(job, row, name):
                    key = (job.definition.folder, row["id"], name)
                    yield from self._seen(
                        key, alert.threshold.consecutive, name in levels, row, now
                    )

    def _counts(self, job: Job, row: dict[str, Any], name: str) -> bool:
        """Return False for what follows from an outage, which is a problem of its own."""
        reached = row["datapoints"].get("api_reachable", 1)
        return job.definition.folder != HEALTH or bool(reached) or name == "api_reachable"

    def _seen(self, key: Key, polls: int, bad: bool, row: Any, now: int) -> Iterator[Notice]:
        self._bad[key] = self._bad[key] + 1 if bad else 0
        if self._bad[key] >= polls and key not in self._open:
            self._open.add(key)
            yield Notice(now, row["alias"], key[2], ended=False)
        if not bad and key in self._open:
            self._open.remove(key)
            yield Notice(now, row["alias"], key[2], ended=True)


def counted(notices: list[Notice]) -> dict[str, tuple[int, int]]:
    """Return the number of problems and recoveries of each alias."""
    aliases = {one.alias for one in notices}
    ends = {alias: [one.ended for one in notices if one.alias == alias] for alias in aliases}
    return {alias: (own.count(False), own.count(True)) for alias, own in ends.items()}
