"""Threshold files: reading, validating and merging the shipped ones and a site's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from lm_openai import resources
from lm_openai.api.endpoints import COST_DIMENSIONS, USAGE_KINDS
from lm_openai.config.json_files import File, Place, Stamps, check, nearest, parse, quoted, read
from lm_openai.config.site_files import Site, entries
from lm_openai.model.definition import Definition
from lm_openai.model.thresholds import (
    LEVELS,
    OPERATORS,
    Override,
    Rules,
    Threshold,
    merged,
    short_name,
)
from lm_openai.model.units import plain

SHIPPED = "default"
NO_SITE = Site()


def load(
    definition: Definition,
    files: Sequence[str] = (),
    site: Site = NO_SITE,
    stamps: Stamps | None = None,
) -> Rules:
    """Return the shipped thresholds merged with the site's entries, then with `files`.

    After each file, the limits of every threshold must be in order. The same holds for each
    override on top of its datapoint's threshold. If several overrides match one instance, the last
    one wins, level by level. Raises WrongUsage for a fault in an entry of this DataSource, with the
    path and the position in the file; faults of the site's other entries do not matter here.
    """
    thresholds: dict[str, Threshold] = {}
    overrides: list[tuple[Override, Place]] = []
    sources: dict[str, str] = {}
    for place, tuning in _tunings(definition, files, site, stamps):
        for datapoint, change, spot in _changes(definition, tuning, place):
            thresholds[datapoint] = _checked(thresholds.get(datapoint), datapoint, change, spot)
            sources[datapoint] = place.path
        overrides.extend(_overrides(definition, tuning, place))
    for override, spot in overrides:
        base = thresholds.get(override.datapoint)
        _checked(base, override.datapoint, override.change, spot)
    return Rules(definition.name, thresholds, tuple(override for override, _ in overrides), sources)


def reason(definition: Definition) -> str:
    """Return the reason for the shipped thresholds, or for having none; may be empty."""
    shipped = parse(resources.module_file(definition.folder, "thresholds.json"), Place(SHIPPED))
    return str(shipped.get("reason", ""))


def _tunings(
    definition: Definition, files: Iterable[str], site: Site, stamps: Stamps | None
) -> Iterator[tuple[Place, dict[str, Any]]]:
    shipped = Place(SHIPPED)
    yield shipped, parse(resources.module_file(definition.folder, "thresholds.json"), shipped)
    for entry in site.entries:
        if definition.is_named(entry.datasource):
            check(entry.file, "thresholds", stamps)
            yield entry.file.place, entry.file.content
    for path in files:
        yield from _given(definition, read(path), stamps)


def _given(
    definition: Definition, file: File, stamps: Stamps | None
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield the DataSource's entries of a file that was given by option; it must have one."""
    check(file, "thresholds", stamps)
    found = [*entries(file)]
    own = [entry for entry in found if definition.is_named(entry.content["datasource"])]
    if not own:
        names = ", ".join(entry.content["datasource"] for entry in found) or "nothing"
        raise file.place.wrong(f"is for {names}, not for {definition.name}")
    yield from ((entry.place, entry.content) for entry in own)


def _changes(
    definition: Definition, tuning: dict[str, Any], place: Place
) -> Iterator[tuple[str, dict[str, Any], Place]]:
    seen: dict[str, int] = {}
    for index, entry in enumerate(tuning.get("thresholds", ())):
        spot = place.at("thresholds", index)
        datapoint = _declared(definition, entry, spot)
        if datapoint in seen:
            problem = f"{datapoint} already has a threshold in thresholds[{seen[datapoint]}]"
            raise spot.at("datapoint").wrong(problem)
        seen[datapoint] = index
        yield datapoint, _change(entry), spot


def _overrides(
    definition: Definition, tuning: dict[str, Any], place: Place
) -> Iterator[tuple[Override, Place]]:
    for index, entry in enumerate(tuning.get("overrides", ())):
        spot = place.at("overrides", index)
        datapoint = _declared(definition, entry, spot)
        match = tuple(_match(definition, entry["match"], spot.at("match")))
        yield Override(match, datapoint, _change(entry), place.path), spot


def _declared(definition: Definition, entry: dict[str, Any], spot: Place) -> str:
    name: str = entry["datapoint"]
    known = [datapoint.name for datapoint in definition.datapoints]
    if name not in known:
        problem = f"{definition.name} has no datapoint {quoted(name)}{nearest(name, known)}"
        raise spot.at("datapoint").wrong(problem)
    return name


def _match(definition: Definition, match: dict[str, str], spot: Place) -> Iterator[tuple[str, str]]:
    known = {short_name(dimension): dimension for dimension in _dimensions(definition)}
    for name, glob in match.items():
        if short_name(name) not in known:
            problem = f"{definition.name} has no dimension {quoted(name)}{nearest(name, known)}"
            raise spot.at(name).wrong(problem)
        yield known[short_name(name)], glob


def _dimensions(definition: Definition) -> Iterator[str]:
    """Yield the dimensions of the instances, or all if `openai.group.by` may choose them."""
    yield from definition.dimensions
    if "openai.group.by" in definition.properties:
        for kind in USAGE_KINDS.values():
            yield from kind.dimensions
        yield from COST_DIMENSIONS


def _change(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of Threshold that an entry sets; limits become Decimal."""
    plain_fields = ("operator", "consecutive", "reason")
    change: dict[str, Any] = {name: entry[name] for name in plain_fields if name in entry}
    for level in LEVELS:
        if level in entry:
            change[level] = None if entry[level] is None else Decimal(entry[level])
    return change


def _checked(
    base: Threshold | None, datapoint: str, change: dict[str, Any], spot: Place
) -> Threshold:
    if base is None and "operator" not in change:
        raise spot.wrong(f'"operator" is missing; {datapoint} has no threshold to inherit it from')
    threshold = merged(base, datapoint, change)
    limits = [limit for limit in threshold.limits if limit is not None]
    sign = OPERATORS[threshold.operator]
    if not all(sign.ordered(lower, higher) for lower, higher in pairwise(limits)):
        shown = " ".join(_plain(limit) for limit in threshold.limits)
        raise spot.wrong(
            f"the merged limits of {datapoint} are {threshold.operator} {shown}; they {sign.rule}"
        )
    return threshold


def _plain(limit: Decimal | None) -> str:
    return "-" if limit is None else plain(limit)
