"""Thresholds as values: limits by level, overrides for some instances, and the level of a value."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

from lm_openai.model.units import Number

OK, WARNING, ERROR, CRITICAL = range(4)
LEVELS = ("warning", "error", "critical")


class Operator(NamedTuple):
    """Comparison of a value with a limit.

    `alarms(value, limit)` compares; `ordered(lower, higher)` is True if the limits of two levels
    are in the right order, which `rule` states in words.
    """

    alarms: Callable[[Any, Any], bool]
    ordered: Callable[[Any, Any], bool]
    rule: str


_RISING = "must not fall from level to level"
_FALLING = "must not rise from level to level"
OPERATORS = {
    ">": Operator(operator.gt, operator.le, _RISING),
    ">=": Operator(operator.ge, operator.le, _RISING),
    "<": Operator(operator.lt, operator.ge, _FALLING),
    "<=": Operator(operator.le, operator.ge, _FALLING),
    "=": Operator(operator.eq, lambda lower, higher: True, ""),
    "!=": Operator(operator.ne, operator.eq, "must be one number, or no value would be ok"),
}


class Threshold(NamedTuple):
    """One datapoint's limits; a level without a limit is None.

    The threshold takes effect after `consecutive` polls in a row that reach it.
    """

    datapoint: str
    operator: str
    warning: Decimal | None
    error: Decimal | None
    critical: Decimal | None
    consecutive: int = 1
    reason: str = ""

    @property
    def limits(self) -> tuple[Decimal | None, ...]:
        """Return the limits of warning, error and critical."""
        return (self.warning, self.error, self.critical)

    @property
    def on(self) -> bool:
        """Return True if any level has a limit."""
        return any(limit is not None for limit in self.limits)

    def level(self, value: Number) -> int:
        """Return the highest level that the value reaches, 0 if none.

        NaN reaches the highest level that has a limit. A float is compared as it prints, so that
        0.3 is not below 0.3.
        """
        exact = Decimal(repr(value)) if isinstance(value, float) else value
        alarms = OPERATORS[self.operator].alarms
        for level in range(len(LEVELS), OK, -1):
            limit = self.limits[level - 1]
            if limit is not None and (exact != exact or alarms(exact, limit)):
                return level
        return OK


Match = tuple[tuple[str, str], ...]


class Override(NamedTuple):
    """Change of one datapoint's threshold for instances whose dimensions match all globs.

    `match` is (dimension, glob) pairs, `change` the fields of Threshold that it sets and `source`
    the path of the file.
    """

    match: Match
    datapoint: str
    change: dict[str, Any]
    source: str


class Rules(NamedTuple):
    """All thresholds of one DataSource by datapoint, with the site's changes merged in.

    `sources` is the path of the file that last changed a datapoint's threshold.
    """

    datasource: str
    thresholds: dict[str, Threshold]
    overrides: tuple[Override, ...] = ()
    sources: dict[str, str] = {}


class Line(NamedTuple):
    """One threshold in force: the instances (`project=batch-*`, empty: all) and the source file."""

    match: str
    threshold: Threshold
    source: str


def describe(rules: Rules) -> Iterator[Line]:
    """Yield every threshold in force, each followed by the overrides of its datapoint."""
    datapoints = [*rules.thresholds, *(override.datapoint for override in rules.overrides)]
    for datapoint in dict.fromkeys(datapoints):
        base = rules.thresholds.get(datapoint)
        if base is not None:
            yield Line("", base, rules.sources[datapoint])
        for override in rules.overrides:
            if override.datapoint == datapoint:
                changed = merged(base, datapoint, override.change)
                yield Line(match_text(override.match), changed, override.source)


def merged(base: Threshold | None, datapoint: str, change: dict[str, Any]) -> Threshold:
    """Return `base`, or a threshold without limits, with the fields in `change` replaced."""
    return (base or without_limits(datapoint, change))._replace(**change)


def without_limits(datapoint: str, change: dict[str, Any]) -> Threshold:
    """Return the base of an override of a datapoint that has no threshold."""
    return Threshold(datapoint, change["operator"], None, None, None)


def short_name(dimension: str) -> str:
    """Return the word for a dimension in a `match`: `project` for `project_id`."""
    return dimension.removesuffix("_id")


def match_text(match: Match) -> str:
    """Return a match in words: `project=batch-*, model=gpt-4o`."""
    return ", ".join(f"{short_name(dimension)}={glob}" for dimension, glob in match)


def matched_fields(dimension: str) -> tuple[str, ...]:
    """Return the fields that a glob may match: the dimension, and for ids the name's field.

    >>> matched_fields("project_id"), matched_fields("model")
    (('project_id', 'project_name'), ('model',))
    """
    short = short_name(dimension)
    return (dimension,) if short == dimension else (dimension, f"{short}_name")
