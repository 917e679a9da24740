"""Queries of Grafana's dashboards against the real stores: each has data, and the right numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from lm_openai.hosts import grafana
from lm_openai.hosts.grafana_content import dashboards
from lm_openai.hosts.grafana_panels import document
from lm_openai.hosts.grafana_views import LINES, STAT, TABLE, View, dimensions, heading
from lm_openai.hosts.jobs import Job, jobs
from lm_openai.model.units import in_base_units
from lm_openai.simulator import Simulator
from lm_openai.timespans import DAY, HOUR, duration
from tests.hosts.conftest import Influx, NodeExporter, until
from tests.hosts.grafana_files import DASHBOARDS, Json, panels
from tests.hosts.grafana_stores import (
    ORGANIZATION,
    Chosen,
    Polls,
    Stores,
    polled,
    prometheus,
)
from tests.support.demo_polls import WEDNESDAY

pytestmark = pytest.mark.slow

JOBS = {job.definition.folder: job for job in jobs()}
STORES = {store.NAME: store for store in grafana.STORES}
JOINED: dict[str, Callable[[Any], float]] = {"sum": sum, "max": max, "min": min}
SECONDS = 60
"""Longest wait for Prometheus."""
HALF = 5e-10
"""Largest difference of a value in base units, which Prometheus has to 9 places."""


@pytest.fixture(scope="module")
def stores(
    tool: Callable[[str], str], influx: Influx, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stores]:
    """Both stores with one poll of everything."""
    home = tmp_path_factory.mktemp("grafana")
    with Simulator(at=WEDNESDAY, projects=11, models=24) as demo:
        polls = polled(demo, home / "cache")
    influx.write(polls.influx + "\n".join(polls.events) + "\n")
    with (
        NodeExporter.running(tool, home) as exporter,
        prometheus(tool, home, exporter) as server,
    ):
        for name, text in polls.prometheus.items():
            (exporter.folder / name).write_text(text)
        polled_ones = f"count(openai_poll_success == 1) == {len(polls.documents)}"
        until(lambda: server.at_once(polled_ones), SECONDS, "Prometheus has scraped all polls")
        yield Stores(polls, server, exporter, influx)


class Query(NamedTuple):
    """One query of a panel with the view and the datapoint that it is for ("" for names)."""

    view: View
    job: Job
    panel: Json
    target: Json
    datapoint: str
    start: str

    def chosen(self, polls: Polls) -> Chosen:
        """Return the dashboard's own range, with all projects and models."""
        return Chosen(polls.at - duration(self.start.removeprefix("now-")), polls.at)

    @property
    def names(self) -> tuple[str, ...]:
        """Datapoints of the query."""
        return (self.datapoint,) if self.datapoint else self.view.datapoints


def queries(store: str) -> Iterator[Query]:
    """Yield all queries of a store's dashboards."""
    for dashboard in dashboards(job.definition for job in JOBS.values()):
        for view in (view for section in dashboard.sections for view in section.views):
            job = JOBS[view.folder]
            panel = document(STORES[store].panel(view, job), 1, {}, {})
            names = [*view.datapoints, ""] if len(panel["targets"]) > 1 else [""]
            if len(view.datapoints) == 1:
                names[0] = view.datapoints[0]
            for target, name in zip(panel["targets"], names):
                yield Query(view, job, panel, target, name, dashboard.start)


@pytest.mark.parametrize("store", STORES)
def test_every_query_of_every_dashboard_has_data(store: str, stores: Stores) -> None:
    sent, empty = set(), []
    for query in queries(store):
        if not stores.result(query.panel, query.target, query.chosen(stores.polls)):
            empty.append((query.view.title, query.names, query.target))
        sent.add(text_of(query.target))
    in_files = {
        text_of(target)
        for path, dashboard in DASHBOARDS.items()
        if path.startswith(store) and "audit" not in path
        for panel in panels(dashboard)
        for target in panel["targets"]
    }

    assert not empty
    assert sent == in_files


def text_of(target: Json) -> str:
    return str(target.get("expr") or target["query"])


@pytest.mark.parametrize("store", STORES)
def test_tables_and_numbers_equal_the_poll(store: str, stores: Stores) -> None:
    compared = 0
    for query in queries(store):
        if query.view.kind == LINES or (store == "prometheus" and not query.datapoint):
            continue
        wanted, found = expected(store, query, stores.polls), read(store, query, stores)
        assert found.keys() == wanted.keys(), (query.view.title, query.names)
        for key, value in wanted.items():
            assert found[key] == pytest.approx(value, rel=1e-9, abs=HALF), (query.view.title, key)
        compared += len(wanted)

    assert compared > 500


Cells = dict[tuple[tuple[str, ...], str], float]
"""Numbers by (ids of the instance, datapoint); no ids for a number of all instances."""


def expected(store: str, query: Query, polls: Polls) -> Cells:
    """Return the numbers that a panel has to show, from the JSON documents."""
    view, definition = query.view, query.job.definition
    found: Cells = {}
    for ids, values in polls.rows(view.folder, view.grouping, dimensions(view, query.job)).items():
        for name in query.names:
            if name in values:
                value, unit = values[name], definition.datapoint(name).measure
                converted = in_base_units(value, unit) if store == "prometheus" else value
                found[ids, name] = float(converted)
    if view.kind == STAT and found:
        return {((), query.datapoint): JOINED[view.total](found.values())}
    return found


def read(store: str, query: Query, stores: Stores) -> Cells:
    """Return the numbers that the store has for a panel.

    InfluxDB sums the minutes of the range, so the range is the default window of a poll.
    """
    end = stores.polls.at
    chosen = Chosen(end // 60 * 60 - HOUR, end)
    names = () if query.view.kind == STAT else dimensions(query.view, query.job)
    found: Cells = {}
    for series in stores.result(query.panel, query.target, chosen):
        if store == "prometheus":
            ids = tuple(series["metric"].get(name, "") for name in names)
            found[ids, query.datapoint] = float(series["value"][1])
            continue
        [values] = series["values"]
        columns = dict(zip(series["columns"], values))
        ids = tuple(series["tags"][name] for name in names)
        for name in query.names:
            if columns[heading(name)] is not None:
                found[ids, name] = columns[heading(name)]
    return found


def test_prometheus_rows_have_names_also_without_numbers(stores: Stores) -> None:
    for query in queries("prometheus"):
        if query.view.kind == TABLE and not query.datapoint:
            found = stores.result(query.panel, query.target, query.chosen(stores.polls))
            rows = stores.polls.documents[query.view.folder, query.view.grouping]["instances"]
            aliases = sorted(series["metric"]["alias"] for series in found)
            assert aliases == sorted(row["alias"] for row in rows)


@pytest.mark.parametrize("store", STORES)
def test_a_chosen_project_narrows_its_panels(store: str, stores: Stores) -> None:
    rows = stores.polls.documents["rate_limits", ""]["instances"]
    project = rows[0]["dimensions"]["project_id"]
    headroom = "Headroom by project and model"
    query = next(one for one in queries(store) if one.view.title == headroom)
    chosen = query.chosen(stores.polls)._replace(project=project)
    found = stores.result(query.panel, query.target, chosen)

    place = "metric" if store == "prometheus" else "tags"
    assert {series[place]["project_id"] for series in found} == {project}


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("name", ["organization", "project", "model"])
def test_variables_offer_what_the_polls_have(store: str, name: str, stores: Stores) -> None:
    values = variable_values(store, name, stores)
    label = {"organization": "organization", "project": "project_id"}.get(name, name)
    rows = [row for one in stores.polls.documents.values() for row in one["instances"]]
    wanted = {row["dimensions"][label] for row in rows if row["dimensions"].get(label)}

    assert set(values) == (wanted or {ORGANIZATION})
    if store == "prometheus" and name == "project":
        named = {
            row["dimensions"][label]: row["names"]["project_name"]
            for row in rows
            if "project_name" in row["names"]
        }
        assert values == {**dict.fromkeys(wanted, ""), **named}


def variable_values(store: str, name: str, stores: Stores) -> dict[str, str]:
    """Return the text by value of a variable, as Grafana makes them of the store's result."""
    found = STORES[store].variable(name)
    if store == "influxdb":
        text = found["query"].replace("$organization", ORGANIZATION)
        rows = [row for series in stores.influx.query(text) for row in series["values"]]
        own = {row[1]: "" for row in rows}
        return {ORGANIZATION: ""} if name == "organization" and ORGANIZATION in own else own
    text = found["query"]["query"].replace("$organization", ORGANIZATION)
    inner = re.fullmatch(r"(query_result|label_values)\((.*?)(?:, (\w+))?\)", text)
    assert inner, text
    series = [one["metric"] for one in stores.prometheus.at_once(inner[2])]
    if inner[1] == "label_values":
        return {one[inner[3]]: "" for one in series}
    pattern = re.compile(found["regex"].strip("/").replace("?<", "?P<"))
    matches = [pattern.search(printed(one)) for one in series]
    return {match["value"]: match["text"] or "" for match in matches if match}


def printed(labels: dict[str, str]) -> str:
    """Return a series of query_result as Grafana writes it before it applies the expression."""
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "} 1 0"


def test_audit_panels_show_all_events(stores: Stores) -> None:
    dashboard = DASHBOARDS["influxdb/audit.json"]
    chosen = Chosen(stores.polls.at - 7 * DAY, stores.polls.at + HOUR)
    found = {
        panel["title"]: stores.result(panel, panel["targets"][0], chosen)
        for panel in panels(dashboard)
    }
    number = len(stores.polls.events)

    assert number > 100
    assert found["Events"][0]["values"][0][1] == number
    assert len(found["Newest events"][0]["values"]) == min(number, 500)
    for title in ("Events by type", "What", "Who"):
        counted = [row[1] for series in found[title] for row in series["values"]]
        assert sum(counted) == number, title
    granted = [line for line in stores.polls.events if "owner_granted=true" in line]
    assert granted
    assert len(found["Owner role granted"][0]["values"]) == len(granted)
    assert found["Kinds of events"][0]["values"][0][1] == len(found["What"])


def test_an_hour_after_the_last_poll_influxdb_has_no_present_numbers(stores: Stores) -> None:
    for query in queries("influxdb"):
        if query.view.kind == STAT and query.job.interval < HOUR:
            end = stores.polls.at + HOUR
            found = stores.result(query.panel, query.target, Chosen(end - DAY, end))
            assert found == [], query.view.title


def test_after_a_failed_poll_prometheus_has_no_present_numbers(stores: Stores) -> None:
    file = "openai-.prom"
    path = stores.exporter.folder / file
    path.write_text('openai_poll_success{datasource="usage_by_consumer"} 0\n')
    query = next(one for one in queries("prometheus") if one.view.title == "Tokens")

    def gone() -> bool:
        return not stores.result(query.panel, query.target, query.chosen(stores.polls))

    until(gone, SECONDS, "no number of the last poll")
    path.write_text(stores.polls.prometheus[file])
    until(lambda: not gone(), SECONDS, "the number is back")
