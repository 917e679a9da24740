"""Limits of projects: kept for a day, read again after an hour, a part of many at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lm_openai.api.client import Client
from lm_openai.collect import project_limits
from lm_openai.collect.project_limits import MOST_AT_ONCE, PASSING, TOGETHER, Limits
from lm_openai.collect.source import Source
from lm_openai.collect.usage_queries import UsageQueries
from lm_openai.errors import ApiFailure
from lm_openai.storage.cache import Cache
from lm_openai.timespans import DAY, HOUR
from tests.support.demo_polls import WEDNESDAY


class Api(Client):
    """Client that gives each project one limit, or fails, and records whose limits it read."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.rpm, self.failure = 10, ""
        self.refused_rows: list[Any] = []

    def list(self, name: str, **ids: Any) -> Iterator[dict[str, Any]]:
        self.read.append(ids["project_id"])
        if self.failure:
            raise ApiFailure(self.failure, name)
        yield {"model": "m", "max_requests_per_1_minute": self.rpm}

    def together(self, calls: Any) -> Any:
        return [outcome(call) for call in calls]

    @contextmanager
    def refusals(self) -> Iterator[Any]:
        yield [("rate_limits", "a row is odd")]

    def refuse(self, rows: Any) -> None:
        self.refused_rows += rows


def outcome(call: Any) -> Any:
    try:
        return call()
    except ApiFailure as failure:
        return failure


@pytest.fixture
def api() -> Api:
    return Api()


def read(
    api: Api, folder: Path, projects: int, now: int = WEDNESDAY
) -> dict[str, Limits | ApiFailure]:
    cache = Cache(str(folder), "acme", lambda: float(now))
    source = Source(api, cache, UsageQueries(api, cache, now), now)
    api.read.clear()
    return project_limits.read(source, [f"p{number:04}" for number in range(projects)])


def rpm(found: dict[str, Limits | ApiFailure]) -> list[object]:
    """Return the limit of requests of each project, or the kind of its failure."""
    return [
        one.kind if isinstance(one, ApiFailure) else one.rows[0].max_requests_per_1_minute
        for one in found.values()
    ]


def test_all_are_read_and_then_kept_for_an_hour(api: Api, tmp_path: Path) -> None:
    assert rpm(read(api, tmp_path, TOGETHER)) == [10] * TOGETHER
    api.rpm = 20
    assert rpm(read(api, tmp_path, TOGETHER, WEDNESDAY + HOUR - 1)) == [10] * TOGETHER
    assert api.read == []
    assert rpm(read(api, tmp_path, TOGETHER, WEDNESDAY + HOUR)) == [20] * TOGETHER
    assert len(api.read) == TOGETHER


def test_of_many_projects_a_poll_reads_200_and_names_the_rest(api: Api, tmp_path: Path) -> None:
    found = read(api, tmp_path, 2 * MOST_AT_ONCE + 1)
    assert rpm(found) == [10] * MOST_AT_ONCE + ["postponed"] * (MOST_AT_ONCE + 1)
    assert len(api.read) == MOST_AT_ONCE

    found = read(api, tmp_path, 2 * MOST_AT_ONCE + 1, WEDNESDAY + 60)
    assert rpm(found) == [10] * 2 * MOST_AT_ONCE + ["postponed"]
    found = read(api, tmp_path, 2 * MOST_AT_ONCE + 1, WEDNESDAY + 120)
    assert (rpm(found).count(10), len(api.read)) == (2 * MOST_AT_ONCE + 1, 1)


def test_the_oldest_of_many_are_read_first(api: Api, tmp_path: Path) -> None:
    read(api, tmp_path, MOST_AT_ONCE, WEDNESDAY)
    read(api, tmp_path, MOST_AT_ONCE + 1, WEDNESDAY + 60)
    found = read(api, tmp_path, MOST_AT_ONCE + 1, WEDNESDAY + HOUR + 60)
    assert api.read == [f"p{number:04}" for number in range(MOST_AT_ONCE)]
    last = found[f"p{MOST_AT_ONCE:04}"]
    assert isinstance(last, Limits)
    assert last.read_at == WEDNESDAY + 60


@pytest.mark.parametrize("kind", PASSING)
def test_while_they_cannot_be_read_those_of_the_last_day_stay(
    api: Api, tmp_path: Path, kind: str
) -> None:
    read(api, tmp_path, 2)
    api.failure = kind
    assert rpm(read(api, tmp_path, 3, WEDNESDAY + DAY - 1)) == [10, 10, kind]
    assert rpm(read(api, tmp_path, 3, WEDNESDAY + DAY)) == [kind] * 3


@pytest.mark.parametrize("kind", ["archived", "not_found", "scope", "key", "contract"])
def test_a_failure_that_is_about_the_project_or_the_key_counts(
    api: Api, tmp_path: Path, kind: str
) -> None:
    read(api, tmp_path, 1)
    api.failure = kind
    assert rpm(read(api, tmp_path, 1, WEDNESDAY + HOUR)) == [kind]


def test_a_row_that_is_left_out_is_reported_by_every_poll(api: Api, tmp_path: Path) -> None:
    for now in (WEDNESDAY, WEDNESDAY + 60):
        api.refused_rows.clear()
        read(api, tmp_path, 1, now)
        assert [*map(tuple, api.refused_rows)] == [("rate_limits", "a row is odd")]
