"""Headroom: the minutes that count, the limits they are compared with, and what is left out.

Every number is computed by hand from the minutes that the test itself defines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug.serving import WSGIRequestHandler

from lm_openai.metrics.usage import MODEL_KINDS
from tests.support import replay
from tests.support.small_organization import Small, Use, limit, serve, unix

NOW = unix("12:34:56")
UNLIMITED = 2147483647
Poll = Callable[..., replay.Outcome]


def text(
    clock: str,
    tokens: int,
    requests: int = 1,
    *,
    model: str = "gpt-4o",
    project: str | None = "proj_a",
    batch: bool = False,
    kind: str = "completions",
    day: str = "2026-11-18",
) -> Use:
    """Return the use of a text model; a tenth of its tokens is output."""
    out = tokens // 10
    counts = {"input_tokens": tokens - out, "output_tokens": out, "num_model_requests": requests}
    return Use(kind, unix(clock, day), project, model, counts, batch)


def embedded(clock: str, tokens: int, requests: int = 1, *, model: str = "embed") -> Use:
    counts = {"input_tokens": tokens, "num_model_requests": requests}
    return Use("embeddings", unix(clock), "proj_a", model, counts)


def drawn(clock: str, images: int, requests: int = 1, *, model: str = "dall-e-3") -> Use:
    counts = {"images": images, "num_model_requests": requests}
    return Use("images", unix(clock), "proj_a", model, counts)


def spoken(clock: str, requests: int) -> Use:
    counts = {"characters": 99, "num_model_requests": requests}
    return Use("audio_speeches", unix(clock), "proj_a", "tts-1", counts)


def small(
    *uses: Use,
    limits: dict[str, list[dict[str, Any]]] | None = None,
    projects: tuple[tuple[str, str, bool], ...] = (("proj_a", "Alpha", False),),
    refused: Mapping[str, int | str] | None = None,
    page: int = 1440,
    now: int = NOW,
) -> Small:
    """Return an organization: by default project Alpha, gpt-4o with 10 requests, 1,000 tokens."""
    usual = {"proj_a": [limit("gpt-4o", 10, 1000)]}
    return Small(now, uses, usual if limits is None else limits, projects, refused or {}, page, [])


@pytest.fixture(scope="module")
def server() -> Iterator[HTTPServer]:
    with HTTPServer(host="127.0.0.1") as started:
        yield started


@pytest.fixture
def poll(server: HTTPServer, tmp_path: Path) -> Poll:
    """Return a function that polls rate_limits of a small organization."""

    def run(
        organization: Small, form: str = "json", discover: bool = False, at: int = NOW, **more: str
    ) -> replay.Outcome:
        named = {f"openai.{name.replace('_', '.')}": value for name, value in more.items()}
        record = replay.Record(at, named, ())
        url = serve(server, organization)
        return replay.collected("rate_limits", record, url, tmp_path, form, discover)

    return run


@pytest.fixture
def shown(poll: Poll) -> Callable[..., dict[str, dict[str, Any]]]:
    """Return a function that gives the datapoints by alias of a poll without failures."""

    def run(*uses: Use, at: int = NOW, now: int = NOW, **more: Any) -> dict[str, dict[str, Any]]:
        settings = {name: more.pop(name) for name in list(more) if name not in WORLD}
        outcome = poll(small(*uses, now=now, **more), at=at, **settings)
        assert (outcome.status, outcome.stderr) == (0, "")
        return {row["alias"]: row["datapoints"] for row in json.loads(outcome.stdout)["instances"]}

    return run


WORLD = ("limits", "projects", "refused", "page")
Shown = Callable[..., dict[str, dict[str, Any]]]


def part(row: dict[str, Any], short: str) -> tuple[Any, ...]:
    """Return limit, used and utilization of one kind of limit; None if absent."""
    return tuple(row.get(f"{short}_{word}") for word in ("limit", "used", "utilization"))


# the lookback of 15 minutes of data


LAGGING = (
    text("12:09", 900, 9),
    text("12:10", 500, 5),
    text("12:24", 100, 1),
)


def test_the_peak_is_in_the_last_15_minutes_of_data_not_of_the_clock(shown: Shown) -> None:
    row = shown(*LAGGING)["Alpha / gpt-4o"]

    assert part(row, "tpm") == (1000, 500, 50.0)
    assert part(row, "rpm") == (10, 5, 50.0)
    assert row["peak_age_seconds"] == 23 * 60 + 56


@pytest.mark.parametrize("page", [4, 7, 15, 16])
def test_no_minute_is_lost_or_counted_twice_at_the_end_of_a_page(shown: Shown, page: int) -> None:
    assert shown(*LAGGING, page=page) == shown(*LAGGING)


def test_the_lookback_ends_with_the_organizations_data_so_a_quiet_project_has_used_0(
    shown: Shown,
) -> None:
    two = (("proj_a", "Alpha", False), ("proj_b", "Beta", False))
    uses = (text("12:10", 700), text("12:33", 10, project="proj_b"))

    row = shown(*uses, projects=two)["Alpha / gpt-4o"]

    assert part(row, "tpm") == (1000, 0, 0)
    assert "peak_age_seconds" not in row


def test_each_kind_has_its_own_lookback_so_a_late_kind_is_still_read(shown: Shown) -> None:
    limits = {"proj_a": [limit("gpt-4o", 10, 1000), limit("embed", 10, 1000)]}
    uses = (text("12:33", 100), embedded("11:50", 600), embedded("12:04", 50))

    rows = shown(*uses, limits=limits)

    assert part(rows["Alpha / embed"], "tpm") == (1000, 600, 60.0)
    assert rows["Alpha / embed"]["peak_age_seconds"] == 43 * 60 + 56


def test_minutes_are_summed_over_kinds_by_absolute_time(shown: Shown) -> None:
    """12:20 has 300 + 400; 12:21 has only 500 and 12:19 only 450."""
    uses = (
        text("12:20", 300, 3),
        text("12:21", 500, 5),
        text("12:20", 400, 4, kind="decisions"),
        text("12:19", 450, 1, kind="decisions"),
    )

    row = shown(*uses)["Alpha / gpt-4o"]

    assert (row["tpm_used"], row["rpm_used"]) == (700, 7)
    assert row["peak_age_seconds"] == NOW - unix("12:21")


def test_the_running_minute_counts(shown: Shown) -> None:
    row = shown(text("12:34", 300))["Alpha / gpt-4o"]

    assert (row["tpm_used"], row["peak_age_seconds"]) == (300, 0)


def test_of_two_equal_peaks_the_later_one_gives_the_age(shown: Shown) -> None:
    row = shown(text("12:20", 300), text("12:30", 300))["Alpha / gpt-4o"]

    assert row["peak_age_seconds"] == NOW - unix("12:31")


def test_minutes_at_or_over_80_percent_are_busy(shown: Shown) -> None:
    uses = (text("12:20", 800), text("12:21", 799), text("12:22", 900))

    assert shown(*uses)["Alpha / gpt-4o"]["tpm_busy_minutes"] == 2


def test_the_lookback_is_a_setting(shown: Shown) -> None:
    uses = (text("12:20", 800), text("12:24", 100))

    assert shown(*uses, headroom_lookback="5m")["Alpha / gpt-4o"]["tpm_used"] == 800
    assert shown(*uses, headroom_lookback="4m")["Alpha / gpt-4o"]["tpm_used"] == 100


def test_with_a_grace_the_minutes_end_that_long_before_now(shown: Shown) -> None:
    """Usage is read up to 12:19:56: the newest data is of 12:18, the lookback starts at 12:04."""
    uses = (text("12:03", 800), text("12:04", 600), text("12:18", 100), text("12:20", 900))

    row = shown(*uses, finalization_grace="15m")["Alpha / gpt-4o"]

    assert (row["tpm_used"], row["rpd_used"]) == (600, 3)


def test_an_api_whose_clock_is_behind_ours_is_read_up_to_its_own_now(
    shown: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dated(handler: WSGIRequestHandler, code: int, message: str | None = None) -> None:
        handler.send_response_only(code, message)
        handler.send_header("Date", formatdate(unix("12:30:30"), usegmt=True))

    monkeypatch.setattr(WSGIRequestHandler, "send_response", dated)

    row = shown(text("12:28", 300), now=unix("12:28:30"))["Alpha / gpt-4o"]

    assert (row["tpm_used"], row["peak_age_seconds"]) == (300, 5 * 60 + 56)


def test_an_api_whose_clock_is_ahead_of_ours_shows_nothing_after_our_now(shown: Shown) -> None:
    uses = (text("12:30", 300), text("12:36", 900))

    row = shown(*uses, now=unix("12:40"))["Alpha / gpt-4o"]

    assert (row["tpm_used"], row["peak_age_seconds"]) == (300, NOW - unix("12:31"))


def test_the_report_gives_the_minutes_read_and_the_data_age_of_each_kind(poll: Poll) -> None:
    uses = (text("12:24", 100), embedded("12:00", 50, model="gpt-4o"))

    document = json.loads(poll(small(*uses)).stdout)

    assert document["window"] == {"start": "2026-11-18T11:46:00Z", "end": "2026-11-18T12:25:00Z"}
    ages = {"completions": NOW - unix("12:25"), "embeddings": NOW - unix("12:01")}
    assert document["data_age_seconds"] == {**ages, "limits": 0}


def test_a_kind_without_use_in_the_last_90_minutes_is_noted(poll: Poll) -> None:
    document = json.loads(poll(small(text("11:00", 800))).stdout)

    assert document["instances"][0]["datapoints"]["tpm_used"] == 0
    assert document["notes"] == [
        "usage/completions shows no use in the last 90 minutes: "
        "there were no requests, or the data is very late"
    ]


# batch and the UTC day


def test_batches_count_only_against_the_batch_limit_of_the_day(shown: Shown) -> None:
    limits = {"proj_a": [limit("gpt-4o", 10, 1000, batch_1_day_max_input_tokens=10_000)]}
    uses = (text("12:30", 100, 1), text("12:30", 5000, 40, batch=True))

    row = shown(*uses, limits=limits)["Alpha / gpt-4o"]

    assert part(row, "tpm") == (1000, 100, 10.0)
    assert (row["rpm_used"], row["rpd_used"]) == (1, 1)
    assert part(row, "batch_tpd") == (10_000, 4500, 45.0)


def test_a_minute_with_only_batches_is_not_the_end_of_the_data(shown: Shown) -> None:
    uses = (text("12:06", 700), text("12:20", 100), text("12:34", 900, batch=True))

    assert shown(*uses)["Alpha / gpt-4o"]["tpm_used"] == 700


def test_batches_of_kinds_that_do_not_mark_them_are_unknown_and_not_0(shown: Shown) -> None:
    limits = {"proj_a": [limit("embed", 10, 1000, batch_1_day_max_input_tokens=500)]}

    row = shown(embedded("12:30", 60), limits=limits)["Alpha / embed"]

    assert part(row, "batch_tpd") == (500, None, None)


def test_the_day_is_the_utc_day(shown: Shown) -> None:
    limits = {"proj_a": [limit("gpt-4o", 10, 1000, max_requests_per_1_day=100)]}
    uses = (
        text("23:59", 10, 50, day="2026-11-17"),
        text("00:00", 10, 20),
        text("12:30", 10, 5),
    )

    assert part(shown(*uses, limits=limits)["Alpha / gpt-4o"], "rpd") == (100, 25, 25.0)


def test_at_midnight_the_day_is_empty_and_the_minutes_before_still_count(shown: Shown) -> None:
    midnight = unix("00:00", "2026-11-19")
    uses = (text("23:50", 400, 4), text("23:59", 100, 1))

    row = shown(*uses, at=midnight, now=midnight)["Alpha / gpt-4o"]

    assert (row["tpm_used"], row["rpd_used"]) == (400, 0)
    assert row["peak_age_seconds"] == 9 * 60


def test_after_midnight_with_a_grace_that_ends_before_it_the_day_is_empty(shown: Shown) -> None:
    soon = unix("00:05", "2026-11-19")

    row = shown(text("23:45", 400, 4), at=soon, now=soon, finalization_grace="15m")[
        "Alpha / gpt-4o"
    ]

    assert (row["tpm_used"], row["rpd_used"]) == (400, 0)


# use compared with limits


def test_the_use_of_a_pool_is_the_sum_over_its_alias_and_all_its_snapshots(shown: Shown) -> None:
    limits = {"proj_a": [limit("gpt-4o", 10, 1000), limit("gpt-4o-2024-08-06", 10, 1000)]}
    uses = (
        text("12:30", 200),
        text("12:30", 300, model="gpt-4o-2024-08-06"),
        text("12:30", 100, model="gpt-4o-2024-11-20"),
    )

    rows = shown(*uses, limits=limits)

    assert list(rows) == ["Alpha / gpt-4o"]
    assert part(rows["Alpha / gpt-4o"], "tpm") == (1000, 600, 60.0)


def test_an_alias_and_a_snapshot_with_two_spellings_of_unlimited_share_their_requests(
    poll: Poll,
) -> None:
    rows = [limit("gpt-4o", 500, UNLIMITED), limit("gpt-4o-2024-08-06", 500, UNLIMITED + 1)]
    uses = (
        text("12:20", 300, 300),
        text("12:20", 300, 300, model="gpt-4o-2024-08-06"),
    )

    (row,) = json.loads(poll(small(*uses, limits={"proj_a": rows})).stdout)["instances"]

    assert row["alias"] == "Alpha / gpt-4o"
    assert part(row["datapoints"], "rpm") == (500, 600, 120)
    assert row["breaches"][0]["level"] == "critical"


def test_two_projects_at_60_percent_are_two_instances_and_neither_alarms(poll: Poll) -> None:
    two = (("proj_a", "Alpha", False), ("proj_b", "Beta", False))
    same = {name: [limit("gpt-4o", 10, 1000)] for name, *_ in two}
    uses = (text("12:30", 600), text("12:30", 600, project="proj_b"))

    document = json.loads(poll(small(*uses, projects=two, limits=same)).stdout)

    found = {row["alias"]: (row["datapoints"], row["state"]) for row in document["instances"]}
    assert part(found["Alpha / gpt-4o"][0], "tpm") == (1000, 600, 60.0)
    assert part(found["Beta / gpt-4o"][0], "tpm") == (1000, 600, 60.0)
    assert {state for _, state in found.values()} == {"ok"}


def test_unlimited_has_no_limit_and_no_utilization(shown: Shown) -> None:
    limits = {"proj_a": [limit("gpt-4o", UNLIMITED, UNLIMITED)]}

    row = shown(text("12:30", 600, 6), limits=limits)["Alpha / gpt-4o"]

    assert part(row, "tpm") == (None, 600, None)
    assert part(row, "rpm") == (None, 6, None)
    assert row["limit_known"] == 1
    assert "tpm_busy_minutes" not in row


def test_a_blocked_pool_is_shown_unused_at_0_and_used_at_100(shown: Shown) -> None:
    limits = {"proj_a": [limit("o3", 0, 0), limit("o1", 0, 0)]}

    rows = shown(text("12:30", 1, model="o1"), limits=limits)

    assert part(rows["Alpha / o3"], "tpm") == (0, 0, 0)
    assert part(rows["Alpha / o1"], "tpm") == (0, 1, 100.0)
    assert part(rows["Alpha / o1"], "rpm") == (0, 1, 100.0)


def test_use_without_a_limit_row_is_an_instance_with_limit_known_0(shown: Shown) -> None:
    row = shown(text("12:30", 600, model="gpt-9"))["Alpha / gpt-9"]

    assert row["limit_known"] == 0
    assert part(row, "tpm") == (None, 600, None)


def test_use_without_a_project_is_not_dropped(shown: Shown) -> None:
    row = shown(text("12:30", 600, project=None))["none / gpt-4o"]

    assert (row["limit_known"], row["tpm_used"]) == (0, 600)


def test_a_limit_whose_use_the_usage_api_cannot_show_is_printed_without_use(
    shown: Shown,
) -> None:
    images = limit("dall-e-3", 10, 1000, max_images_per_1_minute=20)
    speech = limit("tts-1", 10, 1000, max_audio_megabytes_per_1_minute=7)

    rows = shown(drawn("12:30", 15, 3), spoken("12:30", 4), limits={"proj_a": [images, speech]})

    drawing, speaking = rows["Alpha / dall-e-3"], rows["Alpha / tts-1"]
    assert part(drawing, "tpm") == (1000, None, None)
    assert part(drawing, "rpm") == (10, 3, 30.0)
    assert part(drawing, "ipm") == (20, 15, 75.0)
    assert part(speaking, "tpm") == (1000, None, None)
    assert part(speaking, "rpm") == (10, 4, 40.0)
    assert speaking["audio_megabytes_per_minute_limit"] == 7
    assert drawing["peak_age_seconds"] == NOW - unix("12:31")


def test_the_use_of_an_archived_project_is_shown_without_a_limit(poll: Poll) -> None:
    two = (("proj_a", "Alpha", False), ("proj_old", "Old", True))
    world = small(text("12:30", 600, project="proj_old"), projects=two)

    document = json.loads(poll(world).stdout)

    assert [row["alias"] for row in document["instances"]] == ["Old / gpt-4o"]
    assert document["instances"][0]["datapoints"]["limit_known"] == 0
    assert "projects/proj_old/rate_limits" not in world.requests


def test_a_project_archived_during_the_poll_is_not_a_failure(shown: Shown) -> None:
    two = (("proj_a", "Alpha", False), ("proj_b", "Beta", False))
    refused = {"projects/proj_a/rate_limits": "Project proj_a is archived"}

    rows = shown(text("12:30", 600), projects=two, refused=refused)

    assert (rows["Alpha / gpt-4o"]["tpm_used"], rows["Alpha / gpt-4o"]["limit_known"]) == (600, 0)


# instances


def test_pools_used_in_the_last_7_days_are_shown_and_idle_ones_have_used_0(poll: Poll) -> None:
    limits = {"proj_a": [limit(name, 10, 1000) for name in ("o1", "o3", "gpt-4o", "gpt-5")]}
    uses = (
        text("12:30", 100),
        text("00:00", 100, model="o1", day="2026-11-11"),
        text("23:59", 100, model="o3", day="2026-11-10"),
    )

    document = json.loads(poll(small(*uses, limits=limits)).stdout)

    rows = {row["alias"]: row for row in document["instances"]}
    assert {alias: row["idle"] for alias, row in rows.items()} == {
        "Alpha / gpt-4o": False,
        "Alpha / o1": True,
    }
    assert part(rows["Alpha / o1"]["datapoints"], "tpm") == (1000, 0, 0)


@pytest.mark.parametrize(
    ("settings", "levels"),
    [({}, [2, 2, 2, 0]), ({"headroom_lookback": "5m"}, [2, 0, 0, 0])],
    ids=["15m", "5m"],
)
def test_a_single_busy_minute_is_in_view_three_times_by_default(
    poll: Poll, settings: dict[str, str], levels: list[int]
) -> None:
    """900 of 1,000 tokens at 12:21, 10 in every other minute, and a poll every 5 minutes."""
    quiet = [text(f"12:{minute:02}", 10) for minute in range(5, 42)]
    world = small(*quiet, text("12:21", 900), now=unix("12:42"))

    outcomes = [
        poll(world._replace(now=unix(at)), "nagios", at=unix(at), **settings)
        for at in ("12:25", "12:30", "12:35", "12:40")
    ]

    assert [outcome.status for outcome in outcomes] == levels


@pytest.mark.parametrize(
    ("batch", "datapoint", "value"),
    [
        # 246 - 24 = 222 input tokens of 1,000 in the queue of the day
        (True, "batch_tpd_utilization", 22.2),
        # 3 requests of 20 a day, six hours ago
        (False, "rpd_utilization", 15),
    ],
)
@pytest.mark.parametrize("folder", ["rate_limits", "rate_limits_by_model"])
def test_a_pool_with_use_of_the_day_alone_is_not_idle(
    server: HTTPServer, folder: str, batch: bool, datapoint: str, value: float, tmp_path: Path
) -> None:
    row = limit("gpt-4o", 10, 1000, batch_1_day_max_input_tokens=1000, max_requests_per_1_day=20)
    use = text("06:30", 246, 3, batch=batch)
    url = serve(server, small(use, limits={"proj_a": [row]}))
    record = replay.Record(NOW, {}, ())

    outcome = replay.collected(folder, record, url, tmp_path)
    nagios = replay.collected(folder, record, url, tmp_path, "nagios")

    name = datapoint if folder == "rate_limits" else datapoint.replace("_util", "_ceiling_util")
    (found,) = json.loads(outcome.stdout)["instances"]
    assert (found["datapoints"][name], found["idle"]) == (value, False)
    assert f"{name} {value}%" in nagios.stdout.splitlines()[1]


def test_all_pools_are_shown_with_limits_unused(shown: Shown) -> None:
    limits = {"proj_a": [limit(name, 10, 1000) for name in ("o1", "gpt-4o", "default")]}

    rows = shown(text("12:30", 100), limits=limits, limits_unused="true")

    assert list(rows) == ["Alpha / default", "Alpha / gpt-4o", "Alpha / o1"]
    assert part(rows["Alpha / o1"], "tpm") == (1000, 0, 0)


@pytest.mark.parametrize("row", ["default", "gpt-4o-long-context", "gpt-4o-shared"])
def test_a_row_that_does_not_name_a_model_has_limits_and_unknown_use(
    shown: Shown, row: str
) -> None:
    limits = {"proj_a": [limit(row, 10, 1000), limit("gpt-4o", 10, 500)]}

    found = shown(text("12:30", 100), limits=limits, limits_unused="true")

    assert found[f"Alpha / {row}"] == {"rpm_limit": 10, "tpm_limit": 1000, "limit_known": 1}
    assert part(found["Alpha / gpt-4o"], "tpm") == (500, 100, 20.0)


def test_the_limits_of_a_project_that_is_not_shown_are_not_requested(poll: Poll) -> None:
    two = (("proj_a", "Alpha", False), ("proj_b", "Beta", False))
    uses = (text("12:30", 600), text("12:30", 600, project="proj_b"))
    refused = {"projects/proj_b/rate_limits": 400}
    world = small(*uses, projects=two, refused=refused)

    outcome = poll(world, projects_exclude="Be*")

    assert (outcome.status, outcome.stderr) == (0, "")
    rows = json.loads(outcome.stdout)["instances"]
    assert [row["alias"] for row in rows] == ["Alpha / gpt-4o"]
    assert "projects/proj_b/rate_limits" not in world.requests


# what is left out if a request fails


LEFT_OUT = {
    "images": {"rpm", "ipm", "rpd"},
    "audio_speeches": {"rpm", "rpd"},
    "audio_transcriptions": {"rpm", "rpd"},
    "moderations": {"rpm", "tpm", "rpd"},
    "embeddings": {"rpm", "tpm", "rpd"},
    "decisions": {"rpm", "tpm", "rpd", "batch_tpd"},
    "completions": {"rpm", "tpm", "rpd", "batch_tpd"},
}


@pytest.mark.parametrize("kind", LEFT_OUT)
def test_a_failed_kind_removes_used_and_utilization_of_the_limits_it_counts_for(
    poll: Poll, kind: str
) -> None:
    """The pool has use for every limit, so that without the failure no value would be missing."""
    more = {"max_images_per_1_minute": 9, "max_requests_per_1_day": 9}
    limits = {"proj_a": [limit("gpt-4o", 10, 1000, **more, batch_1_day_max_input_tokens=9)]}
    uses = (
        text("12:30", 100),
        text("12:30", 100, kind="decisions"),
        embedded("12:30", 100, model="gpt-4o"),
        drawn("12:30", 1, model="gpt-4o"),
    )

    outcome = poll(small(*uses, limits=limits, refused={f"usage/{kind}": 400}))

    row = json.loads(outcome.stdout)["instances"][0]["datapoints"]
    used = {name.removesuffix("_used") for name in row if name.endswith("_used")}
    shares = {name.removesuffix("_utilization") for name in row if name.endswith("_utilization")}
    assert used == shares == {"rpm", "tpm", "ipm", "rpd", "batch_tpd"} - LEFT_OUT[kind]
    assert {name for name in row if name.endswith("_limit")} == {
        f"{short}_limit" for short in ("rpm", "tpm", "ipm", "rpd", "batch_tpd")
    }
    assert outcome.status == 0
    assert outcome.stderr.startswith("used and utilization of ")
    assert f"usage/{kind}: the API refused the request (not today)" in outcome.stderr


def test_a_pool_is_not_reported_as_idle_if_a_kind_failed(poll: Poll) -> None:
    """The pool is known from the week of embeddings, whose minutes have no use."""
    unused = embedded("00:30", 1, model="gpt-4o")

    outcome = poll(small(unused, refused={"usage/completions": 400}))

    assert [row["idle"] for row in json.loads(outcome.stdout)["instances"]] == [False]


@pytest.mark.parametrize("shows", [{}, {"limits_unused": "true"}])
def test_a_pool_whose_only_kind_was_refused_has_no_use_of_any_limit(
    poll: Poll, shows: dict[str, str]
) -> None:
    """Other kinds would only show that they did not use an image model, not that it used 0."""
    rows = [
        limit("dall-e-3", 100, 1000, max_images_per_1_minute=15),
        limit("dall-e-2", 0, 0, max_images_per_1_minute=0),
    ]
    world = small(drawn("12:20", 5), limits={"proj_a": rows}, refused={"usage/images": 400})

    found = {row["id"]: row for row in json.loads(poll(world, **shows).stdout)["instances"]}

    assert set(found) >= ({"proj_a/dall-e-2", "proj_a/dall-e-3"} if shows else {"proj_a/dall-e-2"})
    for row in found.values():
        assert not [name for name in row["datapoints"] if "used" in name or "utiliz" in name]
        assert row["state"] == "unknown"


def test_a_refused_kind_that_a_pool_may_use_beside_another_leaves_its_limits_unknown(
    poll: Poll,
) -> None:
    rows = [limit("gpt-image-1", 100, 1000, max_images_per_1_minute=15)]
    uses = (drawn("12:20", 5, model="gpt-image-1"), text("12:20", 999, model="gpt-image-1"))
    world = small(*uses, limits={"proj_a": rows}, refused={"usage/completions": 400})

    (row,) = json.loads(poll(world).stdout)["instances"]

    assert part(row["datapoints"], "ipm") == (15, 5, pytest.approx(33.333333))
    assert part(row["datapoints"], "tpm") == (1000, None, None)
    assert {one["datapoint"] for one in row["unjudged"]} >= {"tpm_utilization", "rpm_utilization"}


def test_a_project_whose_limits_fail_is_left_out_and_named(poll: Poll) -> None:
    two = (("proj_a", "Alpha", False), ("proj_b", "Beta", False))
    uses = (text("12:30", 600), text("12:30", 600, project="proj_b"))
    world = small(*uses, projects=two, refused={"projects/proj_b/rate_limits": 400})

    outcome = poll(world)

    rows = json.loads(outcome.stdout)["instances"]
    assert [row["alias"] for row in rows] == ["Alpha / gpt-4o"]
    assert outcome.status == 0
    assert outcome.stderr.startswith("Beta is left out: projects/proj_b/rate_limits: ")
    assert poll(world, discover=True)[::2] == ("", 1)
    assert poll(world, "nagios").status == 3


@pytest.mark.parametrize(
    "refused",
    [
        {"projects": 400},
        {"projects/proj_a/rate_limits": 400},
        {f"usage/{kind}": 400 for kind in MODEL_KINDS},
    ],
)
def test_a_poll_without_projects_limits_or_usage_fails(
    poll: Poll, refused: Mapping[str, int | str]
) -> None:
    world = small(text("12:30", 600), refused=refused)

    outcome = poll(world)

    assert (outcome.stdout, outcome.status) == ("", 1)
    assert "the API refused the request (not today)" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert poll(world, "nagios").status == 3


def test_a_new_kind_that_the_api_does_not_know_is_not_a_failure(poll: Poll) -> None:
    outcome = poll(small(text("12:30", 600), refused={"usage/decisions": 404}))

    document = json.loads(outcome.stdout)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert part(document["instances"][0]["datapoints"], "tpm") == (1000, 600, 60.0)
    assert "this API has no usage/decisions yet" in document["notes"][0]


def test_an_old_kind_that_the_api_does_not_know_is_a_failure(poll: Poll) -> None:
    outcome = poll(small(embedded("12:30", 6, model="gpt-4o"), refused={"usage/completions": 404}))

    assert "tpm_used" not in json.loads(outcome.stdout)["instances"][0]["datapoints"]
    assert "usage/completions: the API does not know this endpoint or id" in outcome.stderr
