"""Groups of datapoints whose thresholds need the same number of polls: one check each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from lm_openai.hosts.jobs import Job
from lm_openai.model.definition import Definition
from lm_openai.model.thresholds import LEVELS, Threshold, describe
from lm_openai.model.units import plain
from lm_openai.output.nagios import PHRASES, counted


class Group(NamedTuple):
    """Datapoints of one service: those whose threshold takes effect after `polls` polls in a row.

    `datapoints` are the names that the check is restricted to (empty: all datapoints), and
    `thresholds` those in force.
    """

    polls: int
    datapoints: tuple[str, ...]
    thresholds: tuple[Threshold, ...]

    @property
    def words(self) -> str:
        """Return the number of polls in words: `1 poll`."""
        return counted(self.polls, "poll")


def groups(definition: Definition, thresholds: Mapping[str, Threshold]) -> list[Group]:
    """Return a DataSource's datapoints by the `consecutive` of their threshold, at least one group.

    Datapoints that are not judged are in the first group, so that each is in one.
    """
    judged = {name: one for name, one in thresholds.items() if one.on}
    order = [one.name for one in definition.datapoints]
    polls = dict.fromkeys(judged[name].consecutive for name in order if name in judged) or {1: None}
    first = next(iter(polls))
    named = {
        number: [name for name in order if _polls(judged.get(name), first) == number]
        for number in polls
    }
    return [
        Group(
            number,
            tuple(names) if len(named) > 1 else (),
            tuple(judged[name] for name in names if name in judged),
        )
        for number, names in named.items()
    ]


def of_all(job: Job) -> dict[str, Threshold]:
    """Return the thresholds by which the groups of all instances are formed, by datapoint.

    Of several thresholds for one datapoint, the first one's `consecutive` counts.
    """
    return {threshold.datapoint: threshold for _, threshold in reversed([*_lines(job)])}


def lines_of_all(job: Job, group: Group) -> Iterator[tuple[str, Threshold]]:
    """Yield the group's thresholds, each after the instances it is for: ` (project=batch-*)`."""
    own = {one.datapoint for one in group.thresholds}
    return (line for line in _lines(job) if line[1].datapoint in own)


def _lines(job: Job) -> Iterator[tuple[str, Threshold]]:
    for line in describe(job.rules):
        if line.threshold.on:
            yield f" ({line.match})" if line.match else "", line.threshold


def sentence(definition: Definition, threshold: Threshold, match: str = "") -> str:
    """Return a threshold in words with its reason, which holds the remedy.

    `match` names the instances that it is for.
    """
    uom = definition.datapoint(threshold.datapoint).measure.uom
    limits = ", ".join(
        f"{level} {PHRASES[threshold.operator]} {plain(limit)}{uom}"
        for level, limit in zip(LEVELS, threshold.limits)
        if limit is not None
    )
    return f"{threshold.datapoint}{match}: {limits}. {threshold.reason}".rstrip()


def _polls(threshold: Threshold | None, otherwise: int) -> int:
    return otherwise if threshold is None else threshold.consecutive
