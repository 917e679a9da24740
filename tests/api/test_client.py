"""Client over real HTTP: its requests, its paging and its failures."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request

from lm_openai.api.client import Client
from lm_openai.api.endpoints import LISTS
from lm_openai.errors import ApiFailure, WrongUsage
from tests.support.http_api import (
    DAY,
    STALE,
    Clock,
    bucket,
    client_of,
    error,
    failure_of,
    page,
    serve,
)

COSTS = "/organization/costs"
USAGE = "/organization/usage/embeddings"
PROJECTS = "/organization/projects"
ROW = {"input_tokens": 5, "num_model_requests": 1}


def cost(value: object) -> dict[str, Any]:
    return {"amount": {"value": value, "currency": "usd"}}


def test_usage_sends_window_width_grouping_filters_and_the_largest_limit(
    httpserver: HTTPServer, client: Client
) -> None:
    seen = serve(httpserver, "/organization/usage/completions", page())
    filters = {"batch": ("false",), "models": ["gpt-4o"], "project_ids": "proj_a"}
    list(client.usage("completions", 60, 180, "1m", ("project_id", "model"), filters))
    assert [*seen[0].args.items(multi=True)] == [
        ("start_time", "60"),
        ("end_time", "180"),
        ("bucket_width", "1m"),
        ("group_by[]", "project_id"),
        ("group_by[]", "model"),
        ("batch", "false"),
        ("models[]", "gpt-4o"),
        ("project_ids[]", "proj_a"),
        ("limit", "1440"),
    ]


@pytest.mark.parametrize(("width", "limit"), [("1m", "1440"), ("1h", "168"), ("1d", "31")])
def test_each_bucket_width_is_requested_with_its_maximum_limit(
    httpserver: HTTPServer, client: Client, width: str, limit: str
) -> None:
    seen = serve(httpserver, USAGE, page(bucket(0, width=DAY)))
    list(client.usage("embeddings", 0, DAY, width))
    assert seen[0].args["limit"] == limit


@pytest.mark.parametrize(
    ("groups", "limit"), [(None, "1440"), (10, "1440"), (2000, "13"), (10**6, "1")]
)
def test_many_groups_lead_to_smaller_pages(
    httpserver: HTTPServer, client: Client, groups: int | None, limit: str
) -> None:
    seen = serve(httpserver, USAGE, page(bucket(0, width=DAY)))
    list(client.usage("embeddings", 0, DAY, "1m", ("user_id",), groups=groups))
    assert seen[0].args["limit"] == limit


def test_costs_are_requested_by_day_with_a_limit_of_180(
    httpserver: HTTPServer, client: Client
) -> None:
    seen = serve(httpserver, COSTS, page())
    list(client.costs(0, DAY, ("line_item",)))
    assert [*seen[0].args.items(multi=True)] == [
        ("start_time", "0"),
        ("end_time", "86400"),
        ("bucket_width", "1d"),
        ("group_by[]", "line_item"),
        ("limit", "180"),
    ]


def test_list_parameters_are_encoded_by_their_type(httpserver: HTTPServer, client: Client) -> None:
    seen = serve(httpserver, "/organization/audit_logs", page())
    list(
        client.list(
            "audit_logs",
            effective_at={"gte": 1, "lt": 9},
            event_types=["api_key.created", "login.failed"],
            tenant_only=False,
            after=None,
        )
    )
    assert [*seen[0].args.items(multi=True)] == [
        ("limit", "100"),
        ("effective_at[gte]", "1"),
        ("effective_at[lt]", "9"),
        ("event_types[]", "api_key.created"),
        ("event_types[]", "login.failed"),
        ("tenant_only", "false"),
    ]


def test_an_id_is_escaped_in_the_path(httpserver: HTTPServer, client: Client) -> None:
    httpserver.expect_request("/organization/projects/a/b?c=d/rate_limits").respond_with_json(
        page()
    )
    assert list(client.list("rate_limits", project_id="a/b?c=d")) == []


@pytest.mark.parametrize(
    ("group_by", "filters", "message"),
    [
        (("model",), {}, "vector_stores does not support 'model'; allowed: project_id"),
        ((), {"batch": "false"}, "vector_stores does not support 'batch'; allowed: project_ids"),
    ],
)
def test_an_unsupported_grouping_or_filter_is_refused_before_any_request(
    client: Client, group_by: tuple[str, ...], filters: dict[str, str], message: str
) -> None:
    with pytest.raises(WrongUsage, match=message):
        client.usage("vector_stores", 0, DAY, "1d", group_by, filters)
    assert client.counters.requests == 0


def test_costs_keep_every_digit_of_strings_and_numbers(
    httpserver: HTTPServer, client: Client
) -> None:
    sent = json.dumps(page(bucket(0, cost("-0.0042000"), cost("number"), width=DAY)))
    serve(httpserver, COSTS, sent.replace('"number"', "0.12345678901234567890"))
    (start, costs), *_ = client.costs(0, DAY)
    assert start == 0
    assert [str(cost.amount) for cost in costs] == ["-0.0042000", "0.12345678901234567890"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1e309"])
def test_an_amount_that_is_not_a_finite_number_of_reasonable_size_fails(
    httpserver: HTTPServer, clock: Clock, number: str
) -> None:
    sent = json.dumps(page(bucket(0, cost("number"), width=DAY)))
    serve(httpserver, COSTS, sent.replace('"number"', number))
    client = client_of(httpserver, clock, seconds=1)
    assert failure_of(lambda: list(client.costs(0, DAY))).kind in ("not_json", "contract")


def test_buckets_of_several_pages_come_in_order_and_each_page_has_the_same_query(
    httpserver: HTTPServer, client: Client
) -> None:
    seen = serve(
        httpserver,
        USAGE,
        page(bucket(0, ROW), bucket(60), next_page="page_a+b="),
        page(bucket(120, ROW, ROW), next_page="page_2"),
        page(bucket(180)),
    )
    buckets = list(client.usage("embeddings", 0, 240, "1m", ("model",)))
    assert [(found.start, len(found.results)) for found in buckets] == [
        (0, 1),
        (60, 0),
        (120, 2),
        (180, 0),
    ]
    assert [request.args.get("page") for request in seen] == [None, "page_a+b=", "page_2"]
    queries = [request.query_string.partition(b"&page=")[0] for request in seen]
    assert len(set(queries)) == 1


def test_a_page_is_requested_only_after_the_previous_page_was_read(
    httpserver: HTTPServer, client: Client
) -> None:
    seen = serve(httpserver, USAGE, page(bucket(0), next_page="page_1"), page(bucket(60)))
    buckets = client.usage("embeddings", 0, 120, "1m")
    assert len(seen) == 0
    next(buckets)
    assert len(seen) == 1
    next(buckets)
    assert len(seen) == 2


@pytest.mark.parametrize(
    ("name", "first", "after"),
    [
        ("projects", {"last_id": "b"}, "b"),
        ("projects", {"last_id": None}, "a"),
        ("projects", {"first_id": "a"}, "a"),
        ("admin_api_keys", {"last_id": "wrong"}, "a"),
        ("groups", {"next": "cursor"}, "cursor"),
    ],
    ids=["last_id", "last_id null", "last_id missing", "last item", "next"],
)
def test_each_kind_of_list_uses_its_own_cursor(
    httpserver: HTTPServer, client: Client, name: str, first: dict[str, Any], after: str
) -> None:
    row = dict.fromkeys(LISTS[name].required, 1) | {"id": "a"}
    last = {**row, "id": "z"}
    seen = serve(
        httpserver, f"/organization/{name}", {**page(row), **first, "has_more": True}, page(last)
    )
    assert [found["id"] for found in client.list(name)] == ["a", "z"]
    assert [request.args.get("after") for request in seen] == [None, after]


def test_a_list_may_end_on_an_empty_page(httpserver: HTTPServer, client: Client) -> None:
    serve(httpserver, PROJECTS, page({"id": "a", "created_at": 1}, last_id="a"), page())
    assert len(list(client.list("projects"))) == 1


def test_unknown_fields_of_a_row_are_kept(httpserver: HTTPServer, client: Client) -> None:
    row = {"id": "a", "created_at": 1, "residency": "MARS", "new": [1]}
    serve(httpserver, PROJECTS, page(row))
    assert list(client.list("projects")) == [row]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"has_more": False}, "data is missing"),
        ({"data": []}, "has_more is missing"),
        ({"data": {}, "has_more": False}, "data is not a list"),
        ({"data": [], "has_more": None}, "has_more is neither true nor false"),
        ({"data": [], "has_more": True}, "the cursor is missing"),
        ({"data": [{"id": 7}], "has_more": True}, "the cursor is missing"),
        ({"data": ["a"], "has_more": True}, "the cursor is missing"),
        ({"data": [{"name": "a"}], "has_more": False}, "id is missing"),
        ({"data": [None], "has_more": False}, "a record is not an object"),
        ([], "the response is not an object"),
    ],
)
def test_a_page_that_breaks_the_contract_fails_instead_of_ending_the_list(
    httpserver: HTTPServer, client: Client, broken: Any, reason: str
) -> None:
    serve(httpserver, PROJECTS, broken)
    failure = failure_of(lambda: list(client.list("projects")))
    assert failure.kind == "contract"
    assert str(failure).startswith("projects: the response breaks the API's contract")
    assert reason in str(failure)


def test_a_row_that_breaks_the_contract_costs_that_row_and_is_named(
    httpserver: HTTPServer, client: Client
) -> None:
    rows = [{"id": "a", "created_at": "soon"}, {"id": "b", "created_at": 1}, 7, {"id": "c"}]
    serve(httpserver, f"{PROJECTS}/p/api_keys", page(*rows))
    assert [row["id"] for row in client.list("api_keys", project_id="p")] == ["b", "c"]
    assert [(failure.endpoint, failure.detail) for failure in client.refused()] == [
        ("projects/p/api_keys", "created_at is not a number in the row a"),
        ("projects/p/api_keys", "a record is not an object"),
    ]
    assert client.refused() == []


def test_rows_refused_for_one_caller_are_not_reported_by_the_others(
    httpserver: HTTPServer, client: Client
) -> None:
    serve(httpserver, PROJECTS, page({"id": "a"}, {}))
    with client.refusals() as refused:
        list(client.list("projects"))
    assert refused == [("projects", "id is missing")]
    assert client.refused() == []


def test_has_more_may_be_sent_as_text(httpserver: HTTPServer, client: Client) -> None:
    first = {**page({"id": "a"}), "has_more": "true", "last_id": "a"}
    serve(httpserver, PROJECTS, first, {**page({"id": "b"}), "has_more": "false"})
    assert [row["id"] for row in client.list("projects")] == ["a", "b"]


def test_a_page_of_buckets_without_its_cursor_fails_instead_of_ending_the_list(
    httpserver: HTTPServer, client: Client
) -> None:
    serve(httpserver, USAGE, {**page(bucket(0)), "has_more": True, "next_page": None})
    failure = failure_of(lambda: list(client.usage("embeddings", 0, 60, "1m")))
    assert failure.detail == "has_more is true, but the cursor is missing"


def test_a_repeated_cursor_fails_instead_of_looping(httpserver: HTTPServer, client: Client) -> None:
    row = {"id": "a", "created_at": 1}
    seen = serve(
        httpserver, PROJECTS, page(row, last_id="a"), page(row, last_id="b"), page(row, last_id="a")
    )
    assert "already used" in failure_of(lambda: list(client.list("projects"))).detail
    assert len(seen) == 3


def test_a_repeated_bucket_fails_instead_of_being_counted_twice(
    httpserver: HTTPServer, client: Client
) -> None:
    serve(
        httpserver,
        USAGE,
        page(bucket(0, ROW), next_page="page_1"),
        page(bucket(0, ROW), bucket(60)),
    )
    failure = failure_of(lambda: list(client.usage("embeddings", 0, 120, "1m")))
    assert failure.detail == "the buckets are out of order"


def test_after_a_page_that_is_too_large_smaller_ones_continue_where_it_began(
    httpserver: HTTPServer, client: Client
) -> None:
    """Of the 20 minutes that are left a quarter is requested, then a quarter of that."""
    large = page(bucket(60, *[ROW] * 9), large="{" * 2_000_000)
    first = page(bucket(0), next_page="page_1")
    seen = serve(httpserver, USAGE, first, large, large, page(*map(bucket, range(60, 1260, 60))))

    found = [entry.start for entry in client.usage("embeddings", 0, 1260, "1m")]

    assert found == [*range(0, 1260, 60)]
    assert [request.args["limit"] for request in seen] == ["1440", "1440", "5", "1"]
    assert [span(request) for request in seen[2:]] == [(60, 1260), (60, 1260)]


def test_a_bucket_that_is_too_large_fails(httpserver: HTTPServer, client: Client) -> None:
    seen = serve(httpserver, USAGE, page(large="{" * 2_000_000))

    failure = failure_of(lambda: list(client.usage("embeddings", 0, 120, "1m")))

    assert failure.kind == "too_large"
    assert [request.args["limit"] for request in seen] == ["1440", "1"]


def test_a_list_with_too_many_pages_fails(
    httpserver: HTTPServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lm_openai.api.paging.MOST_PAGES", 3)
    row = {"id": "a", "created_at": 1}
    serve(httpserver, PROJECTS, *(page(row, last_id=f"{number}") for number in range(9)))
    failure = failure_of(lambda: list(client.list("projects")))
    assert (failure.kind, failure.detail) == ("too_large", "more than 3 pages")


def test_after_a_refused_page_token_a_new_query_starts_at_the_end_of_the_last_bucket(
    httpserver: HTTPServer, client: Client
) -> None:
    seen = serve(
        httpserver,
        COSTS,
        page(bucket(0, cost("1"), width=DAY), next_page="page_1"),
        error(400, STALE),
        page(bucket(DAY, cost("2"), width=DAY)),
    )
    days = list(client.costs(0, 2 * DAY))
    assert [(day, [found.amount for found in costs]) for day, costs in days] == [
        (0, [Decimal(1)]),
        (DAY, [Decimal(2)]),
    ]
    requested = [(request.args["start_time"], request.args.get("page")) for request in seen]
    assert requested == [("0", None), ("0", "page_1"), ("86400", None)]


def test_a_page_token_refused_after_the_last_day_ends_the_list(
    httpserver: HTTPServer, client: Client
) -> None:
    seen = serve(
        httpserver, COSTS, page(bucket(0, width=DAY), next_page="page_1"), error(400, STALE)
    )
    assert list(client.costs(0, DAY)) == [(0, [])]
    assert len(seen) == 2


def test_a_second_refused_page_token_fails(httpserver: HTTPServer, client: Client) -> None:
    serve(
        httpserver,
        COSTS,
        page(bucket(0, width=DAY), next_page="page_1"),
        error(400, STALE),
        page(bucket(DAY, width=DAY), next_page="page_2"),
        error(400, STALE),
    )
    failure = failure_of(lambda: list(client.costs(0, 9 * DAY)))
    assert (failure.kind, failure.detail) == ("contract", "the API refused its own page token")


def test_a_record_without_a_required_field_fails(httpserver: HTTPServer, client: Client) -> None:
    serve(httpserver, "/organization/projects/p/spend_limit", {"currency": "USD"})
    failure = failure_of(lambda: client.record("project_spend_limit", project_id="p"))
    assert str(failure).startswith("projects/p/spend_limit: ")
    assert "threshold_amount is missing" in str(failure)


def test_together_returns_results_and_failures_in_the_order_of_the_calls(
    httpserver: HTTPServer, client: Client
) -> None:
    for name in "abc":
        serve(httpserver, f"{PROJECTS}/{name}", {"id": name, "created_at": 1})
    serve(httpserver, f"{PROJECTS}/x", error(404))

    def record_id(name: str) -> Callable[[], str]:
        return lambda: str(client.record("project", project_id=name)["id"])

    outcomes = client.together(record_id(name) for name in "axbc")
    assert [outcomes[0], *outcomes[2:]] == ["a", "b", "c"]
    assert isinstance(outcomes[1], ApiFailure)
    assert outcomes[1].kind == "not_found"
    assert client.together([]) == []
    assert client.together([record_id("a")]) == ["a"]


def test_together_raises_exceptions_other_than_api_failures(client: Client) -> None:
    def fail() -> None:
        raise WrongUsage("a fault of the program")

    with pytest.raises(WrongUsage):
        client.together([fail, lambda: None])


def span(request: Request) -> tuple[int, int]:
    return int(request.args["start_time"]), int(request.args["end_time"])


def test_a_hole_between_buckets_is_requested_once_more_by_itself(
    httpserver: HTTPServer, client: Client
) -> None:
    first = page(bucket(0), bucket(120))
    seen = serve(httpserver, USAGE, first, page(bucket(60)))

    found = [entry.start for entry in client.usage("embeddings", 0, 180, "1m")]

    assert found == [0, 60, 120]
    assert [span(request) for request in seen] == [(0, 180), (60, 120)]


@pytest.mark.parametrize(
    ("received", "hole"),
    [
        ((0, 120), "00:01:00Z to 1970-01-01T00:02:00Z"),
        ((60, 120), "00:00:00Z to 1970-01-01T00:01:00Z"),
        ((0, 60), "00:02:00Z to 1970-01-01T00:15:00Z"),
        ((), "00:00:00Z to 1970-01-01T00:15:00Z"),
    ],
)
def test_usage_with_a_hole_that_stays_fails_instead_of_reading_as_idle(
    httpserver: HTTPServer, client: Client, received: tuple[int, ...], hole: str
) -> None:
    later = (180, 240, 300, 360, 420, 480, 540, 600) if 120 in received else ()
    pages = page(*map(bucket, (*received, *later)))
    serve(httpserver, USAGE, pages, page())

    failure = failure_of(lambda: list(client.usage("embeddings", 0, 900, "1m")))

    assert failure.kind == "incomplete"
    assert hole in str(failure)


def test_minutes_younger_than_five_may_be_missing(httpserver: HTTPServer, client: Client) -> None:
    seen = serve(httpserver, USAGE, page(*map(bucket, range(0, 600, 60))))

    assert len(list(client.usage("embeddings", 0, 900, "1m"))) == 10
    assert len(seen) == 1


def test_days_before_the_first_bucket_are_the_start_of_the_history(
    httpserver: HTTPServer, client: Client
) -> None:
    seen = serve(httpserver, COSTS, page(bucket(2 * DAY, width=DAY)), page())

    assert [day for day, _ in client.costs(0, 3 * DAY)] == [2 * DAY]
    assert client.holes == []
    assert [span(request) for request in seen] == [(0, 3 * DAY), (0, 2 * DAY)]


def test_days_before_the_start_of_usage_are_noted_unless_all_are_needed(
    httpserver: HTTPServer, client: Client
) -> None:
    late = page(bucket(2 * DAY, width=DAY))
    serve(httpserver, USAGE, late, page(), late, page())

    assert [one.start for one in client.usage("embeddings", 0, 3 * DAY, "1d")] == [2 * DAY]
    assert [(one.start, one.end) for one in client.starts] == [(0, 2 * DAY)]
    failure = failure_of(lambda: list(client.usage("embeddings", 0, 3 * DAY, "1d", whole=True)))
    assert failure.kind == "incomplete"


def test_days_before_the_first_bucket_that_exist_after_all_are_read(
    httpserver: HTTPServer, client: Client
) -> None:
    serve(httpserver, COSTS, page(bucket(2 * DAY, width=DAY)), page(bucket(DAY, width=DAY)))

    assert [day for day, _ in client.costs(0, 3 * DAY)] == [DAY, 2 * DAY]
    assert client.holes == []


@pytest.mark.parametrize(("days", "gap"), [((0, 2), (1, 2)), ((0, 1), (2, 3))])
def test_a_day_that_costs_lack_is_noted_and_the_others_are_read(
    httpserver: HTTPServer, client: Client, days: tuple[int, ...], gap: tuple[int, int]
) -> None:
    serve(httpserver, COSTS, page(*(bucket(day * DAY, width=DAY) for day in days)), page())

    assert [day for day, _ in client.costs(0, 3 * DAY)] == [day * DAY for day in days]
    assert [(one.start, one.end) for one in client.holes] == [(gap[0] * DAY, gap[1] * DAY)]


def test_todays_bucket_of_costs_may_end_now(httpserver: HTTPServer, client: Client) -> None:
    serve(httpserver, COSTS, page(bucket(0, width=DAY), bucket(DAY, width=3600)))

    assert len(list(client.costs(0, 2 * DAY))) == 2
    assert client.holes == []
