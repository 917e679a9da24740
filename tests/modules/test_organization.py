"""OpenAI_Organization with the demo organization: each count, and the effect of failures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_openai.simulator import NO_MANAGEMENT_KEY, Simulator
from tests.support import replay
from tests.support.demo_polls import WEDNESDAY, document, polled, values
from tests.support.http_api import demo_client
from tests.support.paths import ROOT

FOLDER = "organization"
WHOLE = {
    "projects_active": 11,
    "projects_archived": 1,
    "users": 14,
    "service_accounts": 11,
    "api_keys": 28,
    "admin_api_keys": 4,
    "invites_pending": 1,
}


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY) as simulator:
        yield simulator


def test_everything_is_counted_once(demo: Simulator, tmp_path: Path) -> None:
    active = {entry.id for entry in demo.organization.projects if entry.archived_at is None}
    keys = [key for key in demo.organization.keys if key.project_id in active]

    found = values(document(FOLDER, demo, tmp_path))

    assert found == {"acme": WHOLE}
    assert len(keys) == WHOLE["api_keys"]
    assert len(active) == WHOLE["projects_active"]


def test_an_invite_past_its_expiry_is_not_pending(demo: Simulator, tmp_path: Path) -> None:
    """The demo organization has an expired invitation that the API still reports as pending."""
    counted = values(document(FOLDER, demo, tmp_path))["acme"]["invites_pending"]

    pending = [row["status"] for row in demo_client(demo).list("invites")].count("pending")
    assert (pending, counted) == (2, 1)


def test_an_expiry_may_be_a_number_or_a_string(tmp_path: Path) -> None:
    record = replay.Record.of(FOLDER)
    (invites,) = [answer for answer in record.answers if answer.path.endswith("/invites")]
    for invite in invites.answer["data"]:
        invite["expires_at"] = str(invite["expires_at"])
    recorded = json.loads((ROOT / "modules" / FOLDER / "testdata/json.txt").read_text())

    with replay.answering(record) as url:
        outcome = replay.collected(FOLDER, record, url, tmp_path)

    assert values(json.loads(outcome.stdout)) == values(recorded)


def test_lists_are_read_to_their_last_page(tmp_path: Path) -> None:
    with Simulator(at=WEDNESDAY, projects=230, models=3) as large:
        found = values(document(FOLDER, large, tmp_path))["acme"]

    assert found["projects_active"] + found["projects_archived"] == 230
    assert found["service_accounts"] == 229
    assert found["users"] == len(large.organization.users)


@pytest.mark.parametrize(
    ("path", "gone"),
    [
        ("*/users", {"users"}),
        ("*/invites", {"invites_pending"}),
        ("*/admin_api_keys", {"admin_api_keys"}),
        ("*/service_accounts", {"service_accounts"}),
        ("*/projects/*/api_keys", {"api_keys"}),
        ("*/projects", {"projects_active", "projects_archived", "service_accounts", "api_keys"}),
    ],
)
def test_a_failed_request_removes_only_the_counts_that_need_it(
    demo: Simulator, tmp_path: Path, path: str, gone: set[str]
) -> None:
    demo.fault("400", path)

    outcome = polled(FOLDER, demo, tmp_path)

    shown = values(json.loads(outcome.stdout))["acme"]
    assert shown == {name: count for name, count in WHOLE.items() if name not in gone}
    assert outcome.status == 0
    for name in gone:
        assert f"{name} is left out" in outcome.stderr


def test_one_failed_project_removes_the_sum_over_all_projects(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.fault("400", f"*/{demo.organization.projects[3].id}/api_keys")

    outcome = polled(FOLDER, demo, tmp_path)

    assert "api_keys" not in values(json.loads(outcome.stdout))["acme"]
    assert outcome.stderr.count("\n") == 1


def test_a_project_archived_after_the_list_was_read_has_no_service_accounts(
    demo: Simulator, tmp_path: Path
) -> None:
    """The cached list of projects is some minutes old when the API refuses one of them."""
    legacy = next(entry for entry in demo.organization.projects if entry.archived_at)
    assert legacy.archived_at is not None
    demo.now = legacy.archived_at - 60
    before = values(document(FOLDER, demo, tmp_path))["acme"]
    demo.now = legacy.archived_at + 60

    after = values(document(FOLDER, demo, tmp_path))["acme"]

    assert before["service_accounts"] == 12
    assert after["service_accounts"] == 11
    assert after["projects_active"] == 12


def test_a_key_without_the_scope_prints_nothing_and_names_the_scope(
    demo: Simulator, tmp_path: Path
) -> None:
    outcome = polled(FOLDER, demo, tmp_path, key=NO_MANAGEMENT_KEY)

    assert (outcome.status, outcome.stdout) == (1, "")
    assert "api.management.read" in outcome.stderr


def test_discovery_sends_no_request(demo: Simulator, tmp_path: Path) -> None:
    outcome = polled(FOLDER, demo, tmp_path, "logicmonitor", discover=True)

    assert outcome.stdout.startswith("organization##acme##")
    assert demo.requests == []
