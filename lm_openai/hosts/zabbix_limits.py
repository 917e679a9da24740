"""Thresholds in the Zabbix template: their macros, and the rows for which an override counts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, count
from typing import Any, NamedTuple

from lm_openai.hosts import globs
from lm_openai.hosts.jobs import Alert
from lm_openai.hosts.zabbix_names import Source
from lm_openai.model.definition import Datapoint
from lm_openai.model.thresholds import (
    LEVELS,
    Match,
    Threshold,
    match_text,
    matched_fields,
    merged,
    short_name,
)
from lm_openai.model.units import plain


class Limits(NamedTuple):
    """One datapoint's threshold for the instances that match (empty: all others).

    `part` is that of the macros' names which no other threshold of the datapoint has.
    """

    datapoint: Datapoint
    threshold: Threshold
    match: Match = ()
    part: str = ""

    @property
    def suffix(self) -> str:
        """Return the end of the triggers' names: ` [key_type=admin]`."""
        return f" [{match_text(self.match)}]" if self.match else ""

    def levels(self) -> Iterator[str]:
        """Yield the levels that have a limit, the worst first."""
        for level, limit in reversed([*zip(LEVELS, self.threshold.limits)]):
            if limit is not None:
                yield level


def limits(alert: Alert) -> Iterator[Limits]:
    """Yield the datapoint's threshold and then its overrides, the last of which wins.

    The collector would merge two overrides that match the same instance, level by level.
    """
    if alert.threshold.on:
        yield Limits(alert.datapoint, alert.threshold)
    changes: dict[Match, dict[str, Any]] = {}
    for override in alert.overrides:
        changes.setdefault(override.match, {}).update(override.change)
    taken = set[str]()
    for match, change in changes.items():
        threshold = merged(alert.threshold, alert.datapoint.name, change)
        part = ".".join(_word(f"{short_name(name)}_{glob}") for name, glob in match)
        numbered = (f"{part}.{number}" for number in count(2))
        part = next(one for one in chain([part], numbered) if one not in taken)
        taken.add(part)
        yield Limits(alert.datapoint, threshold, match, part)


def macro(source: Source, one: Limits, level: str) -> str:
    """Return the macro of a limit without its braces and its context."""
    folder, name = _word(source.definition.folder), _word(one.datapoint.name)
    return ".".join(filter(None, ("$OPENAI", folder, name, one.part, _word(level))))


def _word(text: str) -> str:
    """Return text as a part of a macro's name, which has capitals, digits and underscores."""
    return re.sub("[^A-Z0-9_]", "_", text.upper())


def in_context(source: Source, one: Limits, level: str) -> str:
    """Return the macro of a limit as a trigger uses it, with the instance's id as its context."""
    dimensions = source.definition.dimensions
    if not dimensions:
        return f"{{{macro(source, one, level)}}}"
    name = "project_id" if "project_id" in dimensions else dimensions[0]
    return f'{{{macro(source, one, level)}:"{{#{name.upper()}}}"}}'


def macros(source: Source) -> Iterator[dict[str, str]]:
    """Yield the macros of all limits with their values and descriptions."""
    for alert in source.job.alerts:
        for one in limits(alert):
            for level in one.levels():
                limit = one.threshold.limits[LEVELS.index(level)]
                assert limit is not None
                yield {
                    "macro": f"{{{macro(source, one, level)}}}",
                    "value": plain(limit),
                    "description": f"{source.definition.title}, {one.datapoint.name}"
                    f"{one.suffix}: {level} {one.threshold.operator} this many "
                    f"{one.datapoint.unit}, {polls(one.threshold)}",
                }


def polls(threshold: Threshold) -> str:
    """Return how many polls in a row have to reach a limit, in words."""
    return f"{threshold.consecutive} polls in a row" if threshold.consecutive > 1 else "one poll"


def overrides(source: Source) -> list[dict[str, Any]]:
    """Return the steps of discovery that give a matching instance its override's triggers.

    The triggers of an override are off until its step turns them on and all others off.
    """
    found: list[dict[str, Any]] = []
    for alert in source.job.alerts:
        own = rf": {alert.datapoint.name} (?:{'|'.join(LEVELS)})"
        for one in limits(alert):
            if one.match:
                off = _operation(rf"{own}(?: \[.*\])?$", "NO_DISCOVER")
                on = _operation(rf"{own}{re.escape(one.suffix)}$", "DISCOVER")
                step = {"step": str(len(found) + 1), "filter": _filter(one.match)}
                name = f"{alert.datapoint.name}{one.suffix}"
                found.append({"name": name, **step, "operations": [off, on]})
    return found


def _operation(names: str, discover: str) -> dict[str, str]:
    return {
        "operationobject": "TRIGGER_PROTOTYPE",
        "operator": "REGEXP",
        "value": names,
        "discover": discover,
    }


def _filter(match: Match) -> dict[str, Any]:
    """Return the filter of an override: each glob fits the dimension's id or its name."""
    conditions: list[dict[str, str]] = []
    formula = []
    for dimension, glob in match:
        letters = []
        for name in matched_fields(dimension):
            letters.append(chr(ord("A") + len(conditions)))
            conditions.append(
                {
                    "macro": f"{{#{name.upper()}}}",
                    "operator": "MATCHES_REGEX",
                    "value": _pattern(glob),
                    "formulaid": letters[-1],
                }
            )
        formula.append(f"({' or '.join(letters)})" if len(letters) > 1 else letters[0])
    if len(conditions) == 1:
        return {"conditions": conditions}
    return {"evaltype": "FORMULA", "formula": " and ".join(formula), "conditions": conditions}


def _pattern(glob: str) -> str:
    """Return the anchored regular expression of a glob."""
    text = globs.regex(glob)
    return f"^(?:{text})$" if "|" in text else f"^{text}$"
