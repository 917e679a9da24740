"""Usage of the demo organization: sums over groups and bucket widths, at any time."""

from __future__ import annotations

from collections import Counter
from itertools import chain, combinations, islice
from typing import Any

import jsonschema
import pytest

from lm_openai.simulator import organization as demo
from lm_openai.simulator.organization import DEFAULT_SETTINGS, EPOCH, Settings
from lm_openai.simulator.usage import KINDS, TOKEN_SUMS, WIDTHS, BucketQuery, buckets

ORGANIZATION = demo.organization()
NOW = EPOCH + 40017
DAY = 86400
AT_ONCE = Settings(lag=0)
KIND = pytest.mark.parametrize("kind", KINDS)
COUNTED = pytest.mark.parametrize(
    "kind", [name for name, declared in KINDS.items() if not declared.level]
)


def fetch(
    kind: str, *query: Any, now: int = NOW, settings: Settings = DEFAULT_SETTINGS
) -> list[Any]:
    return list(buckets(ORGANIZATION, kind, BucketQuery(*query), now, settings))


def summed(found: list[Any], kind: str) -> Counter[str]:
    """Return the sum of each field over all buckets and results."""
    total: Counter[str] = Counter()
    for row in chain.from_iterable(bucket["results"] for bucket in found):
        total.update({field: row[field] for field in KINDS[kind].fields})
    return +total


@pytest.fixture
def contract(oracle):
    return oracle("openai-admin.openapi.json")


@KIND
@pytest.mark.parametrize("width", WIDTHS)
def test_groups_add_up_to_the_ungrouped_total_in_each_bucket(kind, width):
    start = NOW - 2 * WIDTHS["1h"] if width == "1m" else NOW - 3 * DAY
    plain = fetch(kind, start, None, width)
    for size in (1, len(KINDS[kind].dimensions)):
        for dimensions in combinations(KINDS[kind].dimensions, size):
            grouped = fetch(kind, start, None, width, dimensions)
            assert len(grouped) == len(plain)
            for whole, parts in zip(plain, grouped):
                assert summed([whole], kind) == summed([parts], kind)
                keys = [tuple(row[name] for name in dimensions) for row in parts["results"]]
                assert len(keys) == len(set(keys))


@COUNTED
@pytest.mark.parametrize("settings", [Settings(), AT_ONCE, Settings(lag=3.0)])
def test_minutes_add_up_to_hours_and_hours_to_days(kind, settings):
    start = EPOCH - DAY
    days, hours, minutes = (
        fetch(kind, start, None, width, settings=settings) for width in ("1d", "1h", "1m")
    )
    assert len(days) == 2
    for day in days:
        for finer in (hours, minutes):
            within = [
                bucket
                for bucket in finer
                if day["start_time"] <= bucket["start_time"] < day["end_time"]
            ]
            assert summed(within, kind) == summed([day], kind) != Counter()


@pytest.mark.parametrize("settings", [Settings(), AT_ONCE])
def test_stored_bytes_of_an_hour_or_a_day_are_those_of_its_newest_minute(settings):
    def levels(start: int, width: str) -> dict[str, int]:
        found = fetch("vector_stores", start, None, width, ("project_id",), settings=settings)
        rows = next(bucket["results"] for bucket in reversed(found) if bucket["results"])
        return {row["project_id"]: row["usage_bytes"] for row in rows}

    newest = levels(NOW - 3600, "1m")
    assert newest == levels(NOW - 7200, "1h") == levels(NOW - DAY, "1d") != {}
    whole = fetch("vector_stores", NOW - DAY, None, "1d", settings=settings)[-1]["results"]
    assert whole[0]["usage_bytes"] == sum(newest.values())


def test_stored_bytes_grow_slowly():
    days = fetch("vector_stores", NOW - 8 * DAY, None, "1d")
    levels = [day["results"][0]["usage_bytes"] for day in days]
    assert levels == sorted(set(levels))
    assert levels[-1] < levels[0] * 1.1


@KIND
def test_counts_grow_from_zero_to_the_final_value_and_never_shrink(kind):
    start, end = EPOCH + 13 * 3600, EPOCH + 14 * 3600
    query = (start, end, "1m", ("project_id",))
    final = fetch(kind, *query, now=EPOCH + 2 * DAY)
    assert final == fetch(kind, *query, now=end, settings=AT_ONCE)
    before: dict[tuple[int, str, str], int] = {}
    for now in range(start + 300, end + 3 * 3600, 600):
        found = fetch(kind, *query, now=now)
        seen = {
            (bucket["start_time"], row["project_id"], field): row[field]
            for bucket in found
            for row in bucket["results"]
            for field in KINDS[kind].fields
        }
        assert all(seen.get(key, 0) >= value for key, value in before.items())
        before = seen
    assert found == final


@KIND
def test_usage_appears_only_after_the_kinds_delay_and_mostly_within_an_hour(kind):
    minute = EPOCH + 13 * 3600 + 1800
    query = (minute - 1800, minute + 1800, "1h")
    delay = KINDS[kind].delay
    final = summed(fetch(kind, *query, now=EPOCH + DAY), kind)[KINDS[kind].counter]
    early = summed(fetch(kind, *query, now=minute - 1800 + delay), kind)
    later = summed(fetch(kind, *query, now=minute + 1800 + 3600), kind)[KINDS[kind].counter]
    assert early == Counter()
    assert later > 0.9 * final


def test_images_arrive_later_than_completions_and_a_delay_can_be_set():
    def visible(kind: str, settings: Settings) -> Counter[str]:
        return summed(fetch(kind, NOW - 1200, None, "1m", settings=settings), kind)

    assert KINDS["images"].delay > KINDS["completions"].delay
    assert visible("completions", Settings())
    assert not visible("completions", Settings(delays={"completions": 7200}))
    assert visible("embeddings", Settings(delays={"completions": 7200}))


def test_usage_arrives_in_lumps():
    query = (NOW - 3600, NOW - 1200, "1h", (), {"project_ids": (ORGANIZATION.projects[1].id,)})
    seen = [
        summed(fetch("completions", *query, now=NOW + s), "completions") for s in range(0, 300, 5)
    ]
    assert 2 <= len({total["input_tokens"] for total in seen}) <= 10


@KIND
def test_buckets_are_contiguous_and_clipped_at_both_ends(kind):
    start = EPOCH - 3 * DAY - 1234
    found = fetch(kind, start, None, "1d")
    assert found[0]["start_time"] == start - start % 60
    assert [bucket["start_time"] for bucket in found[1:]] == [
        EPOCH - day * DAY for day in (3, 2, 1, 0)
    ]
    assert [bucket["end_time"] for bucket in found] == [
        *(bucket["start_time"] for bucket in found[1:]),
        NOW,
    ]
    minutes = fetch(kind, start, EPOCH - 3 * DAY, "1m")
    within = minutes[-1:] if KINDS[kind].level else minutes
    assert summed(found[:1], kind) == summed(within, kind)


def test_a_future_end_means_now_and_an_empty_range_has_no_buckets():
    assert fetch("completions", NOW - 7200, NOW + DAY, "1h") == fetch(
        "completions", NOW - 7200, None, "1h"
    )
    assert fetch("completions", NOW - NOW % 60, NOW - NOW % 60, "1h") == []
    assert fetch("completions", NOW + DAY, None, "1d") == []


def test_periods_without_usage_are_buckets_without_results():
    idle = next(project for project in ORGANIZATION.projects if project.case == "idle")
    found = fetch("completions", NOW - DAY, None, "1h", (), {"project_ids": (idle.id,)})
    assert len(found) == 25
    assert all(bucket["results"] == [] for bucket in found)


def test_the_archived_project_has_usage_until_it_was_archived():
    archived = project("archived")
    assert archived.archived_at is not None
    query = (EPOCH - 40 * DAY, None, "1d", (), {"project_ids": (archived.id,)})
    used = [bucket["start_time"] for bucket in fetch("completions", *query) if bucket["results"]]
    assert used[0] == EPOCH - 40 * DAY
    assert archived.archived_at - 2 * DAY < used[-1] < archived.archived_at
    assert archived.status == "archived"


@pytest.mark.parametrize("kind", ["completions", "decisions"])
@pytest.mark.parametrize("width", WIDTHS)
def test_token_fields_add_up_as_documented(kind, width):
    rows = list(
        chain.from_iterable(
            bucket["results"]
            for bucket in fetch(kind, NOW - 7200, None, width, ("model", "service_tier"))
        )
    )
    assert rows
    for row in rows:
        for name, parts in TOKEN_SUMS.items():
            assert row[name] == sum(row[part] for part in parts)
        assert row["input_tokens"] == (
            row["input_uncached_tokens"]
            + row["input_cached_tokens"]
            + row["input_cache_write_tokens"]
        )


def test_every_token_field_occurs():
    found = fetch("completions", EPOCH - DAY, EPOCH, "1d")
    assert set(summed(found, "completions")) == set(KINDS["completions"].fields)


@KIND
def test_dimensions_are_null_unless_grouped(kind):
    declared = KINDS[kind]
    for row in fetch(kind, EPOCH - DAY, EPOCH, "1d")[0]["results"]:
        assert [row[name] for name in declared.dimensions] == [None] * len(declared.dimensions)
    for name in declared.dimensions:
        rows = fetch(kind, EPOCH - DAY, EPOCH, "1d", (name,))[0]["results"]
        assert any(row[name] is not None for row in rows)
        others = set(declared.dimensions) - {name}
        assert all(row[other] is None for row in rows for other in others)


def test_usage_without_a_user_is_a_separate_group():
    rows = fetch("completions", EPOCH - DAY, EPOCH, "1d", ("user_id",))[0]["results"]
    assert {row["user_id"] is None for row in rows} == {True, False}


@KIND
def test_a_filter_returns_exactly_the_groups_it_names(kind):
    for name, dimension in KINDS[kind].filters.items():
        query = (EPOCH - DAY, EPOCH, "1d", (dimension,))
        rows = fetch(kind, *query)[0]["results"]
        for row in rows:
            if row[dimension] is not None:
                value = str(row[dimension])
                value = value.lower() if dimension == "batch" else value
                assert fetch(kind, *query, {name: (value,)})[0]["results"] == [row]
        assert fetch(kind, *query, {name: ("no such value",)})[0]["results"] == []


def test_a_short_query_equals_the_same_part_of_a_long_one():
    for width in WIDTHS:
        start = NOW - 5 * WIDTHS[width]
        whole = fetch("completions", start, None, width, ("model",))
        middle = whole[2]["start_time"]
        query = BucketQuery(middle, None, width, ("model",))
        assert list(islice(buckets(ORGANIZATION, "completions", query, NOW), 2)) == whole[2:4]


def test_groups_add_up_to_the_total_with_300_projects():
    many = demo.organization(projects=300, models=40)
    query = BucketQuery(NOW - 360, None, "1m", ("project_id",))
    plain = BucketQuery(NOW - 360, None, "1m")
    settings = Settings(lag=0)
    for parts, whole in zip(
        buckets(many, "completions", query, NOW, settings),
        buckets(many, "completions", plain, NOW, settings),
    ):
        assert summed([parts], "completions") == summed([whole], "completions")
    assert len({project.id for project in many.projects}) == 300


def project(case: str) -> demo.Project:
    return next(project for project in ORGANIZATION.projects if project.case == case)


def limit(case: str, model: str, field: str = "max_tokens_per_1_minute") -> int:
    rows = demo.rate_limits(ORGANIZATION, project(case).id)
    return int(next(row[field] for row in rows if row["model"] == model))


def tokens_by_minute(model: str, now: int) -> list[Counter[str]]:
    """Return each project's tokens without batches, per minute with usage in the last 90."""
    filters = {"models": (model,), "batch": ("false",)}
    query = (now - 5400, None, "1m", ("project_id",), filters)
    return [
        Counter({row["project_id"]: row["input_tokens"] + row["output_tokens"] for row in found})
        for found in (bucket["results"] for bucket in fetch("completions", *query, now=now))
        if found
    ]


@pytest.mark.parametrize("now", range(NOW, NOW + 7 * DAY, 3 * DAY // 5))
def test_one_project_uses_over_80_percent_of_a_limit_and_two_together_exceed_one(now):
    recent = tokens_by_minute("gpt-4o-mini-2024-07-18", now)[-15:]
    hot = project("hot").id
    assert 0.8 < max(minute[hot] for minute in recent) / limit("hot", "gpt-4o-mini") <= 1
    pair = [each.id for each in ORGANIZATION.projects if each.case == "pair"]
    ceiling = limit("pair", "gpt-5-nano")
    recent = tokens_by_minute("gpt-5-nano-2025-08-07", now)[-15:]
    assert len(pair) == 2
    for member in pair:
        assert 0.5 < max(minute[member] for minute in recent) / ceiling < 0.75
    assert max(sum(minute.values()) for minute in recent) > ceiling


def test_every_project_has_150_to_190_limit_rows_of_all_kinds():
    for each in ORGANIZATION.projects:
        rows = {row["model"]: row for row in demo.rate_limits(ORGANIZATION, each.id)}
        assert 150 <= len(rows) <= 190
        assert {"default", "gpt-4.1-long-context", "gpt-4o-shared", "gpt-5-alpha-shared"} < set(
            rows
        )
        alias = {**rows["gpt-4o"], "id": "", "model": ""}
        assert alias == {**rows["gpt-4o-2024-11-20"], "id": "", "model": ""}
        assert None not in chain.from_iterable(row.values() for row in rows.values())
        assert "computer-use-preview" not in rows
    assert limit("unlimited", "gpt-4o") == limit("support", "dall-e-3") == 2147483647
    assert limit("blocked", "o3") == limit("blocked", "o3", "max_requests_per_1_minute") == 0


def test_a_project_is_renamed_at_the_time_set():
    settings = Settings(rename_at=NOW)
    assert demo.project_name(project("renamed"), NOW - 1, settings) == "Marketing"
    assert demo.project_name(project("renamed"), NOW, settings) == "Growth & Brand"
    assert demo.project_name(project("hot"), NOW, settings) == "Data Platform"
    assert demo.project_name(project("renamed"), NOW) == "Marketing"


def test_ids_and_usage_depend_only_on_the_seed():
    other = demo.organization(seed=2)
    assert not {each.id for each in other.projects} & {each.id for each in ORGANIZATION.projects}
    query = BucketQuery(EPOCH - DAY, EPOCH, "1d")
    one, two = (list(buckets(each, "completions", query, NOW)) for each in (ORGANIZATION, other))
    assert one != two
    demo.organization.cache_clear()
    again = demo.organization()
    assert again is not ORGANIZATION
    assert again == ORGANIZATION


@KIND
@pytest.mark.parametrize("grouped", [False, True])
def test_results_match_the_published_contract(kind, grouped, contract):
    if kind == "decisions":
        reference = "UsageCompletionsResult"  # newer than the published contract
    else:
        words = KINDS[kind].object.split(".")[2].split("_")
        reference = f"Usage{''.join(map(str.title, words))}Result"
        named = {"UsageFileSearchesResult": "UsageFileSearchCallsResult"}
        named["UsageWebSearchesResult"] = "UsageWebSearchCallsResult"
        reference = named.get(reference, reference)
    schema = {**contract, "$ref": f"#/components/schemas/{reference}"}
    rows = fetch(kind, EPOCH - DAY, EPOCH, "1d", KINDS[kind].dimensions if grouped else ())[0]
    assert rows["results"]
    for row in rows["results"]:
        if kind == "decisions":
            row = {**row, "object": "organization.usage.completions.result"}
        jsonschema.Draft202012Validator(schema).validate(row)


@pytest.mark.parametrize("case", ["hot", "unlimited", "blocked"])
def test_limit_rows_match_the_published_contract(case, contract):
    schema = {**contract, "$ref": "#/components/schemas/ProjectRateLimit"}
    validator = jsonschema.Draft202012Validator(schema)
    for row in demo.rate_limits(ORGANIZATION, project(case).id):
        validator.validate(row)


def test_spend_limits_match_the_published_contract(contract):
    for owner, found in demo.spend_limits(ORGANIZATION).items():
        name = "OrganizationSpendLimitResource" if owner is None else "ProjectSpendLimitResource"
        schema = {**contract, "$ref": f"#/components/schemas/{name}"}
        jsonschema.Draft202012Validator(schema).validate(found)
