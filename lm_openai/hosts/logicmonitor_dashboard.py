"""Dashboard of the LogicModules, laid out like the vendor's own for its OpenAI package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lm_openai.hosts.logicmonitor_module import summed, unit_of
from lm_openai.model.definition import Definition

GROUP = "##defaultResourceGroup##"
MODULES = "OpenAI*"
"""Glob of the LogicModules' display names; that of the vendor's package begins with SaaS."""
BORDER, SOLID = "newBorderDarkBlue", "newSolidDarkBlue"
REFRESH = 3
"""Minutes between two refreshes of a widget."""
TOP, MOST_ROWS = 5, 10
COLUMNS = {
    "alert-severity": "Severity",
    "alert-began": "Began",
    "alert-device": "Resource/Website",
    "alert-datasource": "LogicModule",
    "alert-datasource-instance": "Instance",
    "alert-datapoint": "Datapoint",
    "alert-value": "Value",
    "alert-static-threshold": "Static Threshold",
}
"""Columns of the list of alerts by their keys."""
ANY = (
    *("severity", "chain", "anomaly", "dataPoint", "rule", "host", "keyword", "group"),
    *("dependencyRoutingState", "dependencyRole"),
)
"""Filters of the list of alerts that exclude nothing."""


class Place(NamedTuple):
    """Position in a grid of 12 columns; all counts begin at 1."""

    column: int
    row: int
    width: int
    height: int


class Topic(NamedTuple):
    """Datapoints of one DataSource for a table and a trend; `trend` names those of the trend."""

    folder: str
    name: str
    table: Place
    trend: Place
    points: tuple[str, ...]
    shown: tuple[str, ...]


BIG = (
    ("cost_by_organization", "amount", "OpenAI Cost (Today)", Place(7, 1, 2, 2)),
    ("completion_by_model", "input_tokens", "OpenAI Input Tokens", Place(9, 1, 2, 2)),
    ("completion_by_model", "output_tokens", "OpenAI Output Tokens", Place(11, 1, 2, 2)),
)
TOPICS = (
    Topic(
        "completion_by_model",
        "OpenAI Completion by Model",
        Place(1, 3, 8, 4),
        Place(9, 3, 4, 4),
        ("input_tokens", "input_cached_tokens", "output_tokens", "num_model_requests"),
        ("input_tokens", "output_tokens"),
    ),
    Topic(
        "rate_limits",
        "OpenAI Rate Limits by Project",
        Place(1, 7, 8, 4),
        Place(9, 7, 4, 4),
        ("tpm_utilization", "rpm_utilization", "rpd_utilization", "tpm_limit", "rpm_limit"),
        ("tpm_utilization",),
    ),
    Topic(
        "cost_by_project",
        "OpenAI Cost by Project",
        Place(7, 11, 6, 4),
        Place(1, 11, 6, 4),
        ("amount", "amount_month_to_date", "amount_month_forecast", "own_budget_used_percent"),
        ("amount",),
    ),
    Topic(
        "images_by_model",
        "OpenAI Images by Model",
        Place(1, 15, 5, 4),
        Place(6, 15, 7, 4),
        ("images", "num_model_requests"),
        ("images",),
    ),
)
STATUS, ALERTS = Place(1, 1, 6, 2), Place(1, 19, 12, 4)


def dashboard(definitions: Sequence[Definition]) -> dict[str, Any]:
    """Return the dashboard with the widgets of these DataSources.

    A widget whose LogicModule the portal lacks is dropped without a message, so others are left
    out.
    """
    return {
        "type": "dashboard",
        "version": 2,
        "widgetsConfigVersion": 2,
        "name": "OpenAI",
        "description": "Usage, costs, rate limits and alerts of OpenAI organizations.",
        "overwriteGroupFields": False,
        "defaultDashboardFilters": {"defaultDashboardFilterDetails": []},
        "widgetTokens": [],
        "widgets": [*_widgets({one.folder: one for one in definitions})],
    }


def _widgets(known: Mapping[str, Definition]) -> Iterator[dict[str, Any]]:
    yield _widget(STATUS, "noc", "OpenAI Alert Status", _status())
    for folder, point, name, place in BIG:
        if folder in known:
            config = _big(known[folder], point)
            yield _widget(place, "bigNumber", name, config, SOLID)
    for topic in TOPICS:
        if topic.folder in known:
            definition = known[topic.folder]
            table, trend = _table(definition, topic), _trend(definition, topic)
            yield _widget(topic.table, "dynamicTable", f"{topic.name} (Real-time)", table)
            yield _widget(topic.trend, "cgraph", f"{topic.name} (Trend)", trend)
    yield _widget(ALERTS, "alert", "OpenAI Alert Detail", _alerts())


def _widget(
    place: Place, kind: str, name: str, config: dict[str, Any], theme: str = BORDER
) -> dict[str, Any]:
    common = {"description": "", "displaySettings": {}, "timescale": "day"}
    flags = {"isSupportCustomProperty": False, "supportCustomProperty": False}
    own = {"type": kind, "name": name, "theme": theme, "interval": REFRESH, "version": 2}
    return {
        "position": {
            "col": place.column,
            "row": place.row,
            "sizex": place.width,
            "sizey": place.height,
        },
        "config": {**common, **flags, **own, **config},
    }


def _status() -> dict[str, Any]:
    item = {
        "type": "device",
        "groupBy": "device",
        "name": "##RESOURCENAME##",
        "deviceGroupFullPath": GROUP,
        "deviceDisplayName": "*",
        "dataSourceDisplayName": MODULES,
        "instanceName": "*",
        "dataPointName": "*",
    }
    levels = ("displayWarnAlert", "displayErrorAlert", "displayCriticalAlert")
    return {
        **dict.fromkeys(("ackChecked", "sdtChecked", *levels), True),
        "displaySettings": {"showTypeIcon": True, "displayAs": "table"},
        "displayColumn": 2,
        "sortBy": "alertSeverity",
        "items": [item],
    }


def _big(definition: Definition, point: str) -> dict[str, Any]:
    datapoint = definition.datapoint(point)
    money = datapoint.unit == "dollars"
    source = {
        "name": datapoint.camel,
        "dataPointName": datapoint.camel,
        "dataSourceFullName": _full_name(definition),
        "aggregateFunction": "SUM",
        "deviceGroupFullPath": GROUP,
        "deviceDisplayName": "*",
        "instanceName": "*",
    }
    item = {
        "position": 1,
        "dataPointName": datapoint.camel,
        "rightLabel": unit_of(datapoint),
        "bottomLabel": "",
        "rounding": 2 if money else 0,
        "useCommaSeparators": True,
        "colorThresholds": None,
        "actions": [],
    }
    info = {"virtualDataPoints": [], "counters": [], "dataPoints": [source]}
    return {"bigNumberInfo": {**info, "bigNumberItems": [item]}}


def _table(definition: Definition, topic: Topic) -> dict[str, Any]:
    columns = [_column(definition, point) for point in topic.points]
    row = {
        "label": "##INSTANCE## - ##RESOURCENAME##",
        "groupFullPath": GROUP,
        "deviceDisplayName": "*",
        "instanceName": "*",
    }
    return {
        "dataSourceFullName": _full_name(definition),
        "columns": columns,
        "rows": [row],
        "topX": MOST_ROWS,
        "sortOrder": "descending",
        "displaySettings": _shown(columns),
        "forecast": {
            "severity": "warn",
            "confidence": 70,
            "timeRange": "Last 30 days",
            "algorithm": "ARIMA",
        },
    }


def _shown(columns: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the widths of a table's columns, and the columns once more in the newer form."""
    widths = [("name", "Name", 284)]
    widths += [(column["columnName"], column["columnName"], 150) for column in columns]
    placed = [
        {**column, "index": number, "position": number, "id": f"undefined_{number}"}
        for number, column in enumerate(columns)
    ]
    return {
        "propertyColumns": [],
        "columns": [
            {"visible": True, "columnKey": key, "columnLabel": label, "columnSize": width}
            for key, label, width in widths
        ],
        "columnsV4": [{**column, "propertiesOptions": "1"} for column in placed],
        "pageSize": "25",
    }


def _column(definition: Definition, point: str) -> dict[str, Any]:
    datapoint = definition.datapoint(point)
    return {
        "columnName": point.replace("_", " ").title(),
        "dataPointName": datapoint.camel,
        "displayType": "raw",
        "unitLabel": f" {unit_of(datapoint)}",
        "roundingDecimal": 2,
        "minValue": 0,
        "maxValue": 100,
        "colorThresholds": [],
        "enableForecast": False,
        "rpn": "",
    }


def _trend(definition: Definition, topic: Topic) -> dict[str, Any]:
    labels = dict.fromkeys(unit_of(definition.datapoint(point)) for point in topic.shown)
    info = {
        "virtualDataPoints": [],
        "dataPoints": [_line(definition, point) for point in topic.shown],
        "verticalLabel": ", ".join(labels),
        "minValue": 0,
        "maxValue": "NaN",
        "topX": TOP,
        "desc": True,
        "aggregate": False,
        "scaleUnit": 1000,
        "globalConsolidateFunction": "VaST",
    }
    return {"graphInfo": info, "timescale": "2days"}


def _line(definition: Definition, point: str) -> dict[str, Any]:
    name = definition.datapoint(point).camel
    kind = "stack" if summed(definition, name) else "line"
    return {
        "name": name,
        "dataPointName": name,
        "dataSourceFullName": _full_name(definition),
        "instanceName": {"isGlob": True, "value": "*"},
        "deviceDisplayName": {"isGlob": True, "value": "*"},
        "deviceGroupFullPath": {"isGlob": False, "value": GROUP},
        "consolidateFunction": "average",
        "aggregateFunction": "SUM",
        "display": {"option": "custom", "type": kind, "color": "Auto", "legend": "##INSTANCE##"},
    }


def _alerts() -> dict[str, Any]:
    columns = [
        {"visible": True, "columnKey": key, "columnLabel": label} for key, label in COLUMNS.items()
    ]
    return {
        "displaySettings": {
            "isShowAll": False,
            "showFilter": False,
            "columns": columns,
            "playSound": {},
            "fontsize": "medium-font",
            "sort": "-startEpoch",
        },
        "filters": {
            **dict.fromkeys(ANY, ""),
            "dataSource": MODULES,
            "instance": "*",
            "sdted": "all",
            "acked": "all",
            "cleared": "no",
        },
    }


def _full_name(definition: Definition) -> str:
    return f"{definition.title} ({definition.name})"
