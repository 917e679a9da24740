"""Evaluation of values: each becomes a reading with the threshold of its instance."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from lm_openai.model.definition import Definition
from lm_openai.model.report import Breach, Instance, Missing, Reading, Unjudged, Values
from lm_openai.model.thresholds import ERROR, OK, Override, Rules, Threshold, merged, short_name
from lm_openai.model.units import Number


def judge(rules: Rules, instance: Instance, values: Mapping[str, Number]) -> tuple[Reading, ...]:
    """Return every value as a Reading, in the given order, with its threshold and breach."""
    thresholds = effective(rules, instance)
    return tuple(_reading(name, value, thresholds.get(name)) for name, value in values.items())


def absent(
    definition: Definition, values: Values, missing: Mapping[str, Missing]
) -> dict[str, Missing]:
    """Return the missing datapoints and those that are derived from them, in definition order."""
    found: dict[str, Missing] = {}
    for datapoint in definition.datapoints if missing else ():
        parts = [name for names in (datapoint.derived or {}).values() for name in names]
        reasons = [missing.get(datapoint.name), *(found.get(part) for part in parts)]
        reason = next((reason for reason in reasons if reason), None)
        if reason and datapoint.name not in values:
            found[datapoint.name] = reason
    return found


def unjudged(
    rules: Rules, instance: Instance, missing: Mapping[str, Missing]
) -> tuple[Unjudged, ...]:
    """Return the thresholds in force of the missing datapoints."""
    thresholds = effective(rules, instance) if missing else {}
    return tuple(
        _unjudged(name, thresholds[name], reason)
        for name, reason in missing.items()
        if name in thresholds and thresholds[name].on
    )


def doubted(
    rules: Rules, instance: Instance, values: Values, unread: Collection[str]
) -> tuple[Unjudged, ...]:
    """Return the thresholds that an override by an unread name might change.

    `unread` are the dimensions whose names could not be read. A level that the threshold reaches
    without the override stays.
    """
    thresholds = effective(rules, instance) if unread else {}
    found: dict[str, Unjudged] = {}
    for override in rules.overrides if unread else ():
        name, nameless = override.datapoint, _nameless(override, instance, unread)
        if name in values and nameless and not _matches(override, instance):
            base = thresholds.get(name)
            threshold = merged(base, name, override.change)
            noun = short_name(nameless).replace("_", " ")
            reason = f"the names of {noun}s could not be read, and an override needs them"
            found[name] = Unjudged(name, threshold, Missing(reason))
    return tuple(found.values())


def _nameless(override: Override, instance: Instance, unread: Collection[str]) -> str:
    """Return a dimension in which only an unread name can match; empty if another part differs."""
    doubtful = ""
    for dimension, glob in override.match:
        if _fits(glob, _texts(instance, dimension)):
            continue
        named = short_name(dimension) + "_name" in instance.names
        if dimension not in unread or named or dimension not in instance.dimensions:
            return ""
        doubtful = dimension
    return doubtful


def _fits(glob: str, texts: Iterable[str]) -> bool:
    return any(text == glob or fnmatchcase(text, glob) for text in texts)


def _unjudged(name: str, threshold: Threshold, missing: Missing) -> Unjudged:
    """Return a threshold without a judgement, or with the level that the known part reaches."""
    level = OK
    if missing.at_least is not None and threshold.operator in (">", ">="):
        level = threshold.level(missing.at_least)
    breach = Breach(level, threshold) if level >= ERROR else None
    return Unjudged(name, threshold, missing, breach)


def effective(rules: Rules, instance: Instance) -> dict[str, Threshold]:
    """Return the thresholds of one instance by datapoint, including those that are switched off."""
    matching = [override for override in rules.overrides if _matches(override, instance)]
    if not matching:
        return rules.thresholds
    thresholds = dict(rules.thresholds)
    for override in matching:
        base = thresholds.get(override.datapoint)
        thresholds[override.datapoint] = merged(base, override.datapoint, override.change)
    return thresholds


def _matches(override: Override, instance: Instance) -> bool:
    return all(_fits(glob, _texts(instance, dimension)) for dimension, glob in override.match)


def _texts(instance: Instance, dimension: str) -> Iterator[str]:
    """Yield an instance's id and name in one dimension, if it has them."""
    for texts, name in (
        (instance.dimensions, dimension),
        (instance.names, short_name(dimension) + "_name"),
    ):
        if name in texts:
            yield texts[name]


def _reading(name: str, value: Number, threshold: Threshold | None) -> Reading:
    if threshold is None or not threshold.on:
        return Reading(name, value)
    level = threshold.level(value)
    return Reading(name, value, threshold, Breach(level, threshold) if level else None)
