"""Which values alarm: the shipped thresholds, what a site changed in them, and the judgement."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_openai.datasource import resource
from lm_openai.report import OK, Breach, Reading
from lm_openai.units import Number, plain
from lm_openai.written import File, Place, Stamps, check, nearest, parse, quoted, read

if TYPE_CHECKING:
    from lm_openai.datasource import DataSource
    from lm_openai.report import Instance

LEVELS = ("warning", "error", "critical")
SHIPPED = "default"


class Operator(NamedTuple):
    """How a value meets a limit, and how a lower level's limit must stand to a higher level's."""

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
    """One datapoint's limits (None: that level is off); it counts after `consecutive` bad polls."""

    datapoint: str
    operator: str
    warning: Decimal | None
    error: Decimal | None
    critical: Decimal | None
    consecutive: int = 1
    reason: str = ""

    @property
    def limits(self) -> tuple[Decimal | None, ...]:
        """The limits of warning, error and critical."""
        return (self.warning, self.error, self.critical)

    @property
    def on(self) -> bool:
        """Whether any level has a limit."""
        return any(limit is not None for limit in self.limits)

    def level(self, value: Number) -> int:
        """The highest level that the value reaches, 0 when none; NaN reaches the highest there is.

        A float is judged as it prints, so that 0.3 is not below 0.3.
        """
        exact = Decimal(repr(value)) if isinstance(value, float) else value
        alarms = OPERATORS[self.operator].alarms
        for level in range(len(LEVELS), OK, -1):
            limit = self.limits[level - 1]
            if limit is not None and (exact != exact or alarms(exact, limit)):
                return level
        return OK


class Override(NamedTuple):
    """What changes in one datapoint's threshold where every dimension matches its glob."""

    match: tuple[tuple[str, str], ...]
    datapoint: str
    change: dict[str, Any]
    place: Place


class Rules(NamedTuple):
    """The thresholds of one DataSource by datapoint, a site's changes merged in, and its overrides.

    `sources` tells which file changed a datapoint's threshold last.
    """

    datasource: str
    thresholds: dict[str, Threshold]
    overrides: tuple[Override, ...] = ()
    sources: dict[str, str] = {}


class Line(NamedTuple):
    """One threshold in force, for whom (`project=batch-*`; empty: for all) and by which file."""

    match: str
    threshold: Threshold
    source: str


def site_folders(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Where a site keeps its thresholds: the host's folder, then the user's if there is a home."""
    host = environ.get("LM_OPENAI_ETC") or "/etc/lm-openai"
    home = environ.get("HOME")
    user = environ.get("XDG_CONFIG_HOME") or (home and os.path.join(home, ".config"))
    folders = [host, os.path.join(user, "lm-openai")] if user else [host]
    return tuple(os.path.join(folder, "thresholds.d") for folder in folders)


def load(
    datasource: DataSource,
    files: Sequence[str] = (),
    folders: Sequence[str] = (),
    stamps: Stamps | None = None,
) -> Rules:
    """The shipped thresholds with the changes of the folders' files, then of `files`, merged in.

    Each file must leave every threshold in order, and so must each override over the thresholds
    that it meets; several overrides of one instance simply win in turn, level by level. Raises
    WrongUsage naming path and place.
    """
    thresholds: dict[str, Threshold] = {}
    overrides: list[Override] = []
    sources: dict[str, str] = {}
    for place, tuning in _tunings(datasource, files, folders, stamps):
        for datapoint, change, spot in _changes(datasource, tuning, place):
            thresholds[datapoint] = _merged(thresholds.get(datapoint), datapoint, change, spot)
            sources[datapoint] = place.path
        overrides.extend(_overrides(datasource, tuning, place))
    for override in overrides:
        base = thresholds.get(override.datapoint)
        _merged(base, override.datapoint, override.change, override.place)
    return Rules(datasource.name, thresholds, tuple(overrides), sources)


def reason(datasource: DataSource) -> str:
    """Why the shipped thresholds are what they are, or why there are none; may be empty."""
    shipped = parse(resource(datasource.folder, "thresholds.json"), Place(SHIPPED))
    return str(shipped.get("reason", ""))


def judge(rules: Rules, instance: Instance, values: Mapping[str, Number]) -> tuple[Reading, ...]:
    """Every value as a Reading, in the order given, judged by the thresholds of its instance."""
    thresholds = effective(rules, instance)
    return tuple(_reading(name, value, thresholds.get(name)) for name, value in values.items())


def effective(rules: Rules, instance: Instance) -> dict[str, Threshold]:
    """The thresholds of one instance by datapoint, those that are switched off included."""
    matching = [override for override in rules.overrides if _matches(override, instance)]
    if not matching:
        return rules.thresholds
    thresholds = dict(rules.thresholds)
    for override in matching:
        base = thresholds.get(override.datapoint)
        thresholds[override.datapoint] = _changed(base, override.datapoint, override.change)
    return thresholds


def describe(rules: Rules) -> Iterator[Line]:
    """What is in force: every threshold, each followed by what overrides alone make of it."""
    datapoints = [*rules.thresholds, *(override.datapoint for override in rules.overrides)]
    for datapoint in dict.fromkeys(datapoints):
        base = rules.thresholds.get(datapoint)
        if base is not None:
            yield Line("", base, rules.sources[datapoint])
        for override in rules.overrides:
            if override.datapoint == datapoint:
                match = ", ".join(f"{_short(name)}={glob}" for name, glob in override.match)
                changed = _changed(base, datapoint, override.change)
                yield Line(match, changed, override.place.path)


def _tunings(
    datasource: DataSource,
    files: Iterable[str],
    folders: Iterable[str],
    stamps: Stamps | None,
) -> Iterator[tuple[Place, dict[str, Any]]]:
    shipped = Place(SHIPPED)
    yield shipped, parse(resource(datasource.folder, "thresholds.json"), shipped)
    for path in listed(folders):
        yield from _mine(datasource.name, read(path), stamps)
    for path in files:
        file = read(path)
        mine = tuple(_mine(datasource.name, file, stamps))
        if not mine:
            names = ", ".join(entry["datasource"] for _, entry in entries(file)) or "nothing"
            raise file.place.wrong(f"is for {names}, not for {datasource.name}")
        yield from mine


def listed(folders: Iterable[str]) -> Iterator[str]:
    """The folders' files in order; a folder that is not there, or cannot be seen, holds none."""
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


def _mine(name: str, file: File, stamps: Stamps | None) -> Iterator[tuple[Place, dict[str, Any]]]:
    """A file's entries for one DataSource; a fault in a file for others is theirs to report."""
    held = tuple(entries(file))
    named = [isinstance(entry, dict) and entry.get("datasource") for _, entry in held]
    if all(isinstance(other, str) and other != name for other in named):
        return
    check(file, "thresholds", stamps)
    for place, entry in held:
        if entry["datasource"] == name:
            yield place, entry


def entries(file: File) -> Iterator[tuple[Place, Any]]:
    """What a file says, by DataSource; not checked."""
    if isinstance(file.content, list):
        yield from ((file.place.at(index), entry) for index, entry in enumerate(file.content))
    else:
        yield file.place, file.content


def _changes(
    datasource: DataSource, tuning: dict[str, Any], place: Place
) -> Iterator[tuple[str, dict[str, Any], Place]]:
    seen: dict[str, int] = {}
    for index, entry in enumerate(tuning.get("thresholds", ())):
        spot = place.at("thresholds", index)
        datapoint = _declared(datasource, entry, spot)
        if datapoint in seen:
            problem = f"{datapoint} has its threshold in thresholds[{seen[datapoint]}] already"
            raise spot.at("datapoint").wrong(problem)
        seen[datapoint] = index
        yield datapoint, _change(entry), spot


def _overrides(datasource: DataSource, tuning: dict[str, Any], place: Place) -> Iterator[Override]:
    for index, entry in enumerate(tuning.get("overrides", ())):
        spot = place.at("overrides", index)
        datapoint = _declared(datasource, entry, spot)
        match = tuple(_match(datasource, entry["match"], spot.at("match")))
        yield Override(match, datapoint, _change(entry), spot)


def _declared(datasource: DataSource, entry: dict[str, Any], spot: Place) -> str:
    name: str = entry["datapoint"]
    known = [datapoint.name for datapoint in datasource.datapoints]
    if name not in known:
        problem = f"{datasource.name} has no datapoint {quoted(name)}{nearest(name, known)}"
        raise spot.at("datapoint").wrong(problem)
    return name


def _match(datasource: DataSource, match: dict[str, str], spot: Place) -> Iterator[tuple[str, str]]:
    known = {_short(dimension): dimension for dimension in _dimensions(datasource)}
    for name, glob in match.items():
        if _short(name) not in known:
            problem = f"{datasource.name} has no dimension {quoted(name)}{nearest(name, known)}"
            raise spot.at(name).wrong(problem)
        yield known[_short(name)], glob


def _dimensions(datasource: DataSource) -> Iterator[str]:
    """Those of its instances, or all that the API has where `openai.group.by` may choose."""
    yield from datasource.dimensions
    if "openai.group.by" in datasource.properties:
        from lm_openai.records import COST_DIMENSIONS, KINDS

        for kind in KINDS.values():
            yield from kind.dimensions
        yield from COST_DIMENSIONS


def _short(dimension: str) -> str:
    return dimension.removesuffix("_id")


def _change(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields of Threshold that an entry sets, numbers made exact."""
    plain_fields = ("operator", "consecutive", "reason")
    change: dict[str, Any] = {name: entry[name] for name in plain_fields if name in entry}
    for level in LEVELS:
        if level in entry:
            change[level] = None if entry[level] is None else Decimal(entry[level])
    return change


def _merged(
    base: Threshold | None, datapoint: str, change: dict[str, Any], spot: Place
) -> Threshold:
    if base is None and "operator" not in change:
        raise spot.wrong(f'"operator" is missing, and {datapoint} has no threshold to take it from')
    merged = _changed(base, datapoint, change)
    limits = [limit for limit in merged.limits if limit is not None]
    sign = OPERATORS[merged.operator]
    if not all(sign.ordered(lower, higher) for lower, higher in pairwise(limits)):
        shown = " ".join(_plain(limit) for limit in merged.limits)
        raise spot.wrong(f"{datapoint} becomes {merged.operator} {shown}: the limits {sign.rule}")
    return merged


def _changed(base: Threshold | None, datapoint: str, change: dict[str, Any]) -> Threshold:
    if base is None:
        base = Threshold(datapoint, change["operator"], None, None, None)
    return base._replace(**change)


def _matches(override: Override, instance: Instance) -> bool:
    return all(
        any(text == glob or fnmatchcase(text, glob) for text in _texts(instance, dimension))
        for dimension, glob in override.match
    )


def _texts(instance: Instance, dimension: str) -> Iterator[str]:
    """An instance's id and name in one dimension, as far as it has them."""
    for texts, name in (
        (instance.dimensions, dimension),
        (instance.names, _short(dimension) + "_name"),
    ):
        if name in texts:
            yield texts[name]


def _reading(name: str, value: Number, threshold: Threshold | None) -> Reading:
    if threshold is None or not threshold.on:
        return Reading(name, value)
    level = threshold.level(value)
    return Reading(name, value, threshold, Breach(level, threshold) if level else None)


def _plain(limit: Decimal | None) -> str:
    return "-" if limit is None else plain(limit)
