"""Records and endpoints: fields match the contract; numbers are exact or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from lm_openai.api import records
from lm_openai.api.endpoints import LISTS, USAGE_KINDS
from lm_openai.api.records import (
    Bucket,
    Cost,
    Project,
    RateLimit,
    SpendLimit,
)
from lm_openai.errors import ApiFailure
from tests.support.paths import MODULES

ROW = {"input_tokens": 5, "num_model_requests": 1}


def bucket(**changes: Any) -> dict[str, Any]:
    return {"object": "bucket", "start_time": 60, "end_time": 120, "results": [], **changes}


def limit_row(**changes: Any) -> dict[str, Any]:
    return {
        "id": "rl-gpt-4o",
        "model": "gpt-4o",
        "max_requests_per_1_minute": 10,
        "max_tokens_per_1_minute": 20,
        **changes,
    }


def cost_bucket(**row: Any) -> dict[str, Any]:
    return bucket(start_time=86400, end_time=172800, results=[row])


def test_usage_kinds_have_the_required_quantities_of_the_published_contract(
    oracle: Callable[[str], Any],
) -> None:
    """A kind that is newer than the contract, such as decisions, is not in it."""
    specification = oracle("openai-admin.openapi.json")
    schemas = specification["components"]["schemas"].values()
    required = {
        schema["properties"]["object"]["enum"][0]: set(schema["required"]) - {"object"}
        for schema in schemas
        if "num_" in str(schema.get("required")) or "usage_bytes" in str(schema.get("required"))
    }
    published = {
        path.partition("/usage/")[2] for path in specification["paths"] if "/usage/" in path
    }

    assert published <= USAGE_KINDS.keys()
    for name in published:
        kind = USAGE_KINDS[name]
        assert set(kind.required) == required[kind.object], name


def test_results_of_searches_are_named_differently_from_the_path() -> None:
    assert USAGE_KINDS["file_search_calls"].object == "organization.usage.file_searches.result"
    assert USAGE_KINDS["web_search_calls"].object == "organization.usage.web_searches.result"
    assert USAGE_KINDS["images"].object == "organization.usage.images.result"


def test_only_completions_and_decisions_support_batch() -> None:
    assert [kind.name for kind in USAGE_KINDS.values() if kind.knows_batch] == [
        "completions",
        "decisions",
    ]


def test_quantities_of_completions_match_the_datapoints_of_its_definition() -> None:
    definition = json.loads((MODULES / "completion_by_model/completion_by_model.json").read_text())
    folded = [entry["name"] for entry in definition["datapoints"] if "derived" not in entry]
    assert sorted(USAGE_KINDS["completions"].quantities) == sorted(folded)


def test_every_list_has_known_paging_and_a_limit_from_100_to_1000() -> None:
    assert {listing.paging for listing in LISTS.values()} == {"last_id", "last_item", "next"}
    assert all(100 <= listing.limit <= 1000 for listing in LISTS.values())


def read(raw: Any, kind: str, fold: records.Fold | None = None) -> Bucket:
    endpoint = f"usage/{kind}"
    return records.bucket(records.usage(USAGE_KINDS[kind], endpoint, fold, raw), endpoint)


def test_a_bucket_keeps_its_rows_unchanged() -> None:
    row = {**ROW, "model": None, "new_field": {"kept": True}}
    assert read(bucket(results=[row]), "embeddings") == Bucket(60, 120, [row])


def test_what_a_fold_returns_takes_the_place_of_the_checked_rows() -> None:
    rows: list[dict[str, Any]] = [{**ROW, "input_tokens": "7"}, {"new_field": 1, **ROW}]
    found = read(bucket(results=rows), "embeddings", lambda rows, names: (len(rows), names))
    assert found.results == (2, ["input_tokens", "num_model_requests"])
    assert rows[0]["input_tokens"] == 7


def test_rows_with_other_fields_than_the_row_before_are_checked() -> None:
    rows = [ROW, {**ROW, "model": 5}, {**ROW, "input_tokens": None}]
    for wrong in rows[1:]:
        with pytest.raises(ApiFailure):
            read(bucket(results=[rows[0], wrong, rows[0]]), "embeddings")
    with pytest.raises(ApiFailure, match="num_model_requests is missing"):
        read(bucket(results=[ROW, {"input_tokens": 1}]), "embeddings")


@pytest.mark.parametrize("sent", [3.0, "3", Decimal(3)])
def test_a_whole_number_sent_in_another_form_becomes_an_int(sent: object) -> None:
    raw = bucket(results=[{**ROW, "num_model_requests": sent}])
    row = read(raw, "embeddings").results[0]
    assert row["num_model_requests"] == 3
    assert type(row["num_model_requests"]) is int


@pytest.mark.parametrize("wrong", [None, True, "many", 1.5, [], "NaN"])
def test_a_required_quantity_that_is_not_a_whole_number_is_refused_by_name(wrong: object) -> None:
    raw = bucket(results=[{**ROW, "input_tokens": wrong}])
    with pytest.raises(ApiFailure, match=r"usage/embeddings: .*input_tokens is not a") as caught:
        read(raw, "embeddings")
    assert caught.value.kind == "contract"


@pytest.mark.parametrize("sent", [12345678901234567890123456, -(10**19), "1e25", 1e25])
def test_a_count_with_more_digits_than_any_count_is_refused_by_name(sent: object) -> None:
    raw = bucket(results=[{**ROW, "input_tokens": sent}])
    with pytest.raises(ApiFailure, match="input_tokens is not a number"):
        read(raw, "embeddings")


@pytest.mark.parametrize("value", [5, 1.5, True, {"a": 1}, []])
@pytest.mark.parametrize("dimension", ["project_id", "user_id", "model"])
def test_a_dimension_that_is_not_text_is_refused_by_name(dimension: str, value: object) -> None:
    raw = bucket(results=[{**ROW, dimension: value}])
    with pytest.raises(ApiFailure, match=f"{dimension} is not a string"):
        read(raw, "embeddings")


@pytest.mark.parametrize("dimension", ["project_id", "line_item", "api_key_id", "user_id"])
def test_a_dimension_of_a_cost_that_is_not_text_is_refused_by_name(dimension: str) -> None:
    raw = cost_bucket(amount={"value": "1", "currency": "usd"}, **{dimension: 5})
    with pytest.raises(ApiFailure, match=f"{dimension} is not a string"):
        records.costs(raw, "costs")


@pytest.mark.parametrize("time", [-1, 10**17, 253_402_300_800])
def test_a_time_that_no_date_has_is_refused_by_name(time: int) -> None:
    raw = {**bucket(), "start_time": time}
    with pytest.raises(ApiFailure, match="start_time is not a time"):
        read(raw, "completions")


def test_a_missing_quantity_is_not_zero() -> None:
    with pytest.raises(ApiFailure, match="num_model_requests is missing"):
        read(bucket(results=[{"input_tokens": 1}]), "embeddings")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ({"start_time": 1, "end_time": 2}, "results is missing"),
        (bucket(results={}), "results is not a list"),
        (bucket(results=["row"]), "a record is not an object"),
        (bucket(start_time=None), "start_time is not a number"),
        ("bucket", "a record is not an object"),
    ],
)
def test_a_malformed_bucket_is_refused(raw: Any, reason: str) -> None:
    with pytest.raises(ApiFailure, match=reason):
        read(raw, "embeddings")


@pytest.mark.parametrize(
    ("value", "amount"),
    [
        ("0.8958740000000000", "0.8958740000000000"),
        (Decimal("0.06"), "0.06"),
        (12, "12"),
        ("-3.5", "-3.5"),
        ("1e-7", "1E-7"),
    ],
)
def test_an_amount_is_exact_from_a_string_or_a_number(value: object, amount: str) -> None:
    day, costs = records.costs(cost_bucket(amount={"value": value, "currency": "USD"}), "costs")
    assert (day, costs) == (86400, [Cost(Decimal(amount), "usd")])
    assert str(costs[0].amount) == amount


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e309", "-1e-400", "", None, True, "12,5"])
def test_an_amount_that_is_not_a_reasonable_number_is_refused(value: object) -> None:
    with pytest.raises(ApiFailure, match=r"amount\.value is not a number"):
        records.costs(cost_bucket(amount={"value": value, "currency": "usd"}), "costs")


@pytest.mark.parametrize("field", ["id", "model", "type", "status", "interval", "currency"])
@pytest.mark.parametrize("value", [None, 7, {}])
def test_a_required_text_that_is_not_a_string_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ApiFailure, match=f"rate_limits: .*{field} is not a string"):
        records.require({field: value}, (field,), "rate_limits")


def test_a_cost_without_an_amount_is_left_out() -> None:
    assert records.costs(cost_bucket(line_item="free"), "costs") == (86400, [])
    assert records.costs(cost_bucket(amount=None), "costs") == (86400, [])


def test_an_amount_without_a_currency_is_refused() -> None:
    with pytest.raises(ApiFailure, match="currency is missing"):
        records.costs(cost_bucket(amount={"value": "1"}), "costs")


def test_a_cost_has_its_dimensions_and_quantity() -> None:
    row = {
        "amount": {"value": "1.5", "currency": "usd"},
        "project_id": "proj_a",
        "line_item": "gpt-4o, input",
        "quantity": "10000",
        "quantity_unit": "tokens",
        "organization_id": "ignored",
    }
    _, (cost,) = records.costs(cost_bucket(**row), "costs")
    assert cost == Cost(
        Decimal("1.5"),
        "usd",
        project_id="proj_a",
        line_item="gpt-4o, input",
        quantity=Decimal(10000),
        quantity_unit="tokens",
    )


def test_a_clipped_first_day_starts_at_its_utc_midnight() -> None:
    raw = bucket(start_time=86400 * 3 + 12345, end_time=86400 * 4)
    assert records.costs(raw, "costs") == (86400 * 3, [])


def test_a_project_is_archived_by_date_or_by_status() -> None:
    row = {"id": "proj_a", "name": "A", "archived_at": None, "status": "active"}
    assert records.project(row) == Project("proj_a", "A", False)
    assert records.project({**row, "archived_at": 2}).archived
    assert records.project({**row, "status": "archived"}).archived


def test_a_project_without_a_name_is_named_by_its_id() -> None:
    assert records.project({"id": "proj_a", "name": None}).name == "proj_a"


def test_a_missing_limit_is_none_and_zero_stays_zero() -> None:
    limit = records.rate_limit(limit_row(max_images_per_1_minute=7))
    assert limit == RateLimit("rl-gpt-4o", "gpt-4o", 10, 20, max_images_per_1_minute=7)
    assert limit.max_requests_per_1_day is None
    assert records.rate_limit(limit_row(max_tokens_per_1_minute=0)).max_tokens_per_1_minute == 0


def test_a_limit_that_is_not_a_number_is_refused_with_the_name_of_its_row() -> None:
    reason = "max_tokens_per_1_minute is not a number in the row rl-gpt-4o"
    with pytest.raises(ApiFailure, match=reason):
        records.listed(
            limit_row(max_tokens_per_1_minute="unlimited"), LISTS["rate_limits"], "rate_limits"
        )


def test_a_limit_row_needs_only_its_model() -> None:
    row = records.listed({"model": "o1"}, LISTS["rate_limits"], "rate_limits")
    assert records.rate_limit(row) == RateLimit("o1", "o1", None, None)


@pytest.mark.parametrize(
    ("name", "row", "read"),
    [
        ("admin_api_keys", {"id": "key_1"}, {"id": "key_1"}),
        (
            "api_keys",
            {"id": "key_1", "created_at": "7", "last_used_at": "0.0", "expires_at": None},
            {"id": "key_1", "created_at": 7, "last_used_at": 0, "expires_at": None},
        ),
        ("projects", {"id": "proj_a"}, {"id": "proj_a"}),
        ("users", {"is_service_account": "False"}, {"is_service_account": False}),
        ("users", {}, {}),
        ("service_accounts", {"name": None}, {"name": None}),
    ],
)
def test_a_row_needs_only_what_a_number_cannot_do_without(
    name: str, row: dict[str, Any], read: dict[str, Any]
) -> None:
    assert records.listed(row, LISTS[name], name) == read


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (True, True),
        ("true", True),
        ("TRUE", True),
        (1, True),
        ("1", True),
        (False, False),
        ("False", False),
        (0, False),
    ],
)
def test_a_boolean_is_read_in_any_spelling(sent: object, read: bool) -> None:
    assert records.boolean(sent, "batch", "usage/completions") is read


@pytest.mark.parametrize("sent", ["yes", None, 2, [], ""])
def test_what_is_neither_true_nor_false_is_refused_by_name(sent: object) -> None:
    with pytest.raises(ApiFailure, match="batch is neither true nor false"):
        records.boolean(sent, "batch", "usage/completions")


@pytest.mark.parametrize(
    "zero", [0, -0.0, "0", "-0", "0.00", "0e0", "0E+30", "0." + 70 * "0", Decimal("-0E-70")]
)
def test_zero_is_read_in_any_spelling(zero: object) -> None:
    number = records.number(zero, "amount", "costs")
    assert number == 0
    assert not number.is_signed()


TEXT = {"output_tokens": 1, "num_model_requests": 1}


def completion(**row: object) -> dict[str, Any]:
    """Return the only row of a bucket of completions, as records.bucket reads it."""
    raw = bucket(results=[{**TEXT, **row}])
    rows: list[dict[str, Any]] = read(raw, "completions").results
    return rows[0]


def test_optional_quantities_and_flags_are_read_from_text() -> None:
    row = completion(
        input_tokens="10", input_cached_tokens="4", input_text_tokens=6.0, batch="true"
    )
    assert row["input_tokens"] == 10
    assert (row["input_cached_tokens"], row["input_text_tokens"]) == (4, 6)
    assert row["batch"] is True


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ((12, 0), (10, 0)),
        ((12, 5), (10, 0)),
        ((7, 5), (7, 3)),
        ((7, 3), (7, 3)),
        ((0, 11), (0, 10)),
    ],
)
def test_cached_and_written_tokens_are_never_more_than_the_input(
    sent: tuple[int, int], read: tuple[int, int]
) -> None:
    """Of 10 input tokens at most 10 are cached, and at most the rest is written to the cache."""
    row = completion(input_tokens=10, input_cached_tokens=sent[0], input_cache_write_tokens=sent[1])
    assert (row["input_cached_tokens"], row["input_cache_write_tokens"]) == read


def test_a_quantity_that_is_not_a_number_does_not_cost_its_amount() -> None:
    amount = {"value": "1.5", "currency": "usd"}
    _, (cost,) = records.costs(cost_bucket(amount=amount, quantity="many"), "costs")
    assert (cost.amount, cost.quantity) == (Decimal("1.5"), None)


def test_the_cents_of_a_spend_limit_become_dollars() -> None:
    row = {
        "threshold_amount": 12345,
        "currency": "USD",
        "interval": "month",
        "enforcement": {"status": "enforcing"},
    }
    assert records.spend_limit(row) == SpendLimit(Decimal("123.45"), "usd", "month", True)
    inactive = {**row, "enforcement": {"status": "inactive"}}
    assert records.spend_limit(inactive).enforcing is False


@pytest.mark.parametrize("enforcement", [None, {}, "enforcing"])
def test_a_spend_limit_needs_only_its_amount(enforcement: object) -> None:
    row = {"threshold_amount": "100", "enforcement": enforcement}
    assert records.spend_limit(row) == SpendLimit(Decimal(1), "", "", None)
