"""Checks of an instance, one for each group of datapoints, as Icinga and Director run them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import NamedTuple

from lm_openai.collect.evaluation import effective
from lm_openai.hosts.groups import Group, groups, lines_of_all, of_all, sentence
from lm_openai.hosts.jobs import HEALTH, OUTAGE_POLLS, Job
from lm_openai.model.report import Instance
from lm_openai.model.thresholds import Threshold

Thresholds = tuple[Threshold, ...]


class Check(NamedTuple):
    """Check of one instance that reads the datapoints of a group.

    `number` is the place of its group: the first one's name ends without the number of polls. With
    `unknown` its UNKNOWN is notified, which holds for one check of an organization. `lines` are the
    thresholds in force, each after the instances that it is for, empty for all.
    """

    job: Job
    group: Group
    number: int
    unknown: bool
    lines: tuple[tuple[str, Threshold], ...]

    @property
    def health(self) -> bool:
        """Return True for a check on which those of all other DataSources depend."""
        return self.job.definition.folder == HEALTH

    @property
    def polls(self) -> int:
        """Return the number of bad polls in a row after which its state is notified."""
        return max(self.group.polls, OUTAGE_POLLS) if self.unknown else self.group.polls

    @property
    def critical(self) -> bool:
        """Return True if it can become CRITICAL."""
        return any(level is not None for _, one in self.lines for level in one.limits[1:])

    @property
    def suffix(self) -> str:
        """Return the end of the services' names, empty for the first group: ` 1 poll`."""
        return f" {self.group.words}" if self.number else ""

    @property
    def judged(self) -> str:
        """Return the end of the services' display names, empty for the first group."""
        names = ", ".join(one.datapoint for one in self.group.thresholds)
        return f": {names}" if self.number else ""

    @property
    def notes(self) -> str:
        """Return the limits with their reasons, which hold the remedies."""
        definition = self.job.definition
        limits = (sentence(definition, one, match) for match, one in self.lines)
        return "\n".join((definition.description, *limits))


class Shape(NamedTuple):
    """Checks of the instances of one DataSource that have the same thresholds.

    `number` is 0 for the usual thresholds; the others are those of an override in a threshold file.
    """

    job: Job
    number: int
    thresholds: Thresholds
    checks: tuple[Check, ...]

    @property
    def name(self) -> str:
        """Return the folder, followed by the number if it is not 0."""
        folder = self.job.definition.folder
        return f"{folder}_{self.number}" if self.number else folder


def shape_of_all(job: Job) -> Shape:
    """Return one shape for all instances, whose notes have the overrides too."""
    thresholds = of_all(job)
    found = _checks(job, thresholds, lambda group: lines_of_all(job, group))
    return Shape(job, 0, tuple(thresholds.values()), found)


def shapes(job: Job, *needed: Iterable[Thresholds]) -> tuple[Shape, ...]:
    """Return a shape for each of the thresholds, after the usual one, which is always there."""
    usual = _on(job.rules.thresholds.values())
    each = dict.fromkeys((usual, *chain.from_iterable(needed)))
    return tuple(_shape(job, *one) for one in enumerate(each))


def in_force(job: Job, instance: Instance) -> Thresholds:
    """Return the thresholds of one instance that have a limit."""
    return _on(effective(job.rules, instance).values())


def _shape(job: Job, number: int, thresholds: Thresholds) -> Shape:
    named = {one.datapoint: one for one in thresholds}
    found = _checks(job, named, lambda group: (("", one) for one in group.thresholds))
    return Shape(job, number, thresholds, found)


def _checks(
    job: Job,
    thresholds: Mapping[str, Threshold],
    lines: Callable[[Group], Iterable[tuple[str, Threshold]]],
) -> tuple[Check, ...]:
    found = groups(job.definition, thresholds)
    slowest = max(found, key=lambda group: group.polls)
    health = job.definition.folder == HEALTH
    return tuple(
        Check(job, group, number, health and group is slowest, tuple(lines(group)))
        for number, group in enumerate(found)
    )


def _on(thresholds: Iterable[Threshold]) -> Thresholds:
    return tuple(one for one in thresholds if one.on)
