"""Reconciliation of bill and usage: exact for the demo organization, without guesses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.metrics.reconciliation import (
    Bill,
    Pair,
    common_names,
    joined,
    quantities,
    window,
)
from lm_openai.metrics.usage import MODEL_KINDS
from lm_openai.simulator import Simulator
from lm_openai.timespans import DAY
from tests.support import replay
from tests.support.demo_polls import WEDNESDAY, document, polled, values

FOLDER = "reconciliation_by_model"
FINE_TUNED = "ft:gpt-4o-mini-2024-07-18:acme::a1b2c3"


def bill(quantities: dict[tuple[str, str], int], unread: dict[str, int] | None = None) -> Bill:
    """Return a bill with one dollar per (model, kind)."""
    return Bill(
        {key: Decimal(quantity) for key, quantity in quantities.items()},
        dict.fromkeys(quantities, Decimal(1)),
        {text: Decimal(amount) for text, amount in (unread or {}).items()},
    )


@pytest.mark.parametrize("cached", [400, "400", 400.0])
def test_cached_tokens_are_subtracted_from_the_input_in_any_number_format(cached: object) -> None:
    row = {"input_tokens": 1000, "output_tokens": 5, "input_cached_tokens": cached}

    assert dict(quantities(USAGE_KINDS["completions"], row)) == {
        "input": 600,
        "cached_input": 400,
        "cache_writes": 0,
        "output": 5,
    }


# Names


def test_a_snapshot_on_both_sides_is_compared_with_itself() -> None:
    names = {"gpt-4o-2024-08-06", "gpt-4o-2024-11-20"}

    assert common_names(names, names) == {name: name for name in names}


def test_an_alias_is_compared_with_the_only_snapshot_that_was_billed() -> None:
    found = common_names({"gpt-5-2025-08-07"}, {"gpt-5", "gpt-5-2025-08-07"})

    assert found["gpt-5"] == "gpt-5-2025-08-07"


FAMILY = {"gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20"}
MINI = "gpt-4o-mini-2024-07-18"


@pytest.mark.parametrize(
    ("billed", "counted"),
    [
        ({"gpt-4o"}, {"gpt-4o-2024-08-06"}),
        ({"gpt-4o"}, FAMILY - {"gpt-4o"}),
        ({"gpt-4o"}, FAMILY),
        ({"gpt-4o", "gpt-4o-2024-08-06"}, {"gpt-4o-2024-08-06"}),
        (FAMILY - {"gpt-4o"}, {"gpt-4o", "gpt-4o-2024-08-06"}),
    ],
)
def test_a_family_that_the_sides_name_differently_stands_under_its_alias(
    billed: set[str], counted: set[str]
) -> None:
    found = common_names(billed | {MINI}, counted | {MINI})

    assert found == {**dict.fromkeys(billed | counted, "gpt-4o"), MINI: MINI}


def test_a_family_with_equal_names_on_both_sides_is_compared_one_by_one() -> None:
    assert common_names(FAMILY, FAMILY) == {name: name for name in FAMILY}


def test_a_billed_alias_is_compared_with_the_sum_of_its_snapshots() -> None:
    found = joined(
        bill({("gpt-4o", "input"): 1010}),
        {("gpt-4o-2024-08-06", "input"): 400, ("gpt-4o-2024-11-20", "input"): 600},
    )

    assert found.pairs == {("gpt-4o", "input"): Pair(Decimal(1010), 1000)}
    assert found.pairs["gpt-4o", "input"].difference_percent == 1
    assert (found.unmatched_items, found.unbilled) == (0, 0)


@pytest.mark.parametrize(
    ("billed", "counted"),
    [
        ({"o1-pro"}, {"o1"}),
        ({"gpt-4o-2024-08-06"}, {"gpt-4o-2024-05-13"}),
        ({"gpt-4o-mini-2024-07-18"}, {FINE_TUNED}),
        ({"gpt-4o-mini"}, {"gpt-4o"}),
    ],
)
def test_unrelated_models_are_never_joined(billed: set[str], counted: set[str]) -> None:
    assert common_names(billed, counted) == {name: name for name in billed | counted}


@given(st.sets(st.sampled_from(["a", "a-2026-01-01", "a-2026-02-02", "b", "b-2026-01-01", "a-b"])))
def test_no_quantity_is_lost_by_joining(billed: set[str]) -> None:
    counted = {"a": 5, "a-2026-01-01": 7, "b": 11}
    found = joined(
        bill({(model, "input"): 3 for model in billed}),
        {(model, "input"): count for model, count in counted.items()},
    )

    assert sum(pair.billed or 0 for pair in found.pairs.values()) == 3 * len(billed)
    assert sum(pair.used or 0 for pair in found.pairs.values()) == 23


# Differences


def test_the_difference_is_the_percent_billed_above_the_count() -> None:
    assert Pair(Decimal(105), 100).difference_percent == 5
    assert Pair(Decimal(90), 100).difference_percent == -10
    assert Pair(None, 100).difference_percent is None
    assert Pair(Decimal(90), None).difference_percent is None


def test_charges_without_a_count_are_unmatched_and_credits_are_ignored() -> None:
    found = joined(
        bill({("o3", "input"): 10, ("o3", "output"): 10}, {"Vector storage": 2, "Credit": -50}),
        {("o3", "input"): 10, ("free", "input"): 4},
    )

    assert (str(found.charged), str(found.unmatched)) == ("4", "3")
    assert (found.unmatched_items, found.unbilled) == (2, 1)
    assert found.pairs[("free", "input")] == Pair(None, 4)


def test_the_compared_days_are_complete_and_at_least_a_day_old() -> None:
    start, end = window(WEDNESDAY)

    assert end - start == 7 * DAY
    assert WEDNESDAY - end > DAY
    assert end % DAY == 0


# The demo organization


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY) as simulator:
        yield simulator


def test_the_bill_equals_the_usage_although_both_arrive_late(
    demo: Simulator, tmp_path: Path
) -> None:
    found = values(document(FOLDER, demo, tmp_path))
    whole = found.pop("acme")

    assert len(found) > 50
    for alias, numbers in found.items():
        assert numbers["billed_quantity"] == numbers["used_quantity"] > 0, alias
        assert numbers.get("difference_percent", 0) == 0
    assert (whole["unbilled_kinds"], whole["unmatched_items"]) == (0, 4)


def test_the_unmatched_amount_is_the_cost_of_tools_and_storage(
    demo: Simulator, tmp_path: Path
) -> None:
    whole = values(document(FOLDER, demo, tmp_path))["acme"]
    start, end = window(WEDNESDAY)
    amounts = [
        (row["line_item"], Decimal(row["amount"]["value"]))
        for row in _billed(demo, start, end)
        if Decimal(row["amount"]["value"]) > 0
    ]
    tools = sum((amount for item, amount in amounts if "," not in item), Decimal(0))

    assert Decimal(repr(whole["unmatched_amount"])) == tools
    share = 100 * tools / sum((amount for _, amount in amounts), Decimal(0))
    assert abs(Decimal(repr(whole["unmatched_cost_percent"])) - share) < Decimal("0.000001")


def test_a_poll_requests_costs_once_and_each_kind_once(demo: Simulator, tmp_path: Path) -> None:
    document(FOLDER, demo, tmp_path)

    assert len(demo.requests) == 1 + len(MODEL_KINDS)


def test_without_decisions_in_the_api_the_other_kinds_are_compared(
    demo: Simulator, tmp_path: Path
) -> None:
    """Decisions are billed under the line items of completions, whose bill is then higher."""
    demo.fault("404", "*/usage/decisions")

    found = document(FOLDER, demo, tmp_path)

    assert "no usage/decisions yet" in found["notes"][0]
    assert values(found)["gpt-5-2025-08-07 / input"]["difference_percent"] > 0


def test_a_poll_with_a_failed_kind_fails(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("400", "*/usage/embeddings")

    outcome = polled(FOLDER, demo, tmp_path)

    assert (outcome.stdout, outcome.status) == ("", 1)
    assert "usage/embeddings" in outcome.stderr


def test_a_model_filter_does_not_change_the_unmatched_share(
    demo: Simulator, tmp_path: Path
) -> None:
    everything = values(document(FOLDER, demo, tmp_path))
    chosen = values(document(FOLDER, demo, tmp_path, properties={"openai.models.include": "o3-*"}))

    assert set(chosen) == {alias for alias in everything if alias.startswith(("o3-", "acme"))}
    assert chosen["acme"] == everything["acme"]


def test_a_bill_with_a_missing_day_is_not_compared(tmp_path: Path) -> None:
    record = replay.Record.of(FOLDER)
    (recorded,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    del recorded.answer["data"][3]

    with replay.answering(record) as url:
        outcome = replay.collected(FOLDER, record, url, tmp_path)

    assert (outcome.status, outcome.stdout) == (1, "")
    assert "1 of 7 days are missing" in outcome.stderr


def test_a_line_item_with_unknown_text_is_unmatched_and_not_a_difference(tmp_path: Path) -> None:
    record = replay.Record.of(FOLDER)
    (recorded,) = [entry for entry in record.answers if entry.path.endswith("/costs")]
    for row in (row for bucket in recorded.answer["data"] for row in bucket["results"]):
        row["line_item"] = row["line_item"].replace(", cached input", ", read from cache")

    with replay.answering(record) as url:
        outcome = replay.collected(FOLDER, record, url, tmp_path)
    found: dict[str, Any] = values(json.loads(outcome.stdout))

    assert found["gpt-5-2025-08-07 / cached input"] == {"used_quantity": 20000}
    assert (found["acme"]["unmatched_amount"], found["acme"]["unbilled_kinds"]) == (10, 2)


def _billed(demo: Simulator, start: int, end: int) -> list[dict[str, Any]]:
    from urllib.parse import urlencode
    from urllib.request import Request, urlopen

    from lm_openai.simulator import ADMIN_KEY

    query = urlencode(
        {"start_time": start, "end_time": end, "group_by[]": "line_item", "limit": 180}
    )
    request = Request(
        f"{demo.url}/organization/costs?{query}", headers={"Authorization": f"Bearer {ADMIN_KEY}"}
    )
    with urlopen(request) as response:
        return [row for bucket in json.load(response)["data"] for row in bucket["results"]]
