"""Usage by consumer: complete totals, changes, budgets, the model mix, and missing kinds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer

from lm_openai.api.endpoints import TOTALS, kinds_with
from lm_openai.metrics.usage import MODEL_KINDS
from lm_openai.metrics.usage_by_consumer import COMPARED_DAYS
from lm_openai.model import report
from lm_openai.simulator import Simulator
from lm_openai.simulator.organization import Settings
from lm_openai.simulator.usage import BucketQuery, buckets
from tests.support import demo_polls, replay
from tests.support.demo_polls import WEDNESDAY
from tests.support.kinds import counted_total, kinds_by_folder, total_of
from tests.support.small_organization import Small, Use, serve, unix

HOUR, DAY = 3600, 86400
FOLDER, MIX = "usage_by_consumer", "model_mix_by_project"
BUDGET = "openai.tokens.budget.project."
GROUPINGS = (
    "project_id",
    "user_id",
    "api_key_id",
    "model",
    "project_id,user_id",
    "project_id,model",
    "project_id,user_id,api_key_id,model",
)


pytestmark = pytest.mark.usefixtures("reset")


@pytest.fixture
def poll(demo: Simulator, tmp_path: Path) -> Any:
    """Return a function: `poll(top=3, group_by="model")` gives the JSON report of one poll."""

    def document(
        folder: str = FOLDER, budgets: dict[str, int] | None = None, **words: object
    ) -> dict[str, Any]:
        granted = {BUDGET + one: str(amount) for one, amount in (budgets or {}).items()}
        properties = granted | {
            f"openai.{name.replace('_', '.')}": str(word) for name, word in words.items()
        }
        return demo_polls.document(folder, demo, tmp_path, "json", properties)

    return document


def total(found: dict[str, Any]) -> dict[str, float]:
    """Return the totals over all instances."""
    summed: Counter[str] = Counter()
    for row in found["instances"]:
        summed.update({name: row["datapoints"][name] for name in TOTALS})
    return dict(summed)


def project(demo: Simulator, case: str) -> str:
    return next(each.id for each in demo.organization.projects if each.case == case)


# Totals


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_consumers_and_other_add_up_to_the_organization(poll: Any, grouping: str) -> None:
    whole = poll(group_by="organization")

    assert [row["id"] for row in whole["instances"]] == ["organization"]
    assert min(total(whole).values()) > 0
    for top in (1, 3, 100):
        parts = poll(group_by=grouping, top=top)
        assert total(parts) == total(whole)
        assert "other" in demo_polls.values(parts)
        assert len(parts["instances"]) <= top + 1


def test_totals_equal_those_of_the_datasources_of_each_kind(poll: Any) -> None:
    kinds = {
        kind: demo_polls.values(poll(folder, group_by="organization"))["acme"]
        for folder, kind in kinds_by_folder().items()
        if kind in MODEL_KINDS
    }
    whole = demo_polls.values(poll(group_by="organization"))["acme"]

    assert set(kinds) == set(MODEL_KINDS)
    assert whole["requests"] == sum(values["num_model_requests"] for values in kinds.values())
    for total in set(map(counted_total, kinds)):
        parts = (total_of(kind, kinds[kind]) for kind in kinds_with(total))
        assert whole[total] == sum(parts), total


def test_the_consumers_with_the_most_tokens_are_listed(poll: Any) -> None:
    everything = demo_polls.values(poll(top=100))
    few = demo_polls.values(poll(top=3))
    del everything["other"], few["other"]
    first = sorted(everything, key=lambda name: everything[name]["tokens"], reverse=True)[:3]

    assert set(few) == set(first)
    assert all(few[name] == everything[name] for name in few)


def test_consumers_that_filters_hide_count_as_other(poll: Any) -> None:
    whole = total(poll(top=100))
    without = poll(top=100, projects_exclude="Data Platform,Search*")
    alone = poll(top=2, projects_include="Marketing")

    assert not {"Data Platform", "Search & Retrieval"} & set(demo_polls.values(without))
    assert set(demo_polls.values(alone)) == {"Marketing", "other"}
    assert total(without) == total(alone) == whole


def test_a_model_named_other_is_added_to_the_instance_other(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    now = unix("12:34")
    counts = {"input_tokens": 100, "output_tokens": 10, "num_model_requests": 1}
    uses = tuple(
        Use("completions", now - now % 60 - 600, "proj_a", model, counts)
        for model in ("other", "gpt-5", "o3")
    )
    small = Small(now, uses, {}, (("proj_a", "A", False),), {}, 100, [])
    record = replay.Record(now, {"openai.group.by": "model", "openai.top": "3"}, ())

    outcome = replay.collected(FOLDER, record, serve(httpserver, small), tmp_path)
    found = demo_polls.values(json.loads(outcome.stdout))

    assert {name: row["tokens"] for name, row in found.items()} == {
        "gpt-5": 110,
        "o3": 110,
        "other": 110,
    }


def test_consumers_have_names(poll: Any) -> None:
    found = poll(group_by="project_id,user_id,api_key_id", top=100)
    names = [row["names"] for row in found["instances"] if row["id"] != "other"]

    assert any(set(name) == {"project_name", "user_name", "api_key_name"} for name in names)
    assert report.wildvalue("other") == "other"


def test_a_dimension_that_some_kind_lacks_is_refused(demo: Simulator, tmp_path: Path) -> None:
    outcome = demo_polls.polled(FOLDER, demo, tmp_path, "json", {"openai.group.by": "batch"})

    assert outcome.status == 2
    assert "'batch'" in outcome.stderr
    assert "project_id, user_id, api_key_id, model" in outcome.stderr


# Missing kinds


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_a_failed_kind_removes_each_total_that_includes_it(
    demo: Simulator, poll: Any, kind: str
) -> None:
    demo.fault("400", f"*/usage/{kind}")
    found = poll(budgets={project(demo, "hot"): 10**9})
    absent = {name for name in TOTALS if kind in kinds_with(name)}
    if "tokens" in absent:
        absent |= {"change_percent", "tokens_budget_percent"}

    printed = {name for row in found["instances"] for name in row["datapoints"]}
    assert printed == {*TOTALS, "change_percent", "tokens_budget_percent"} - absent
    assert "other" not in demo_polls.values(found)
    assert any(
        f"totals that include {kind} are left out" in sentence
        for sentence in found["partial_failures"]
    )


def test_a_poll_without_any_usage_response_fails(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("400", "*/usage/*")
    outcome = demo_polls.polled(FOLDER, demo, tmp_path)

    assert (outcome.status, outcome.stdout) == (1, "")


def test_an_incomplete_list_of_consumers_is_not_printed(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("400", "*/usage/images")
    outcome = demo_polls.polled(FOLDER, demo, tmp_path, discover=True)

    assert (outcome.status, outcome.stdout) == (1, "")
    assert "images" in outcome.stderr


def test_an_api_without_decisions_has_complete_totals(demo: Simulator, poll: Any) -> None:
    demo.fault("404", "*/usage/decisions")
    found = poll(top=1)

    assert found["partial_failures"] == []
    assert found["notes"] == ["this API has no usage/decisions yet"]
    assert "change_percent" in demo_polls.values(found)["other"]


# Change


def tokens(
    demo: Simulator, start: int, end: int, width: str, kinds: Iterable[str] = kinds_with("tokens")
) -> Counter[str]:
    """Return the tokens by project directly from the demo organization."""
    found: Counter[str] = Counter()
    for kind in kinds:
        query = BucketQuery(start, end, width, ("project_id",))
        for bucket in buckets(demo.organization, kind, query, WEDNESDAY, Settings(lag=0)):
            for row in bucket["results"]:
                found[row["project_id"]] += row["input_tokens"] + row.get("output_tokens", 0)
    return found


NOON_EACH_DAY = tuple(
    Use(
        "completions",
        unix(f"12:0{minute}", "2026-05-20") - day * DAY,
        "proj_a",
        "gpt-5",
        {"input_tokens": 900, "output_tokens": 100, "num_model_requests": 1},
    )
    for day in range(40)
    for minute in range(5)
)


@pytest.mark.parametrize("window", ["15m", "1h", "24h", "today", "7d", "month"])
@pytest.mark.parametrize(
    "clock", ["12:00:30", "12:03", "12:04:59", "12:06", "12:30", "12:34:56", "13:00", "13:05"]
)
def test_a_consumer_with_the_same_minutes_each_day_has_not_changed(
    clock: str, window: str, httpserver: HTTPServer, tmp_path: Path
) -> None:
    """5 x 1,000 tokens at 12:00 to 12:04; without them in the window there is no mean to compare.

    A minute that is not over counts in proportion in the days before, so a running one reads high.
    """
    now = unix(clock, "2026-05-20")
    uses = tuple(use for use in NOON_EACH_DAY if use.minute < now)
    small = Small(now, uses, {}, (("proj_a", "A", False),), {}, 1440, [])
    record = replay.Record(now, {"openai.window": window}, ())

    outcome = replay.collected(FOLDER, record, serve(httpserver, small), tmp_path)
    values = demo_polls.values(json.loads(outcome.stdout))["A"]

    running = clock in ("12:00:30", "12:04:59")
    outside = (window == "1h" and clock == "13:05") or (window == "15m" and clock > "12:19")
    change = values.get("change_percent")
    if outside:
        assert change is None
    elif running:
        done = {"12:00:30": 500, "12:04:59": 4983 + 1 / 3}[clock]
        earlier = {"24h": 1, "7d": 7, "month": 19}.get(window, 0) * 5000
        now_used = {"12:00:30": 1000, "12:04:59": 5000}[clock] + earlier
        mean = done + earlier
        assert change == pytest.approx((now_used - mean) * 100 / mean, abs=1e-6)
    else:
        assert change == 0


def test_change_compares_with_the_same_window_of_the_7_days_before(
    demo: Simulator, poll: Any
) -> None:
    """The window is the hour from 11:34 and, of kinds with use in it, 56 seconds from 12:34."""
    minute = WEDNESDAY // 60 * 60
    mean: defaultdict[str, float] = defaultdict(float)
    for kind in kinds_with("tokens"):
        running = 56 / 60 if any(tokens(demo, minute, WEDNESDAY, "1m", [kind])) else 0
        assert running or any(tokens(demo, minute - 60, minute, "1m", [kind]))
        for day in range(1, 8):
            for start, width, part in ((minute - HOUR, HOUR, 1), (minute, 60, running)):
                before = start - day * DAY
                for one, amount in tokens(demo, before, before + width, "1m", [kind]).items():
                    mean[one] += amount * part / 7
    now = tokens(demo, minute - HOUR, WEDNESDAY, "1m")

    found = {row["id"]: row["datapoints"] for row in poll(top=100)["instances"]}
    changed = {one: row["change_percent"] for one, row in found.items() if "change_percent" in row}
    assert set(changed) == set(mean)
    for one, percent in changed.items():
        assert percent == pytest.approx((now[one] - mean[one]) * 100 / mean[one], abs=0.01)


@pytest.mark.parametrize("window", ["15m", "today", "24h", "7d", "month"])
def test_every_window_has_a_change(poll: Any, window: str) -> None:
    found = demo_polls.values(poll(window=window))

    assert -60 < found["Search & Retrieval"]["change_percent"] < 60


def test_each_kind_is_compared_only_up_to_the_end_of_its_data(demo: Simulator, poll: Any) -> None:
    """Otherwise data that is half an hour late would look like half of the usage."""
    before = demo_polls.values(poll())["Search & Retrieval"]["change_percent"]
    demo.settings = demo.settings._replace(delays=dict.fromkeys(kinds_with("tokens"), 1800))
    try:
        late = demo_polls.values(poll())["Search & Retrieval"]
    finally:
        demo.settings = demo.settings._replace(delays={})

    assert late["change_percent"] == pytest.approx(before, abs=5)


def test_without_the_days_before_the_totals_are_printed_without_a_change(
    demo: Simulator, poll: Any
) -> None:
    demo.fault("400", "*/usage/completions", skip=1)
    found = poll(concurrency=1)  # one request after the other: the window comes first

    assert all("change_percent" not in row for row in demo_polls.values(found).values())
    assert demo_polls.values(found)["other"].keys() == set(TOTALS)
    assert [sentence.partition(":")[0] for sentence in found["partial_failures"]] == [
        "change_percent is left out"
    ]


def test_the_days_before_are_requested_only_once_while_cached(demo: Simulator, poll: Any) -> None:
    poll()
    first = len(demo.requests)
    poll()

    each_kind = 1 + COMPARED_DAYS  # the hours of the week, the minutes of each day's cut hours
    assert first == 1 + len(MODEL_KINDS) + len(kinds_with("tokens")) * each_kind
    assert len(demo.requests) - first == len(MODEL_KINDS)


# Budgets


@pytest.mark.parametrize("grouping", ["project_id", "project_id,user_id", "project_id,model"])
def test_a_budget_is_compared_with_the_day_of_the_whole_project(
    demo: Simulator, poll: Any, grouping: str
) -> None:
    hot = project(demo, "hot")
    used = tokens(demo, WEDNESDAY // DAY * DAY, WEDNESDAY, "1d")[hot]
    found = poll(group_by=grouping, top=100, budgets={hot: used * 2})
    shares = {
        row["dimensions"].get("project_id"): row["datapoints"]["tokens_budget_percent"]
        for row in found["instances"]
        if "tokens_budget_percent" in row["datapoints"]
    }

    assert shares == {hot: 50}


def test_budgets_are_ignored_without_grouping_by_project(demo: Simulator, poll: Any) -> None:
    found = poll(group_by="model", budgets={project(demo, "hot"): 1000})

    assert not any("tokens_budget_percent" in row["datapoints"] for row in found["instances"])


def test_a_project_with_a_budget_is_listed_even_without_use(demo: Simulator, poll: Any) -> None:
    idle = project(demo, "idle")
    found = demo_polls.values(poll(top=1, budgets={idle: 1000}))

    assert found["Idle Prototype"] == {**dict.fromkeys(TOTALS, 0), "tokens_budget_percent": 0}
    assert len(found) == 3


def test_a_project_that_used_its_budget_before_the_window_is_not_idle(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    """50 of 200 tokens were used at 06:00, and none in the last hour."""
    counts = {"input_tokens": 40, "output_tokens": 10, "num_model_requests": 1}
    now = unix("12:34:56")
    use = Use("completions", unix("06:00"), "proj_a", "gpt-4o", counts)
    small = Small(now, (use,), {}, (("proj_a", "Alpha", False),), {}, 1440, [])
    record = replay.Record(now, {f"{BUDGET}proj_a": "200"}, ())

    outcome = replay.collected(FOLDER, record, serve(httpserver, small), tmp_path)

    rows = {row["id"]: row for row in json.loads(outcome.stdout)["instances"]}
    assert rows["proj_a"]["datapoints"]["tokens_budget_percent"] == 25
    assert rows["proj_a"]["idle"] is False


def test_a_budget_that_is_used_up_is_critical(demo: Simulator, poll: Any) -> None:
    hot = project(demo, "hot")
    found = poll(budgets={hot: 1000})

    assert demo_polls.breaches(found)["Data Platform"] == {"tokens_budget_percent": "critical"}


def test_a_token_budget_that_the_known_part_exceeds_stays_critical(
    demo: Simulator, tmp_path: Path
) -> None:
    budget = {f"{BUDGET}{project(demo, 'hot')}": "1000"}
    demo.fault("500", "*/usage/embeddings")

    outcome = demo_polls.polled(FOLDER, demo, tmp_path, "nagios", budget)

    assert outcome.status == 2
    assert "tokens_budget_percent at least " in outcome.stdout


# Model mix


def test_the_approved_percent_is_of_all_requests_of_the_week(demo: Simulator, poll: Any) -> None:
    found = demo_polls.values(poll(MIX, models_approved="gpt-4o*,whisper-1"))

    for row in found.values():
        share = row["requests_approved"] * 100 / row["requests"]
        assert row["approved_percent"] == pytest.approx(share, abs=1e-6)
    assert found["Data Platform"]["approved_percent"] > 90
    assert found["Search & Retrieval"]["approved_percent"] == 0


def test_an_asterisk_approves_every_model(poll: Any) -> None:
    found = demo_polls.values(poll(MIX, models_approved="*"))

    assert {row["approved_percent"] for row in found.values()} == {100}


def test_the_mix_by_project_and_by_user_have_equal_totals(poll: Any) -> None:
    by_project, by_user = (
        demo_polls.values(poll(MIX, group_by=grouping, models_approved="gpt-4*"))
        for grouping in ("project_id", "user_id")
    )
    for name in ("requests", "requests_approved"):
        sums = [sum(row[name] for row in rows.values()) for rows in (by_project, by_user)]
        assert sums[0] == sums[1] > 0


def test_without_a_list_only_requests_are_reported(poll: Any) -> None:
    found = poll(MIX)

    assert {tuple(row["datapoints"]) for row in found["instances"]} == {("requests",)}
    assert found["notes"] == ["openai.models.approved is not set, so the approved share is unknown"]


def test_a_mix_below_80_percent_is_a_warning(poll: Any) -> None:
    found = poll(MIX, models_approved="gpt-4o*")

    assert demo_polls.breaches(found)["Search & Retrieval"] == {"approved_percent": "warning"}
    assert "Data Platform" not in demo_polls.breaches(found)


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_a_mix_with_a_failed_kind_fails(demo: Simulator, kind: str, tmp_path: Path) -> None:
    demo.fault("400", f"*/usage/{kind}")
    outcome = demo_polls.polled(MIX, demo, tmp_path, "json", {"openai.models.approved": "gpt-*"})

    assert (outcome.status, outcome.stdout) == (1, "")
    assert f"usage/{kind}" in outcome.stderr


def test_a_mix_is_requested_once_an_hour_and_reports_the_time_of_its_data(
    demo: Simulator, poll: Any
) -> None:
    first = poll(MIX)
    requests = len(demo.requests)
    try:
        demo.now = WEDNESDAY + 300
        later = poll(MIX)
    finally:
        demo.now = WEDNESDAY

    assert len(demo.requests) == requests
    assert later["window"] == first["window"]
    assert later["unix_time"] == first["unix_time"] + 300
