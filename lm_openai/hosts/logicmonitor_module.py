"""LogicModules as values: the datapoints, alerts and graphs that JSON and XML write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from lm_openai.config.registry import table
from lm_openai.hosts.jobs import HEALTH, OUTAGE_POLLS, Job
from lm_openai.model.definition import Datapoint, Definition
from lm_openai.model.thresholds import LEVELS, Override, Threshold, merged, short_name
from lm_openai.model.units import plain
from lm_openai.output.logicmonitor import UNJUDGED

CATEGORY = "OpenAI"
"""Category of a resource with an admin key, and the group of the LogicModules in the portal."""
APPLIES_TO = f'hasCategory("{CATEGORY}")'
PROJECT_GROUP = "auto.openai.project.name"
"""Instance property by which instances with a project and something else are grouped."""
SCOPES = "api.usage.read, api.management.read, api.audit_logs.read"
CAPTION = "Thresholds not judged"
NO_DATA_SUBJECT = "##LEVEL## ##HOST##: no data about OpenAI"
NO_DATA_BODY = (
    "##HOST## has had no data of OpenAI Collection Health since ##START## (##DURATION##), so no "
    "alert of any OpenAI DataSource can be relied on. The collector lm-openai did not run or "
    "failed: Test Script on the LogicModule shows its sentence. The usual causes are "
    "openai.collector.command, the admin key, and a Collector that is down."
)


class Point(NamedTuple):
    """One datapoint of a LogicModule.

    `threshold` is `op W E C`, empty for none. The alert begins when `trigger` more polls in a row
    are bad. With `no_data` a missing value raises a warning.
    """

    name: str
    description: str
    minimum: str = ""
    maximum: str = ""
    threshold: str = ""
    trigger: int = 0
    no_data: bool = False
    subject: str = ""
    body: str = ""


class Line(NamedTuple):
    """One line of a graph; `stacked` lines are put on top of each other."""

    point: str
    legend: str
    stacked: bool


class Chart(NamedTuple):
    """One graph of an instance; `minimum` is None where values can be negative."""

    title: str
    label: str
    lines: tuple[Line, ...]
    minimum: int | None


def points(job: Job) -> Iterator[Point]:
    """Yield the datapoints, and last the number of thresholds that could not be judged."""
    thresholds = {alert.datapoint.name: alert.threshold for alert in job.alerts}
    for datapoint in job.definition.datapoints:
        threshold = thresholds.get(datapoint.name)
        yield _point(datapoint, threshold if threshold and threshold.on else None)
    unjudged = Point(UNJUDGED, "Thresholds of the instance that could not be judged.", "0")
    if job.definition.folder == HEALTH:
        unjudged = unjudged._replace(
            no_data=True, trigger=OUTAGE_POLLS - 1, subject=NO_DATA_SUBJECT, body=NO_DATA_BODY
        )
    yield unjudged


def expression(threshold: Threshold) -> str:
    """Return a threshold as `op W E C`; a level without a limit has that of the next higher one.

    Of equal numbers LogicMonitor shows the highest level. Highest levels without a limit are left
    out.
    """
    limits = list(threshold.limits)
    for level in reversed(range(len(limits) - 1)):
        if limits[level] is None:
            limits[level] = limits[level + 1]
    return " ".join((threshold.operator, *(plain(one) for one in limits if one is not None)))


def charts(definition: Definition) -> Iterator[Chart]:
    """Yield the definition's graphs, then one per unit of the datapoints that have none."""
    shown: set[str] = set()
    for graph in definition.graphs:
        yield _chart(graph.title, [*map(definition.datapoint, graph.datapoints)], graph.stacked)
        shown.update(graph.datapoints)
    rest = sorted(
        (one for one in definition.datapoints if one.name not in shown), key=unit_of
    )  # sorted() keeps the definition's order within a unit
    for unit, found in groupby(rest, unit_of):
        yield _chart(f"Other datapoints in {unit}", [*found], False)
    yield Chart(CAPTION, "count", (Line(UNJUDGED, CAPTION, False),), 0)


def unit_of(datapoint: Datapoint) -> str:
    """Return the unit as people read it."""
    return datapoint.unit.removeprefix("whole_").replace("_", " ")


def summed(definition: Definition, name: str) -> bool:
    """Return True if the values of all instances have a meaningful sum."""
    found = next((one for one in definition.datapoints if one.camel == name), None)
    return found is not None and (found.window_total or found.unit == "dollars")


def is_fixed(definition: Definition) -> bool:
    """Return True if the organization is always the only instance."""
    return not definition.dimensions and "openai.group.by" not in definition.properties


def grouping(definition: Definition) -> str:
    """Return the instance property by which the portal groups the instances, or ""."""
    dimensions = definition.dimensions
    return PROJECT_GROUP if "project_id" in dimensions and len(dimensions) > 1 else ""


def keywords(definition: Definition) -> str:
    """Return the comma-separated search words."""
    words = (word.lower() for word in definition.title.split() if word != "By")
    return ",".join(dict.fromkeys((*words, "llm", "ai", "saas")))


def notes(job: Job) -> str:
    """Return the technical notes: what it needs, and what a module cannot express."""
    return " ".join(_notes(job))


def _notes(job: Job) -> Iterator[str]:
    definition = job.definition
    yield (
        f"Runs the collector lm-openai ({definition.folder}) on the Collector. Needs the property "
        f"openai.admin.key, masked because of its name, on the resource or a parent group; the key "
        f"has the read scopes {SCOPES}."
    )
    if definition.properties:
        known = [name for name in definition.properties if name in table()]
        yield f"Further properties: {', '.join(known)}."
    yield (
        "A poll that failed prints nothing; the reason is in the output of Test Script. Missing is "
        "not zero."
    )
    for alert in job.alerts:
        for override in alert.overrides:
            yield _tuning(alert.datapoint, alert.threshold, override)


def _tuning(datapoint: Datapoint, base: Threshold, override: Override) -> str:
    """Return what to set by hand: a module has one threshold for all instances."""
    changed = merged(base, datapoint.name, override.change)
    match = " and ".join(f"{short_name(name)} {glob}" for name, glob in override.match)
    wanted = expression(changed) if changed.on else "no threshold"
    return (
        f"Set by hand for the instances with {match}: {datapoint.camel} {wanted}, trigger interval "
        f"{changed.consecutive - 1}."
    )


def _point(datapoint: Datapoint, threshold: Threshold | None) -> Point:
    point = Point(
        datapoint.camel,
        f"{datapoint.description}. Unit: {unit_of(datapoint)}.",
        "" if datapoint.min is None else str(datapoint.min),
        "" if datapoint.max is None else str(datapoint.max),
    )
    if threshold is None:
        return point
    return point._replace(
        threshold=expression(threshold),
        trigger=threshold.consecutive - 1,
        subject=f"##LEVEL## ##HOST## ##INSTANCE##: {datapoint.camel} ##VALUE##",
        body=_body(datapoint, threshold),
    )


def _body(datapoint: Datapoint, threshold: Threshold) -> str:
    """Return the alert text: value, threshold, meaning and remedy."""
    limits = zip(LEVELS, threshold.limits)
    named = [
        f"{level} {threshold.operator} {plain(one)}" for level, one in limits if one is not None
    ]
    return (
        f"##HOST## ##INSTANCE##: ##DATAPOINT## is ##VALUE## {unit_of(datapoint)}, threshold "
        f"##THRESHOLD## ({', '.join(named)}), ##LEVEL## since ##START## (##DURATION##).\n\n"
        f"{datapoint.description}.\n\n{threshold.reason}"
    )


def _chart(title: str, found: Sequence[Datapoint], stacked: bool) -> Chart:
    labels = ", ".join(dict.fromkeys(map(unit_of, found)))
    lines = tuple(Line(one.camel, _words(one.name), stacked) for one in found)
    return Chart(title, labels, lines, _lowest(found))


def _lowest(found: Iterable[Datapoint]) -> int | None:
    minima = [one.min for one in found]
    known = [one for one in minima if one is not None]
    return min(known) if len(known) == len(minima) else None


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()
