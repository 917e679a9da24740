"""Grafana's dashboards as files: the rules of its JSON, stable names, units and thresholds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from lm_openai.hosts import grafana
from lm_openai.hosts.grafana_content import dashboards
from lm_openai.hosts.grafana_panels import column
from lm_openai.hosts.grafana_views import STAT, TABLE
from lm_openai.hosts.jobs import jobs
from lm_openai.model.thresholds import Threshold
from lm_openai.model.units import UNITS
from tests.hosts.grafana_files import DASHBOARDS, FILES, Json, panels
from tests.support.paths import ROOT

KNOWN_UNITS = {"short", "percent", "percentunit", "s", "m", "d", "bytes", "Bps", "currencyUSD"}
"""Units of Grafana's own list (packages/grafana-data, valueFormats), without `count:x` and such."""
FREE_UNIT = re.compile(r"count:[a-z]+|suffix:\S+|bool:yes/no")
UINT32 = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
TEXT = {"type": "string", "minLength": 1}


def record(required: Json, optional: Json | None = None, **rules: Any) -> Json:
    """Return the schema of an object that has these members and no others."""
    properties = {**required, **(optional or {})}
    rules = {"additionalProperties": False, **rules}
    return {"type": "object", "properties": properties, "required": [*required], **rules}


def one_of(*values: Any) -> Json:
    return {"enum": [*values]}


def many(schema: Json, **rules: Any) -> Json:
    return {"type": "array", "items": schema, **rules}


DATASOURCE = record({"type": one_of("prometheus", "influxdb"), "uid": one_of("${datasource}")})
GRID = record(
    {
        "x": {"type": "integer", "minimum": 0, "maximum": 23},
        "y": {"type": "integer", "minimum": 0},
        "w": {"type": "integer", "minimum": 1, "maximum": 24},
        "h": {"type": "integer", "minimum": 1},
    }
)
THRESHOLDS = record(
    {
        "mode": one_of("absolute"),
        "steps": many(
            record(
                {
                    "value": {"type": ["number", "null"]},
                    "color": one_of("green", "yellow", "orange", "red"),
                }
            ),
            minItems=1,
        ),
    }
)
MAPPING = record({"type": one_of("value"), "options": {"type": "object"}})
FIELD = {
    "unit": TEXT,
    "thresholds": THRESHOLDS,
    "mappings": many(MAPPING, minItems=1),
    "color": record({"mode": one_of("thresholds", "palette-classic")}),
    "min": {"type": "number"},
    "max": {"type": "number"},
}
OVERRIDE = record(
    {
        "matcher": record({"id": one_of("byName", "byFrameRefID"), "options": TEXT}),
        "properties": many(
            record({"id": one_of(*FIELD, "custom.cellOptions"), "value": {}}), minItems=1
        ),
    }
)
PROMETHEUS_TARGET = record(
    {"refId": TEXT, "expr": TEXT, "editorMode": one_of("code"), "range": {"type": "boolean"}},
    {
        "instant": {"type": "boolean"},
        "format": one_of("table", "time_series"),
        "legendFormat": TEXT,
    },
)
INFLUX_TARGET = record(
    {
        "refId": TEXT,
        "query": TEXT,
        "rawQuery": one_of(True),
        "resultFormat": one_of("table", "time_series"),
    },
    {"alias": TEXT},
)
TRANSFORMATION = record({"id": one_of("merge", "organize"), "options": {"type": "object"}})
PANEL = record(
    {
        "id": UINT32,
        "type": one_of("stat", "table", "timeseries"),
        "title": TEXT,
        "description": {"type": "string"},
        "datasource": DATASOURCE,
        "gridPos": GRID,
        "targets": many({"type": "object"}, minItems=1),
        "fieldConfig": record(
            {
                "defaults": record({}, {**FIELD, "custom": {"type": "object"}}),
                "overrides": many(OVERRIDE),
            }
        ),
        "options": {"type": "object"},
    },
    {
        "interval": {"pattern": "^[0-9]+[smhd]$"},
        "timeFrom": {"pattern": "^[0-9]+[smhd]$"},
        "transformations": many(TRANSFORMATION, minItems=1),
    },
)
ROW = record(
    {
        "id": UINT32,
        "type": one_of("row"),
        "title": TEXT,
        "collapsed": {"type": "boolean"},
        "gridPos": GRID,
        "panels": {"type": "array"},
    }
)
SCHEMA = record(
    {
        "id": {"type": "null"},
        "uid": {"pattern": "^[a-z0-9-]{8,40}$"},
        "title": TEXT,
        "schemaVersion": one_of(39),
        "panels": many({"type": "object"}, minItems=1),
        "time": record({"from": {"pattern": "^now-[0-9]+[hd]$"}, "to": one_of("now")}),
        "timezone": one_of("utc"),
        "graphTooltip": one_of(0, 1, 2),
        "editable": {"type": "boolean"},
        "version": UINT32,
        "refresh": TEXT,
        "tags": many(TEXT),
        "templating": record({"list": many({"type": "object", "required": ["name", "type"]})}),
        "annotations": record({"list": many({"type": "object"})}),
        "links": many({"type": "object", "required": ["title", "type", "tags", "icon", "url"]}),
    },
    {"description": {}, "timepicker": {}, "fiscalYearStartMonth": {}},
)
"""Rules of Grafana's kinds/dashboard/dashboard_kind.cue, for the members that the files use."""
VALIDATORS = {
    "dashboard": jsonschema.Draft7Validator(SCHEMA),
    "row": jsonschema.Draft7Validator(ROW),
    "panel": jsonschema.Draft7Validator(PANEL),
    "prometheus": jsonschema.Draft7Validator(PROMETHEUS_TARGET),
    "influxdb": jsonschema.Draft7Validator(INFLUX_TARGET),
}


@pytest.mark.parametrize("path", DASHBOARDS)
def test_dashboards_follow_the_rules_of_grafanas_json(path: str) -> None:
    dashboard = DASHBOARDS[path]
    VALIDATORS["dashboard"].validate(dashboard)
    ids = [panel["id"] for panel in (*dashboard["panels"], *panels(dashboard))]
    own = {panel["id"] for panel in dashboard["panels"] if panel["type"] != "row"}
    assert len(ids) - len(own) == len(set(ids))
    for row in (one for one in dashboard["panels"] if one["type"] == "row"):
        VALIDATORS["row"].validate(row)
    for panel in panels(dashboard):
        VALIDATORS["panel"].validate(panel)
        for target in panel["targets"]:
            VALIDATORS[panel["datasource"]["type"]].validate(target)
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters)
        assert {unit for unit in units(panel) if not FREE_UNIT.fullmatch(unit)} <= KNOWN_UNITS
        for limits in found(panel, "thresholds"):
            values = [step["value"] for step in limits["steps"]]
            assert values[0] is None
            assert values[1:] == sorted(set(values[1:]))


def test_uids_are_unique_and_panels_keep_their_ids_when_others_go() -> None:
    assert len({one["uid"] for one in DASHBOARDS.values()}) == len(DASHBOARDS)
    few = grafana.files(jobs(("rate_limits",)))
    path = "prometheus/limits.json"
    kept = {panel["title"]: panel["id"] for panel in panels(json.loads(few[path]))}

    assert len(kept) == 4
    assert kept.items() <= {one["title"]: one["id"] for one in panels(DASHBOARDS[path])}.items()
    assert "prometheus/cost.json" not in few


@pytest.mark.parametrize("path", DASHBOARDS)
def test_panels_do_not_overlap(path: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[path]["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < grafana.WIDE
        assert not cells & taken, panel["title"]
        taken |= cells


def found(node: Any, name: str) -> Iterator[Any]:
    """Yield the values of a setting in a panel, also those of overrides."""
    if isinstance(node, dict):
        if name in node:
            yield node[name]
        if node.get("id") == name:
            yield node["value"]
        node = [*node.values()]
    if isinstance(node, list):
        for part in node:
            yield from found(part, name)


def units(panel: Json) -> set[str]:
    return set(found(panel["fieldConfig"], "unit"))


@pytest.mark.parametrize("path", DASHBOARDS)
def test_sorted_renamed_and_colored_columns_exist(path: str) -> None:
    for panel in panels(DASHBOARDS[path]):
        if panel["type"] != TABLE:
            continue
        shown = columns(panel)
        assert {one["displayName"] for one in panel["options"]["sortBy"]} <= shown
        named = {one["matcher"]["options"] for one in panel["fieldConfig"]["overrides"]}
        assert named <= shown, panel["title"]


def columns(panel: Json) -> set[str]:
    """Return the names of a table's columns after its transformations."""
    [arranged] = [one for one in panel["transformations"] if one["id"] == "organize"]
    renamed, options = arranged["options"]["renameByName"], arranged["options"]
    names = set(options["indexByName"]) - set(options["excludeByName"])
    return {renamed.get(name, name) for name in names}


def test_headroom_is_sorted_by_tokens_then_requests_then_images() -> None:
    for store in ("prometheus", "influxdb"):
        limits = panels(DASHBOARDS[f"{store}/limits.json"])
        for title in ("Headroom by project and model", "Headroom by model"):
            panel = next(one for one in limits if one["title"] == title)
            order = [one["displayName"].split()[0] for one in panel["options"]["sortBy"]]
            assert order == ["TPM", "RPM", "IPM"]
            assert all(one["desc"] for one in panel["options"]["sortBy"])


def test_every_datasource_has_its_graphs_in_both_stores() -> None:
    for store in ("prometheus", "influxdb"):
        rows = DASHBOARDS[f"{store}/details.json"]["panels"]
        assert [len(row["panels"]) for row in rows] == [
            len(job.definition.graphs) for job in jobs()
        ]


def test_colors_begin_at_the_thresholds_in_force() -> None:
    [job] = jobs(("rate_limits",))
    assert column(job, "tpm_utilization", base=True).steps == (
        (None, "green"),
        (0.8, "yellow"),
        (0.9, "orange"),
        (0.95, "red"),
    )
    [keys] = jobs(("api_keys_by_key",))
    falling = Threshold("age_days", "<=", 30, None, 7)  # type: ignore[arg-type]
    rules = keys.rules._replace(thresholds={"age_days": falling})
    changed = column(keys._replace(rules=rules), "age_days", base=False)
    assert changed.steps == ((None, "red"), (7, "yellow"), (30, "green"))


def test_units_are_those_of_the_stored_value() -> None:
    for unit in UNITS.values():
        assert bool(unit.grafana_base) is (unit.factor != 1)
    [job] = jobs(("rate_limits",))
    assert column(job, "tpm_utilization", base=True).unit == "percentunit"
    assert column(job, "tpm_utilization", base=False).unit == "percent"
    assert column(job, "tpm_busy_minutes", base=True).unit == "s"
    assert column(job, "tpm_limit", base=False).zero == "blocked"


def test_no_panel_sums_percentages_of_several_organizations() -> None:
    known = {job.definition.folder: job.definition for job in jobs()}
    summed = {
        (view.title, known[view.folder].datapoint(name).unit)
        for dashboard in dashboards(known.values())
        for section in dashboard.sections
        for view in section.views
        if view.total == "sum"
        for name in view.datapoints
    }
    assert summed
    assert "percent" not in {unit for _, unit in summed}, summed


def test_present_numbers_of_influxdb_come_from_the_last_polls_only() -> None:
    for panel in panels(DASHBOARDS["influxdb/overview.json"]):
        if panel["type"] == STAT:
            assert panel["timeFrom"] in ("15m", "3h", "3d")


def test_provisioning_names_the_folder_of_each_store() -> None:
    document = yaml.safe_load(FILES["provisioning.yaml"])
    folders = {Path(one["options"]["path"]).name for one in document["providers"]}
    assert folders == {path.split("/")[0] for path in DASHBOARDS}
    assert document["apiVersion"] == 1
    page = (ROOT / "packaging/grafana/README.md").read_text()
    assert grafana.FOLDER in page
