"""OpenAI_Collection_Health: states of an API that responds, refuses or is down."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from lm_openai import resources
from lm_openai.api.client import Client
from lm_openai.api.endpoints import USAGE_KINDS, rows_read
from lm_openai.api.notes import Memory, Notes
from lm_openai.api.transport import Connection, Transport
from lm_openai.app import run_many
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.collect import datasource
from lm_openai.collect.pipeline import poll
from lm_openai.config.properties import load
from lm_openai.model.thresholds import Rules
from lm_openai.simulator import (
    NO_AUDIT_KEY,
    NO_MANAGEMENT_KEY,
    NO_USAGE_KEY,
    Simulator,
)
from lm_openai.storage.cache import Cache
from lm_openai.timespans import moment
from tests.support import replay
from tests.support.demo_polls import WEDNESDAY, breaches, document, polled, values
from tests.support.http_api import Clock, demo_client, error
from tests.support.surroundings import environment

FOLDER = "collection_health"
PREFIX = "/v1/organization/"
ENDPOINTS = [
    *(row.path for row in rows_read().values()),
    "costs",
    *(f"usage/{kind}" for kind in USAGE_KINDS),
]
"""Endpoints that a DataSource reads, each with `{project_id}` in the place of an id."""
PROBES = len(ENDPOINTS)
"""Requests of one poll, one for each endpoint."""
OF_A_PROJECT = [endpoint for endpoint in ENDPOINTS if "{" in endpoint]
STATES = ("api_reachable", "key_valid", "scope_management", "scope_usage", "scope_audit_logs")
HURRIED = {"openai.timeout": "1"}


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def small() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY, projects=3, models=3) as simulator:
        yield simulator


def endpoints(demo: Simulator) -> set[str]:
    """Return the endpoints of all requests since the last `clear`."""
    paths = (request.path.removeprefix(PREFIX) for request in demo.requests)
    return {re.sub("projects/[^/]+/", "projects/{project_id}/", path) for path in paths}


def pattern(endpoint: str) -> str:
    """Return the glob over the paths of an endpoint."""
    return PREFIX + endpoint.replace("{project_id}", "*")


def states(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return api_reachable, key_valid and the three scopes; None if unknown."""
    return tuple(row.get(name) for name in STATES)


def test_a_good_key_has_all_five_states_after_one_request_per_endpoint(
    demo: Simulator, tmp_path: Path
) -> None:
    row = values(document(FOLDER, demo, tmp_path))["acme"]

    assert states(row) == (1, 1, 1, 1, 1)
    costs = {name: row[name] for name in ("requests_made", "throttled", "retries")}
    assert costs == {"requests_made": PROBES, "throttled": 0, "retries": 0}
    assert row["partial_failures"] == 0
    assert 0 < row["latency_seconds"] < 60


@pytest.mark.parametrize(
    ("key", "lacking"),
    [
        (NO_MANAGEMENT_KEY, "scope_management"),
        (NO_USAGE_KEY, "scope_usage"),
        (NO_AUDIT_KEY, "scope_audit_logs"),
    ],
)
def test_a_missing_scope_shows_in_its_datapoint_and_is_not_a_failure(
    demo: Simulator, tmp_path: Path, key: str, lacking: str
) -> None:
    found = document(FOLDER, demo, tmp_path, key=key)

    row = values(found)["acme"]
    assert [name for name in STATES if row[name] == 0] == [lacking]
    assert row["partial_failures"] == 0
    assert breaches(found) == {"acme": {lacking: "warning"}}
    assert found["partial_failures"] == []


def test_a_site_without_the_audit_log_can_switch_its_limit_off(
    demo: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "thresholds.d").mkdir()
    off = {"datapoint": "scope_audit_logs", "warning": None}
    site = {"datasource": "OpenAI_Collection_Health", "thresholds": [off]}
    (tmp_path / "thresholds.d" / "health.json").write_text(json.dumps(site))

    outcome = polled(FOLDER, demo, tmp_path, "nagios", key=NO_AUDIT_KEY)

    assert (outcome.status, outcome.stdout.split(" - ")[0]) == (0, "OPENAI COLLECTION HEALTH OK")


def test_an_invalid_key_is_critical_and_its_scopes_are_unknown(
    demo: Simulator, tmp_path: Path
) -> None:
    outcome = polled(FOLDER, demo, tmp_path, "nagios", key="sk-admin-revoked")
    row = values(document(FOLDER, demo, tmp_path, key="sk-admin-revoked"))["acme"]

    assert outcome.status == 2
    assert "key_valid 0 (critical under 1)" in outcome.stdout.splitlines()[0]
    assert states(row) == (1, 0, None, None, None)


def test_a_project_key_has_no_scope_and_its_validity_is_unknown(
    demo: Simulator, tmp_path: Path
) -> None:
    row = values(document(FOLDER, demo, tmp_path, key="sk-proj-abc"))["acme"]

    assert states(row) == (1, None, 0, 0, 0)


def test_another_401_does_not_make_the_key_invalid(httpserver: HTTPServer, tmp_path: Path) -> None:
    refusal = error(401, "Your organization has been deactivated.", "account_deactivated")
    httpserver.expect_request("/v1/organization/projects").respond_with_response(refusal)
    record = replay.Record(WEDNESDAY, HURRIED, ())

    outcome = replay.collected(FOLDER, record, httpserver.url_for("/v1"), tmp_path)

    (row,) = json.loads(outcome.stdout)["instances"]
    assert states(row["datapoints"])[:2] == (1, None)
    assert "deactivated" in outcome.stderr


def test_an_api_that_is_down_gives_a_critical_datapoint_and_no_failed_poll(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.stop()

    nagios = polled(FOLDER, demo, tmp_path, "nagios", HURRIED)
    influx = polled(FOLDER, demo, tmp_path, "influx", HURRIED)

    assert nagios.status == 2
    assert "api_reachable 0 (critical under 1)" in nagios.stdout.splitlines()[0]
    assert "no connection to the API" in nagios.stdout.splitlines()[0]
    assert influx.status == 0
    assert "api_reachable=0i" in influx.stdout
    assert "latency_seconds" not in influx.stdout
    assert (
        f"{PROBES} of {PROBES} endpoints could not be read: projects: no connection"
        in influx.stderr
    )


@pytest.mark.parametrize("fault", ["503", "gateway", "html", "redirect"])
def test_a_response_that_is_not_from_the_api_means_unreachable(
    demo: Simulator, tmp_path: Path, fault: str
) -> None:
    demo.fault(fault)

    row = values(document(FOLDER, demo, tmp_path, "json", HURRIED))["acme"]

    assert states(row) == (0, None, None, None, None)
    assert row["partial_failures"] == PROBES
    assert row["requests_made"] >= PROBES - len(OF_A_PROJECT)


def test_an_api_that_throttles_is_reachable(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("429", retry_after=30)

    row = values(document(FOLDER, demo, tmp_path, "json", HURRIED))["acme"]

    assert states(row) == (1, None, None, None, None)
    assert row["throttled"] >= 1


def test_a_poll_that_sent_no_request_reports_no_state(demo: Simulator) -> None:
    """Another process got an HTTP 429 shortly before, so the poll pauses until its end."""
    clock = Clock()
    notes = Notes(Memory(), clock)
    for endpoint in ENDPOINTS:
        notes.throttled(endpoint, 300, None)
    connection = Connection(demo.url, "sk-admin-demo")
    client = Client(Transport(connection, environ={}), clock=clock, notes=notes)

    (row,) = rows(client, Cache(None, "", clock))

    assert demo.requests == []
    assert set(row) == {"requests_made", "throttled", "retries", "partial_failures"}
    assert row["requests_made"] == 0


def test_one_failed_endpoint_removes_only_its_own_data_age(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("400", "*/usage/images")

    outcome = polled(FOLDER, demo, tmp_path)

    row = values(json.loads(outcome.stdout))["acme"]
    assert states(row) == (1, 1, 1, 1, 1)
    assert row["partial_failures"] == 1
    assert "images_data_age_seconds" not in row
    assert "completions_data_age_seconds" in row
    assert f"1 of {PROBES} endpoints could not be read: usage/images" in outcome.stderr


def test_every_endpoint_of_the_other_datasources_is_probed_and_no_other(
    small: Simulator, tmp_path: Path
) -> None:
    """The other way round too: an endpoint that nobody reads is no reason for an alarm."""
    small.clear()
    others = tuple(folder for folder in resources.folders() if folder != FOLDER)
    assert run_together(others, small, tmp_path) == 0
    needed = endpoints(small)
    small.clear()
    document(FOLDER, small, tmp_path)

    assert endpoints(small) == needed == set(ENDPOINTS)


def test_lists_limits_and_costs_are_shared_with_the_other_datasources(
    small: Simulator, tmp_path: Path
) -> None:
    """Its own questions: usage of 3 hours, audit events of 30 days, alerts without a limit."""
    small.clear()
    others = tuple(folder for folder in resources.folders() if folder != FOLDER)
    run_together(others, small, tmp_path)
    small.clear()
    run_together((FOLDER,), small, tmp_path)

    own = {"audit_logs", "projects/{project_id}/spend_alerts"}
    assert endpoints(small) == own | {f"usage/{kind}" for kind in USAGE_KINDS}


def run_together(folders: tuple[str, ...], demo: Simulator, cache: Path) -> int:
    """Poll these DataSources, which share responses with others in `cache`; return the status."""
    environ = environment(demo.url, cache)
    around = Surroundings(environ, io.StringIO(), io.StringIO(), io.StringIO(), WEDNESDAY)
    return run_many.run(folders, Options(), around)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_any_one_endpoint_that_fails_is_counted_and_named(
    small: Simulator, tmp_path: Path, endpoint: str
) -> None:
    small.clear()
    small.fault("400", pattern(endpoint))

    found = json.loads(polled(FOLDER, small, tmp_path).stdout)

    (sentence,) = found["partial_failures"]
    count = len(OF_A_PROJECT) + 1 if endpoint == "projects" else 1
    assert values(found)["acme"]["partial_failures"] == count
    assert re.search(f": {endpoint.replace('{project_id}', '[^/]+')}: ", sentence)
    assert sentence.startswith(f"{count} of {PROBES} endpoints could not be read: ")
    assert breaches(found) == {"acme": {"partial_failures": "warning"}}
    assert states(values(found)["acme"])[:4] == (1, 1, 1, 1)


@pytest.mark.parametrize("endpoint", ["costs", "users", "projects/{project_id}/rate_limits"])
def test_a_scope_that_only_one_endpoint_reports_missing_is_a_failure_of_that_endpoint(
    small: Simulator, tmp_path: Path, endpoint: str
) -> None:
    """The datapoint of the scope is 1, because others that need it can be read."""
    small.clear()
    small.fault("scope", pattern(endpoint))

    found = json.loads(polled(FOLDER, small, tmp_path).stdout)

    assert breaches(found) == {"acme": {"partial_failures": "warning"}}
    assert values(found)["acme"]["partial_failures"] == 1


def test_endpoints_that_fail_alike_are_all_named_on_the_line_of_the_check(
    small: Simulator, tmp_path: Path
) -> None:
    small.clear()
    for endpoint in ("users", "costs"):
        small.fault("400", pattern(endpoint))

    outcome = polled(FOLDER, small, tmp_path, "nagios")

    assert outcome.status == 1
    assert f"2 of {PROBES} endpoints (users, costs) could not be read: " in outcome.stdout


@pytest.mark.parametrize(
    ("endpoint", "count"),
    [
        ("usage/decisions", 0),
        ("spend_limit", 0),
        ("projects/{project_id}/spend_limit", 0),
        ("spend_alerts", 1),
        ("usage/images", 1),
    ],
)
def test_a_404_counts_only_where_other_datasources_miss_something(
    small: Simulator, tmp_path: Path, endpoint: str, count: int
) -> None:
    small.clear()
    small.fault("404", pattern(endpoint))

    row = values(json.loads(polled(FOLDER, small, tmp_path).stdout))["acme"]

    assert row["partial_failures"] == count
    assert "decisions_data_age_seconds" not in row or endpoint != "usage/decisions"


@pytest.mark.parametrize(("day", "count"), [("2026-11-15", 1), ("2026-10-05", 0)])
def test_a_day_that_the_bill_lacks_counts_if_a_threshold_needs_it(
    small: Simulator, tmp_path: Path, day: str, count: int
) -> None:
    small.clear()
    small.fault("hole", "*/costs", start=moment(day))

    found = json.loads(polled(FOLDER, small, tmp_path).stdout)

    assert values(found)["acme"]["partial_failures"] == count
    assert [sentence for sentence in found["partial_failures"] if day not in sentence] == []


def test_without_an_active_project_nothing_of_a_project_is_requested(tmp_path: Path) -> None:
    with Simulator(at=WEDNESDAY, projects=3, models=3) as empty:
        archived = tuple(one._replace(archived_at=1) for one in empty.organization.projects)
        empty.organization = empty.organization._replace(projects=archived)
        row = values(document(FOLDER, empty, tmp_path))["acme"]

        assert endpoints(empty) == set(ENDPOINTS) - set(OF_A_PROJECT)
    assert (row["partial_failures"], row["scope_management"]) == (0, 1)


def test_the_data_age_of_a_kind_starts_at_the_end_of_its_newest_minute(tmp_path: Path) -> None:
    """The demo organization delays each kind; both kinds are used every minute by day."""
    delays = {"completions": 20 * 60, "embeddings": 50 * 60}
    with Simulator(at=WEDNESDAY, lag=0, delays=delays) as late:
        found = document(FOLDER, late, tmp_path)

    row = values(found)["acme"]
    newest = WEDNESDAY // 60 * 60
    for kind, delay in delays.items():
        age = row[f"{kind}_data_age_seconds"]
        assert delay <= age < delay + 5 * 60
        assert (WEDNESDAY - age) % 60 == newest % 60
    assert found["data_age_seconds"]["completions"] == row["completions_data_age_seconds"]


def test_a_kind_without_usage_in_three_hours_has_no_data_age(tmp_path: Path) -> None:
    with Simulator(at=WEDNESDAY, lag=0, delays={"images": 4 * 3600}) as late:
        row = values(document(FOLDER, late, tmp_path))["acme"]

    assert "images_data_age_seconds" not in row
    assert "completions_data_age_seconds" in row


def test_earlier_requests_of_the_run_do_not_count(demo: Simulator) -> None:
    client = demo_client(demo)
    list(client.list("users", limit=1))
    before = client.counters.requests

    (row,) = rows(client, Cache(None, "", lambda: WEDNESDAY))

    assert row["requests_made"] == PROBES
    assert client.counters.requests == before + PROBES


def test_discovery_works_while_the_api_is_down(demo: Simulator, tmp_path: Path) -> None:
    demo.stop()

    outcome = polled(FOLDER, demo, tmp_path, "logicmonitor", discover=True)

    assert (outcome.status, outcome.stdout.split("##")[:2]) == (0, ["organization", "acme"])


def test_latency_uses_the_monotonic_clock() -> None:
    """Latency must not jump if the wall clock is changed."""
    import time

    assert Surroundings._field_defaults["clock"] is time.monotonic


def rows(client: Client, cache: Cache) -> list[dict[str, Any]]:
    """Return the datapoints of each row of a poll with this client."""
    source = datasource.load(FOLDER)
    rules = Rules(source.definition.name, {})
    found = poll(source, load({}), WEDNESDAY, client, cache, rules).report()
    return [{reading.datapoint: reading.value for reading in row.readings} for row in found.rows]
