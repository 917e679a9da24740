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
from lm_openai.api.endpoints import USAGE_KINDS, UsageKind
from lm_openai.api.records import Bucket
from lm_openai.app import run_many
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.collect import datasource, usage_queries
from lm_openai.collect.usage_queries import UsageQueries, UsageQuery
from lm_openai.errors import ApiFailure
from lm_openai.metrics.usage import MODEL_KINDS
from lm_openai.metrics.usage_by_consumer import COMPARED_DAYS
from lm_openai.model.units import Number
from lm_openai.simulator import Simulator
from lm_openai.storage.cache import Cache
from lm_openai.timespans import WIDTHS, Window
from tests.support import demo_polls
from tests.support.demo_polls import WEDNESDAY
from tests.support.kinds import kinds_by_folder
from tests.support.surroundings import environment

USAGE = (*kinds_by_folder(), "model_mix_by_project", "usage_by_consumer")
BEGIN = (WEDNESDAY - 3600) // 60 * 60
HOUR = Window(BEGIN, WEDNESDAY, "1m")
BY_MODEL, BY_POOL = ("model",), ("project_id", "model")


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
    of the cut hours on each of its 7 days; one page more at most, and one kind whose shared hour is
    too large."""
    with Simulator(at=WEDNESDAY, projects=50, models=20) as large:
        run(USAGE, large, tmp_path, "openai.timeout=600")
        cold = Counter(request.path.rpartition("/")[2] for request in large.requests)
        large.clear()
        run(USAGE, large, tmp_path, "openai.timeout=600", now=WEDNESDAY + 300)

    most = {
        kind: 2 + ("tokens" in row.totals) * (1 + COMPARED_DAYS)
        for kind, row in USAGE_KINDS.items()
    }
    assert cold.pop("projects") == 1
    assert cold.keys() == most.keys()
    assert cold.total() <= sum(most.values()) + 2
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
    images = [query for query in queries(demo) if query[0].endswith("images")]
    assert len(images) == len(set(images))


def test_different_windows_are_requested_separately(demo: Simulator, tmp_path: Path) -> None:
    folders = ("embeddings_by_model", "usage_by_consumer")
    documents, _ = run(folders, demo, tmp_path, "openai.embeddings_by_model.window=15m")
    alone = demo_polls.document(
        "embeddings_by_model", demo, tmp_path / "alone", "json", {"openai.window": "15m"}
    )

    assert documents["embeddings_by_model"]["instances"] == alone["instances"]


# One shared response for several queries


class Stub(Client):
    """Client that returns a table of rows and records each request."""

    def __init__(self, rows: list[dict[str, Any]], failure: str = "") -> None:
        self.rows, self.failure = rows, failure
        self.requested: list[UsageQuery] = []
        self.groups: list[int | None] = []

    def usage(self, kind: str, start: int, end: int, *rest: Any, **more: Any) -> Iterator[Bucket]:
        (width,), grouping = rest, tuple(more["group_by"])
        self.requested.append(UsageQuery(kind, Window(start, end, width), grouping))
        self.groups.append(more["groups"])
        if self.failure and grouping == BY_POOL:
            raise ApiFailure(self.failure, f"usage/{kind}")
        for begin in range(start, end, WIDTHS[width]):
            rows = more["fold"]([dict(row) for row in self.rows], USAGE_KINDS[kind].quantities)
            yield Bucket(begin, min(begin + WIDTHS[width], end), rows)


ROWS = [
    {"project_id": "a", "model": "m", "input_tokens": 1, "num_model_requests": 1},
    {"project_id": "a", "model": "n", "input_tokens": 2, "num_model_requests": 1},
    {"project_id": "b", "model": "m", "input_tokens": 4, "num_model_requests": 1},
]


def cache(folder: Path) -> Cache:
    return Cache(str(folder), "someone", lambda: float(WEDNESDAY))


def reading(client: Client, folder: Path) -> UsageQueries:
    """Return the usage as a process sees it that polls at WEDNESDAY."""
    return UsageQueries(client, cache(folder), WEDNESDAY)


def tokens(
    queries: UsageQueries, *dimensions: str, window: Window = HOUR
) -> list[dict[tuple[str, ...], Number]]:
    """Return the input tokens by group of each bucket."""
    found = queries.buckets(UsageQuery("embeddings", window, dimensions))
    return [{group: each["input_tokens"] for group, each in one.groups.items()} for one in found]


def test_one_request_serves_every_grouping_of_the_hour(tmp_path: Path) -> None:
    client = Stub(ROWS)
    queries = reading(client, tmp_path)

    assert tokens(queries, "model") == [{("m",): 5, ("n",): 2}] * 61
    assert tokens(queries, "project_id") == [{("a",): 3, ("b",): 4}] * 61
    assert tokens(queries, "model", "project_id")[0][("n", "a")] == 2
    assert tokens(queries) == [{(): 7}] * 61
    assert client.requested == [UsageQuery("embeddings", HOUR, BY_POOL)]


def test_whole_buckets_of_a_part_of_the_hour_are_taken_from_it(tmp_path: Path) -> None:
    client = Stub(ROWS)
    queries = reading(client, tmp_path)
    latest = HOUR._replace(start=BEGIN + 3300)
    earlier = HOUR._replace(start=BEGIN + 300, end=BEGIN + 600)

    assert len(tokens(queries, "model", window=latest)) == 6
    assert [one.start for one in queries.buckets(UsageQuery("embeddings", earlier, ()))] == [
        BEGIN + 300 + 60 * minute for minute in range(5)
    ]
    assert [query.window for query in client.requested] == [HOUR]


OTHERS = {
    "ends within a minute": HOUR._replace(end=WEDNESDAY - 30),
    "begins within a minute": HOUR._replace(start=WEDNESDAY - 90),
    "longer": HOUR._replace(start=BEGIN - 3600),
    "other buckets": HOUR._replace(start=BEGIN // 3600 * 3600, width="1h"),
}


@pytest.mark.parametrize("window", OTHERS.values(), ids=OTHERS)
def test_another_span_is_requested_as_it_is(tmp_path: Path, window: Window) -> None:
    client = Stub(ROWS)
    tokens(reading(client, tmp_path), "model", window=window)
    assert client.requested == [UsageQuery("embeddings", window, BY_MODEL)]


def test_another_grouping_and_single_projects_are_requested_as_they_are(tmp_path: Path) -> None:
    client = Stub([{**row, "user_id": "u"} for row in ROWS])
    queries = reading(client, tmp_path)
    tokens(queries, "user_id")
    [*queries.buckets(UsageQuery("embeddings", HOUR, BY_MODEL, ("a",)))]
    assert [query.dimensions for query in client.requested] == [("user_id",), BY_MODEL]


def test_a_large_shared_response_is_requested_once_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_queries, "SHARED_ROWS", 3 * 61 - 1)
    client = Stub(ROWS)
    for _ in range(2):
        assert tokens(reading(client, tmp_path), "model")[0] == {("m",): 5, ("n",): 2}
    assert [query.dimensions for query in client.requested] == [BY_POOL, BY_MODEL, BY_MODEL]


@pytest.mark.parametrize("kind", usage_queries.OF_THE_QUERY)
def test_a_failure_of_the_shared_request_alone_leads_to_own_requests(
    tmp_path: Path, kind: str
) -> None:
    client = Stub(ROWS, failure=kind)
    assert tokens(reading(client, tmp_path), "model")[0] == {("m",): 5, ("n",): 2}
    assert [query.dimensions for query in client.requested] == [BY_POOL, BY_MODEL]


def test_any_other_failure_is_that_of_every_query(tmp_path: Path) -> None:
    client = Stub(ROWS, failure="down")
    queries = reading(client, tmp_path)
    for grouping in (BY_MODEL, ("project_id",)):
        with pytest.raises(ApiFailure):
            tokens(queries, *grouping)
    assert len(client.requested) == 1


@pytest.mark.parametrize("kind", USAGE_KINDS.values(), ids=USAGE_KINDS)
def test_the_shared_grouping_of_a_kind_is_one_of_its_dimensions(kind: UsageKind) -> None:
    assert set(kind.shared) <= set(kind.dimensions)
    if kind.name in MODEL_KINDS:
        assert kind.shared == (*BY_POOL, "batch")[: 2 + kind.knows_batch]


@pytest.mark.parametrize("folder", kinds_by_folder())
def test_the_default_grouping_of_a_datasource_is_shared(folder: str) -> None:
    kind = USAGE_KINDS[kinds_by_folder()[folder]]
    assert set(datasource.definition(folder).dimensions) <= set(kind.shared)


@pytest.mark.parametrize(("expected", "second"), [(1, 3), (5, 5)])
def test_a_bucket_of_more_rows_than_expected_makes_later_pages_smaller(
    tmp_path: Path, expected: int, second: int
) -> None:
    client = Stub([{**row, "user_id": "u"} for row in ROWS])
    query = UsageQuery("embeddings", HOUR, ("project_id", "model", "user_id"))
    for _ in range(2):
        [*reading(client, tmp_path).buckets(query, lambda: expected)]
    assert client.groups == [expected, second]
