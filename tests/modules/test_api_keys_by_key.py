"""OpenAI_ApiKeys_ByKey with the demo organization: every state that a key can have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_openai.collect.api_keys import all_keys
from lm_openai.simulator import Simulator
from lm_openai.storage.cache import Cache
from tests.support import replay
from tests.support.demo_polls import WEDNESDAY, breaches, document, polled, values
from tests.support.http_api import demo_client, source_of

FOLDER = "api_keys_by_key"
DAY = 86400
NOON = WEDNESDAY // DAY * DAY + DAY // 2


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=NOON) as simulator:
        yield simulator


def test_every_project_key_and_every_admin_key_is_an_instance(
    demo: Simulator, tmp_path: Path
) -> None:
    found = document(FOLDER, demo, tmp_path)

    active = {entry.id for entry in demo.organization.projects if entry.archived_at is None}
    known = {key.id for key in demo.organization.keys if key.project_id in active}
    admins = {key.id for key in demo.organization.admin_keys}
    assert {row["id"] for row in found["instances"]} == known | admins
    for row in found["instances"]:
        admin = row["id"] in admins
        assert row["dimensions"]["key_type"] == ("admin" if admin else "project")
        assert row["datapoints"]["is_admin"] == int(admin)
        assert (row["dimensions"]["project_id"] == "none") == admin


def test_a_key_never_used_counts_from_its_creation(demo: Simulator, tmp_path: Path) -> None:
    unused = values(document(FOLDER, demo, tmp_path))["Ana's sandbox / experiment"]

    assert unused["unused_days"] == unused["age_days"] > 60


def test_a_used_key_counts_from_its_last_use(demo: Simulator, tmp_path: Path) -> None:
    forgotten = values(document(FOLDER, demo, tmp_path))["Data Platform / load test"]

    assert forgotten["unused_days"] == 210.5
    assert forgotten["age_days"] > 210.5


def test_expiry_counts_down_and_goes_below_zero(demo: Simulator, tmp_path: Path) -> None:
    found = values(document(FOLDER, demo, tmp_path))

    assert found["Customer Support / rotation 2026"]["expires_in_days"] == 8.5
    assert found["Marketing / agency"]["expires_in_days"] == -12.5


def test_a_key_without_expiry_has_no_expires_in_days(demo: Simulator, tmp_path: Path) -> None:
    assert "expires_in_days" not in values(document(FOLDER, demo, tmp_path))["admin / terraform"]


def test_a_key_whose_owner_left_is_shown_with_owner_active_0(
    demo: Simulator, tmp_path: Path
) -> None:
    found = values(document(FOLDER, demo, tmp_path))

    assert found["Search & Retrieval / migration"]["owner_active"] == 0
    assert found["Search & Retrieval / production"]["owner_active"] == 1
    assert "owner_active" not in found["admin / monitoring"]


def test_default_thresholds_name_the_keys_that_are_due(demo: Simulator, tmp_path: Path) -> None:
    assert breaches(document(FOLDER, demo, tmp_path)) == {
        "admin / monitoring": {"age_days": "warning"},
        "admin / terraform": {"age_days": "warning"},
        f"admin / {nameless(demo)}": {"age_days": "warning", "unused_days": "warning"},
        "Ana's sandbox / experiment": {"unused_days": "warning"},
        "Customer Support / rotation 2026": {"expires_in_days": "warning"},
        "Data Platform / load test": {"unused_days": "warning"},
        "Idle Prototype / Yuki Tanaka (dev)": {"unused_days": "warning"},
        "Idle Prototype / production": {"unused_days": "warning"},
        "Marketing / agency": {"expires_in_days": "warning"},
    }


@pytest.mark.parametrize(
    ("days", "levels"),
    [
        (14.1, {}),
        (14, {"expires_in_days": "warning"}),
        (7, {"expires_in_days": "warning", "expires_in_days_in_use": "error"}),
        (2, {"expires_in_days": "warning", "expires_in_days_in_use": "critical"}),
    ],
)
def test_expiry_of_a_key_in_use_alarms_two_weeks_a_week_and_two_days_ahead(
    demo: Simulator, tmp_path: Path, days: float, levels: dict[str, str]
) -> None:
    rotation = next(key for key in demo.organization.keys if key.name == "rotation 2026")
    assert rotation.expires_at is not None
    demo.now = rotation.expires_at - int(days * DAY)

    due = breaches(document(FOLDER, demo, tmp_path)).get("Customer Support / rotation 2026", {})

    assert due == levels


@pytest.mark.parametrize(("unused", "level"), [(14, "critical"), (14.1, "warning")])
def test_an_expired_key_is_no_more_than_a_warning_two_weeks_after_its_last_use(
    tmp_path: Path, unused: float, level: str
) -> None:
    record = replay.Record.of(FOLDER)
    (admins,) = [one for one in record.answers if one.path.endswith("/admin_api_keys")]
    key = admins.answer["data"][0]
    key |= {"expires_at": record.at - DAY, "last_used_at": record.at - int(unused * DAY)}

    with replay.answering(record) as url:
        outcome = replay.collected(FOLDER, record, url, tmp_path)

    found = {row["id"]: row for row in json.loads(outcome.stdout)["instances"]}
    assert found[key["id"]]["state"] == level


def test_a_site_can_set_an_age_limit_for_project_keys(demo: Simulator, tmp_path: Path) -> None:
    limit = {"datapoint": "age_days", "operator": ">=", "error": 180}
    (tmp_path / "thresholds.d").mkdir()
    site = {
        "datasource": "OpenAI_ApiKeys_ByKey",
        "overrides": [{"match": {"key_type": "project"}, **limit}],
    }
    (tmp_path / "thresholds.d" / "keys.json").write_text(json.dumps(site))

    due = breaches(document(FOLDER, demo, tmp_path))

    assert due["Voice Assistant / production"] == {"age_days": "error"}
    assert due["admin / monitoring"] == {"age_days": "warning"}


def test_a_failed_project_is_reported_and_the_other_keys_are_printed(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.fault("400", f"*/{demo.organization.projects[1].id}/api_keys")

    outcome = polled(FOLDER, demo, tmp_path)

    shown = values(json.loads(outcome.stdout))
    assert outcome.status == 0
    assert "the keys of Data Platform are left out" in outcome.stderr
    assert "Customer Support / production" in shown
    assert not any(alias.startswith("Data Platform") for alias in shown)


def test_failed_admin_keys_are_reported_and_the_project_keys_are_printed(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.fault("400", "*/admin_api_keys")

    outcome = polled(FOLDER, demo, tmp_path, "nagios")

    assert outcome.status == 3
    assert "not judged" not in outcome.stdout
    assert "the keys of admin are left out" in outcome.stdout.splitlines()[0]


def test_discovery_fails_if_a_list_of_keys_is_missing(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("400", f"*/{demo.organization.projects[1].id}/api_keys")

    outcome = polled(FOLDER, demo, tmp_path, "logicmonitor", discover=True)

    assert (outcome.status, outcome.stdout) == (1, "")
    assert "the keys of Data Platform are left out" in outcome.stderr


def test_nothing_is_printed_if_every_list_fails(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("400", "*api_keys")

    outcome = polled(FOLDER, demo, tmp_path)

    assert (outcome.status, outcome.stdout) == (1, "")


def test_each_list_is_requested_once_for_all_datasources(demo: Simulator, tmp_path: Path) -> None:
    for folder in (FOLDER, "organization"):
        document(folder, demo, tmp_path)

    paths = [request.path for request in demo.requests if request.path.endswith("api_keys")]
    assert len(paths) == len(set(paths)) == 12


def test_no_part_of_a_key_is_cached_or_printed(demo: Simulator, tmp_path: Path) -> None:
    outcome = polled(FOLDER, demo, tmp_path)

    cached = "".join(path.read_text() for path in tmp_path.glob("*") if path.is_file())
    secrets = {key.redacted_value for key in demo.organization.keys}
    secrets |= {key.redacted_value for key in demo.organization.admin_keys}
    assert cached
    assert not [part for part in secrets if part in outcome.stdout + cached]


def test_cached_keys_equal_the_requested_ones(demo: Simulator, tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "cache"), "acme", lambda: NOON)
    project = demo.organization.projects[2].id

    fresh = all_keys(source_of(demo_client(demo), cache), [project])
    again = all_keys(source_of(demo_client(demo), cache), [project])

    assert again == fresh
    assert len(demo.requests) == 2
    keys = fresh[project]
    assert isinstance(keys, list)
    assert [key.owner_active for key in keys] == [True, True, False]


def nameless(demo: Simulator) -> str:
    return next(key.id for key in demo.organization.admin_keys if key.name is None)
