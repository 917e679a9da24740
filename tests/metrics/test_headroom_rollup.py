"""Roll-up over projects: their use together, compared with the limit that they share.

Every number is computed by hand from the minutes that the test itself defines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from lm_openai.api.records import rate_limit
from lm_openai.metrics.headroom_rollup import joined
from lm_openai.metrics.limit_pools import Pools, pools
from lm_openai.simulator import Simulator
from tests.support import demo_polls, replay
from tests.support.small_organization import Small, Use, limit, serve, unix

NOW = unix("12:34:56")
UNLIMITED = 2147483647
FOLDER = "rate_limits_by_model"
PROJECTS = (("proj_a", "Alpha", False), ("proj_b", "Beta", False))
BOTH = {name: [limit("gpt-4o", 10, 1000)] for name in ("proj_a", "proj_b")}
Run = Callable[..., replay.Outcome]
Shown = Callable[..., dict[str, dict[str, Any]]]


def text(
    clock: str, tokens: int, project: str | None, requests: int = 1, model: str = "gpt-4o"
) -> Use:
    """Return the use of a text model; all tokens are input."""
    counts = {"input_tokens": tokens, "output_tokens": 0, "num_model_requests": requests}
    return Use("completions", unix(clock), project, model, counts)


def drawn(clock: str, images: int, project: str) -> Use:
    counts = {"images": images, "num_model_requests": 1}
    return Use("images", unix(clock), project, "dall-e-3", counts)


@pytest.fixture(scope="module")
def server() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1") as started:
        yield started


@pytest.fixture
def run(server: HTTPServer, tmp_path: Path) -> Run:
    """Return a function that polls a small organization.

    By default it has two projects with a limit for gpt-4o each.
    """

    def polled(
        *uses: Use,
        limits: dict[str, list[dict[str, Any]]] = BOTH,
        projects: tuple[tuple[str, str, bool], ...] = PROJECTS,
        refused: dict[str, int] | None = None,
        folder: str = FOLDER,
        form: str = "json",
        discover: bool = False,
        **properties: str,
    ) -> replay.Outcome:
        organization = Small(NOW, uses, limits, projects, refused or {}, 1440, [])
        named = {f"openai.{name.replace('_', '.')}": text for name, text in properties.items()}
        record = replay.Record(NOW, {"openai.timeout": "5", **named}, ())
        url = serve(server, organization)
        return replay.collected(folder, record, url, tmp_path, form, discover)

    return polled


@pytest.fixture
def shown(run: Run) -> Shown:
    """Return a function that gives the datapoints by alias of a poll without failures."""

    def polled(*uses: Use, **more: Any) -> dict[str, dict[str, Any]]:
        outcome = run(*uses, **more)
        assert (outcome.status, outcome.stderr) == (0, "")
        return demo_polls.values(json.loads(outcome.stdout))

    return polled


def part(row: dict[str, Any], short: str) -> tuple[Any, ...]:
    """Return ceiling, used and utilization of one kind of limit; None if absent."""
    return tuple(row.get(f"{short}_{word}") for word in ("ceiling", "used", "ceiling_utilization"))


# Ceiling, sums and peaks


SIXTY = (text("12:20", 600, "proj_a", 6), text("12:20", 600, "proj_b", 6))


def test_two_projects_at_60_percent_of_one_ceiling_exceed_it_together(shown: Shown) -> None:
    row = shown(*SIXTY)["gpt-4o"]
    each = shown(*SIXTY, folder="rate_limits")

    assert part(row, "tpm") == (1000, 1200, 120)
    assert part(row, "rpm") == (10, 12, 120)
    assert [one["tpm_utilization"] for one in each.values()] == [60, 60]


def test_the_demo_organization_has_two_projects_that_exceed_a_ceiling_together(
    tmp_path: Path,
) -> None:
    with Simulator(at=demo_polls.WEDNESDAY, lag=0) as demo:
        whole = demo_polls.values(demo_polls.document(FOLDER, demo, tmp_path))["gpt-5-nano"]
        each = demo_polls.values(demo_polls.document("rate_limits", demo, tmp_path))

    pair = [row for alias, row in each.items() if alias.endswith("/ gpt-5-nano")]
    assert whole["tpm_ceiling_utilization"] > 100
    assert max(row["tpm_utilization"] for row in pair) < 80


def test_the_peak_of_the_sum_differs_from_the_sum_of_the_peaks(shown: Shown) -> None:
    row = shown(
        text("12:20", 500, "proj_a", 5),
        text("12:20", 100, "proj_b", 2),
        text("12:25", 200, "proj_a", 1),
        text("12:25", 300, "proj_b", 4),
    )["gpt-4o"]

    assert (row["tpm_used"], row["tpm_peak_sum"]) == (600, 500 + 300)
    assert (row["rpm_used"], row["rpm_peak_sum"]) == (7, 5 + 4)
    assert row["peak_age_seconds"] == NOW - unix("12:21")


def test_the_ceiling_is_the_largest_limit_and_the_sum_includes_all(shown: Shown) -> None:
    limits = {"proj_a": [limit("gpt-4o", 10, 1000)], "proj_b": [limit("gpt-4o", 4, 4000)]}

    row = shown(text("12:20", 400, "proj_a"), limits=limits)["gpt-4o"]

    assert part(row, "tpm") == (4000, 400, 10)
    assert (row["tpm_limit_sum"], row["rpm_ceiling"], row["rpm_limit_sum"]) == (5000, 10, 14)


def test_use_of_archived_projects_and_without_a_project_counts_against_the_ceiling(
    shown: Shown,
) -> None:
    uses = (text("12:20", 100, "proj_c"), text("12:20", 50, None), text("12:20", 25, "proj_a"))

    row = shown(*uses, projects=(*PROJECTS, ("proj_c", "Gone", True)))["gpt-4o"]

    assert part(row, "tpm") == (1000, 175, 17.5)
    assert row["tpm_limit_sum"] == 2000


def test_project_filters_change_no_total(shown: Shown) -> None:
    assert shown(*SIXTY, projects_include="proj_a") == shown(*SIXTY)


def test_a_day_limit_is_compared_with_the_use_of_all_projects_that_day(shown: Shown) -> None:
    limits = {
        "proj_a": [limit("gpt-4o", 10, 1000, max_requests_per_1_day=100)],
        "proj_b": [limit("gpt-4o", 10, 1000, max_requests_per_1_day=80)],
    }
    uses = (text("00:01", 1, "proj_a", 30), text("12:20", 1, "proj_b", 15))

    row = shown(*uses, limits=limits)["gpt-4o"]

    assert part(row, "rpd") == (100, 45, 45)
    assert row["rpd_limit_sum"] == 180
    assert "rpd_peak_sum" not in row


def test_images_are_compared_with_the_limit_of_images(shown: Shown) -> None:
    rows = [limit("dall-e-3", 100, UNLIMITED, max_images_per_1_minute=15)]
    uses = (drawn("12:20", 6, "proj_a"), drawn("12:20", 6, "proj_b"))

    row = shown(*uses, limits={"proj_a": rows, "proj_b": rows})["dall-e-3"]

    assert part(row, "ipm") == (15, 12, 80)
    assert part(row, "tpm") == (None, None, None)


# Pools that differ between projects


ALIAS, SNAPSHOT = "gpt-4o", "gpt-4o-2024-08-06"
WHOLE = [limit(ALIAS, 10, 1000), limit(SNAPSHOT, 10, 1000)]
SPLIT = [limit(ALIAS, 10, 1000), limit(SNAPSHOT, 10, 200)]


def test_a_project_with_its_own_limit_for_a_snapshot_stays_in_the_shared_pool(
    shown: Shown,
) -> None:
    uses = (
        text("12:20", 300, "proj_a", model=SNAPSHOT),
        text("12:20", 100, "proj_b", model=SNAPSHOT),
        text("12:20", 50, "proj_b", model=ALIAS),
    )

    found = shown(*uses, limits={"proj_a": WHOLE, "proj_b": SPLIT})

    assert set(found) == {ALIAS}
    assert part(found[ALIAS], "tpm") == (1000, 450, 45)


def test_a_lower_limit_for_a_snapshot_does_not_raise_the_sum_of_limits(shown: Shown) -> None:
    uses = (text("12:20", 300, "proj_a"),)

    row = shown(*uses, limits={"proj_a": WHOLE, "proj_b": SPLIT})[ALIAS]

    assert (row["tpm_limit_sum"], row["rpm_limit_sum"]) == (2000, 20)


def test_rows_that_differ_in_every_project_are_separate_pools(shown: Shown) -> None:
    uses = (text("12:20", 100, "proj_a", model=SNAPSHOT), text("12:20", 300, "proj_b"))

    found = shown(*uses, limits={"proj_a": SPLIT, "proj_b": SPLIT})

    assert part(found[SNAPSHOT], "tpm") == (200, 100, 50)
    assert part(found[ALIAS], "tpm") == (1000, 300, 30)


def test_use_without_a_row_in_its_project_belongs_to_the_literal_name_of_the_model(
    shown: Shown,
) -> None:
    uses = (
        text("12:20", 100, "proj_b", model=SNAPSHOT),
        text("12:20", 50, "proj_b", model=ALIAS),
        text("12:20", 300, "proj_a"),
    )

    for limits in ({"proj_a": WHOLE, "proj_b": []}, {"proj_a": SPLIT, "proj_b": []}):
        found = shown(*uses, limits=limits)
        assert set(found) == {ALIAS, SNAPSHOT}
        assert part(found[ALIAS], "tpm") == (1000, 350, 35)
        assert found[SNAPSHOT]["tpm_used"] == 100
    assert part(shown(*uses, limits={"proj_a": WHOLE, "proj_b": []})[SNAPSHOT], "tpm")[0] is None


def test_a_model_without_a_row_in_any_project_is_shown_without_a_ceiling(shown: Shown) -> None:
    row = shown(text("12:20", 100, "proj_a", model="gpt-9"))["gpt-9"]

    assert (row["limit_known"], row["tpm_used"]) == (0, 100)
    assert not [name for name in row if "ceiling" in name or "limit_sum" in name]


def test_pool_names_do_not_depend_on_the_order_of_the_projects() -> None:
    projects = [made(WHOLE), made(SPLIT), made([limit(SNAPSHOT, 1, 2)]), made([])]

    for order in permutations(projects):
        assert joined(order) == {ALIAS: ALIAS, SNAPSHOT: ALIAS}


def test_rows_that_are_joined_in_different_projects_form_one_pool() -> None:
    other = "gpt-4o-2024-11-20"
    first = made([limit(ALIAS, 1, 2), limit(SNAPSHOT, 1, 2), limit(other, 5, 6)])
    second = made([limit(ALIAS, 5, 6), limit(SNAPSHOT, 1, 2), limit(other, 1, 2)])

    assert set(joined([first, second]).values()) == {ALIAS}


# Blocked and unlimited


def test_a_project_with_an_unlimited_pool_removes_the_ceiling(shown: Shown) -> None:
    limits = {"proj_a": [limit("gpt-4o", 10, 1000)], "proj_b": [limit("gpt-4o", 10, UNLIMITED)]}

    row = shown(*SIXTY, limits=limits)["gpt-4o"]

    assert part(row, "tpm") == (None, 1200, None)
    assert "tpm_limit_sum" not in row
    assert part(row, "rpm") == (10, 12, 120)


def test_a_blocked_project_adds_nothing_to_the_limits(shown: Shown) -> None:
    limits = {"proj_a": [limit("gpt-4o", 10, 1000)], "proj_b": [limit("gpt-4o", 0, 0)]}

    row = shown(text("12:20", 500, "proj_a"), limits=limits)["gpt-4o"]

    assert part(row, "tpm") == (1000, 500, 50)
    assert row["tpm_limit_sum"] == 1000


def test_a_pool_that_is_blocked_everywhere_is_full_at_any_use(shown: Shown) -> None:
    limits = {name: [limit("gpt-4o", 0, 0)] for name in BOTH}

    assert part(shown(*SIXTY, limits=limits)["gpt-4o"], "tpm") == (0, 1200, 100)
    assert part(shown(limits=limits)["gpt-4o"], "tpm") == (0, 0, 0)


def test_unused_pools_are_shown_only_with_limits_unused(shown: Shown) -> None:
    assert shown() == {}
    assert part(shown(limits_unused="true")["gpt-4o"], "tpm") == (1000, 0, 0)


def test_a_row_that_does_not_name_a_model_has_a_ceiling_and_unknown_use(
    shown: Shown,
) -> None:
    limits = {name: [limit("default", 10, 1000)] for name in ("proj_a", "proj_b")}
    row = shown(limits=limits, limits_unused="true")["default"]

    assert row["tpm_ceiling"] == 1000
    assert "tpm_used" not in row


# Failed requests


OTHER = "gpt-4o-2024-11-20"
ONLY_BETA_JOINS = {
    "proj_a": [limit(ALIAS, 10, 100_000), limit(SNAPSHOT, 10, 200), limit(OTHER, 10, 300)],
    "proj_b": [limit(name, 10, 100_000) for name in (ALIAS, SNAPSHOT, OTHER)],
}
FAMILY = (
    text("12:20", 10_000, "proj_a"),
    text("12:20", 9_000, "proj_a", model=SNAPSHOT),
    text("12:20", 6_000, "proj_b", model=SNAPSHOT),
    text("12:20", 4_000, "proj_b", model=OTHER),
    text("12:20", 5, "proj_b", model="o3-2025-04-16"),
)


def test_rows_that_one_project_joins_are_one_pool_of_the_organization(shown: Shown) -> None:
    found = shown(*FAMILY, limits=ONLY_BETA_JOINS)

    assert set(found) == {ALIAS, "o3-2025-04-16"}
    assert part(found[ALIAS], "tpm") == (100_000, 29_000, 29)


def test_a_failed_request_for_limits_removes_every_value_and_invents_no_pool(run: Run) -> None:
    refused = {"projects/proj_b/rate_limits": 400}

    outcome = run(*FAMILY, limits=ONLY_BETA_JOINS, refused=refused)

    assert demo_polls.values(json.loads(outcome.stdout)) == {ALIAS: {}}
    assert "all values are left out, since the limits of 1 of 2 projects" in outcome.stderr


def test_a_pool_whose_limits_are_incomplete_is_unknown_and_not_idle(run: Run) -> None:
    refused = {"projects/proj_b/rate_limits": 400}

    (row,) = json.loads(run(*SIXTY, refused=refused).stdout)["instances"]

    assert (row["datapoints"], row["state"], row["idle"]) == ({}, "unknown", False)


def test_a_failed_kind_removes_the_values_it_counts_for(run: Run) -> None:
    outcome = run(*SIXTY, refused={"usage/embeddings": 400})

    row = demo_polls.values(json.loads(outcome.stdout))["gpt-4o"]
    assert part(row, "tpm") == (1000, None, None)
    assert part(row, "rpm") == (10, None, None)
    assert not {"tpm_peak_sum", "rpm_peak_sum", "peak_age_seconds"} & set(row)
    assert row["tpm_limit_sum"] == 2000
    assert "rpm, tpm, rpd are left out" in outcome.stderr


@pytest.mark.parametrize("path", ["projects/proj_a/rate_limits", "usage/completions"])
def test_an_incomplete_list_discovers_nothing(run: Run, path: str) -> None:
    outcome = run(*SIXTY, refused={path: 400}, form="logicmonitor", discover=True)

    assert (outcome.status, outcome.stdout) == (1, "")


def test_a_poll_without_any_limits_fails(run: Run) -> None:
    refused = {f"projects/{name}/rate_limits": 400 for name in BOTH}

    outcome = run(*SIXTY, refused=refused)

    assert (outcome.status, outcome.stdout) == (1, "")


def test_the_default_thresholds_are_on_ceiling_utilization(run: Run) -> None:
    found = json.loads(run(*SIXTY).stdout)

    assert demo_polls.breaches(found) == {
        "gpt-4o": {"rpm_ceiling_utilization": "warning", "tpm_ceiling_utilization": "warning"}
    }


def made(rows: list[dict[str, Any]]) -> Pools:
    return pools(rate_limit(row) for row in rows)
