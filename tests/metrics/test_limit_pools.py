"""Pools of rate limit rows, and the pool that a model's usage counts against."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_openai.api.records import RateLimit
from lm_openai.metrics.limit_pools import (
    UNLIMITED,
    Pools,
    candidates,
    family,
    pools,
)

FAMILIES = {
    "gpt-4o-2024-08-06": "gpt-4o",
    "gpt-4-0613": "gpt-4",
    "gpt-3.5-turbo-1106": "gpt-3.5-turbo",
    "text-moderation:2023-10-25": "text-moderation",
    "text-embedding-ada-002-v2": "text-embedding-ada-002",
    "ft:gpt-4o-mini-2024-07-18": "ft:gpt-4o-mini",
    "gpt-4o": "gpt-4o",
    "o1-pro": "o1-pro",
    "text-embedding-ada-002": "text-embedding-ada-002",
    "davinci-002": "davinci-002",
    "gpt-3.5-turbo-16k": "gpt-3.5-turbo-16k",
    "gpt-4-1106-preview": "gpt-4-1106-preview",
    "gpt-4o-1399": "gpt-4o-1399",
    "gpt-sim-0101-2026-01-15": "gpt-sim-0101",
}
WORDS = st.from_regex(r"[a-z]{1,4}[0-9]?(-[a-z]{1,5}){0,2}", fullmatch=True)
DATES = st.sampled_from(["", "-2024-08-06", "-2025-11-30", "-0613", "-1106", ":2023-10-25", "-v2"])
MODELS = st.builds("".join, st.tuples(WORDS, DATES))
LIMITS = st.sampled_from(
    [(500, 30_000), (10_000, 2_000_000), (0, 0), (500, UNLIMITED), (None, 0), (500, None)]
)
Pair = tuple[str, tuple[int | None, int | None]]


def row(
    model: str, requests: int | None = 500, tokens: int | None = 30_000, **others: int
) -> RateLimit:
    return RateLimit(f"rl-{model}", model, requests, tokens, **others)


def joined(*rows: RateLimit | str) -> Pools:
    return pools(row(one) if isinstance(one, str) else one for one in rows)


def names(found: Pools) -> list[str]:
    return [pool.name for pool in found.all]


@pytest.mark.parametrize(("model", "stem"), FAMILIES.items())
def test_a_family_is_the_name_without_date_and_version(model: str, stem: str) -> None:
    assert family(model) == stem


def test_alias_and_snapshots_with_equal_limits_are_one_pool_named_by_the_shortest() -> None:
    found = joined("gpt-4o-2024-08-06", "gpt-4o", "gpt-4o-2024-11-20")

    assert names(found) == ["gpt-4o"]
    assert found.pool_for("gpt-4o-2024-11-20") is found.pool_for("gpt-4o") is found.all[0]


def test_snapshots_without_an_alias_are_named_by_the_first_of_the_shortest() -> None:
    assert names(joined("gpt-4-0613", "gpt-4-0314")) == ["gpt-4-0314"]


def test_a_snapshot_that_has_no_row_counts_against_its_family() -> None:
    found = joined("gpt-4o", "gpt-4o-2024-08-06")

    assert found.pool_for("gpt-4o-2027-01-01").name == "gpt-4o"


def test_an_alias_without_a_row_counts_against_the_only_snapshot() -> None:
    assert joined("gpt-4o-2024-08-06").pool_for("gpt-4o").name == "gpt-4o-2024-08-06"


def test_rows_with_different_limits_are_separate_pools() -> None:
    found = joined("gpt-4.1", row("gpt-4.1-2025-04-14", tokens=120_000))

    assert names(found) == ["gpt-4.1", "gpt-4.1-2025-04-14"]
    assert found.pool_for("gpt-4.1-2025-04-14").limits["tpm"] == 120_000
    assert found.pool_for("gpt-4.1").limits["tpm"] == 30_000


def test_one_different_limit_is_enough_to_separate_two_rows() -> None:
    first = row("gpt-4o", max_requests_per_1_day=8)

    assert len(joined(first, row("gpt-4o-2024-08-06", max_requests_per_1_day=9)).all) == 2


def test_all_unlimited_values_are_equal() -> None:
    found = joined(
        row("gpt-4o", tokens=UNLIMITED),
        row("gpt-4o-2024-08-06", tokens=UNLIMITED + 1),
        row("gpt-4o-2024-11-20", tokens=10**18),
    )

    assert [(pool.name, pool.limits) for pool in found.all] == [("gpt-4o", {"rpm": 500})]


@pytest.mark.parametrize("limit", [0, 9, UNLIMITED])
def test_a_limit_that_only_one_row_states_applies_to_the_whole_pool(limit: int) -> None:
    snapshot = row("gpt-4o-2024-08-06", batch_1_day_max_input_tokens=limit)
    found = joined("gpt-4o", snapshot)

    assert names(found) == ["gpt-4o"]
    assert found.pool_for(snapshot.model) is found.pool_for("gpt-4o")
    batch = {} if limit == UNLIMITED else {"batch_tpd": limit}
    assert found.all[0].limits == {"rpm": 500, "tpm": 30_000, **batch}


def test_unlimited_differs_from_any_limit() -> None:
    assert len(joined("gpt-4o", row("gpt-4o-2024-08-06", tokens=UNLIMITED)).all) == 2


def test_a_row_that_agrees_with_two_pools_that_differ_is_a_pool_of_its_own() -> None:
    rows = (
        row("gpt-4o"),
        row("gpt-4o-2024-05-13", max_requests_per_1_day=8),
        row("gpt-4o-2024-08-06", max_requests_per_1_day=9),
        row("gpt-4o-2024-11-20", max_requests_per_1_day=9),
    )

    for order in permutations(rows):
        found = joined(*order)
        assert names(found) == ["gpt-4o", "gpt-4o-2024-05-13", "gpt-4o-2024-08-06"]
        assert found.pool_for("gpt-4o").limits == {"rpm": 500, "tpm": 30_000}
        assert found.pool_for("gpt-4o-2024-11-20").name == "gpt-4o-2024-08-06"


def test_an_unknown_snapshot_of_a_split_family_counts_against_the_alias() -> None:
    found = joined("gpt-4.1", row("gpt-4.1-2025-04-14", tokens=120_000))

    assert found.pool_for("gpt-4.1-2026-02-02").name == "gpt-4.1"


def test_an_unknown_snapshot_of_a_split_family_without_alias_has_no_known_limit() -> None:
    found = joined("gpt-4-0314", row("gpt-4-0613", tokens=1))

    assert found.pool_for("gpt-4-1106") == ("gpt-4-1106", {}, False)


@pytest.mark.parametrize("alone", ["gpt-4.1-long-context", "gpt-4.1-shared", "default"])
def test_rows_that_do_not_name_a_model_never_join(alone: str) -> None:
    found = joined("gpt-4.1", alone, f"{alone}-2025-04-14")

    assert found.pool_for("gpt-4.1").name == "gpt-4.1"
    assert found.pool_for(f"{alone}-2026-01-01").name != alone
    assert names(joined(alone)) == [alone]


@pytest.mark.parametrize("model", ["gpt-9", "gpt-4.1-mini", "gpt", "ft:default:acme::1"])
def test_nothing_falls_back_to_the_default_row(model: str) -> None:
    assert joined("default", "gpt-4.1").pool_for(model).known is False


def test_names_are_never_matched_by_prefix() -> None:
    found = joined("o1", "o1-2024-12-17", "o1-pro", "o1-mini")

    assert names(found) == ["o1", "o1-mini", "o1-pro"]
    assert found.pool_for("o1-pro-2025-03-19").name == "o1-pro"
    assert found.pool_for("o1-preview-2024-09-12").known is False


def test_dates_and_versions_are_removed_to_find_the_base_row() -> None:
    found = joined("text-moderation", "text-embedding-ada-002", "gpt-4")

    assert found.pool_for("text-moderation:2023-10-25").name == "text-moderation"
    assert found.pool_for("text-embedding-ada-002-v2").name == "text-embedding-ada-002"
    assert found.pool_for("gpt-4-0613").name == "gpt-4"


TUNED = "ft:gpt-4o-2024-08-06:acme:support:AbC123"


def test_a_fine_tuned_model_uses_its_own_row_else_that_of_its_base() -> None:
    own, base = row("ft:gpt-4o-2024-08-06", tokens=1), row("gpt-4o", tokens=2)

    assert joined(own, base).pool_for(TUNED).limits["tpm"] == 1
    assert joined(base).pool_for(TUNED).limits["tpm"] == 2
    assert joined("gpt-4o-mini").pool_for(TUNED).known is False


def test_a_fine_tuned_model_is_looked_up_by_the_most_specific_name_first() -> None:
    assert list(candidates(TUNED)) == [
        "ft:gpt-4o-2024-08-06:acme:support:AbC123",
        "ft:gpt-4o-2024-08-06",
        "ft:gpt-4o",
        "gpt-4o-2024-08-06",
        "gpt-4o",
    ]


def test_a_fine_tuned_row_and_its_base_are_two_pools() -> None:
    assert names(joined("ft:gpt-4o-2024-08-06", "gpt-4o")) == ["ft:gpt-4o-2024-08-06", "gpt-4o"]


def test_an_unknown_model_is_a_pool_without_known_limits() -> None:
    assert joined("gpt-4o").pool_for("gpt-9") == ("gpt-9", {}, False)
    assert joined("gpt-4o").pool_for("gpt-4o").known is True


def test_unlimited_and_missing_limits_are_left_out_and_are_not_zero() -> None:
    pool = joined(row("dall-e-3", tokens=UNLIMITED, max_images_per_1_minute=15)).all[0]

    assert pool.limits == {"rpm": 500, "ipm": 15}
    assert pool.blocked is False


def test_a_limit_of_zero_blocks_the_pool() -> None:
    assert joined(row("o3", requests=0)).all[0].blocked is True


@given(st.lists(st.tuples(MODELS, LIMITS), unique_by=lambda pair: pair[0], max_size=8))
def test_every_row_is_in_one_pool_that_has_its_limits(pairs: list[Pair]) -> None:
    rows = [row(model, *limits) for model, limits in pairs]
    found = pools(rows)

    assert len(set(names(found))) == len(found.all)
    for one in rows:
        pool = found.pool_for(one.model)
        assert pool in found.all
        for short, limit in zip(("rpm", "tpm"), one[2:4]):
            assert limit is None or pool.limits.get(short, UNLIMITED) == limit


@given(st.lists(MODELS, unique=True, max_size=8), MODELS)
def test_a_model_counts_only_against_a_row_of_its_own_family(rows: list[str], model: str) -> None:
    pool = joined(*rows).pool_for(model)

    assert family(pool.name) == family(model)


@given(
    st.lists(st.tuples(st.just("a"), DATES, LIMITS), unique_by=lambda row: row[1], max_size=6),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_rows_does_not_matter(
    parts: list[tuple[str, str, tuple[int | None, int | None]]], chance: Random
) -> None:
    rows = [row(stem + date, *limits) for stem, date, limits in parts]
    mixed = rows.copy()
    chance.shuffle(mixed)

    assert pools(rows).all == pools(mixed).all


@given(MODELS)
def test_a_model_is_looked_up_by_its_own_name_first(model: str) -> None:
    assert next(candidates(model)) == model
