"""Costs of the demo organization: exact in every grouping, and consistent with its usage."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from decimal import Decimal
from itertools import chain, combinations
from typing import Any

import jsonschema

from lm_openai.simulator import costs, usage
from lm_openai.simulator import organization as demo
from lm_openai.simulator.organization import DEFAULT_SETTINGS, EPOCH, Settings
from lm_openai.simulator.usage import BucketQuery

ORGANIZATION = demo.organization()
DAY = 86400
NOW = EPOCH + 40017
MIDNIGHT = EPOCH + DAY
LINE_ITEM = re.compile(
    r"(priority \| )?[a-z0-9.:-]+( audio| image)?, (input|output|cached input|cache writes)"
    r"(, long context)?|[a-z ]+ (tool calls|sessions)|Vector storage|Credit grant"
)


def fetch(
    start: int,
    *more: Any,
    end: int = MIDNIGHT,
    now: int = NOW,
    settings: Settings = DEFAULT_SETTINGS,
) -> list[Any]:
    query = BucketQuery(start, end, "1d", *more)
    return list(costs.buckets(ORGANIZATION, query, now, settings))


def rows(found: list[Any]) -> list[Any]:
    return list(chain.from_iterable(bucket["results"] for bucket in found))


def total(found: list[Any]) -> Decimal:
    return sum((Decimal(row["amount"]["value"]) for row in rows(found)), Decimal(0))


def test_every_grouping_adds_up_to_the_same_exact_amount():
    start = EPOCH - 12 * DAY
    plain = fetch(start)
    for size in range(1, len(costs.DIMENSIONS) + 1):
        for dimensions in combinations(costs.DIMENSIONS, size):
            grouped = fetch(start, dimensions)
            for whole, parts in zip(plain, grouped):
                assert total([whole]) == total([parts])
                keys = [tuple(row[name] for name in dimensions) for row in parts["results"]]
                assert len(keys) == len(set(keys))


def test_amounts_are_strings_with_many_digits_in_dollars():
    for row in rows(fetch(EPOCH - 3 * DAY, ("line_item",))):
        assert isinstance(row["amount"]["value"], str)
        assert re.fullmatch(r"-?\d+\.\d{16}", row["amount"]["value"])
        assert row["amount"]["currency"] == "usd"


def test_line_items_follow_the_grammar_and_have_a_quantity_only_when_grouped():
    found = rows(fetch(EPOCH - 14 * DAY, ("line_item",)))
    items = {row["line_item"] for row in found}
    for item in items:
        assert LINE_ITEM.fullmatch(item), item
    assert {
        "gpt-4o-2024-08-06, input",
        "gpt-4o-2024-08-06, cached input",
        "priority | gpt-4o-2024-08-06, output",
        "gpt-4.1-2025-04-14, output, long context",
        "gpt-realtime-2025-08-28 audio, output",
        "web search tool calls",
        "Vector storage",
        costs.CREDIT,
    } < items
    assert all((row["quantity"] is None) == (row["line_item"] == costs.CREDIT) for row in found)
    assert all(row["quantity"] is None for row in rows(fetch(EPOCH - DAY, ("project_id",))))


def test_quantities_equal_the_usage_of_complete_days():
    found = rows(fetch(EPOCH - 2 * DAY, ("line_item",), end=EPOCH, now=EPOCH + 2 * DAY))
    billed: Counter[str] = Counter()
    for row in found:
        billed[row["line_item"]] += row["quantity"] or 0
    query = BucketQuery(EPOCH - 2 * DAY, EPOCH, "1d", ("model",))
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for bucket in usage.buckets(ORGANIZATION, "completions", query, EPOCH + 2 * DAY):
        for row in bucket["results"]:
            for name in ("input_text_tokens", "input_cached_text_tokens", "output_text_tokens"):
                counted[row["model"]][name] += row[name]
    for model in ("gpt-4o-mini-2024-07-18", "gpt-5-nano-2025-08-07", "gpt-4.1-mini-2025-04-14"):
        assert billed[f"{model}, input"] == counted[model]["input_text_tokens"] > 0
        assert billed[f"{model}, cached input"] == counted[model]["input_cached_text_tokens"] > 0
        assert billed[f"{model}, output"] == counted[model]["output_text_tokens"] > 0


def test_an_amount_equals_quantity_times_price():
    wanted = {"line_items": ("gpt-5-nano-2025-08-07, output",)}
    (row,) = rows(fetch(EPOCH - DAY, ("line_item",), wanted, end=EPOCH))
    assert Decimal(row["amount"]["value"]) == Decimal("0.40") * row["quantity"] / 1_000_000


def test_the_archived_project_has_costs_until_it_was_archived():
    project = next(each for each in ORGANIZATION.projects if each.case == "archived")
    found = fetch(EPOCH - 40 * DAY, ("project_id",), {"project_ids": (project.id,)})
    billed = [bucket["start_time"] for bucket in found if bucket["results"]]
    assert len(found) == 41
    assert project.archived_at is not None
    assert project.archived_at - 2 * DAY < billed[-1] < project.archived_at


def test_a_credit_belongs_to_no_project_and_is_negative():
    found = rows(fetch(EPOCH - 30 * DAY, ("project_id", "line_item", "api_key_id")))
    credits = [row for row in found if row["line_item"] == costs.CREDIT]
    assert credits
    for row in credits:
        assert row["project_id"] is None
        assert Decimal(row["amount"]["value"]) < 0
        assert row["quantity"] is None
    assert all(row["project_id"] for row in found if row["line_item"] != costs.CREDIT)


def test_the_running_day_grows_and_a_day_is_final_a_day_later():
    start = EPOCH
    totals = [
        total(fetch(start, ("project_id",), end=start + DAY, now=start + moment))
        for moment in range(3600, 50 * 3600, 3 * 3600)
    ]
    assert totals == sorted(totals)
    assert 0 < totals[2] < totals[7]
    final = total(fetch(start, end=start + DAY, now=start + 9 * DAY))
    assert totals[7] != final
    assert total(fetch(start, end=start + DAY, now=start + 2 * DAY)) == final


def test_a_delay_of_costs_can_be_set():
    late = Settings(delays={"costs": 6 * 3600})
    assert total(fetch(EPOCH)) > total(fetch(EPOCH, settings=late)) > 0


def test_a_filter_returns_exactly_the_rows_it_names():
    for name, dimension in (
        ("project_ids", "project_id"),
        ("api_key_ids", "api_key_id"),
        ("line_items", "line_item"),
    ):
        query = (EPOCH - DAY, (dimension,))
        for row in rows(fetch(*query, end=EPOCH)):
            if row[dimension] is not None:
                assert rows(fetch(*query, {name: (row[dimension],)}, end=EPOCH)) == [row]
        assert rows(fetch(*query, {name: ("no such value",)}, end=EPOCH)) == []


def test_buckets_are_utc_days_clipped_to_the_start_and_to_now():
    found = fetch(EPOCH - 3 * DAY + 3600)
    assert [bucket["start_time"] for bucket in found] == [
        EPOCH - 3 * DAY + 3600,
        *(EPOCH - day * DAY for day in (2, 1, 0)),
    ]
    assert found[-1]["end_time"] == NOW


def test_one_project_exceeds_its_spend_limit_and_the_organization_does_not():
    month = {row["project_id"]: Decimal(0) for row in rows(fetch(EPOCH, ("project_id",)))}
    for row in rows(fetch(EPOCH - 31 * DAY, ("project_id",), end=EPOCH)):
        month[row["project_id"]] = month.get(row["project_id"], Decimal(0)) + Decimal(
            row["amount"]["value"]
        )
    limits = {
        owner: Decimal(str(found["threshold_amount"])) / 100
        for owner, found in demo.spend_limits(ORGANIZATION).items()
    }
    over = {owner for owner in limits if owner is not None and month[owner] > limits[owner]}
    assert sum(month.values()) < limits[None]
    assert len(limits) == 3
    assert [each.case for each in ORGANIZATION.projects if each.id in over] == ["hot"]


def test_results_match_the_published_contract_except_that_amounts_are_strings(oracle):
    document = oracle("openai-admin.openapi.json")
    result = document["components"]["schemas"]["CostsResult"]
    result["properties"]["amount"]["properties"]["value"] = {"type": "string"}
    schema = {**document, "$ref": "#/components/schemas/CostsResult"}
    validator = jsonschema.Draft202012Validator(schema)
    for row in rows(fetch(EPOCH - 2 * DAY, costs.DIMENSIONS)):
        validator.validate(row)
