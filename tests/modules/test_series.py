"""A series never changes the snapshot beside it, in any DataSource and with any window."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from lm_openai.collect import datasource
from lm_openai.simulator import Simulator
from tests.support import demo_polls, replay
from tests.support.small_organization import Small, Use, serve, unix

NOW = unix("12:34:56")
FIRST_OF_MARCH = unix("12:34:56", "2027-03-01")
"""A day on which costs are read for the shortest time, less than the longest series."""
WITH_SERIES = [known.folder for known in datasource.definitions() if known.series_width]
WINDOWS = {
    "15m": {"openai.window": "15m", "openai.lookback": "3h"},
    "24h": {"openai.window": "24h", "openai.lookback": "15m"},
    "month": {"openai.window": "month", "openai.lookback": "31d", "openai.bucket.width": "1d"},
}
TOKENS = {"input_tokens": 50, "output_tokens": 10, "num_model_requests": 1}


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=FIRST_OF_MARCH, lag=0) as simulator:
        yield simulator


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("folder", WITH_SERIES)
def test_instances_numbers_and_states_are_those_of_a_poll_without_a_series(
    demo: Simulator, folder: str, window: str, tmp_path: Path
) -> None:
    settings = WINDOWS[window]
    alone = demo_polls.document(folder, demo, tmp_path, "json", settings)
    beside = demo_polls.document(folder, demo, tmp_path, "json", settings, series=True)

    series = beside.pop("series")
    assert beside == alone
    assert alone["instances"]
    assert series or folder == "audit_by_event_type"


def organization(*uses: Use) -> Small:
    return Small(NOW, uses, {}, (("proj_a", "Alpha", False),), {}, 1440, [])


def used(clock: str, model: str = "gpt-4o", day: str = "2026-11-18") -> Use:
    return Use("completions", unix(clock, day), "proj_a", model, TOKENS)


def polled(url: str, folder: Path, form: str = "json", **options: Any) -> replay.Outcome:
    """Poll completions of the last 15 minutes; 100 input tokens are a warning."""
    rules = folder / "etc" / "thresholds.d" / "site.json"
    rules.parent.mkdir(parents=True, exist_ok=True)
    threshold = {"datapoint": "input_tokens", "operator": ">=", "warning": 100}
    rules.write_text(
        json.dumps({"datasource": "OpenAI_Completion_ByModel", "thresholds": [threshold]})
    )
    record = replay.Record(NOW, {"openai.window": "15m", "openai.lookback": "3h"}, ())
    given = {"thresholds": (str(rules),), **options}
    return replay.collected("completion_by_model", record, url, folder, form, **given)


def test_the_state_is_judged_over_the_window_and_not_over_the_series(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    """One request of 50 tokens is in the last 15 minutes, two more in the last 3 hours."""
    url = serve(httpserver, organization(used("10:01"), used("11:30"), used("12:30")))

    found = json.loads(polled(url, tmp_path, series=True).stdout)

    (row,) = found["instances"]
    assert row["datapoints"]["input_tokens"] == 50
    assert row["state"] == "ok"
    starts = [entry["start"] for entry in found["series"]]
    assert starts == ["2026-11-18T10:01:00Z", "2026-11-18T11:30:00Z", "2026-11-18T12:30:00Z"]
    assert found["window"]["start"] == "2026-11-18T12:19:00Z"


def test_a_series_that_cannot_be_read_leaves_the_snapshot_and_is_named(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    """The API lacks the minutes before 11:00, which only the series contains."""
    small = organization(used("11:30"), used("12:30"))._replace(since=unix("11:00"))
    url = serve(httpserver, small)

    outcome = polled(url, tmp_path, series=True)

    found = json.loads(outcome.stdout)
    (row,) = found["instances"]
    assert (row["datapoints"]["input_tokens"], row["state"], outcome.status) == (50, "ok", 0)
    assert found["series"] == []
    assert "the series is left out: usage/completions" in outcome.stderr


def test_a_poll_that_prints_only_a_series_fails_without_it(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    url = serve(httpserver, organization(used("12:30"))._replace(since=unix("11:00")))

    outcome = polled(url, tmp_path, "influx")

    assert (outcome.status, outcome.stdout) == (1, "")
    assert "the series is left out" in outcome.stderr


def test_a_series_may_reach_back_beyond_the_instances_of_the_last_7_days(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    """A model was used 10 days ago and not since."""
    old = used("12:00", "gpt-4", "2026-11-08")
    url = serve(httpserver, organization(old, used("12:30")))
    settings = {"openai.lookback": "20d", "openai.bucket.width": "1d"}
    record = replay.Record(NOW, settings, ())

    outcome = replay.collected("completion_by_model", record, url, tmp_path, "influx")

    models = [line.split(",")[1] for line in outcome.stdout.splitlines()]
    assert models == ["model=gpt-4", "model=gpt-4o"]
