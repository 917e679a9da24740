"""Threshold files: reading, validating and merging the shipped ones and a site's own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any

from lm_openai import resources
from lm_openai.api.endpoints import COST_DIMENSIONS, USAGE_KINDS
from lm_openai.config.json_files import File, Place, Stamps, check, nearest, parse, quoted, read
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


def load(
    definition: Definition,
    files: Sequence[str] = (),
    folders: Sequence[str] = (),
    stamps: Stamps | None = None,
) -> Rules:
    """Return the shipped thresholds merged with the files in `folders`, then with `files`.

    After each file, the limits of every threshold must be in order. The same holds for each
    override on top of its datapoint's threshold. If several overrides match one instance, the last
    one wins, level by level. Raises WrongUsage, which names the path and the position in the file.
    """
    thresholds: dict[str, Threshold] = {}
    overrides: list[tuple[Override, Place]] = []
    sources: dict[str, str] = {}
    for place, tuning in _tunings(definition, files, folders, stamps):
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
    definition: Definition,
    files: Iterable[str],
    folders: Iterable[str],
    stamps: Stamps | None,
) -> Iterator[tuple[Place, dict[str, Any]]]:
    shipped = Place(SHIPPED)
    yield shipped, parse(resources.module_file(definition.folder, "thresholds.json"), shipped)
    for path in listed(folders):
        yield from _own_entries(definition.name, read(path), stamps)
    for path in files:
        file = read(path)
        own = tuple(_own_entries(definition.name, file, stamps))
        if not own:
            names = ", ".join(entry["datasource"] for _, entry in entries(file)) or "nothing"
            raise file.place.wrong(f"is for {names}, not for {definition.name}")
        yield from own


def listed(folders: Iterable[str]) -> Iterator[str]:
    """Yield the paths of the folders' JSON files in order; a missing folder has no files.

    Raises WrongUsage for a folder that cannot be read.
    """
    for folder in folders:
        if not os.path.isdir(folder):
            continue
        try:
            names = sorted(os.listdir(folder))
        except OSError as error:
            raise Place(folder).wrong(f"cannot be read ({error.strerror})") from None
        for name in names:
            if name.endswith(".json") and not name.startswith("."):
                yield os.path.join(folder, name)


def _own_entries(
    name: str, file: File, stamps: Stamps | None
) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Yield a file's entries for one DataSource.

    A file that has none is not validated: its faults are reported when its DataSources are polled.
    """
    found = tuple(entries(file))
    names = [isinstance(entry, dict) and entry.get("datasource") for _, entry in found]
    if all(isinstance(other, str) and other != name for other in names):
        return
    check(file, "thresholds", stamps)
    for place, entry in found:
        if entry["datasource"] == name:
            yield place, entry


def entries(file: File) -> Iterator[tuple[Place, Any]]:
    """Yield the entries of a file with their positions, one per DataSource; not checked."""
    if isinstance(file.content, list):
        yield from ((file.place.at(index), entry) for index, entry in enumerate(file.content))
    else:
        yield file.place, file.content


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
