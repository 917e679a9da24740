"""Audit events as lines: any event passes, in every format, and each format by its own rules."""

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
    """An event of which only the three required members are as they should be."""
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
    """What happened in the demo organization in three days: each type at least once."""
    with Simulator(at=AT, audit_delay=0) as demo:
        yield truth(demo, AT - 3 * DAY)


def line(form: str, told: Event) -> str:
    return FORMATS[form](told, ORGANIZATION)


def document(form: str, told: Event) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(line(form, told))
    return found


@given(anything())
def test_any_event_is_one_line_in_every_format(told: Event) -> None:
    for form in FORMATS:
        assert len(line(form, told).splitlines()) == 1


@given(anything())
def test_any_event_passes_whole(told: Event) -> None:
    assert json.loads(line("json", told)) == told
    assert document("ecs", told)["openai"]["audit"] == told
    assert json.loads(document("logicmonitor-logs", told)["message"]) == told


@given(anything())
def test_any_event_is_ascii_where_json_carries_it(told: Event) -> None:
    for form in ("json", "ecs", "logicmonitor-logs"):
        assert line(form, told).isascii()


def test_a_type_that_nobody_knows_reaches_the_pipeline_whole(tmp_path: Path) -> None:
    with Simulator(at=AT, audit_delay=0) as demo:
        printed = followed(demo.url, tmp_path, since="3d").stdout.splitlines()
        wanted = truth(demo, AT - 3 * DAY)

    assert [json.loads(one) for one in printed] == wanted
    assert UNKNOWN in {told["type"] for told in wanted}
    assert None in {told["actor"] and told["actor"]["type"] for told in wanted}


# influx


def test_influx_lines_read_back_as_what_was_told(day: list[Event]) -> None:
    for told in day:
        found = parse_line(line("influx", told))
        assert found["measurement"] == "openai_audit"
        assert found["tags"]["type"] == told["type"]
        assert found["tags"]["organization"] == ORGANIZATION
        assert found["tags"].get("project_id") == told.get("project", {}).get("id")
        assert found["fields"]["id"] == told["id"]
        assert json.loads(found["fields"]["event"]) == told
        assert found["time"] // 10**9 == told["effective_at"]


def test_events_of_one_second_and_tags_are_points_of_their_own_for_ever() -> None:
    points = {
        (found["time"], *found["tags"].items())
        for _ in range(2)
        for number in range(500)
        if (found := parse_line(line("influx", event(f"audit_log-{number}"))))
    }

    assert len(points) == 500


@pytest.mark.parametrize("at", [-5, LATEST + 5, 10**18])
def test_times_beyond_what_influx_holds_are_the_nearest_that_it_does(at: int) -> None:
    assert 0 <= parse_line(line("influx", event("audit_log-1", at)))["time"] < 2**63


def test_an_event_too_long_for_a_field_is_cut_and_still_json() -> None:
    told = event("audit_log-1", payload={"much": "x" * 70_000})
    found = parse_line(line("influx", told))["fields"]

    assert json.loads(found["event"]) == event("audit_log-1")


# logicmonitor-logs


def test_a_log_entry_has_what_logicmonitor_asks_for() -> None:
    told = event(
        "audit_log-1",
        type="user.updated",
        actor={
            "type": "session",
            "session": {"user": {"id": "user-1", "email": "a@b.c"}, "ip_address": "192.0.2.1"},
        },
        payload={"id": "user-2", "changes_requested": {"role": "owner"}},
    )

    assert document("logicmonitor-logs", told) == {
        "message": line("json", told),
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


def test_a_message_keeps_below_32_kilobytes_and_says_what_was_cut() -> None:
    told = event("audit_log-1", small="kept", large="x" * 20_000, larger="y" * 30_000)
    found = document("logicmonitor-logs", told)

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
def test_ecs_categories_tell_logins_people_and_configuration_apart(
    kind: str, category: str, types: list[str], outcome: str
) -> None:
    found = document("ecs", event("audit_log-1", type=kind))["event"]

    assert found["category"] == [category]
    assert found["type"] == types
    assert found["outcome"] == outcome
    assert (found["id"], found["action"], found["kind"]) == ("audit_log-1", kind, "event")


def test_an_ecs_document_says_who_did_what_from_where(day: list[Event]) -> None:
    told = next(one for one in day if one["type"] == "login.succeeded")
    found = document("ecs", told)
    session = told["actor"]["session"]

    assert found["user"] == session["user"]
    assert found["source"] == {"address": session["ip_address"], "ip": session["ip_address"]}
    assert found["user_agent"] == {"original": session["user_agent"]}
    assert found["related"]["ip"] == [session["ip_address"]]
    assert found["organization"] == {"name": ORGANIZATION}
    assert "tags" not in found


def test_an_address_that_is_none_does_not_make_elasticsearch_refuse_the_document() -> None:
    actor = {"type": "session", "session": {"ip_address": "behind a proxy"}}
    found = document("ecs", event("audit_log-1", actor=actor))

    assert found["source"] == {"address": "behind a proxy"}
    assert "related" not in found
