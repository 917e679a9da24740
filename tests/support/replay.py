"""Recorded poll of one DataSource, and an API that serves the recorded responses."""

from __future__ import annotations

import io
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.timespans import WIDTHS
from tests.support.paths import ROOT
from tests.support.surroundings import environment

KEY = "sk-admin-recorded"
DISCOVERED = ("logicmonitor", "zabbix")


class Answer(NamedTuple):
    """One recorded request and its response.

    `query` holds the list of values by parameter, `answer` the document of the response.
    """

    path: str
    query: dict[str, list[str]]
    status: int
    answer: Any


class Record(NamedTuple):
    """Content of `testdata/responses.json`: time, host properties and responses of a poll."""

    at: int
    properties: dict[str, str]
    answers: tuple[Answer, ...]

    @classmethod
    def of(cls, folder: str) -> Record:
        """Return the record of a DataSource."""
        found = json.loads((testdata(folder) / "responses.json").read_text())
        answers = tuple(Answer(**answer) for answer in found["answers"])
        return cls(found["at"], found["properties"], answers)


class Outcome(NamedTuple):
    """Output and exit status of a run."""

    stdout: str
    stderr: str
    status: int


class Ticks:
    """Clock that advances by 1/64 s at each call, for each thread.

    Every response therefore takes the same time.
    """

    def __init__(self) -> None:
        self._calls = threading.local()

    def __call__(self) -> float:
        self._calls.number = getattr(self._calls, "number", 0) + 1
        return float(self._calls.number / 64)


def testdata(folder: str) -> Path:
    """Return the folder of a DataSource's record and expected outputs."""
    return ROOT / "modules" / folder / "testdata"


def outputs() -> Iterator[tuple[str, bool]]:
    """Yield (format, True for the discovery form) of every expected output."""
    for form in ("json", "influx", "logicmonitor", "nagios", "zabbix", "checkmk", "prometheus"):
        yield form, False
    for form in DISCOVERED:
        yield form, True


def expected(folder: str, form: str, discover: bool) -> Path:
    """Return the path of one expected output."""
    return testdata(folder) / f"{form}{'-discovery' if discover else ''}.txt"


def replayed(
    folder: str,
    cache: Path,
    form: str = "json",
    discover: bool = False,
    failing: str = "",
    **options: Any,
) -> Outcome:
    """Run a DataSource against its record and return the outcome; `options` are of Options."""
    record = Record.of(folder)
    with answering(record, failing) as url:
        return collected(folder, record, url, cache, form, discover, clock=Ticks(), **options)


def collected(
    folder: str,
    record: Record,
    url: str,
    cache: Path,
    form: str = "json",
    discover: bool = False,
    key: str = KEY,
    clock: Callable[[], float] = time.monotonic,
    **options: Any,
) -> Outcome:
    """Run a DataSource against an API, with the time and the properties of a record.

    `options` are further fields of Options.
    """
    # A test may change the API between two polls of the same time.
    environ = {**environment(url, cache, key), "LM_OPENAI_CACHE_TTL": "0s"}
    sets = tuple(f"{name}={value}" for name, value in record.properties.items())
    out, err = io.StringIO(), io.StringIO()
    status = run(
        folder,
        Options(format=form, discover=discover, sets=sets, **options),
        Surroundings(environ, io.StringIO(), out, err, record.at, clock),
    )
    return Outcome(out.getvalue(), err.getvalue(), status)


@contextmanager
def answering(record: Record, failing: str = "") -> Iterator[str]:
    """Serve the recorded requests and reject all others, and the path `failing`; yields the URL."""
    with HTTPServer(host="127.0.0.1") as server:
        anything = server.expect_request(re.compile(".*"))
        anything.respond_with_handler(lambda request: _answer(record, request, failing))
        yield server.url_for("/v1")


def empty_page(query: dict[str, list[str]]) -> dict[str, Any]:
    """Return empty buckets, the response for a usage kind that the record does not have.

    A kind that is declared later therefore changes no record.
    """
    width = WIDTHS[query["bucket_width"][0]]
    start, end = int(query["start_time"][0]), int(query["end_time"][0])
    edges = [start, *range(start - start % width + width, end, width), end]
    buckets = [
        {"object": "bucket", "start_time": first, "end_time": last, "results": []}
        for first, last in pairwise(edges)
    ]
    return {"object": "page", "data": buckets, "has_more": False, "next_page": None}


def _answer(record: Record, request: Request, failing: str) -> Response:
    if failing and request.path == f"/v1{failing}":
        return _refusal("not today")
    query = parse_qs(request.query_string.decode(), keep_blank_values=True)
    for known in record.answers:
        if f"/v1{known.path}" == request.path and known.query == query:
            return Response(json.dumps(known.answer), known.status, content_type="application/json")
    if "/usage/" in request.path and request.path not in {
        f"/v1{known.path}" for known in record.answers
    }:
        return Response(json.dumps(empty_page(query)), content_type="application/json")
    return _refusal(f"not in the record: {request.path} {query}")


def _refusal(message: str) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "refused"}
    return Response(json.dumps({"error": error}), 400, content_type="application/json")
