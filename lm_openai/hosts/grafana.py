"""Grafana: dashboards for Prometheus and for InfluxDB, and the file that provisions them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from types import ModuleType

from lm_openai.hosts import grafana_audit, grafana_influx, grafana_prometheus
from lm_openai.hosts.grafana_content import dashboards
from lm_openai.hosts.grafana_panels import Json, Panel, document, identifier
from lm_openai.hosts.grafana_views import LINES, STAT, TABLE, VARIABLES, Dashboard, dimensions
from lm_openai.hosts.jobs import Job

STORES = (grafana_prometheus, grafana_influx)
SCHEMA = 39
"""Version of the dashboard's JSON: Grafana 10.4, which newer versions convert when they read it."""
FOLDER = "/var/lib/grafana/dashboards/lm-openai"
"""Folder of the dashboards on Grafana's host."""
HEIGHTS = {STAT: 4, TABLE: 9, LINES: 9}
WIDE = 24
AUDIT = Dashboard(
    "audit",
    "OpenAI: audit",
    "Who did what and when, from lm-openai audit --format influx.",
    (),
    "now-7d",
)
Group = tuple[str, Sequence[Panel], bool]
"""Heading, panels, and True if they are folded."""


def files(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the text of each shipped file by its path; a panel without its job is left out."""
    by_folder = {job.definition.folder: job for job in jobs}
    texts = {"provisioning.yaml": "# JSON is YAML too.\n" + _text(_provisioning())}
    for store in STORES:
        for content in dashboards(job.definition for job in jobs):
            groups = [*_groups(store, content, by_folder)]
            if groups:
                used = _variables(content, by_folder)
                whole = _dashboard(store, content, groups, used)
                texts[f"{store.NAME}/{content.name}.json"] = _text(whole)
    audit = _dashboard(grafana_influx, AUDIT, _audit_groups(), grafana_audit.VARIABLES)
    return {**texts, f"{grafana_influx.NAME}/{AUDIT.name}.json": _text(audit)}


def _text(content: Json) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _groups(store: ModuleType, content: Dashboard, jobs: dict[str, Job]) -> Iterator[Group]:
    for section in content.sections:
        views = [view for view in section.views if view.folder in jobs]
        if views:
            made = [store.panel(view, jobs[view.folder]) for view in views]
            yield section.title, made, section.folded


def _audit_groups() -> list[Group]:
    return [(title, panels, False) for title, panels in grafana_audit.panels()]


def _variables(content: Dashboard, jobs: dict[str, Job]) -> list[str]:
    """Return the variables that some query of the dashboard uses."""
    views = [view for section in content.sections for view in section.views]
    found = {"organization"}
    for view in views:
        if view.folder in jobs:
            found.update(dimensions(view, jobs[view.folder]))
    return [name for label, name in VARIABLES.items() if label in found]


def _dashboard(
    store: ModuleType, content: Dashboard, groups: Iterable[Group], variables: Sequence[str]
) -> Json:
    """Return the JSON of a dashboard, whose numeric id is that of the site's database."""
    tag = f"lm-openai-{store.NAME}"
    return {
        "id": None,
        "uid": f"{tag}-{content.name}",
        "title": f"{content.title} ({store.TITLE})",
        "description": content.description,
        "tags": ["openai", tag],
        "timezone": "utc",
        "editable": True,
        "graphTooltip": 1,
        "schemaVersion": SCHEMA,
        "version": 1,
        "refresh": "5m",
        "time": {"from": content.start, "to": "now"},
        "timepicker": {},
        "fiscalYearStartMonth": 0,
        "annotations": {"list": []},
        "links": [_link(tag)],
        "templating": {"list": [_datasource(store), *(_variable(store, one) for one in variables)]},
        "panels": [*_placed(groups, {"type": store.PLUGIN, "uid": "${datasource}"})],
    }


def _link(tag: str) -> Json:
    """Return the menu of all dashboards of the store, which keeps range and variables."""
    return {
        "title": "OpenAI",
        "type": "dashboards",
        "tags": [tag],
        "icon": "external link",
        "tooltip": "",
        "url": "",
        "asDropdown": True,
        "targetBlank": False,
        "includeVars": True,
        "keepTime": True,
    }


def _datasource(store: ModuleType) -> Json:
    return {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": store.PLUGIN,
        "hide": 0,
        "refresh": 1,
        "regex": "",
        "multi": False,
        "includeAll": False,
        "options": [],
        "current": {},
    }


def _variable(store: ModuleType, name: str) -> Json:
    every = {"selected": True, "text": ["All"], "value": ["$__all"]}
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": {"type": store.PLUGIN, "uid": "${datasource}"},
        **store.variable(name),
        "hide": 0,
        "refresh": 2,
        "sort": 5,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "options": [],
        "current": every,
    }


def _placed(groups: Iterable[Group], datasource: Json) -> Iterator[Json]:
    """Yield the headings and panels in Grafana's grid, from left to right and downwards."""
    top = 0
    for title, panels, folded in groups:
        inside: list[Json] = []
        end = top + 1
        for panel, place in _places(panels, top + 1):
            number = identifier(title, panel.title)
            inside.append(document(panel, number, datasource, place))
            end = max(end, place["y"] + place["h"])
        yield {
            "id": identifier(title),
            "type": "row",
            "title": title,
            "collapsed": folded,
            "gridPos": {"x": 0, "y": top, "w": WIDE, "h": 1},
            "panels": inside if folded else [],
        }
        yield from () if folded else inside
        top = top + 1 if folded else end


def _places(panels: Iterable[Panel], top: int) -> Iterator[tuple[Panel, Json]]:
    left = height = 0
    for panel in panels:
        if left + panel.width > WIDE:
            left, top, height = 0, top + height, 0
        yield panel, {"x": left, "y": top, "w": panel.width, "h": HEIGHTS[panel.kind]}
        left, height = left + panel.width, max(height, HEIGHTS[panel.kind])


def _provisioning() -> Json:
    """Return the file that makes Grafana read the dashboards of each store."""
    return {
        "apiVersion": 1,
        "providers": [
            {
                "name": f"lm-openai-{store.NAME}",
                "folder": "OpenAI",
                "type": "file",
                "disableDeletion": False,
                "allowUiUpdates": False,
                "updateIntervalSeconds": 30,
                "options": {"path": f"{FOLDER}/{store.NAME}"},
            }
            for store in STORES
        ],
    }
