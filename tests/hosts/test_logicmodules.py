"""LogicModules: JSON by the vendor's rules, XML in the portal's order, thresholds, dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from jsonschema import Draft202012Validator

from lm_openai import resources
from lm_openai.hosts import logicmonitor
from lm_openai.hosts.jobs import HEALTH, Job, jobs
from lm_openai.hosts.logicmonitor_module import expression, notes
from lm_openai.model.thresholds import Override, Threshold
from tests.hosts.logicmonitor_scripts import MODULES

JOBS = {job.definition.folder: job for job in jobs()}
RULES = json.loads(Path(__file__).with_name("logicmonitor.schema.json").read_text())
RESERVED = resources.schema("datasource")["$defs"]["reserved"]["enum"]

ORDERS = json.loads(Path(__file__).with_name("logicmonitor_elements.json").read_text())
"""Elements by path, in the order of the portal's own exports, without what the portal assigns."""


@cache
def module(folder: str) -> dict[str, Any]:
    name = JOBS[folder].definition.name
    found: dict[str, Any] = json.loads((MODULES / name / f"{name}.json").read_text())
    return found


@cache
def entry(folder: str) -> ElementTree.Element:
    text = (MODULES / "xml" / f"{JOBS[folder].definition.name}.xml").read_text()
    found = ElementTree.fromstring(text).find("entry")
    assert found is not None
    return found


def script(folder: str, name: str) -> str:
    return (MODULES / JOBS[folder].definition.name / f"{name}.groovy").read_text()


@pytest.mark.parametrize("folder", JOBS)
def test_the_json_follows_the_vendors_rules(folder: str) -> None:
    document = module(folder)
    faults = [*map(str, Draft202012Validator(RULES).iter_errors(document))]
    assert not faults
    assert document["collectionAttrs"]["content"] == script(folder, "collect")
    assert document["activeDiscovery"]["params"]["content"] == script(folder, "ad")
    assert not document["name"].startswith("SaaS_")


@pytest.mark.parametrize("folder", JOBS)
def test_every_datapoint_is_a_literal_of_the_script_and_in_a_graph(folder: str) -> None:
    document = module(folder)
    names = [point["name"] for point in document["datapoints"]]
    lines = [line["datapointName"] for graph in document["graphs"] for line in graph["lines"]]
    assert len({name.lower() for name in names}) == len(names)
    assert set(lines) == set(names)
    assert {name.lower() for name in names} & set(RESERVED) <= {"unjudged"}
    for point in document["datapoints"]:
        assert point["interpretExpr"] == f"##WILDVALUE##.{point['name']}"
        assert f"'.{point['name']}='" in script(folder, "collect")
    declared = [one.camel for one in JOBS[folder].definition.datapoints]
    assert names == [*declared, "unjudged"]


@pytest.mark.parametrize("folder", JOBS)
def test_alerts_have_the_thresholds_their_polls_and_the_remedy(folder: str) -> None:
    points = {point["name"]: point for point in module(folder)["datapoints"]}
    expected = {one.datapoint.camel: one.threshold for one in JOBS[folder].alerts}
    shown = {name for name, point in points.items() if "threshold" in point}
    assert shown == {name for name, threshold in expected.items() if threshold.on}
    for name in shown:
        point, threshold = points[name], expected[name]
        assert point["triggerInterval"] == threshold.consecutive - 1
        for text in ("##HOST##", "##INSTANCE##", "##VALUE##", "##THRESHOLD##", threshold.reason):
            assert text in point["alertBody"]


def test_no_data_alerts_on_collection_health_alone() -> None:
    found = {
        (folder, point["name"]): point["triggerInterval"]
        for folder in JOBS
        for point in module(folder)["datapoints"]
        if point["noData"] != "Do not trigger an alert"
    }
    assert found == {(HEALTH, "unjudged"): 2}


@pytest.mark.parametrize("folder", JOBS)
def test_the_xml_has_the_portals_order_and_the_same_content(folder: str) -> None:
    document, found = module(folder), entry(folder)
    for path, order in ORDERS.items():
        elements = found.findall(path)
        assert elements
        for element in elements:
            assert [child.tag for child in element] == order
    points = {one.findtext("name"): one for one in found.iterfind("datapoints/datapoint")}
    assert [*points] == [point["name"] for point in document["datapoints"]]
    for point in document["datapoints"]:
        texts = {child.tag: child.text or "" for child in points[point["name"]]}
        assert texts["alertexpr"] == point.get("threshold", "")
        assert texts["alertTransitionIval"] == str(point["triggerInterval"])
        assert texts["alertbody"] == point.get("alertBody", "")
        assert (texts["alertmissing"] == "1") == (point["noData"] == "Do not trigger an alert")


@pytest.mark.parametrize("folder", JOBS)
def test_the_xml_holds_the_scripts(folder: str) -> None:
    found = entry(folder)
    values = {one.findtext("name"): one.findtext("value") for one in found.iterfind("attributes/*")}
    listed = json.loads(found.findtext("adlist") or "")
    assert values["scriptgroovy"] == script(folder, "collect")
    assert found.findtext("wildcardgroovyscript") == script(folder, "ad")
    assert listed["params"]["groovyscript"] == script(folder, "ad")
    assert found.findtext("schedule") == str(JOBS[folder].interval)


def test_the_envelope_and_the_escapes_are_those_of_an_export() -> None:
    text = (MODULES / "xml" / "OpenAI_Collection_Health.xml").read_text()
    assert text.startswith('<?xml version="1.0" encoding="UTF-8" ?>\n<feed  version="1.0" ')
    assert "<appliesTo>hasCategory(&#34;OpenAI&#34;)</appliesTo>" in text
    assert "<wildcardlinuxcmdline>type=&#34;embeded&#34; </wildcardlinuxcmdline>" in text
    assert not re.search("<(version|originId)>", text)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ((">=", 80, 90, 95), ">= 80 90 95"),
        ((">=", 60, None, None), ">= 60"),
        (("<", None, None, 1), "< 1 1 1"),
        (("<=", None, 7, 2), "<= 7 7 2"),
        ((">=", 2, 10, None), ">= 2 10"),
        ((">", Decimal("0.5"), None, 5), "> 0.5 5 5"),
    ],
)
def test_an_unused_level_has_the_limit_of_the_next_higher_one(
    limits: tuple[str, Any, Any, Any], expected: str
) -> None:
    assert expression(Threshold("x", *limits)) == expected


def test_overrides_for_some_instances_are_in_the_notes() -> None:
    job = JOBS["rate_limits"]
    change = {"critical": Decimal(99), "consecutive": 5}
    override = Override((("project_id", "batch-*"),), "tpm_utilization", change, "site.json")
    tuned = job._replace(rules=job.rules._replace(overrides=(override,)))
    assert notes(tuned).endswith(
        "Set by hand for the instances with project batch-*: tpmUtilization >= 80 90 99, trigger "
        "interval 4."
    )
    assert notes(job) in notes(tuned)


def test_the_propertysource_has_the_kind_and_no_interval() -> None:
    name = "addCategory_OpenAI"
    found = json.loads((MODULES / name / f"{name}.json").read_text())
    assert (found["name"], found["type"], found["script"]["type"]) == (name, 5, "groovy")
    assert found["script"]["content"] == (MODULES / name / "collect.groovy").read_text()
    assert found["appliesTo"] == "openai.admin.key || openai.admin.key.file"
    assert not {"collectionInterval", "version", "registryMetadata", "params"} & found.keys()


def widgets() -> list[dict[str, Any]]:
    document = json.loads((MODULES / "dashboard/OpenAI.json").read_text())
    assert document["widgetsConfigVersion"] == 2
    found: list[dict[str, Any]] = document["widgets"]
    return found


def sources(node: Any) -> Iterator[tuple[str, str]]:
    """Yield the full name of the LogicModule and the name of each datapoint that a widget shows."""
    if isinstance(node, dict):
        if "dataSourceFullName" in node and "dataPointName" in node:
            yield node["dataSourceFullName"], node["dataPointName"]
        for column in node.get("columns", ()) if "dataSourceFullName" in node else ():
            yield node["dataSourceFullName"], column["dataPointName"]
        node = [*node.values()]
    if isinstance(node, list):
        for inner in node:
            yield from sources(inner)


def test_every_widget_shows_a_datapoint_that_the_logicmodules_have() -> None:
    known = {
        (f"{module(folder)['displayedAs']} ({module(folder)['name']})", point["name"])
        for folder in JOBS
        for point in module(folder)["datapoints"]
    }
    shown = {*sources(widgets())}
    assert len(shown) > 10
    assert shown <= known


def test_the_widgets_fill_a_grid_of_twelve_columns_without_overlap() -> None:
    areas = []
    for widget in widgets():
        place = widget["position"]
        columns = range(place["col"], place["col"] + place["sizex"])
        rows = range(place["row"], place["row"] + place["sizey"])
        areas.append({(column, row) for column in columns for row in rows})
    assert not any(one & other for one, other in combinations(areas, 2))
    covered = set().union(*areas)
    assert covered == {(column, row) for column in range(1, 13) for row in range(1, 23)}


def test_a_dashboard_has_no_widget_of_a_logicmodule_that_is_not_written() -> None:
    some: list[Job] = [JOBS["cost_by_project"]]
    document = json.loads(logicmonitor.files(some)["dashboard/OpenAI.json"])
    assert {name for name, _ in sources(document["widgets"])} == {
        "OpenAI Cost By Project (OpenAI_Cost_ByProject)"
    }
