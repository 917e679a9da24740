"""Audit events as lines: every format accepts any event, and follows its own rules."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from line_protocol_parser import parse_line

from lm_openai.output.audit_formats import FORMATS, LATEST
from lm_openai.simulator import Simulator
from lm_openai.simulator.audit_types import UNKNOWN
from tests.support.audit_feed import AT, DAY, Event, event, followed, truth

ORGANIZATION = "Acme, Inc."
TEXT = st.text(st.characters(), max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=12,
)


@st.composite
def anything(draw: st.DrawFn) -> Event:
    """Draw an event in which only the three required members are sure to be valid."""
    kind = draw(TEXT | st.sampled_from(["user.added", "login.failed", "role.assignment.created"]))
    return {
        **draw(st.dictionaries(TEXT, JSON, max_size=3)),
        "actor": draw(JSON | st.fixed_dictionaries({"session": JSON, "api_key": JSON})),
        "project": draw(JSON),
        kind: draw(JSON),
        "id": draw(TEXT),
        "type": kind,
        "effective_at": draw(st.integers(-(10**11), 10**18)),
    }


@pytest.fixture(scope="module")
def day() -> Iterator[list[Event]]:
    """Events of three days in the demo organization: each type at least once."""
    with Simulator(at=AT, audit_delay=0) as demo:
        yield truth(demo, AT - 3 * DAY)


def line(form: str, entry: Event) -> str:
    return FORMATS[form](entry, ORGANIZATION)


def document(form: str, entry: Event) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line(form, entry))
    return found


@given(anything())
def test_any_event_is_one_line_in_every_format(entry: Event) -> None:
    for form in FORMATS:
        assert len(line(form, entry).splitlines()) == 1


@given(anything())
def test_json_formats_keep_the_whole_event(entry: Event) -> None:
    assert json.loads(line("json", entry)) == entry
    assert document("ecs", entry)["openai"]["audit"] == entry
    assert json.loads(document("logicmonitor-logs", entry)["message"]) == entry


@given(anything())
def test_json_formats_are_ascii_for_any_event(entry: Event) -> None:
    for form in ("json", "ecs", "logicmonitor-logs"):
        assert line(form, entry).isascii()


def test_an_event_of_unknown_type_is_printed_whole(tmp_path: Path) -> None:
    with Simulator(at=AT, audit_delay=0) as demo:
        printed = followed(demo.url, tmp_path, since="3d").stdout.splitlines()
        wanted = truth(demo, AT - 3 * DAY)

    assert [json.loads(one) for one in printed] == wanted
    assert UNKNOWN in {entry["type"] for entry in wanted}
    assert None in {entry["actor"] and entry["actor"]["type"] for entry in wanted}


# influx


def test_influx_lines_read_back_as_the_event(day: list[Event]) -> None:
    for entry in day:
        found = parse_line(line("influx", entry))
        assert found["measurement"] == "openai_audit"
        assert found["tags"]["type"] == entry["type"]
        assert found["tags"]["organization"] == ORGANIZATION
        assert found["tags"].get("project_id") == entry.get("project", {}).get("id")
        assert found["fields"]["id"] == entry["id"]
        assert json.loads(found["fields"]["event"]) == entry
        assert found["time"] // 10**9 == entry["effective_at"]


def test_events_of_the_same_second_are_distinct_points_in_every_run() -> None:
    points = {
        (found["time"], *found["tags"].items())
        for _ in range(2)
        for number in range(500)
        if (found := parse_line(line("influx", event(f"audit_log-{number}"))))
    }

    assert len(points) == 500


@pytest.mark.parametrize("at", [-5, LATEST + 5, 10**18])
def test_a_time_outside_the_range_of_influx_becomes_the_nearest_valid_time(at: int) -> None:
    assert 0 <= parse_line(line("influx", event("audit_log-1", at)))["time"] < 2**63


def test_an_event_too_long_for_a_field_is_cut_and_is_still_json() -> None:
    entry = event("audit_log-1", payload={"much": "x" * 70_000})
    found = parse_line(line("influx", entry))["fields"]

    assert json.loads(found["event"]) == event("audit_log-1")


# logicmonitor-logs


def test_a_log_entry_has_all_fields_of_logicmonitor() -> None:
    entry = event(
        "audit_log-1",
        type="user.updated",
        actor={
            "type": "session",
            "session": {"user": {"id": "user-1", "email": "a@b.c"}, "ip_address": "192.0.2.1"},
        },
        payload={"id": "user-2", "changes_requested": {"role": "owner"}},
    )

    assert document("logicmonitor-logs", entry) == {
        "message": line("json", entry),
        "timestamp": "2026-11-18T11:34:56Z",
        "_lm.resourceId": {"openai.org.name": ORGANIZATION},
        "_lm.logsource_type": "openai-audit",
        "log_level": "warn",
        "openai.organization": ORGANIZATION,
        "openai.event.id": "audit_log-1",
        "openai.event.type": "user.updated",
        "openai.owner.granted": "true",
        "openai.actor.type": "session",
        "openai.actor.id": "user-1",
        "openai.actor.email": "a@b.c",
        "openai.source.ip": "192.0.2.1",
    }


def test_a_message_is_at_most_32_kilobytes_and_names_the_members_left_out() -> None:
    entry = event("audit_log-1", small="kept", large="x" * 20_000, larger="y" * 30_000)
    found = document("logicmonitor-logs", entry)

    assert len(found["message"]) <= 32_000
    assert json.loads(found["message"]) == event("audit_log-1", small="kept", large="x" * 20_000)
    assert found["openai.event.cut"] == "larger"


# ecs


@pytest.mark.parametrize(
    ("kind", "category", "types", "outcome"),
    [
        ("login.succeeded", "authentication", ["start"], "success"),
        ("login.failed", "authentication", ["start"], "failure"),
        ("logout.succeeded", "authentication", ["end"], "success"),
        ("user.added", "iam", ["user", "creation"], "success"),
        ("group.deleted", "iam", ["group", "deletion"], "success"),
        ("api_key.created", "iam", ["creation"], "success"),
        ("role.assignment.created", "iam", ["creation"], "success"),
        ("tenant.admin_api_key.deleted", "iam", ["deletion"], "success"),
        ("rate_limit.updated", "configuration", ["change"], "success"),
        ("ip_allowlist.config.activated", "configuration", ["change"], "success"),
        ("agent_runtime.published", "configuration", ["info"], "success"),
        ("unheard", "configuration", ["info"], "success"),
    ],
)
def test_ecs_has_separate_categories_for_logins_people_and_configuration(
    kind: str, category: str, types: list[str], outcome: str
) -> None:
    found = document("ecs", event("audit_log-1", type=kind))["event"]

    assert found["category"] == [category]
    assert found["type"] == types
    assert found["outcome"] == outcome
    assert (found["id"], found["action"], found["kind"]) == ("audit_log-1", kind, "event")


def test_an_ecs_document_has_user_source_and_user_agent(day: list[Event]) -> None:
    entry = next(one for one in day if one["type"] == "login.succeeded")
    found = document("ecs", entry)
    session = entry["actor"]["session"]

    assert found["user"] == session["user"]
    assert found["source"] == {"address": session["ip_address"], "ip": session["ip_address"]}
    assert found["user_agent"] == {"original": session["user_agent"]}
    assert found["related"]["ip"] == [session["ip_address"]]
    assert found["organization"] == {"name": ORGANIZATION}
    assert "tags" not in found


def test_an_invalid_ip_address_is_not_printed_as_an_ip() -> None:
    actor = {"type": "session", "session": {"ip_address": "behind a proxy"}}
    found = document("ecs", event("audit_log-1", actor=actor))

    assert found["source"] == {"address": "behind a proxy"}
    assert "related" not in found
