"""A run of several DataSources asks each usage question once and gets the numbers of each alone."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_openai.api.client import Client
from lm_openai.api.records import Bucket
from lm_openai.app import run_many
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.collect.usage_queries import UsageQueries, UsageQuery
from lm_openai.errors import ApiFailure
from lm_openai.model.units import Number
from lm_openai.simulator import ADMIN_KEY, Simulator
from lm_openai.storage.cache import Cache
from lm_openai.timespans import Window
from tests.support import demo_polls
from tests.support.demo_polls import WEDNESDAY

USAGE = (
    "audio_speeches_by_model",
    "audio_transcriptions_by_model",
    "code_interpreter_by_project",
    "completion_by_model",
    "decisions_by_model",
    "embeddings_by_model",
    "file_search_by_vector_store",
    "images_by_model",
    "model_mix_by_project",
    "moderations_by_model",
    "usage_by_consumer",
    "vector_stores_by_project",
    "web_search_by_model",
)
HOUR = Window(WEDNESDAY - 3600, WEDNESDAY, "1m")
BY_MODEL, BY_PROJECT = ("model",), ("project_id",)


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    """The demo organization, whose usage is not late."""
    with Simulator(at=WEDNESDAY, lag=0) as simulator:
        yield simulator


@pytest.fixture(autouse=True)
def unspoilt(demo: Simulator) -> Iterator[None]:
    """No fault and no request outlives its test."""
    yield
    demo.clear()


def run(
    folders: Iterable[str], demo: Simulator, cache: Path, *sets: str, now: int = WEDNESDAY
) -> tuple[dict[str, Any], str]:
    """The documents by folder and stderr."""
    demo.now = now
    environ = {
        "OPENAI_ADMIN_KEY": ADMIN_KEY,
        "OPENAI_BASE_URL": demo.url,
        "LM_OPENAI_CACHE_DIR": str(cache),
        "LM_OPENAI_ETC": str(cache),
    }
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environ, io.StringIO(), out, err, now)
    run_many.run(tuple(folders), Options(sets=("openai.org.name=acme", *sets)), around)
    documents = [json.loads(line) for line in out.getvalue().splitlines()]
    return {one["datasource"]["folder"]: one for one in documents}, err.getvalue()


def questions(demo: Simulator) -> list[tuple[str, ...]]:
    """(path, bucket width, start, end, dimensions) of every request."""
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
    together, said = run(USAGE, demo, tmp_path / "together", "openai.models.approved=gpt-4*")
    again, _ = run(USAGE, demo, tmp_path / "together", "openai.models.approved=gpt-4*")

    assert said == ""
    assert set(together) == set(USAGE)
    for folder in USAGE:
        properties = {"openai.models.approved": "gpt-4*"}
        alone = demo_polls.document(folder, demo, tmp_path / folder, "json", properties)
        assert together[folder] == again[folder] == alone


def test_no_question_of_a_run_is_asked_twice(demo: Simulator, tmp_path: Path) -> None:
    run(USAGE, demo, tmp_path)
    asked = questions(demo)

    assert len(set(asked)) == len(asked)
    windows = [(path, width, start) for path, width, start, _, page in asked if not page]
    assert len(set(windows)) == len(windows), "one kind and one time, asked by two groupings"


def test_a_fast_pass_over_50_projects_and_20_models_takes_few_requests(tmp_path: Path) -> None:
    """Costs have room for 8 more while cold and 7 while warm under the limits of 40 and 20."""
    with Simulator(at=WEDNESDAY, projects=50, models=20) as large:
        run(USAGE, large, tmp_path, "openai.timeout=600")
        cold = len(large.requests)
        large.clear()
        run(USAGE, large, tmp_path, "openai.timeout=600", now=WEDNESDAY + 300)

    assert cold <= 32
    assert len(large.requests) <= 13


def test_a_kind_without_an_answer_is_asked_once_for_all(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("400", "*/usage/images")
    documents, _ = run(USAGE, demo, tmp_path)

    assert "images_by_model" not in documents
    assert "model_mix_by_project" not in documents
    assert "no total that adds up images" in documents["usage_by_consumer"]["partial_failures"][0]
    assert len([request for request in demo.requests if "images" in request.path]) == 2


def test_windows_that_differ_are_asked_each(demo: Simulator, tmp_path: Path) -> None:
    folders = ("embeddings_by_model", "usage_by_consumer")
    documents, _ = run(folders, demo, tmp_path, "openai.embeddings_by_model.window=15m")
    alone = demo_polls.document(
        "embeddings_by_model", demo, tmp_path / "alone", "json", {"openai.window": "15m"}
    )

    assert documents["embeddings_by_model"]["instances"] == alone["instances"]


# One answer for several questions


class Stub(Client):
    """A client that answers from a table of rows and notes by what it was asked."""

    def __init__(self, rows: list[dict[str, Any]], most: int = 10**9) -> None:
        self.rows, self.most = rows, most
        self.asked: list[tuple[str, ...]] = []

    def usage(self, kind: str, start: int, end: int, *rest: Any, **more: Any) -> Iterator[Bucket]:
        self.asked.append(tuple(more["group_by"]))
        if len(self.rows) > self.most and len(more["group_by"]) > 1:
            raise ApiFailure("too_large", f"usage/{kind}")
        yield Bucket(start, end, [dict(row) for row in self.rows])


ROWS = [
    {"project_id": "a", "model": "m", "input_tokens": 1, "num_model_requests": 1},
    {"project_id": "a", "model": "n", "input_tokens": 2, "num_model_requests": 1},
    {"project_id": "b", "model": "m", "input_tokens": 4, "num_model_requests": 1},
]


def tokens(answers: UsageQueries, *dimensions: str) -> dict[tuple[str, ...], Number]:
    (bucket,) = answers.buckets(UsageQuery("embeddings", HOUR, dimensions))
    return {group: values["input_tokens"] for group, values in bucket.groups.items()}


def cache(folder: Path) -> Cache:
    return Cache(str(folder), "someone", lambda: float(WEDNESDAY))


def expected(*groupings: tuple[str, ...]) -> list[UsageQuery]:
    return [UsageQuery("embeddings", HOUR, dimensions) for dimensions in groupings]


def test_the_finest_of_the_questions_answers_the_others(tmp_path: Path) -> None:
    client = Stub(ROWS)
    both = ("model", "project_id")
    answers = UsageQueries(client, cache(tmp_path), expected(BY_MODEL, both))

    assert tokens(answers, "model") == {("m",): 5, ("n",): 2}
    assert tokens(answers, *both) == {("m", "a"): 1, ("n", "a"): 2, ("m", "b"): 4}
    assert client.asked == [both]


def test_two_groupings_are_joined_only_once_their_rows_are_known_to_be_few(tmp_path: Path) -> None:
    client = Stub(ROWS)
    kept = cache(tmp_path)
    answers = UsageQueries(client, kept, expected(BY_MODEL, BY_PROJECT))
    assert tokens(answers, "model") == {("m",): 5, ("n",): 2}
    assert tokens(answers, "project_id") == {("a",): 3, ("b",): 4}
    assert client.asked == [BY_MODEL, BY_PROJECT]

    kept.put("rows embeddings model,project_id", 3, 60)
    answers = UsageQueries(client, kept, expected(BY_MODEL, BY_PROJECT))
    assert tokens(answers, "model") == {("m",): 5, ("n",): 2}
    assert tokens(answers, "project_id") == {("a",): 3, ("b",): 4}
    assert client.asked[2:] == [("model", "project_id")]

    kept.put("rows embeddings model,project_id", 100_000, 60)
    answers = UsageQueries(client, kept, expected(BY_MODEL, BY_PROJECT))
    assert tokens(answers, "project_id") == {("a",): 3, ("b",): 4}
    assert client.asked[3:] == [BY_PROJECT]


def test_an_answer_too_large_for_all_is_asked_for_each(tmp_path: Path) -> None:
    client = Stub(ROWS, most=2)
    both = ("model", "project_id")
    answers = UsageQueries(client, cache(tmp_path), expected(BY_MODEL, both))

    assert tokens(answers, "model") == {("m",): 5, ("n",): 2}
    assert client.asked == [both, BY_MODEL]


def test_what_nobody_else_asks_is_asked_as_it_is(tmp_path: Path) -> None:
    client = Stub(ROWS)
    answers = UsageQueries(client, cache(tmp_path), expected(BY_MODEL))

    assert tokens(answers, "model") == tokens(answers, "model")
    assert client.asked == [BY_MODEL, BY_MODEL]
