"""The audit dashboard: who did what and when, from `lm-openai audit --format influx`."""

from __future__ import annotations

from lm_openai.hosts.grafana_panels import Column, Json, Panel, arranged
from lm_openai.hosts.grafana_views import LINES, STAT, TABLE, heading
from lm_openai.timespans import HOUR

VARIABLES = ("organization", "project", "type")
"""Variables of the dashboard; `type` is the type of the event."""
MOST = 500
"""Number of events in the list."""
COUNTED = Column("Events", "short")
FIELDS = (
    "type",
    "actor_email",
    "actor_type",
    "actor_id",
    "project_name",
    "ip_address",
    "owner_granted",
    "id",
)
"""Columns of the list of events, in their order; the feed's tags and fields."""
SOURCE = (
    'FROM "openai_audit" WHERE $timeFilter AND "organization" =~ /^$organization$/ '
    'AND "project_id" =~ /^$project$/ AND "type" =~ /^$type$/'
)
GRANTED = ' AND "owner_granted" = true'


def panels() -> tuple[tuple[str, tuple[Panel, ...]], ...]:
    """Return the panels below their headings."""
    return (
        ("When", (_number("Events", ""), _number("Kinds of events", "type"), _over_time())),
        (
            "Who and what",
            (
                _counted("Who", "actor_email", "actor_id", "actor_type"),
                _counted("What", "", "type"),
            ),
        ),
        ("Events", (_events("Newest events", ""), _events("Owner role granted", GRANTED))),
    )


def _number(title: str, tag: str) -> Panel:
    text = f'SELECT count("id") AS "value" {SOURCE}'
    if tag:
        text = f'SELECT count("value") AS "value" FROM ({text} GROUP BY "{tag}")'
    return _panel(STAT, title, "In the range of the dashboard.", _query(text), 4)


def _over_time() -> Panel:
    text = f'SELECT count("id") AS "value" {SOURCE} GROUP BY time($__interval), "type" fill(none)'
    found = _panel(LINES, "Events by type", "", {**_query(text), "alias": "$tag_type"}, 16)
    return found._replace(stacked=True)


def _counted(title: str, name: str, *tags: str) -> Panel:
    """Return a table with the number of events by tags, and the name that goes with them."""
    named = f', last("{name}") AS "{heading(name)}"' if name else ""
    grouped = ", ".join(f'"{tag}"' for tag in tags)
    text = f'SELECT count("id") AS "Events"{named} {SOURCE} GROUP BY {grouped}'
    order = [heading(name), *tags, "Events"] if name else [*tags, "Events"]
    found = _panel(TABLE, title, "", {**_query(text), "resultFormat": "table"}, 12)
    renamed = {tag: heading(tag) for tag in tags}
    return found._replace(sort=("Events",), transformations=(arranged(order, ["Time"], renamed),))


def _events(title: str, condition: str) -> Panel:
    fields = ", ".join(f'"{name}"' for name in FIELDS)
    text = f"SELECT {fields} {SOURCE}{condition} ORDER BY time DESC LIMIT {MOST}"
    about = f"The newest {MOST} events in the range of the dashboard."
    query = {**_query(text), "resultFormat": "table"}
    renamed = {name: heading(name) for name in FIELDS}
    return _panel(TABLE, title, about, query, 24)._replace(
        columns=(), transformations=(arranged(["Time", *FIELDS], [], renamed),)
    )


def _panel(kind: str, title: str, about: str, query: Json, width: int) -> Panel:
    return Panel(kind, title, about, ({"refId": "A", **query},), (COUNTED,), width, HOUR)


def _query(text: str) -> Json:
    return {"query": text, "rawQuery": True, "resultFormat": "time_series"}
