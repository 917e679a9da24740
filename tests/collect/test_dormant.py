"""Instances requested by their exact id: silence is no fault, and an unknown id is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from lm_openai import resources
from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.simulator import Simulator
from tests.support import demo_polls, replay
from tests.support.demo_polls import WEDNESDAY
from tests.support.kinds import kinds_by_folder
from tests.support.small_organization import Small, Use, limit, serve, unix

SILENT = [
    *sorted(set(kinds_by_folder()) - {"vector_stores_by_project"}),
    "model_mix_by_project",
    "rate_limits",
    "rate_limits_by_model",
    "reconciliation_by_model",
    "usage_by_consumer",
]
"""DataSources whose instances come from usage that is added up."""
ONE = {"organization", "collection_health"}
DAY = 86400


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY, lag=0) as simulator:
        yield simulator


@pytest.fixture
def silent(demo: Simulator) -> Iterator[Simulator]:
    """Yield the demo organization without usage in the last 12 days, and without costs."""
    demo.settings = demo.settings._replace(delays=dict.fromkeys(USAGE_KINDS, 12 * DAY))
    demo.fault("replace", "*/costs", field="results", value="[]")
    yield demo
    demo.settings = demo.settings._replace(delays={})
    demo.clear()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the cache of the polls while the organization has usage."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def used(demo: Simulator, cache: Path, request: pytest.FixtureRequest) -> str:
    """Return the wildvalue of an instance of the DataSource while the organization has usage."""
    found = demo_polls.document(request.node.callspec.params["folder"], demo, cache)
    ids = [row for row in found["instances"] if row["dimensions"]]
    return str(ids[0]["wildvalue"])


@pytest.mark.parametrize("folder", SILENT)
def test_an_instance_used_in_the_last_35_days_is_idle_and_ok(
    used: str, silent: Simulator, folder: str, tmp_path: Path
) -> None:
    nagios = demo_polls.polled(folder, silent, tmp_path, "nagios", instances=(used,))
    found = demo_polls.document(folder, silent, tmp_path, instances=(used,))

    (row,) = found["instances"]
    assert (row["wildvalue"], row["idle"], row["state"]) == (used, True, "ok")
    assert (nagios.status, found["partial_failures"]) == (0, [])
    assert ": idle" in nagios.stdout or ": blocked" in nagios.stdout


@pytest.mark.parametrize("folder", sorted(set(resources.folders()) - ONE))
def test_an_instance_that_never_was_is_unknown_with_the_nearest_name(
    demo: Simulator, folder: str, cache: Path
) -> None:
    """The wildvalue of a real instance gets a letter more."""
    found = demo_polls.document(folder, demo, cache)
    wildvalue = found["instances"][-1]["wildvalue"]
    typo = (f"{wildvalue}x",)

    nagios = demo_polls.polled(folder, demo, cache, "nagios", instances=typo)
    document = demo_polls.polled(folder, demo, cache, instances=typo)

    assert nagios.status == 3
    assert f"has no instance '{wildvalue}x'" in nagios.stdout
    assert "did you mean " in nagios.stdout
    assert (document.status, document.stdout) == (2, "")


PROJECT = ["cost_by_project", "spend_limits_by_project", "usage_by_consumer"]


@pytest.mark.parametrize("folder", [*PROJECT, "code_interpreter_by_project"])
def test_an_archived_project_reads_archived(demo: Simulator, folder: str, tmp_path: Path) -> None:
    """It had neither use nor costs this month or last month."""
    archived = next(each for each in demo.organization.projects if each.archived_at)
    later = int(demo.now) + 70 * DAY
    words: dict[str, Any] = {"instances": (archived.id,), "at": str(later)}

    demo.now = later
    try:
        nagios = demo_polls.polled(folder, demo, tmp_path, "nagios", **words)
        found = demo_polls.document(folder, demo, tmp_path, **words)
    finally:
        demo.now = WEDNESDAY

    (row,) = found["instances"]
    assert (row["idle"], row["archived"], row["state"]) == (True, True, "ok")
    assert f"{archived.name}: archived" in nagios.stdout
    assert nagios.status == 0


NOW = unix("12:34:56")
TEXT = {"input_tokens": 5, "output_tokens": 5, "num_model_requests": 1}


@pytest.mark.parametrize(
    ("folder", "word"), [("rate_limits", "proj_a/o1"), ("rate_limits_by_model", "o1")]
)
def test_a_pool_that_was_never_used_is_idle(
    httpserver: HTTPServer, folder: str, word: str, tmp_path: Path
) -> None:
    limits = {"proj_a": [limit("gpt-4o", 10, 1000), limit("o1", 10, 1000)]}
    use = Use("completions", unix("12:30"), "proj_a", "gpt-4o", TEXT)
    small = Small(NOW, (use,), limits, (("proj_a", "Alpha", False),), {}, 1440, [])
    url = serve(httpserver, small)

    outcome = replay.collected(folder, replay.Record(NOW, {}, ()), url, tmp_path, instances=(word,))

    (row,) = json.loads(outcome.stdout)["instances"]
    assert (row["id"], row["idle"], row["state"]) == (word, True, "ok")
    assert row["datapoints"]["tpm_used"] == 0


def test_a_consumer_within_other_has_its_own_numbers(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    uses = (
        Use("completions", unix("12:30"), "proj_a", "gpt-4o", {**TEXT, "input_tokens": 95}),
        Use("completions", unix("12:30"), "proj_b", "gpt-4o", TEXT),
    )
    projects = (("proj_a", "Alpha", False), ("proj_b", "Beta", False))
    url = serve(httpserver, Small(NOW, uses, {}, projects, {}, 1440, []))
    record = replay.Record(NOW, {"openai.top": "1"}, ())

    outcome = replay.collected("usage_by_consumer", record, url, tmp_path, instances=("proj_b",))

    (row,) = json.loads(outcome.stdout)["instances"]
    assert (row["id"], row["datapoints"]["tokens"], row["idle"]) == ("proj_b", 10, False)


def test_an_instance_that_a_filter_excludes_is_named_as_such(
    demo: Simulator, tmp_path: Path
) -> None:
    settings = {"openai.projects.exclude": "Data*"}
    hidden = next(each for each in demo.organization.projects if each.name == "Data Platform")

    outcome = demo_polls.polled(
        "cost_by_project", demo, tmp_path, "nagios", settings, instances=(hidden.id,)
    )

    assert outcome.status == 3
    assert f"does not show instance '{hidden.id}': a filter" in outcome.stdout


AUDIT = "audit_by_event_type"
WEEK = {"openai.window": "7d"}


def test_an_event_type_of_the_last_35_days_has_0_events(demo: Simulator, tmp_path: Path) -> None:
    """By its id the API is requested; its wildvalue is known to a host that saw it before."""
    week = demo_polls.document(AUDIT, demo, tmp_path / "seen", "json", WEEK)
    hour = demo_polls.document(AUDIT, demo, tmp_path / "new")
    recent = {row["id"] for row in hour["instances"]}
    quiet = next(row for row in week["instances"] if row["id"] not in recent)

    by_id = demo_polls.document(AUDIT, demo, tmp_path / "new", instances=(quiet["id"],))
    by_wildvalue = demo_polls.document(
        AUDIT, demo, tmp_path / "seen", instances=(quiet["wildvalue"],)
    )

    for found in (by_id, by_wildvalue):
        (row,) = found["instances"]
        assert (row["id"], row["datapoints"], row["idle"]) == (quiet["id"], {"events": 0}, True)


def test_a_name_that_looks_like_a_glob_is_a_name_too(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    projects = (("proj_a", "Chat", False), ("proj_b", "[ext] Prod", False))
    limits = {one: [limit("gpt-4o", 10, 1000)] for one, *_ in projects}
    now, counts = unix("12:34:56"), {"input_tokens": 9, "output_tokens": 1, "num_model_requests": 1}
    use = Use("completions", now - 300, "proj_a", "gpt-4o", counts)
    url = serve(httpserver, Small(now, (use,), limits, projects, {}, 1440, []))
    record = replay.Record(now, {}, ())

    outcome = replay.collected(
        "rate_limits", record, url, tmp_path, "nagios", instances=("[ext] Prod / gpt-4o",)
    )

    assert outcome.status == 0
    assert "idle" in outcome.stdout
