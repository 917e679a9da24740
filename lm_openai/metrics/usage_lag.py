"""Measurement of how late an organization's usage arrives: the growth of single minutes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.errors import ApiFailure
from lm_openai.timespans import MINUTE

if TYPE_CHECKING:
    from lm_openai.api.client import Client

INTERVAL = 60
SHARES = (50, 90, 99)

Seen = dict[int, list[tuple[int, int]]]


class Age(NamedTuple):
    """Ages at which the counts of one usage kind had reached a percent of their final value.

    `minutes` is the number of minutes measured. `ages` maps a percent of their total count to the
    seconds after the end of a minute by which that much had arrived. `growing` is True if counts
    still grew in the last tenth of the watch, so that the true ages are greater.
    """

    kind: str
    minutes: int
    ages: dict[int, int]
    growing: bool

    @property
    def grace(self) -> int:
        """Value for openai.finalization.grace: the age of 99 percent in minutes, rounded up."""
        return -(-self.ages[SHARES[-1]] // MINUTE)


class Watch:
    """Counts of the minutes from now on, recorded at each poll.

    `client` returns a new client for each poll; `now` returns Unix seconds.
    """

    def __init__(self, client: Callable[[], Client], now: Callable[[], int]) -> None:
        self._client, self._now = client, now
        self._begun = self._ended = now()
        self._seen: dict[str, Seen] = {
            name: {} for name, kind in USAGE_KINDS.items() if not kind.level
        }

    def poll(self) -> None:
        """Record the present counts; a failed request leaves a gap and makes no age wrong.

        Raises ApiFailure if every request fails and there is no earlier poll.
        """
        outcomes = _poll(self._client(), self._seen, self._begun, self._now())
        failures = [outcome for outcome in outcomes if outcome is not None]
        if len(failures) == len(outcomes) and not any(self._seen.values()):
            raise failures[0]
        self._ended = self._now()

    def watched(self) -> int:
        """Return the seconds from the beginning to the last poll."""
        return self._ended - self._begun

    def used(self) -> int:
        """Return how many usage kinds showed usage so far."""
        return sum(
            any(sightings[-1][1] for sightings in minutes.values())
            for minutes in self._recorded().values()
        )

    def ages(self) -> list[Age]:
        """Return the age of each kind with usage.

        Only minutes of the first half are measured, so that each is watched for at least half of
        the time.
        """
        found = (
            grown(name, minutes, self._begun, self._ended)
            for name, minutes in self._recorded().items()
        )
        return [age for age in found if age is not None]

    def _recorded(self) -> dict[str, Seen]:
        """Return a copy: after an interrupt, running requests may still record counts."""
        return {
            name: {start: [*sightings] for start, sightings in [*minutes.items()]}
            for name, minutes in self._seen.items()
        }


def grown(kind: str, minutes: Seen, begun: int, ended: int) -> Age | None:
    """Return the age of a kind from its (age, count) by minute, or None without any usage."""
    measured = [
        sightings
        for start, sightings in minutes.items()
        if begun <= start < begun + (ended - begun) // 2 and sightings[-1][1]
    ]
    total = sum(sightings[-1][1] for sightings in measured)
    if not total:
        return None
    steps = sorted(step for sightings in measured for step in _steps(sightings))
    late = ended - (ended - begun) // 10
    growing = any(
        start + MINUTE + age > late
        for start, sightings in minutes.items()
        if sightings in measured
        for age, _ in _steps(sightings)
    )
    return Age(kind, len(measured), {share: _age(steps, total, share) for share in SHARES}, growing)


def _poll(client: Client, seen: dict[str, Seen], begun: int, now: int) -> list[ApiFailure | None]:
    start = begun - begun % MINUTE - MINUTE
    return client.together(partial(_record, client, kind, seen[kind], start, now) for kind in seen)


def _record(client: Client, kind: str, minutes: Seen, start: int, now: int) -> None:
    """Record each minute's age and count; a minute without results counts 0 so far."""
    field = USAGE_KINDS[kind].required[0]
    for bucket in client.usage(kind, start, now, "1m"):
        count = sum(row[field] for row in bucket.results)
        minute = bucket.start - bucket.start % MINUTE
        minutes.setdefault(minute, []).append((now - (minute + MINUTE), count))


def _steps(sightings: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield (age, increase) for each growth of a minute's count."""
    before = 0
    for age, count in sightings:
        if count != before:
            yield max(0, age), count - before
            before = count


def _age(steps: list[tuple[int, int]], total: int, share: int) -> int:
    reached = 0
    for age, increase in steps:
        reached += increase
        if reached * 100 >= share * total:
            return age
    return steps[-1][0]
