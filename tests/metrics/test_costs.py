"""Costs: figures and forecasts computed by hand, and all groupings of one organization."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from lm_openai.api.endpoints import COST_DIMENSIONS
from lm_openai.metrics import bill, cost_figures
from lm_openai.metrics.billing_days import Calendar, Days, calendar, daily_mean
from lm_openai.metrics.budgets import Budget
from lm_openai.metrics.cost_forecast import Forecast, forecast
from lm_openai.model.report import Values
from lm_openai.simulator import ADMIN_KEY, NO_MANAGEMENT_KEY, Simulator
from lm_openai.timespans import DAY
from tests.support import replay
from tests.support.demo_polls import WEDNESDAY, document, polled

GROUPINGS = ("cost_by_project", "cost_by_line_item", "cost_by_api_key", "cost_by_user")
ALL = ("cost_by_organization", *GROUPINGS)
MONEY = ("amount", "amount_yesterday", "amount_month_to_date", "amount_last_month")
FLOOR = Decimal(10)


def at(text: str) -> int:
    """Return the Unix seconds of a UTC time such as `2026-11-18` or `2026-11-18T12:34:56`."""
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp())


def spent(first: str, last: str, week: list[int], **others: int) -> Days:
    """Return dollars by day; `week` starts on Monday and `d20261105` sets a single day."""
    special = {at(f"{key[1:5]}-{key[5:7]}-{key[7:]}"): value for key, value in others.items()}
    return {
        day: Decimal(special.get(day, week[(day // DAY + 3) % 7]))
        for day in range(at(first), at(last) + DAY, DAY)
    }


OFFICE = [20, 20, 20, 20, 20, 6, 6]


# Calendar


@pytest.mark.parametrize(
    ("now", "month", "next_month", "last_month"),
    [
        ("2026-11-18T12:34:56", "2026-11-01", "2026-12-01", "2026-10-01"),
        ("2027-01-01T00:00:00", "2027-01-01", "2027-02-01", "2026-12-01"),
        ("2026-12-31T23:59:59", "2026-12-01", "2027-01-01", "2026-11-01"),
        ("2028-02-29T08:00:00", "2028-02-01", "2028-03-01", "2028-01-01"),
        ("2028-03-01T00:00:01", "2028-03-01", "2028-04-01", "2028-02-01"),
    ],
)
def test_months_begin_and_end_at_utc_midnights(
    now: str, month: str, next_month: str, last_month: str
) -> None:
    dates = calendar(at(now))

    assert dates == Calendar(at(now) // DAY * DAY, at(month), at(next_month), at(last_month))


def test_costs_are_requested_from_last_month_or_four_weeks_ago_whichever_is_earlier() -> None:
    assert calendar(at("2026-11-18")).earliest == at("2026-10-01")
    assert calendar(at("2027-03-01")).earliest == at("2027-02-01")
    assert calendar(at("2027-02-28")).earliest == at("2027-01-01")


def test_a_leap_february_has_29_days_and_none_after_the_29th() -> None:
    dates = calendar(at("2028-02-29T08:00:00"))

    assert len(dates.this_month()) == 29
    assert list(dates.later()) == []


# Figures


def figures(now: str, days: Days) -> dict[str, Any]:
    return dict(cost_figures.billed_figures(days, calendar(at(now)), FLOOR))


def test_figures_of_an_ordinary_wednesday() -> None:
    """October: 22 weekdays of 20 and 9 weekend days of 6; 1 to 17 November: 12 and 5, less 30."""
    days = spent("2026-10-01", "2026-11-18", OFFICE, d20261105=-10, d20261118=9)

    assert figures("2026-11-18T12:00:00", days) == {
        "amount": 9,
        "amount_yesterday": 20,
        "amount_7d_average": 16,
        "amount_change_percent": -43.75,
        "amount_month_to_date": 249,
        "amount_last_month": 494,
    }


def test_on_the_first_of_january_the_month_is_today_and_last_month_is_december() -> None:
    days = spent("2026-12-01", "2027-01-01", [3] * 7, d20270101=1)

    found = figures("2027-01-01T10:00:00", days)

    assert (found["amount_month_to_date"], found["amount_last_month"]) == (1, 93)
    assert found["amount_yesterday"] == 3


@pytest.mark.parametrize(("usual", "change"), [(10, 50.0), (9, None), (0, None), (-4, None)])
def test_a_change_needs_a_mean_at_or_above_the_floor(usual: int, change: float | None) -> None:
    days = spent("2026-10-01", "2026-11-18", [usual] * 7, d20261118=15)

    assert figures("2026-11-18", days).get("amount_change_percent") == change


@pytest.mark.parametrize(
    ("first", "mean", "change"),
    [
        ("2026-11-18", None, None),
        ("2026-11-17", 70, 0.0),
        ("2026-11-16", 70, 0.0),
        ("2026-11-12", 70, 0.0),
        ("2026-11-11", 70, 0.0),
        ("2026-10-01", 70, 0.0),
    ],
)
def test_no_mean_counts_days_before_the_first_spend(
    first: str, mean: int | None, change: float | None
) -> None:
    days = spent("2026-10-01", "2026-11-18", [0] * 7) | spent(first, "2026-11-18", [70] * 7)

    found = figures("2026-11-18", days)

    assert found.get("amount_7d_average") == mean
    assert found.get("amount_change_percent") == change


def test_free_days_and_credits_after_the_first_spend_count() -> None:
    """The first spend is more than 7 days ago; 7 days cost 0, 0, -14, 28, 0, 0 and 28."""
    days = spent("2026-10-01", "2026-11-18", [0] * 7, d20261001=5, d20261113=-14, d20261114=28)
    days[at("2026-11-17")] = Decimal(28)

    assert figures("2026-11-18", days)["amount_7d_average"] == 6


def test_credits_alone_have_no_mean() -> None:
    days = spent("2026-10-01", "2026-11-18", [0] * 7, d20261113=-14)

    assert "amount_7d_average" not in figures("2026-11-18", days)


def test_a_mean_of_zero_gives_no_change_even_with_a_floor_of_zero() -> None:
    days = spent("2026-10-01", "2026-11-18", [0] * 7, d20261118=15)

    found = cost_figures.billed_figures(days, calendar(at("2026-11-18")), Decimal(0))

    assert "amount_change_percent" not in found


@pytest.mark.parametrize(
    ("missing", "absent"),
    [
        ("2026-11-18", {"amount", "amount_change_percent", "amount_month_to_date"}),
        (
            "2026-11-17",
            {
                "amount_yesterday",
                "amount_7d_average",
                "amount_change_percent",
                "amount_month_to_date",
            },
        ),
        ("2026-11-02", {"amount_month_to_date"}),
        ("2026-10-31", {"amount_last_month"}),
    ],
)
def test_a_figure_that_needs_a_missing_day_is_left_out(missing: str, absent: set[str]) -> None:
    days = spent("2026-10-01", "2026-11-18", OFFICE)
    whole = figures("2026-11-18", days)
    del days[at(missing)]

    assert whole.keys() - figures("2026-11-18", days).keys() == absent


def test_a_change_is_computed_from_the_mean_before_it_is_rounded() -> None:
    """The mean is 1.0000005, which prints as 1; today is exactly that mean."""
    days = spent("2026-10-01", "2026-11-18", [1] * 7)
    days = {day: Decimal("1.0000005") for day in days}

    found = cost_figures.billed_figures(days, calendar(at("2026-11-18")), Decimal(1))

    assert found["amount_7d_average"] == Decimal("1.0000005")
    assert found["amount_change_percent"] == 0


def test_a_budget_has_its_used_and_its_forecast_percent() -> None:
    values: Values = {"amount_month_to_date": Decimal(249), "amount_month_forecast": Decimal(444)}

    shares = {"budget_used_percent": 49.8, "budget_forecast_percent": 88.8}
    own = {f"own_{name}": share for name, share in shares.items()}

    assert cost_figures.budget_figures(values, Budget(Decimal(500), own=True)) == {
        "budget": 500,
        **shares,
        **own,
    }
    assert cost_figures.budget_figures(values, Budget(Decimal(500))) == {"budget": 500, **shares}
    assert cost_figures.budget_figures({}, Budget(Decimal(500), own=True)) == {"budget": 500}
    assert cost_figures.budget_figures(values, None) == {}


# The forecast


def forecasted(now: str, days: Days) -> Forecast | None:
    return forecast(days, calendar(at(now)))


def test_the_forecast_follows_the_weekdays() -> None:
    """240 through yesterday, 20 today, then 8 weekdays of 20 and 4 weekend days of 6."""
    days = spent("2026-10-01", "2026-11-18", OFFICE, d20261105=-10, d20261118=9)

    assert forecasted("2026-11-18T12:00:00", days) == Forecast(
        Decimal(444), Decimal(444), Decimal(444)
    )


def test_low_and_high_use_the_minimum_and_maximum_of_a_weekday() -> None:
    """One Tuesday remains; those of the last 28 days cost 20, 12, 28 and 20."""
    days = spent("2026-10-01", "2026-11-18", OFFICE, d20261103=12, d20261110=28, d20261118=9)

    assert forecasted("2026-11-18", days) == Forecast(Decimal(474), Decimal(466), Decimal(482))


def test_costs_of_today_above_its_weekday_count_in_full() -> None:
    days = spent("2026-10-01", "2026-11-18", OFFICE, d20261118=50)

    found = forecasted("2026-11-18", days)

    assert found is not None
    assert found.expected == 270 + 50 + 8 * 20 + 4 * 6


def test_on_the_last_day_of_the_month_only_today_is_forecast() -> None:
    """30 November 2026 is a Monday: 20 weekdays and 9 weekend days are billed."""
    days = spent("2026-10-01", "2026-11-30", OFFICE, d20261130=2)

    assert forecasted("2026-11-30T23:00:00", days) == Forecast(*[Decimal(400 + 54 + 20)] * 3)


def test_on_the_first_day_of_the_month_the_whole_month_is_forecast() -> None:
    """January 2027: 21 weekdays and 10 weekend days, the first one today."""
    days = spent("2026-12-01", "2027-01-01", OFFICE, d20270101=0)

    assert forecasted("2027-01-01T00:10:00", days) == Forecast(*[Decimal(21 * 20 + 10 * 6)] * 3)


def test_a_leap_february_is_forecast_through_the_29th() -> None:
    days = spent("2028-01-01", "2028-02-27", [1] * 7)

    assert forecasted("2028-02-27T12:00:00", days) == Forecast(*[Decimal(29)] * 3)


def test_the_forecast_ignores_days_in_credit_and_days_before_the_first_spend() -> None:
    """Spend began on 9 November: 8 days of 2 and one of -100, then today and 12 days of 2."""
    week = [2] * 7
    days = spent("2026-10-01", "2026-11-18", [0] * 7) | spent(
        "2026-11-09", "2026-11-18", week, d20261112=-100, d20261118=0
    )

    found = forecasted("2026-11-18", days)

    assert found == Forecast(*[Decimal(8 * 2 - 100 + 2 + 12 * 2)] * 3)


def test_a_free_day_after_the_first_spend_counts_as_0() -> None:
    """Sundays are free: of the 12 later days two are Sundays, which have cost 0."""
    days = spent("2026-10-01", "2026-11-18", [7, 7, 7, 7, 7, 7, 0], d20261118=7)

    found = forecasted("2026-11-18", days)

    assert found is not None
    assert found.expected == 14 * 7 + 7 + 10 * 7
    assert found.low == found.high == found.expected


@pytest.mark.parametrize(("first", "known"), [("2026-11-12", False), ("2026-11-11", True)])
def test_there_is_no_forecast_with_fewer_than_seven_complete_days_of_spend(
    first: str, known: bool
) -> None:
    days = spent("2026-10-01", "2026-11-18", [0] * 7) | spent(first, "2026-11-18", [5] * 7)

    assert (forecasted("2026-11-18", days) is not None) is known


def test_a_weekday_without_data_costs_as_much_as_any_day() -> None:
    """8 days of spend, their only Thursday in credit: a Thursday costs the mean of all days."""
    days = spent("2026-10-01", "2026-11-18", [0] * 7) | spent(
        "2026-11-10", "2026-11-18", [8] * 7, d20261112=-1, d20261118=8
    )
    dates = calendar(at("2026-11-18"))
    days[dates.today - 6 * DAY] = Decimal(-1)

    found = forecast(days, dates)

    assert found is not None
    assert found.expected == 7 * 8 - 1 + 8 + 12 * 8


def test_without_the_costs_of_today_there_is_no_forecast() -> None:
    days = spent("2026-10-01", "2026-11-17", OFFICE)

    assert forecasted("2026-11-18", days) is None


amounts = st.decimals(min_value=-50, max_value=5000, places=9)


@given(st.lists(amounts, min_size=62, max_size=62), st.integers(0, 61))
def test_a_forecast_is_between_its_low_and_high_and_not_below_what_is_billed(
    all_amounts: list[Decimal], place: int
) -> None:
    dates = calendar(at("2026-09-01") + place * DAY)
    start = dates.today - 61 * DAY
    days = {start + number * DAY: amount for number, amount in enumerate(all_amounts)}

    found = forecast(days, dates)

    if found is not None:
        billed = sum((days[day] for day in range(dates.month, dates.today, DAY)), Decimal(0))
        assert billed <= found.low <= found.expected <= found.high


# Every grouping of one organization


@pytest.fixture
def fresh() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY, lag=0) as simulator:
        yield simulator


def exact(folder: str, demo: Simulator, cache: Path, **properties: str) -> dict[str, Any]:
    """Return the datapoints by alias with every digit."""
    outcome = polled(folder, demo, cache, properties=properties)
    assert outcome.status == 0, outcome.stderr
    found = json.loads(outcome.stdout, parse_float=Decimal, parse_int=Decimal)
    return {row["alias"]: row["datapoints"] for row in found["instances"]}


@pytest.mark.parametrize("folder", GROUPINGS)
def test_groups_add_up_to_the_organization_to_the_last_digit(
    folder: str, demo: Simulator, tmp_path: Path
) -> None:
    whole = exact("cost_by_organization", demo, tmp_path)["acme"]
    parts = exact(folder, demo, tmp_path)

    for name in MONEY:
        assert sum(part[name] for part in parts.values()) == whole[name]
    assert len(parts) > 8
    assert abs(sum(part["share_percent"] for part in parts.values()) - 100) < Decimal("0.0001")


@pytest.mark.parametrize(
    "dimensions",
    [
        *[(dimension,) for dimension in COST_DIMENSIONS],
        ("project_id", "line_item"),
        ("api_source", "project_id"),
        COST_DIMENSIONS,
    ],
    ids=",".join,
)
@pytest.mark.parametrize("folder", ALL)
def test_every_cost_datasource_takes_every_cost_dimension(
    folder: str, dimensions: tuple[str, ...], demo: Simulator, tmp_path: Path
) -> None:
    settings = {"openai.group.by": ",".join(dimensions)}
    outcome = polled(folder, demo, tmp_path, properties=settings)
    whole = exact("cost_by_organization", demo, tmp_path)["acme"]

    rows = json.loads(outcome.stdout, parse_float=Decimal, parse_int=Decimal)["instances"]
    assert {tuple(row["dimensions"]) for row in rows} == {dimensions}
    assert (
        sum(row["datapoints"]["amount_month_to_date"] for row in rows)
        == (whole["amount_month_to_date"])
    )


@pytest.mark.parametrize("folder", ALL)
def test_every_cost_datasource_takes_organization(
    folder: str, demo: Simulator, tmp_path: Path
) -> None:
    whole = exact("cost_by_organization", demo, tmp_path)["acme"]
    found = exact(folder, demo, tmp_path, **{"openai.group.by": "organization"})

    assert list(found) == ["acme"]
    assert {name: found["acme"][name] for name in MONEY} == {name: whole[name] for name in MONEY}
    assert found["acme"].get("share_percent", 100) == 100


@pytest.mark.parametrize("folder", ALL)
@pytest.mark.parametrize("chosen", ["model", "project", "project_id,batch", "user_id,organization"])
def test_a_dimension_that_costs_do_not_have_is_refused_by_name(
    folder: str, chosen: str, demo: Simulator, tmp_path: Path
) -> None:
    outcome = polled(folder, demo, tmp_path, properties={"openai.group.by": chosen})

    wrong = next(word for word in chosen.split(",") if word not in COST_DIMENSIONS)
    assert (outcome.stdout, outcome.status) == ("", 2)
    assert outcome.stderr == (
        f"openai.group.by: costs has no dimension {wrong!r}; allowed are project_id, line_item, "
        f"api_key_id, user_id, api_source, or organization alone\n"
    )


@pytest.mark.parametrize(
    ("chosen", "amounts"),
    [
        ("api_source", {"api": ("7", "6"), "playground": ("2", "0")}),
        (
            "project_id,api_source",
            {"a / api": ("4", "6"), "a / playground": ("2", "0"), "b / api": ("3", "0")},
        ),
        ("organization", {"default": ("9", "6")}),
    ],
)
def test_amounts_by_source_computed_by_hand(
    chosen: str, amounts: dict[str, tuple[str, str]], tmp_path: Path
) -> None:
    """Today project a costs 4 by the API and 2 by the playground, project b 1.5 + 1.5."""
    record = replay.Record.of("cost_by_project")
    (recorded,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    by = [] if chosen == "organization" else chosen.split(",")
    query = {**recorded.query, "group_by[]": by}
    *_, yesterday, today = recorded.answer["data"]
    for bucket in recorded.answer["data"]:
        bucket["results"] = []
    yesterday["results"] = [charge("a", "api", "6")]
    today["results"] = [
        charge("a", "api", "4"),
        charge("a", "playground", "2"),
        charge("b", "api", "1.5"),
        charge("b", "api", "1.5"),
    ]
    if not by:
        del query["group_by[]"]
        query["limit"] = ["180"]
    changed = replay.Record(
        record.at,
        {"openai.group.by": chosen},
        (*record.answers, recorded._replace(query=query)),
    )

    with replay.answering(changed) as url:
        outcome = replay.collected("cost_by_project", changed, url, tmp_path)

    found = json.loads(outcome.stdout, parse_float=Decimal, parse_int=Decimal)["instances"]
    assert {
        row["alias"]: (
            str(row["datapoints"]["amount"]),
            str(row["datapoints"]["amount_yesterday"]),
        )
        for row in found
    } == amounts


def charge(project: str, source: str, amount: str) -> dict[str, Any]:
    """Return one row of the costs response."""
    return {
        "object": "organization.costs.result",
        "project_id": project,
        "api_source": source,
        "amount": {"value": amount, "currency": "usd"},
    }


@pytest.mark.parametrize("folder", ALL)
def test_a_poll_requests_costs_once(folder: str, fresh: Simulator, tmp_path: Path) -> None:
    polled(folder, fresh, tmp_path)

    requests = [request for request in fresh.requests if request.path.endswith("/costs")]
    assert len(requests) == 1


def test_an_archived_project_keeps_its_name_and_a_credit_is_the_instance_none(
    demo: Simulator, tmp_path: Path
) -> None:
    found = exact("cost_by_project", demo, tmp_path)

    assert found["Legacy Chatbot (2024)"]["amount"] == 0
    assert found["Legacy Chatbot (2024)"]["amount_last_month"] > 0
    assert found["none"]["amount_month_to_date"] < 0


def test_filters_change_what_is_printed_but_no_share_or_total(
    demo: Simulator, tmp_path: Path
) -> None:
    everything = exact("cost_by_project", demo, tmp_path)
    chosen = exact("cost_by_project", demo, tmp_path, **{"openai.projects.include": "Data*"})

    assert list(chosen) == ["Data Platform"]
    assert chosen["Data Platform"] == everything["Data Platform"]


def test_a_month_with_a_negative_total_has_no_shares(tmp_path: Path) -> None:
    record = replay.Record.of("cost_by_project")
    (recorded,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    for row in (row for bucket in recorded.answer["data"] for row in bucket["results"]):
        row["amount"]["value"] = row["amount"]["value"].replace("-30", "-300")

    with replay.answering(record) as url:
        outcome = replay.collected("cost_by_project", record, url, tmp_path)
    found = json.loads(outcome.stdout)["instances"]

    assert sum(row["datapoints"]["amount_month_to_date"] for row in found) == -21
    assert all("share_percent" not in row["datapoints"] for row in found)


def polled_with(cache: Path, folder: str, amounts: list[str], **more: str) -> dict[str, Any]:
    """Return the datapoints by alias if the recorded costs of this month are `amounts`.

    The first project has the first amount, the second project all others, one a day.
    """
    record = replay.Record.of(folder)
    (recorded,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    buckets = [bucket for bucket in recorded.answer["data"] if bucket["start_time"] >= MONTH]
    rows = [row for bucket in buckets for row in bucket["results"][:1]]
    for bucket in recorded.answer["data"]:
        bucket["results"] = []
    for number, amount in enumerate(amounts):
        row = {**rows[0], "project_id": f"proj_{min(number, 1)}", **more}
        row["amount"] = {"value": amount, "currency": "usd"}
        buckets[max(0, number - 1)]["results"].append(row)
    with replay.answering(record) as url:
        outcome = replay.collected(folder, record, url, cache)
    assert outcome.status == 0, outcome.stderr
    found = json.loads(outcome.stdout, parse_float=Decimal, parse_int=Decimal)
    return {row["alias"]: row["datapoints"] for row in found["instances"]}


MONTH = at("2026-11-01")


@pytest.mark.parametrize(
    ("credit", "shared"),
    [
        ("-9999.9999999999999999", False),
        ("-9999.999999999999", False),
        ("-9999.991", False),
        ("-9999.99", True),
    ],
)
def test_there_is_no_share_of_a_total_below_one_cent(
    credit: str, shared: bool, tmp_path: Path
) -> None:
    found = polled_with(tmp_path, "cost_by_project", ["10000", credit])

    month = {alias: row["amount_month_to_date"] for alias, row in found.items()}
    assert month == {"proj_0": 10000, "proj_1": Decimal(credit)}
    shares = {alias: row.get("share_percent") for alias, row in found.items()}
    expected = {"proj_0": 100_000_000, "proj_1": Decimal("-99999900")}
    assert shares == (expected if shared else {"proj_0": None, "proj_1": None})


def test_a_sum_keeps_every_digit_of_its_amounts(tmp_path: Path) -> None:
    large, small = "9999999999999999999", "0." + "0" * 58 + "1"

    found = polled_with(tmp_path, "cost_by_project", ["1", large, small])

    assert str(found["proj_1"]["amount_month_to_date"]) == large + small[1:]


def test_a_thread_that_starts_later_keeps_every_digit_too() -> None:
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: Decimal(10) ** 40 + 1).result()

    assert found == 10**40 + 1


def test_a_balance_does_not_last_for_days_at_a_mean_below_one_cent(tmp_path: Path) -> None:
    properties = {"openai.balance.amount": "100", "openai.balance.date": "2026-11-18"}
    for amount, days in (("0.009", None), ("0.01", 10_000)):
        record = replay.Record.of("cost_by_organization")
        (recorded,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
        dates = calendar(record.at)
        for bucket in recorded.answer["data"]:
            rows = bucket["results"][:1]
            bucket["results"] = rows if bucket["start_time"] == dates.today - DAY else []
            for row in bucket["results"]:
                row["amount"]["value"] = amount
        record = record._replace(properties={**record.properties, **properties})
        with replay.answering(record) as url:
            outcome = replay.collected("cost_by_organization", record, url, tmp_path)
        (row,) = json.loads(outcome.stdout)["instances"]
        assert row["datapoints"].get("balance_days") == days


def test_a_balance_covers_each_day_since_a_reading_long_ago(
    demo: Simulator, tmp_path: Path
) -> None:
    first = WEDNESDAY // DAY * DAY - 100 * DAY
    balance = {
        "openai.balance.amount": "1000000",
        "openai.balance.date": datetime.fromtimestamp(first, timezone.utc).strftime("%Y-%m-%d"),
    }
    found = document("cost_by_organization", demo, tmp_path, "json", balance)
    recorded = requests.get(
        f"{demo.url}/organization/costs",
        {"start_time": first, "limit": 180},
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        timeout=20,
    ).json(parse_float=Decimal)

    amounts = [row["amount"]["value"] for day in recorded["data"] for row in day["results"]]
    assert len(recorded["data"]) == 101
    assert found["instances"][0]["datapoints"]["balance"] == pytest.approx(
        float(1_000_000 - sum(map(Decimal, amounts)))
    )


def test_a_series_has_one_amount_a_day(demo: Simulator, tmp_path: Path) -> None:
    settings = {"openai.lookback": "3d", "openai.projects.include": "Data*"}
    lines = polled("cost_by_project", demo, tmp_path, "influx", settings).stdout.splitlines()

    midnight = WEDNESDAY // DAY * DAY
    days = [int(line.rsplit(" ", 1)[1]) // 10**9 for line in lines if " amount=" in line]
    assert days == [midnight - 3 * DAY, midnight - 2 * DAY, midnight - DAY, midnight]


def test_a_long_lookback_starts_before_the_days_of_the_figures(
    fresh: Simulator, tmp_path: Path
) -> None:
    fresh.now = at("2026-03-01T12:00:00")
    settings = {"openai.lookback": "31d", "openai.projects.include": "Data*"}
    lines = polled("cost_by_project", fresh, tmp_path, "influx", settings).stdout.splitlines()

    assert sum(" amount=" in line for line in lines) == 32


def test_expected_rows_grow_with_the_projects_and_the_dimension() -> None:
    class Listed:
        def __init__(self, count: int) -> None:
            self.count = count

        def projects(self) -> list[None]:
            return [None] * self.count

    few: Any = Listed(12)
    many: Any = Listed(2000)
    assert bill.expected_rows(few, ("project_id",)) == bill.FEWEST_ROWS
    assert bill.expected_rows(many, ("project_id",)) == 2000
    assert bill.expected_rows(many, ("project_id", "api_key_id")) == 6000


def test_costs_of_many_projects_are_requested_in_small_pages(tmp_path: Path) -> None:
    with Simulator(at=WEDNESDAY, projects=1200, models=3, lag=0) as large:
        found = document("cost_by_user", large, tmp_path)
        requests = [request for request in large.requests if request.path.endswith("/costs")]

    assert found["instances"]
    assert {request.query["limit"][0] for request in requests} == {"7"}
    assert len(requests) == 7


# Refused requests and missing data


@pytest.mark.parametrize(
    ("folder", "field", "group_by", "subject"),
    [
        ("cost_by_user", "user_id", "", "user"),
        ("cost_by_api_key", "api_key_id", "", "API key"),
        ("cost_by_project", "api_source", "project_id,api_source", "API source"),
        ("cost_by_user", "user_id", "user_id,api_key_id", "user and API key"),
    ],
)
def test_an_organization_without_costs_by_a_dimension_gets_one_error_and_the_alternative(
    folder: str, field: str, group_by: str, subject: str, fresh: Simulator, tmp_path: Path
) -> None:
    fresh.fault("grouping", "*/costs", field=field)
    properties = {"openai.group.by": group_by} if group_by else {}

    outcome = polled(folder, fresh, tmp_path, properties=properties)

    assert (outcome.stdout, outcome.status) == ("", 1)
    assert outcome.stderr == (
        f"costs by {subject}: this organization does not support them for this time range "
        f"(Grouping by '{field}' is not supported for this organization and time range); "
        "use OpenAI_Cost_ByProject for dollars and OpenAI_Usage_ByConsumer for use by key and "
        "user\n"
    )


@pytest.mark.parametrize("folder", ["cost_by_organization", "cost_by_project", "usage_by_consumer"])
def test_refused_costs_by_key_leave_the_other_datasources_whole(
    folder: str, fresh: Simulator, tmp_path: Path
) -> None:
    fresh.fault("grouping", "*/costs", field="api_key_id")
    fresh.fault("grouping", "*/costs", field="user_id")
    found = document(folder, fresh, tmp_path)
    assert found["instances"]
    assert found["partial_failures"] == []


def test_other_failures_of_costs_by_user_keep_their_own_message(
    fresh: Simulator, tmp_path: Path
) -> None:
    outcome = polled("cost_by_user", fresh, tmp_path, key="sk-admin-revoked")

    assert outcome.status == 1
    assert "does not support" not in outcome.stderr
    assert "admin key" in outcome.stderr


BILLED = (
    "cost_by_organization",
    "cost_by_project",
    "cost_by_line_item",
    "cost_by_api_key",
    "cost_by_user",
    "spend_limits_by_project",
    "reconciliation_by_model",
)


def billed_in(folder: str, cache: Path, *currencies: str, zeros: str = "") -> replay.Outcome:
    """Return a poll whose recorded costs take turns in the currencies; `zeros` adds 0.00 a day."""
    record = replay.Record.of(folder)
    buckets = [
        bucket
        for entry in record.answers
        if entry.path.endswith("/costs")
        for bucket in entry.answer["data"]
    ]
    rows = [row for bucket in buckets for row in bucket["results"]]
    for row, currency in zip(rows, itertools.cycle(currencies)):
        row["amount"]["currency"] = currency
    for bucket in buckets if zeros else ():
        free = {**rows[0], "amount": {"value": "0.00", "currency": zeros}, "quantity": None}
        bucket["results"].insert(0, free)
    with replay.answering(record) as url:
        return replay.collected(folder, record, url, cache)


@pytest.mark.parametrize("folder", BILLED)
def test_two_currencies_are_never_added(folder: str, tmp_path: Path) -> None:
    outcome = billed_in(folder, tmp_path, "usd", "eur")

    sentence = "costs: the bill is in several currencies, which cannot be added (EUR and USD)"
    assert sentence in outcome.stderr
    if folder != "spend_limits_by_project":
        assert (outcome.stdout, outcome.status) == ("", 1)
    else:
        found = json.loads(outcome.stdout)["instances"]
        assert all("spent_month" not in row["datapoints"] for row in found)


@pytest.mark.parametrize("folder", BILLED)
def test_a_row_of_0_in_a_second_currency_changes_nothing(folder: str, tmp_path: Path) -> None:
    usual = json.loads(billed_in(folder, tmp_path / "usual", "usd").stdout)
    found = json.loads(billed_in(folder, tmp_path / "zero", "usd", zeros="eur").stdout)

    assert found == usual
    assert usual["notes"] == []


@pytest.mark.parametrize("folder", BILLED)
def test_a_bill_in_one_other_currency_has_equal_amounts_and_says_so(
    folder: str, tmp_path: Path
) -> None:
    usual = json.loads(billed_in(folder, tmp_path / "usd", "usd").stdout)
    found = json.loads(billed_in(folder, tmp_path / "eur", "EUR").stdout)

    (note,) = found["notes"]
    assert note.startswith("the bill is in EUR: read EUR wherever a text")
    marked = [row for row in found["instances"] if row["names"].get("currency") == "EUR"]
    if folder.startswith("cost_by"):
        assert marked == found["instances"]
    for one, other in zip(usual["instances"], found["instances"]):
        of_limits = ("budget", "threshold", "used_percent")
        same = {
            name: value
            for name, value in one["datapoints"].items()
            if not name.startswith(of_limits)
        }
        assert same.items() <= other["datapoints"].items()


def test_a_spend_limit_in_dollars_is_not_compared_with_a_bill_in_euros(tmp_path: Path) -> None:
    found = json.loads(billed_in("spend_limits_by_project", tmp_path, "eur").stdout)["instances"]

    assert any("spent_month" in row["datapoints"] for row in found)
    assert not any({"threshold", "used_percent"} & row["datapoints"].keys() for row in found)


def test_a_project_whose_credits_cancel_its_cost_each_day_is_shown(tmp_path: Path) -> None:
    record = replay.Record.of("cost_by_project")
    (recorded,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    for bucket in recorded.answer["data"]:
        for row in [row for row in bucket["results"] if row["project_id"] == "proj_gamma"]:
            for value, project in (("3", "proj_even"), ("-3", "proj_even"), ("0", "proj_zero")):
                amount = {"value": value, "currency": "usd"}
                bucket["results"].append({**row, "project_id": project, "amount": amount})

    with replay.answering(record) as url:
        outcome = replay.collected("cost_by_project", record, url, tmp_path)
    found = {row["id"]: row["datapoints"] for row in json.loads(outcome.stdout)["instances"]}

    assert found["proj_even"]["amount_last_month"] == 0
    assert "proj_zero" not in found


def test_projects_without_names_are_printed_by_id(fresh: Simulator, tmp_path: Path) -> None:
    outcome = polled("cost_by_project", fresh, tmp_path, key=NO_MANAGEMENT_KEY)
    found = json.loads(outcome.stdout)

    assert outcome.status == 0
    assert sum(row["alias"].startswith("proj_") for row in found["instances"]) == 11
    assert all("budget" not in row["datapoints"] for row in found["instances"])
    assert "spend limits of all projects are left out" in outcome.stderr


# Budgets and spend limits


def test_a_budget_setting_overrides_the_vendors_spend_limit(
    demo: Simulator, tmp_path: Path
) -> None:
    project = demo.organization.projects[1]
    own = exact(
        "cost_by_project", demo, tmp_path, **{f"openai.budget.project.{project.id}": "1000"}
    )
    vendors = exact("cost_by_project", demo, tmp_path)

    assert own[project.name]["budget"] == 1000
    assert vendors[project.name]["budget"] == 3300
    assert own["Ana's sandbox"] == vendors["Ana's sandbox"]
    assert "budget" not in vendors["Customer Support"]


def test_a_project_whose_limit_request_failed_has_no_budget_and_is_reported(
    fresh: Simulator, tmp_path: Path
) -> None:
    fresh.fault("400", f"*/{fresh.organization.projects[1].id}/spend_limit")

    outcome = polled("cost_by_project", fresh, tmp_path)
    found = {row["alias"]: row["datapoints"] for row in json.loads(outcome.stdout)["instances"]}

    assert outcome.status == 0
    assert "spend limits of Data Platform are left out" in outcome.stderr
    assert "budget" not in found["Data Platform"]
    assert found["Ana's sandbox"]["budget"] == 500


def test_spend_limits_are_converted_from_cents_to_dollars(demo: Simulator, tmp_path: Path) -> None:
    limits = exact("spend_limits_by_project", demo, tmp_path)
    projects = exact("cost_by_project", demo, tmp_path)
    whole = exact("cost_by_organization", demo, tmp_path)["acme"]

    assert set(limits) == {"acme", "Ana's sandbox", "Data Platform"}
    assert limits["acme"]["threshold"] == 60000
    assert limits["acme"]["spent_month"] == whole["amount_month_to_date"]
    for name in ("Ana's sandbox", "Data Platform"):
        month = projects[name]["amount_month_to_date"]
        assert limits[name]["spent_month"] == month
        share = 100 * month / limits[name]["threshold"]
        assert abs(limits[name]["used_percent"] - share) < Decimal("0.000001")
        assert (limits[name]["enforcing"], limits[name]["alerts_configured"]) == (0, 1)


def test_an_organization_without_a_limit_is_still_shown(fresh: Simulator, tmp_path: Path) -> None:
    fresh.fault("404", "*/organization/spend_limit")

    found = exact("spend_limits_by_project", fresh, tmp_path)

    assert found["acme"].keys() == {"spent_month", "alerts_configured"}


def test_limits_are_shown_if_the_request_for_costs_fails(fresh: Simulator, tmp_path: Path) -> None:
    fresh.fault("400", "*/costs")

    outcome = polled("spend_limits_by_project", fresh, tmp_path)
    found = {row["alias"]: row["datapoints"] for row in json.loads(outcome.stdout)["instances"]}

    assert "spent_month and used_percent are left out" in outcome.stderr
    assert found["Data Platform"] == {"threshold": 3300, "enforcing": 0, "alerts_configured": 1}


def test_an_incomplete_list_of_limits_discovers_nothing(fresh: Simulator, tmp_path: Path) -> None:
    fresh.fault("400", f"*/{fresh.organization.projects[0].id}/spend_limit")

    outcome = polled("spend_limits_by_project", fresh, tmp_path, "logicmonitor", discover=True)

    assert (outcome.stdout, outcome.status) == ("", 1)
    name = fresh.organization.projects[0].name
    assert f"spend limits of {name} are left out" in outcome.stderr


def test_a_failed_count_of_alerts_names_the_projects(fresh: Simulator, tmp_path: Path) -> None:
    fresh.fault("400", f"*/{fresh.organization.projects[1].id}/spend_alerts")

    outcome = polled("spend_limits_by_project", fresh, tmp_path)

    assert "alerts_configured of Data Platform is left out" in outcome.stderr


def test_limits_are_read_once_for_both_datasources(fresh: Simulator, tmp_path: Path) -> None:
    polled("cost_by_project", fresh, tmp_path)
    polled("spend_limits_by_project", fresh, tmp_path)

    limits = [request.path for request in fresh.requests if request.path.endswith("/spend_limit")]
    assert len(limits) == len(set(limits)) == 12


@pytest.mark.parametrize("folder", ["cost_by_project", "spend_limits_by_project"])
def test_limits_are_requested_only_for_printed_projects(
    folder: str, fresh: Simulator, tmp_path: Path
) -> None:
    polled(folder, fresh, tmp_path, properties={"openai.projects.include": "Data*"})

    limits = [request.path for request in fresh.requests if request.path.endswith("/spend_limit")]
    projects = [path for path in limits if "/projects/" in path]
    assert len(projects) == 1
    assert fresh.organization.projects[1].id in projects[0]


# days that the response lacks


@pytest.mark.parametrize("place", [-3, -1], ids=["three days ago", "today"])
def test_a_budget_is_not_judged_if_the_bill_lacks_a_day(place: int, tmp_path: Path) -> None:
    """$249 of $10 are spent; without the day nobody can tell how much."""
    record = replay.Record.of("cost_by_organization")
    record = record._replace(properties={**record.properties, "openai.budget.monthly": "10"})
    (recorded,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    with replay.answering(record) as url:
        whole = replay.collected("cost_by_organization", record, url, tmp_path / "1", "nagios")
    del recorded.answer["data"][place]

    with replay.answering(record) as url:
        nagios = replay.collected("cost_by_organization", record, url, tmp_path / "2", "nagios")
        text = replay.collected("cost_by_organization", record, url, tmp_path / "3").stdout

    (row,) = json.loads(text)["instances"]
    assert (whole.status, nagios.status) == (2, 3)
    assert row["state"] == "unknown"
    assert "own_budget_used_percent" in [one["datapoint"] for one in row["unjudged"]]
    assert "the costs of 2026-11-" in row["unjudged"][0]["reason"]


def without_days(record: replay.Record, *places: int) -> replay.Record:
    """Return the record without some days of its costs, by their place in the response."""
    for entry in record.answers:
        if entry.path.endswith("/costs"):
            days = entry.answer["data"]
            kept = [day for place, day in enumerate(days) if place not in places]
            entry.answer["data"] = kept
    return record


def test_a_figure_that_cannot_exist_is_not_unknown_if_the_bill_lacks_a_day(tmp_path: Path) -> None:
    """A day of last month is missing; there is no budget, so nothing judged depends on it."""
    record = replay.Record.of("cost_by_organization")
    properties = {name: text for name, text in record.properties.items() if "budget" not in name}
    record = without_days(record._replace(properties=properties), 2)

    with replay.answering(record) as url:
        outcome = replay.collected("cost_by_organization", record, url, tmp_path)

    (row,) = json.loads(outcome.stdout)["instances"]
    assert "amount_last_month" not in row["datapoints"]
    assert "own_budget_used_percent" not in row["datapoints"]
    assert row["unjudged"] == []
    assert "2026-10-03" in outcome.stderr


@pytest.mark.parametrize(("place", "unknown"), [(2, False), (-3, True)])
@pytest.mark.parametrize("folder", ["cost_by_organization", "cost_by_project"])
def test_groups_may_be_missing_only_if_a_judged_day_is(
    folder: str, place: int, unknown: bool, tmp_path: Path
) -> None:
    """A day early in last month hides no instance that a threshold could have judged."""
    record = replay.Record.of(folder)
    (bill,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    record = without_days(record, place % len(bill.answer["data"]))

    with replay.answering(record) as url:
        document = json.loads(replay.collected(folder, record, url, tmp_path).stdout)

    assert len(document["partial_failures"]) == 1
    assert (document["unjudged"] > 0) == unknown


def spending(**days: float) -> dict[int, Decimal]:
    """Return 10 dollars for each day of October and November, and other amounts as given."""
    usual = dict.fromkeys(range(at("2026-10-01"), at("2026-11-19"), DAY), Decimal(10))
    given = {at(day.replace("_", "-")[1:]): Decimal(str(each)) for day, each in days.items()}
    return usual | given


def without(days: dict[int, Decimal], *dates: str) -> dict[int, Decimal]:
    return {day: spent for day, spent in days.items() if day not in map(at, dates)}


def test_a_forecast_needs_each_of_the_28_days() -> None:
    days = spending(d2026_10_24=1000)
    dates = calendar(at("2026-11-18"))

    assert forecast(days, dates)
    assert forecast(without(days, "2026-10-24"), dates) is None


def test_a_mean_needs_a_day_that_may_be_the_first_spend() -> None:
    """$100 yesterday and on 2026-10-29: the mean is 100 / 7, without the earlier day it is 100."""
    days = {day: Decimal(0) for day in spending()}
    days |= {at("2026-10-29"): Decimal(100), at("2026-11-17"): Decimal(100)}
    dates = calendar(at("2026-11-18"))

    mean = daily_mean(days, dates)
    assert mean is not None
    assert round(mean, 4) == Decimal("14.2857")
    assert daily_mean(without(days, "2026-10-29"), dates) is None
    assert daily_mean(without(days, "2026-10-02"), dates) == mean


@pytest.mark.parametrize(
    ("folder", "date", "lost"),
    [
        ("spend_limits_by_project", "2026-11-01", "used_percent"),
        ("cost_by_organization", "2026-11-16", "balance_days"),
    ],
)
def test_the_first_day_that_counts_is_no_start_of_history(
    folder: str, date: str, lost: str, tmp_path: Path
) -> None:
    """The month's first day, and the day of the balance's reading."""
    record = replay.Record.of(folder)
    (bill,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    days = [bucket["start_time"] for bucket in bill.answer["data"]]
    record = without_days(record, days.index(at(date)))

    with replay.answering(record) as url:
        outcome = replay.collected(folder, record, url, tmp_path)

    rows = json.loads(outcome.stdout)["instances"]
    assert any(lost in row.get("missing", {}) for row in rows)
    assert not any(lost in row["datapoints"] for row in rows)


def test_a_balance_read_before_all_other_days_needs_its_first_day(tmp_path: Path) -> None:
    record = replay.Record.of("cost_by_organization")
    dated = {**record.properties, "openai.balance.date": "2026-10-01"}
    (bill,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    eve = at("2026-09-30")
    empty = {"object": "bucket", "start_time": eve, "end_time": eve + DAY, "results": []}
    bill = bill._replace(
        query={**bill.query, "start_time": [str(eve)]},
        answer={**bill.answer, "data": [empty, *bill.answer["data"][1:]]},
    )

    with replay.answering(record._replace(properties=dated, answers=(bill,))) as url:
        outcome = replay.collected(
            "cost_by_organization", record._replace(properties=dated), url, tmp_path
        )

    (row,) = json.loads(outcome.stdout)["instances"]
    assert "the costs of 2026-10-01 could not be read" in row["missing"]["balance_days"]


@pytest.mark.parametrize("folder", ["cost_by_organization", "cost_by_project"])
def test_each_figure_that_a_missing_day_leaves_out_is_named(folder: str, tmp_path: Path) -> None:
    """Each of the 49 days is missing in turn; shares are figures of projects."""
    record = replay.Record.of(folder)
    with replay.answering(record) as url:
        whole = json.loads(replay.collected(folder, record, url, tmp_path / "whole").stdout)
    (bill,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    for place in range(1, len(bill.answer["data"])):
        part = without_days(replay.Record.of(folder), place)
        with replay.answering(part) as url:
            text = replay.collected(folder, part, url, tmp_path / str(place)).stdout
        document = json.loads(text)
        after = {row["id"]: row for row in document["instances"]}
        for row in whole["instances"]:
            if row["id"] not in after:
                assert document["unjudged"] > 0
                continue
            found = after[row["id"]]
            lost = row["datapoints"].keys() - found["datapoints"].keys()
            assert lost <= found.get("missing", {}).keys(), (place, row["id"])
            same = row["datapoints"].items() & found["datapoints"].items()
            assert len(same) == len(found["datapoints"]), (place, row["id"])


def test_days_before_the_start_of_the_history_count_as_0_with_a_note(tmp_path: Path) -> None:
    record = without_days(replay.Record.of("cost_by_organization"), *range(10))
    (bill,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    first = str(bill.answer["data"][0]["start_time"])
    earlier = bill._replace(
        query={**bill.query, "end_time": [first]}, answer={**bill.answer, "data": []}
    )
    record = record._replace(answers=(*record.answers, earlier))

    with replay.answering(record) as url:
        outcome = replay.collected("cost_by_organization", record, url, tmp_path)

    document = json.loads(outcome.stdout)
    (row,) = document["instances"]
    assert row["datapoints"]["amount_last_month"] > 0
    assert "the API lists no costs before 2026-10-11; they count as 0" in document["notes"]
    assert document["partial_failures"] == []


@pytest.mark.parametrize("folder", ["cost_by_organization", "cost_by_project"])
def test_only_a_budget_that_the_site_wrote_has_thresholds(
    folder: str, demo: Simulator, tmp_path: Path
) -> None:
    """The vendor's limit alarms in OpenAI_SpendLimits_ByProject alone."""
    platform = next(one for one in demo.organization.projects if one.name == "Data Platform")
    budget = f"project.{platform.id}" if folder == "cost_by_project" else "monthly"
    properties = {f"openai.budget.{budget}": "1"}

    vendors = {row["alias"]: row for row in document(folder, demo, tmp_path / "1")["instances"]}
    own = document(folder, demo, tmp_path / "2", properties=properties)["instances"]

    over = next(row for row in own if row["datapoints"].get("budget") == 1)
    judged = vendors[over["alias"]]
    assert judged["datapoints"]["budget_used_percent"] > 0
    assert "own_budget_used_percent" not in judged["datapoints"]
    assert over["datapoints"]["own_budget_used_percent"] > 100
    assert over["state"] == "critical"


def test_todays_costs_may_be_missing_in_the_first_hour_of_a_day(tmp_path: Path) -> None:
    record = replay.Record.of("cost_by_organization")
    (recorded,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    del recorded.answer["data"][-1]
    early = record._replace(at=record.at // 86400 * 86400 + 1800)

    with replay.answering(early) as url:
        outcome = replay.collected("cost_by_organization", early, url, tmp_path)

    assert (outcome.status, outcome.stderr) == (0, "")
