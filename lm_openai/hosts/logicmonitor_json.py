"""LogicModules in the portal's JSON, as `importjson` and My Module Toolbox read it."""

from __future__ import annotations

import json
from typing import Any

from lm_openai.config.registry import KEY, KEY_FILE
from lm_openai.hosts import logicmonitor_groovy as groovy
from lm_openai.hosts.jobs import Job
from lm_openai.hosts.logicmonitor_module import (
    APPLIES_TO,
    CATEGORY,
    Chart,
    Line,
    Point,
    charts,
    grouping,
    keywords,
    notes,
    points,
)
from lm_openai.model.definition import Definition
from lm_openai.timespans import DAY, HOUR

DATASOURCE, PROPERTYSOURCE = 0, 5
"""Numbers of the kinds of LogicModule."""
DIGITS, DOUBLE = 4, 7
"""Decimals that the portal shows, and the number of the value type."""
NO_DATA = {False: "Do not trigger an alert", True: "Trigger warning alert"}
COLORS = ("blue", "green", "orange", "red", "aqua", "olive", "fuchsia", "navy", "teal")
CATEGORIZER = f"addCategory_{CATEGORY}"


def datasource(job: Job) -> str:
    """Return the JSON of one DataSource, with its scripts."""
    definition = job.definition
    return dumped(
        {
            "name": definition.name,
            "displayedAs": definition.title,
            "description": definition.description,
            "appliesTo": APPLIES_TO,
            "searchKeywords": keywords(definition),
            "technicalNotes": notes(job),
            "group": CATEGORY,
            "type": DATASOURCE,
            "dataSourceType": 1,
            "collectionMethod": "batchscript",
            "collectionInterval": duration(job.interval),
            "multiInstance": True,
            "useWildValueAsUniqueIdentifier": True,
            "collectionAttrs": _script(groovy.collect(definition)),
            "activeDiscovery": _discovery(definition),
            "datapoints": [_point(point) for point in points(job)],
            "graphs": [_graph(number, chart) for number, chart in enumerate(charts(definition), 1)],
        }
    )


def categorizer() -> str:
    """Return the JSON of the PropertySource that gives a resource its category."""
    return dumped(
        {
            "name": CATEGORIZER,
            "description": f"Gives a resource with an OpenAI admin key the category {CATEGORY}.",
            "appliesTo": f"{KEY} || {KEY_FILE}",
            "searchKeywords": "openai,llm,ai,saas,category",
            "technicalNotes": "Prints nothing on a resource without the key.",
            "group": CATEGORY,
            "type": PROPERTYSOURCE,
            "script": _script(groovy.category()),
        }
    )


def dumped(document: dict[str, Any]) -> str:
    """Return a document as text."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def duration(seconds: int) -> str:
    """Return a poll interval as the portal writes it: `5m`, `1h` or `1d`."""
    if seconds % DAY == 0:
        return f"{seconds // DAY}d"
    return f"{seconds // HOUR}h" if seconds % HOUR == 0 else f"{seconds // 60}m"


def _script(text: str) -> dict[str, str]:
    return {"type": "groovy", "content": text}


def _discovery(definition: Definition) -> dict[str, Any]:
    """Return how instances are found; one that is gone is removed, so that its alerts clear."""
    group = grouping(definition)
    return {
        "discoveryMethod": "ad_script",
        "enabled": True,
        "discoveryInterval": f"{definition.discovery_interval // 60}m",
        "groupMethod": "ilp" if group else "none",
        **({"groupExpr": group} if group else {}),
        "deleteInactiveInstances": True,
        "autoDeleteInstances": False,
        "disableDiscoveredInstances": False,
        "showDeletedInstanceDays": 30,
        "filters": [],
        "params": _script(groovy.discover(definition)),
    }


def _point(point: Point) -> dict[str, Any]:
    bounds = {"min": point.minimum, "max": point.maximum}
    alert = {
        "threshold": point.threshold,
        "alertSubject": point.subject,
        "alertBody": point.body,
    }
    return {
        "name": point.name,
        "description": point.description,
        "type": "gauge",
        "dataType": DOUBLE,
        "useValue": "output",
        "interpretMethod": "namevalue",
        "interpretExpr": f"##WILDVALUE##.{point.name}",
        "maxDigits": DIGITS,
        **{name: bound for name, bound in bounds.items() if bound},
        "noData": NO_DATA[point.no_data],
        "triggerInterval": point.trigger,
        "clearInterval": 0,
        **{name: text for name, text in alert.items() if text},
        "statusDisplayNames": [],
    }


def _graph(number: int, chart: Chart) -> dict[str, Any]:
    return {
        "name": chart.title,
        "title": chart.title,
        "verticalLabel": chart.label,
        **({} if chart.minimum is None else {"min": chart.minimum}),
        "timeScale": "1day",
        "displayPriority": number,
        "scale1024": False,
        "rigid": False,
        "lines": [_line(place, line) for place, line in enumerate(chart.lines)],
        "datapoints": [
            {"name": line.point, "datapointName": line.point, "consolidationFn": "average"}
            for line in chart.lines
        ],
    }


def _line(place: int, line: Line) -> dict[str, Any]:
    return {
        "datapointName": line.point,
        "legend": line.legend,
        "color": COLORS[place % len(COLORS)],
        "type": "stack" if line.stacked else "line",
        "isVirtual": False,
    }
