"""OpenAI_Audit_ByEventType: the watch list, new owners and an empty audit log."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings
from lm_openai.collect import datasource
from lm_openai.metrics import audit_events
from lm_openai.simulator import ADMIN_KEY, NO_AUDIT_KEY, Simulator
from lm_openai.simulator.audit_types import OWNER_ROLE
from tests.support import replay
from tests.support.audit_feed import (
    AT,
    DAY,
    HOUR,
    Event,
    GivenEvents,
    event,
    process_environment,
    truth,
)
from tests.support.demo_polls import document, polled, values

FOLDER = "audit_by_event_type"
WATCHED = {
    "rate_limit.*",
    "ip_allowlist.*",
    "organization.updated",
    "api_key.created",
    "service_account.created",
    "project.archived",
    "login.failed",
    "owner granted",
}


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=AT, audit_delay=0) as simulator:
        yield simulator


def counted(url: str, folder: Path, at: int = AT, window: str = "1h") -> dict[str, Any]:
    """Return the events by instance."""
    record = replay.Record(at, {"openai.window": window}, ())
    outcome = replay.collected(FOLDER, record, url, folder, key=ADMIN_KEY)
    assert outcome.status == 0, outcome.stderr
    found = values(json.loads(outcome.stdout))
    return {name: datapoints["events"] for name, datapoints in found.items()}


def notes(url: str, folder: Path) -> list[str]:
    """Return the notes of a poll, which -v prints."""
    streams = (io.StringIO(), io.StringIO(), io.StringIO())
    session = Session(Options(), Surroundings(process_environment(url, folder), *streams, AT))
    return list(session.report(datasource.load(FOLDER)).notes)


# New owners


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("user.added", {"id": "user-1", "data": {"role": "owner"}}),
        ("user.updated", {"id": "user-1", "changes_requested": {"role": "owner"}}),
        ("invite.sent", {"id": "invite-1", "data": {"email": "a@b.c", "role": "owner"}}),
        ("service_account.created", {"id": "svc-1", "data": {"role": "owner"}}),
        ("service_account.updated", {"id": "svc-1", "changes_requested": {"role": "owner"}}),
        ("role.assignment.created", {"id": OWNER_ROLE, "principal_type": "user"}),
        ("role.assignment.created", {"id": "role-api-project-owner__api-project__proj_1"}),
        ("tenant.user.updated", {"changes_requested": {"role": "Owner"}}),
    ],
)
def test_a_new_owner_is_found_in_the_payload(kind: str, payload: dict[str, Any]) -> None:
    assert audit_events.grants_owner(event("audit_log-1", type=kind, payload=payload))


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        ("user.added", {"id": "user-1", "data": {"role": "reader"}}),
        ("user.added", {"id": "owner", "data": {}}),
        ("user.deleted", {"id": "owner"}),
        ("user.updated", None),
        ("user.updated", {"changes_requested": "owner"}),
        ("role.assignment.deleted", {"id": OWNER_ROLE}),
        ("role.assignment.created", {"id": "role-landowners"}),
        ("role.created", {"id": "role-1", "role_name": "owner"}),
        ("project.created", {"data": {"name": "owner", "role": "owner"}}),
    ],
)
def test_other_events_do_not_grant_ownership(kind: str, payload: Any) -> None:
    assert not audit_events.grants_owner(event("audit_log-1", type=kind, payload=payload))


@pytest.mark.parametrize(
    ("actor", "expected"),
    [
        (None, audit_events.Actor()),
        ("somebody", audit_events.Actor()),
        (
            {"type": "session", "session": {"user": {"id": "u", "email": "e"}, "ip_address": "1"}},
            audit_events.Actor("session", "u", "e", "", "1"),
        ),
        (
            {"type": "api_key", "api_key": {"id": "k", "service_account": {"id": "s"}}},
            audit_events.Actor("api_key", "s", "", "k"),
        ),
        ({"type": "api_key", "api_key": {"id": "k"}}, audit_events.Actor("api_key", "k", "", "k")),
    ],
)
def test_the_actor_is_the_owner_of_the_session_or_key(
    actor: Any, expected: audit_events.Actor
) -> None:
    assert audit_events.actor(event("audit_log-1", actor=actor)) == expected


# The DataSource


def test_the_watch_list_is_printed_at_0_without_events(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    api = GivenEvents(httpserver, event("audit_log-1", AT - DAY))

    assert counted(api.url, tmp_path) == dict.fromkeys(WATCHED, 0)


def test_the_watch_list_is_printed_in_a_series_too(httpserver: HTTPServer, tmp_path: Path) -> None:
    api = GivenEvents(httpserver, event("audit_log-1", AT - DAY))
    record = replay.Record(AT, {}, ())
    lines = replay.collected(FOLDER, record, api.url, tmp_path, "influx").stdout.splitlines()

    assert len(lines) == len(WATCHED)
    assert all(line.endswith(f" events=0i {AT // 60 * 60}000000000") for line in lines)


def test_each_event_counts_once_and_a_new_owner_counts_also_as_owner_granted(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    owner = {"id": "user-1", "changes_requested": {"role": "owner"}}
    api = GivenEvents(
        httpserver,
        event("audit_log-1", type="rate_limit.updated"),
        event("audit_log-2", type="rate_limit.deleted"),
        event("audit_log-3", type="ip_allowlist.config.activated"),
        event("audit_log-4", type="api_key.created"),
        event("audit_log-5", type="api_key.deleted"),
        event("audit_log-6", type="user.updated", payload=owner),
        event("audit_log-7", type="agent_runtime.published"),
        event("audit_log-8", AT - 3 * HOUR, type="agent_runtime.published"),
    )

    counts = {
        "rate_limit.*": 2,
        "ip_allowlist.*": 1,
        "api_key.created": 1,
        "api_key.deleted": 1,
        "user.updated": 1,
        "owner granted": 1,
        "agent_runtime.published": 1,
    }
    assert counted(api.url, tmp_path) == {**dict.fromkeys(WATCHED, 0), **counts}


def test_a_type_is_an_instance_only_with_an_event_in_the_polls_own_window(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    api = GivenEvents(httpserver, event("audit_log-1", type="tunnel.created"))

    assert counted(api.url, tmp_path)["tunnel.created"] == 1
    for now, window in ((AT + DAY, "1h"), (AT + 8 * DAY, "7d")):
        assert counted(api.url, tmp_path, now, window=window) == dict.fromkeys(WATCHED, 0)
    assert counted(api.url, tmp_path, AT + DAY, window="7d")["tunnel.created"] == 1


def test_an_event_at_or_after_the_windows_end_does_not_count(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    api = GivenEvents(
        httpserver,
        event("audit_log-1", AT - 1, type="tunnel.created"),
        event("audit_log-2", AT, type="tunnel.created"),
        event("audit_log-3", AT + HOUR, type="tunnel.deleted"),
    )

    counts = counted(api.url, tmp_path)
    assert counts == {**dict.fromkeys(WATCHED, 0), "tunnel.created": 1}


def test_the_counts_add_up_to_the_events_of_the_feed(demo: Simulator, tmp_path: Path) -> None:
    start = AT // HOUR * HOUR - DAY
    found = counted(demo.url, tmp_path, window="24h")

    owners = found.pop("owner granted")
    assert sum(found.values()) == len(truth(demo, start))
    assert owners == sum(map(audit_events.grants_owner, truth(demo, start))) > 0


def test_a_poll_needs_one_request_in_most_organizations(demo: Simulator, tmp_path: Path) -> None:
    document(FOLDER, demo, tmp_path)

    assert [request.path for request in demo.requests] == ["/v1/organization/audit_logs"]


def test_an_empty_audit_log_adds_a_note_that_logging_may_be_off(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    api = GivenEvents(httpserver)
    found = {}
    for name, happened in (("off", ()), ("idle", (event("audit_log-1", AT - 30 * DAY),))):
        api.events = list[Event](happened)
        found[name] = notes(api.url, tmp_path / name)

    assert "audit logging may be off" in " ".join(found["off"])
    assert found["idle"] == []


def test_a_missing_scope_fails_the_poll_and_is_named(demo: Simulator, tmp_path: Path) -> None:
    ran = polled(FOLDER, demo, tmp_path, key=NO_AUDIT_KEY)

    assert (ran.stdout, ran.status) == ("", 1)
    assert "api.audit_logs.read" in ran.stderr


def test_a_new_owner_and_a_burst_of_failed_logins_raise_alarms(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    owner = {"data": {"role": "owner"}}
    api = GivenEvents(
        httpserver,
        event("audit_log-o", type="user.added", payload=owner),
        *(event(f"audit_log-{number}", type="login.failed") for number in range(10)),
        event("audit_log-k", type="api_key.created"),
    )
    record = replay.Record(AT, {}, ())
    nagios = replay.collected(FOLDER, record, api.url, tmp_path, "nagios").stdout

    assert "[CRITICAL] owner granted: events 1" in nagios
    assert "[WARNING] login.failed: events 10" in nagios
    assert "[OK] api_key.created: events 1" in nagios
