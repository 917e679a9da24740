"""Panels in Grafana's JSON: units, colors of thresholds, columns and options of each kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple
from zlib import crc32

from lm_openai.hosts.grafana_views import LINES, STAT, TABLE, heading
from lm_openai.hosts.jobs import Job
from lm_openai.model.definition import Datapoint
from lm_openai.model.thresholds import Threshold
from lm_openai.model.units import in_base_units
from lm_openai.timespans import short

COLORS = ("yellow", "orange", "red")
"""Colors of warning, error and critical."""
FINE = "green"
GAP = 3
"""Number of steps without a value that a line bridges."""
Json = dict[str, Any]


class Column(NamedTuple):
    """One number of a panel under its name there.

    `unit` is in Grafana's spelling. `steps` are (start, color) pairs, the first start None. `zero`
    is the word for the value 0. `top` is the value of a full bar, None for the largest one shown.
    """

    name: str
    unit: str
    steps: tuple[tuple[float | None, str], ...] = ((None, FINE),)
    zero: str = ""
    top: float | None = None


class Panel(NamedTuple):
    """One panel with the queries of its store.

    `columns` are the numbers: the columns of a table, the parts of a graph. `sort` is the names of
    the columns by which a table is sorted, the largest first. `step` is the seconds between two
    values, `recent` those before now that replace the dashboard's range, 0 for none.
    """

    kind: str
    title: str
    description: str
    targets: tuple[Json, ...]
    columns: tuple[Column, ...]
    width: int
    step: int
    recent: int = 0
    sort: tuple[str, ...] = ()
    stacked: bool = False
    transformations: tuple[Json, ...] = ()


def column(job: Job, name: str, base: bool) -> Column:
    """Return the column of a datapoint, with `base` in the base units of Prometheus."""
    datapoint = job.definition.datapoint(name)
    measure = datapoint.measure
    unit = measure.grafana_base if base and measure.grafana_base else measure.grafana
    found = [alert.threshold for alert in job.alerts if alert.datapoint.name == name]
    steps = tuple(_steps(found[0], datapoint, base)) if found else ((None, FINE),)
    top = _scaled(100, datapoint, base) if datapoint.unit == "percent" else None
    return Column(heading(name), unit, steps, datapoint.zero, top)


def _scaled(value: Any, datapoint: Datapoint, base: bool) -> float:
    return float(in_base_units(value, datapoint.measure) if base else value)


def _steps(
    threshold: Threshold, datapoint: Datapoint, base: bool
) -> Iterator[tuple[float | None, str]]:
    """Yield the starts of the colors, which say nothing about equality and consecutive polls."""
    pairs = [
        (_scaled(limit, datapoint, base), color)
        for limit, color in zip(threshold.limits, COLORS)
        if limit is not None
    ]
    if threshold.operator.startswith(">"):
        yield None, FINE
        yield from _last_of_equals(pairs)
    elif threshold.operator.startswith("<"):
        rising = [*_last_of_equals(pairs)][::-1]
        starts = [None, *(start for start, _ in rising)]
        yield from zip(starts, [*(color for _, color in rising), FINE])
    else:
        yield None, FINE


def _last_of_equals(pairs: Iterable[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """Yield the pairs; of those with an equal start only the last, most severe one."""
    yield from dict(pairs).items()


def identifier(*names: str) -> int:
    """Return the id of a panel from its names, so that it stays when other panels come and go."""
    return crc32("/".join(names).encode())


def document(panel: Panel, number: int, datasource: Json, place: Json) -> Json:
    """Return the JSON of a panel with this id at this place of the grid."""
    optional = {
        "interval": short(panel.step) if panel.kind == LINES else "",
        "timeFrom": short(panel.recent) if panel.recent else "",
        "transformations": [*panel.transformations],
    }
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": datasource,
        "gridPos": place,
        "targets": [*panel.targets],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": [*_overrides(panel)]},
        "options": OPTIONS[panel.kind](panel),
        **{key: value for key, value in optional.items() if value},
    }


def _defaults(panel: Panel) -> Json:
    if panel.kind == TABLE:
        return {"custom": {"filterable": True}}
    first = panel.columns[0]
    if panel.kind == STAT:
        return {"color": {"mode": "thresholds"}, **_shown(first)}
    judged = len(panel.columns) == 1 and len(first.steps) > 1
    style = {
        "fillOpacity": 40 if panel.stacked else 0,
        "spanNulls": GAP * panel.step * 1000,
        "stacking": {"mode": "normal" if panel.stacked else "none", "group": "A"},
        "thresholdsStyle": {"mode": "dashed" if judged else "off"},
    }
    colors = {"thresholds": _thresholds(first)} if judged else {}
    return {"unit": first.unit, "color": {"mode": "palette-classic"}, **colors, "custom": style}


def _shown(one: Column) -> Json:
    """Return unit, colors and words of a number; a table's text has colors only with limits."""
    mappings = [{"type": "value", "options": {"0": {"text": one.zero}}}] if one.zero else []
    found = {"unit": one.unit, "thresholds": _thresholds(one), "mappings": mappings}
    return {key: value for key, value in found.items() if value}


def _thresholds(one: Column) -> Json:
    steps = [{"value": start, "color": color} for start, color in one.steps]
    return {"mode": "absolute", "steps": steps}


def _overrides(panel: Panel) -> Iterator[Json]:
    """Yield what differs from column to column of a table, or from part to part of a graph."""
    if panel.kind == TABLE:
        for one in panel.columns:
            yield _override("byName", one.name, _properties(one, one.name in panel.sort))
    elif panel.kind == LINES and len({one.unit for one in panel.columns}) > 1:
        for one, target in zip(panel.columns, panel.targets):
            yield _override("byFrameRefID", target["refId"], {"unit": one.unit})


def _properties(one: Column, sorts: bool) -> Json:
    found = _shown(one)
    if sorts:
        found["custom.cellOptions"] = {"type": "gauge", "mode": "basic"}
        found |= {"color": {"mode": "thresholds"}, "min": 0}
        if one.top is not None:
            found["max"] = one.top
    elif len(one.steps) > 1:
        found["custom.cellOptions"] = {"type": "color-text"}
    else:
        del found["thresholds"]
    return found


def _override(matcher: str, option: str, properties: Json) -> Json:
    return {
        "matcher": {"id": matcher, "options": option},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def _reduced(panel: Panel) -> Json:
    return {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}


def _sorted(panel: Panel) -> Json:
    order = [{"displayName": name, "desc": True} for name in panel.sort]
    return {"showHeader": True, "cellHeight": "sm", "sortBy": order}


def _with_legend(panel: Panel) -> Json:
    legend = {"showLegend": True, "displayMode": "table", "placement": "bottom"}
    return {
        "legend": {**legend, "calcs": ["lastNotNull", "max"]},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


OPTIONS = {STAT: _reduced, TABLE: _sorted, LINES: _with_legend}
"""Options of each kind of panel, by its kind."""


def arranged(first: Iterable[str], hidden: Iterable[str], renamed: dict[str, str]) -> Json:
    """Return the transformation that orders, hides and renames the columns of a table."""
    return {
        "id": "organize",
        "options": {
            "excludeByName": dict.fromkeys(hidden, True),
            "indexByName": {name: place for place, name in enumerate(first)},
            "renameByName": renamed,
        },
    }
