"""OpenAI_Collection_Health: states of an API that responds, refuses or is down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from lm_openai.api.client import Client
from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.api.notes import Memory, Notes
from lm_openai.api.transport import Connection, Transport
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
from tests.support import replay
from tests.support.demo_polls import WEDNESDAY, breaches, document, polled, values
from tests.support.http_api import Clock, demo_client, error

FOLDER = "collection_health"
PROBES = len(USAGE_KINDS) + 2
"""Requests of one poll: each usage kind, projects and the audit log."""
STATES = ("api_reachable", "key_valid", "scope_management", "scope_usage", "scope_audit_logs")
HURRIED = {"openai.timeout": "1"}


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY) as simulator:
        yield simulator


def states(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return api_reachable, key_valid and the three scopes; None if unknown."""
    return tuple(row.get(name) for name in STATES)


def test_a_good_key_has_all_five_states_after_thirteen_requests(
    demo: Simulator, tmp_path: Path
) -> None:
    row = values(document(FOLDER, demo, tmp_path))["acme"]

    assert states(row) == (1, 1, 1, 1, 1)
    costs = {name: row[name] for name in ("requests_made", "throttled", "retries")}
    assert costs == {"requests_made": len(USAGE_KINDS) + 2, "throttled": 0, "retries": 0}
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
    assert row["requests_made"] >= PROBES


def test_an_api_that_throttles_is_reachable(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("429", retry_after=30)

    row = values(document(FOLDER, demo, tmp_path, "json", HURRIED))["acme"]

    assert states(row) == (1, None, None, None, None)
    assert row["throttled"] >= 1


def test_a_poll_that_sent_no_request_reports_no_state(demo: Simulator) -> None:
    """Another process got an HTTP 429 shortly before, so the poll pauses until its end."""
    clock = Clock()
    notes = Notes(Memory(), clock)
    for family in ("usage", "projects", "audit_logs"):
        notes.throttled(family, 300, None)
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


def test_a_new_usage_kind_that_the_api_lacks_is_not_a_failure(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.fault("404", "*/usage/decisions")

    row = values(document(FOLDER, demo, tmp_path))["acme"]

    assert row["partial_failures"] == 0
    assert "decisions_data_age_seconds" not in row


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
