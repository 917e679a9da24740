"""A run of several DataSources sends each usage query once and prints the same numbers."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_openai.api.client import Client
from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.api.records import Bucket
from lm_openai.app import run_many
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.collect.usage_queries import UsageQueries, UsageQuery
from lm_openai.errors import ApiFailure
from lm_openai.metrics.usage_by_consumer import COMPARED_DAYS
from lm_openai.model.units import Number
from lm_openai.simulator import Simulator
from lm_openai.storage.cache import Cache
from lm_openai.timespans import Window
from tests.support import demo_polls
from tests.support.demo_polls import WEDNESDAY
from tests.support.kinds import folders_with_usage_queries
from tests.support.surroundings import environment

USAGE = folders_with_usage_queries()
HOUR = Window(WEDNESDAY - 3600, WEDNESDAY, "1m")
BY_MODEL, BY_PROJECT = ("model",), ("project_id",)


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    """Start the demo organization; its usage is not late."""
    with Simulator(at=WEDNESDAY, lag=0) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def cleared(demo: Simulator) -> Iterator[None]:
    """Remove the faults and the recorded requests after each test."""
    yield
    demo.clear()


def run(
    folders: Iterable[str], demo: Simulator, cache: Path, *sets: str, now: int = WEDNESDAY
) -> tuple[dict[str, Any], str]:
    """Run DataSources together; return their documents by folder, and stderr."""
    demo.now = now
    environ = environment(demo.url, cache)
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environ, io.StringIO(), out, err, now)
    run_many.run(tuple(folders), Options(sets=("openai.org.name=acme", *sets)), around)
    documents = [json.loads(line) for line in out.getvalue().splitlines()]
    return {one["datasource"]["folder"]: one for one in documents}, err.getvalue()


def queries(demo: Simulator) -> list[tuple[str, ...]]:
    """Return (path, bucket width, start, dimensions, page) of every request."""
    return [
        (
            request.path,
            *(
                ",".join(request.query.get(name, ()))
                for name in ("bucket_width", "start_time", "group_by[]", "page")
            ),
        )
        for request in demo.requests
    ]


def test_several_together_print_what_each_prints_alone(demo: Simulator, tmp_path: Path) -> None:
    together, errors = run(USAGE, demo, tmp_path / "together", "openai.models.approved=gpt-4*")
    again, _ = run(USAGE, demo, tmp_path / "together", "openai.models.approved=gpt-4*")

    assert errors == ""
    assert set(together) == set(USAGE)
    for folder in USAGE:
        properties = {"openai.models.approved": "gpt-4*"}
        alone = demo_polls.document(folder, demo, tmp_path / folder, "json", properties)
        assert together[folder] == again[folder] == alone


def test_a_run_sends_no_query_twice(demo: Simulator, tmp_path: Path) -> None:
    run(USAGE, demo, tmp_path)
    sent = queries(demo)

    assert len(set(sent)) == len(sent)
    windows = [(path, width, start) for path, width, start, _, page in sent if not page]
    assert len(set(windows)) == len(windows), "one kind and window was requested with two groupings"


def test_all_usage_of_50_projects_and_20_models_needs_few_requests(tmp_path: Path) -> None:
    """Window and week of each kind; for tokens also the hours of the week before, and the minutes
    of at most two cut hours on each of its 7 days; one page more at most."""
    with Simulator(at=WEDNESDAY, projects=50, models=20) as large:
        run(USAGE, large, tmp_path, "openai.timeout=600")
        cold = Counter(request.path.rpartition("/")[2] for request in large.requests)
        large.clear()
        run(USAGE, large, tmp_path, "openai.timeout=600", now=WEDNESDAY + 300)

    most = {
        kind: 2 + ("tokens" in row.totals) * (1 + 2 * COMPARED_DAYS)
        for kind, row in USAGE_KINDS.items()
    }
    assert cold.pop("projects") == 1
    assert cold.keys() == most.keys()
    assert cold.total() <= sum(most.values()) + 1
    assert len(large.requests) <= len(USAGE_KINDS) + 2


def test_a_failed_kind_is_requested_once_for_all_datasources(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.fault("400", "*/usage/images")
    documents, _ = run(USAGE, demo, tmp_path)

    assert "images_by_model" not in documents
    assert "model_mix_by_project" not in documents
    assert (
        "totals that include images are left out"
        in documents["usage_by_consumer"]["partial_failures"][0]
    )
    assert len([request for request in demo.requests if "images" in request.path]) == 2


def test_different_windows_are_requested_separately(demo: Simulator, tmp_path: Path) -> None:
    folders = ("embeddings_by_model", "usage_by_consumer")
    documents, _ = run(folders, demo, tmp_path, "openai.embeddings_by_model.window=15m")
    alone = demo_polls.document(
        "embeddings_by_model", demo, tmp_path / "alone", "json", {"openai.window": "15m"}
    )

    assert documents["embeddings_by_model"]["instances"] == alone["instances"]


# One request for several queries


class Stub(Client):
    """Client that returns a table of rows and records the dimensions of each request."""

    def __init__(self, rows: list[dict[str, Any]], most: int = 10**9) -> None:
        self.rows, self.most = rows, most
        self.requested: list[tuple[str, ...]] = []

    def usage(self, kind: str, start: int, end: int, *rest: Any, **more: Any) -> Iterator[Bucket]:
        self.requested.append(tuple(more["group_by"]))
        if len(self.rows) > self.most and len(more["group_by"]) > 1:
            raise ApiFailure("too_large", f"usage/{kind}")
        rows: Any = [dict(row) for row in self.rows]
        if more["fold"]:
            rows = more["fold"](rows, USAGE_KINDS[kind].quantities)
        yield Bucket(start, end, rows)


ROWS = [
    {"project_id": "a", "model": "m", "input_tokens": 1, "num_model_requests": 1},
    {"project_id": "a", "model": "n", "input_tokens": 2, "num_model_requests": 1},
    {"project_id": "b", "model": "m", "input_tokens": 4, "num_model_requests": 1},
]


def tokens(queries: UsageQueries, *dimensions: str) -> dict[tuple[str, ...], Number]:
    (bucket,) = queries.buckets(UsageQuery("embeddings", HOUR, dimensions))
    return {group: values["input_tokens"] for group, values in bucket.groups.items()}


def cache(folder: Path) -> Cache:
    return Cache(str(folder), "someone", lambda: float(WEDNESDAY))


def expected(*groupings: tuple[str, ...]) -> list[UsageQuery]:
    return [UsageQuery("embeddings", HOUR, dimensions) for dimensions in groupings]


def test_the_query_with_all_dimensions_serves_the_others(tmp_path: Path) -> None:
    client = Stub(ROWS)
    both = ("model", "project_id")
    merged = UsageQueries(client, cache(tmp_path), expected(BY_MODEL, both))

    assert tokens(merged, "model") == {("m",): 5, ("n",): 2}
    assert tokens(merged, *both) == {("m", "a"): 1, ("n", "a"): 2, ("m", "b"): 4}
    assert client.requested == [both]


def test_two_groupings_are_merged_only_if_their_rows_are_known_to_be_few(tmp_path: Path) -> None:
    client = Stub(ROWS)
    kept = cache(tmp_path)
    merged = UsageQueries(client, kept, expected(BY_MODEL, BY_PROJECT))
    assert tokens(merged, "model") == {("m",): 5, ("n",): 2}
    assert tokens(merged, "project_id") == {("a",): 3, ("b",): 4}
    assert client.requested == [BY_MODEL, BY_PROJECT]

    kept.put("rows embeddings model,project_id", 3, 60)
    merged = UsageQueries(client, kept, expected(BY_MODEL, BY_PROJECT))
    assert tokens(merged, "model") == {("m",): 5, ("n",): 2}
    assert tokens(merged, "project_id") == {("a",): 3, ("b",): 4}
    assert client.requested[2:] == [("model", "project_id")]

    kept.put("rows embeddings model,project_id", 100_000, 60)
    merged = UsageQueries(client, kept, expected(BY_MODEL, BY_PROJECT))
    assert tokens(merged, "project_id") == {("a",): 3, ("b",): 4}
    assert client.requested[3:] == [BY_PROJECT]


def test_a_merged_response_that_is_too_large_is_requested_separately(tmp_path: Path) -> None:
    client = Stub(ROWS, most=2)
    both = ("model", "project_id")
    merged = UsageQueries(client, cache(tmp_path), expected(BY_MODEL, both))

    assert tokens(merged, "model") == {("m",): 5, ("n",): 2}
    assert client.requested == [both, BY_MODEL]


def test_a_query_of_only_one_datasource_is_not_merged_or_kept(tmp_path: Path) -> None:
    client = Stub(ROWS)
    merged = UsageQueries(client, cache(tmp_path), expected(BY_MODEL))

    assert tokens(merged, "model") == tokens(merged, "model")
    assert client.requested == [BY_MODEL, BY_MODEL]
