"""Outages and pauses that processes share: who sends a request, who reports from the note."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from lm_openai.api.client import Client
from lm_openai.api.notes import Memory, Notes
from lm_openai.api.transport import Connection, NotConnected, Transport
from lm_openai.errors import ApiFailure
from tests.support.http_api import (
    DAY,
    KEY,
    Clock,
    bucket,
    client_of,
    error,
    failure_of,
    page,
    serve,
)

COSTS = "/organization/costs"
PROJECTS = "/organization/projects"
IMAGES = "/organization/usage/images"
Process = Callable[[], Client]
ONE_DAY = page(bucket(0, width=DAY))


@pytest.fixture
def store() -> Memory:
    return Memory()


@pytest.fixture
def process(httpserver: HTTPServer, clock: Clock, store: Memory) -> Process:
    """Return a function that starts a process of the host, which reads costs, images, projects."""
    return lambda: client_of(httpserver, clock, notes=Notes(store, clock))


def costs(client: Client) -> int:
    return len(list(client.costs(0, DAY)))


def usage(client: Client, kind: str) -> int:
    return len(list(client.usage(kind, 0, DAY, "1d")))


def images(client: Client) -> int:
    return usage(client, "images")


def projects(client: Client) -> int:
    return len(list(client.list("projects")))


def test_while_an_endpoint_is_down_one_process_tries_once_a_minute_without_retries(
    httpserver: HTTPServer, process: Process, clock: Clock
) -> None:
    """The first process retries for 47.5 s; its failure is the last try until a minute later."""
    seen = serve(httpserver, COSTS, error(503))
    assert failure_of(lambda: costs(process())).detail == "HTTP 503: no"
    assert len(seen) == 8
    failure = failure_of(lambda: costs(process()))
    assert failure.kind == "down"
    assert failure.detail == (
        "HTTP 503: no; endpoint down since 1970-01-01 00:17 UTC, tried again every 60 s"
    )
    clock.now += 59
    failure_of(lambda: costs(process()))
    assert len(seen) == 8
    clock.now += 1
    waits = len(clock.waits)
    assert failure_of(lambda: costs(process())).detail == "HTTP 503: no"
    failure_of(lambda: costs(process()))
    assert (len(seen), len(clock.waits)) == (9, waits)


def test_the_first_success_removes_the_note(
    httpserver: HTTPServer, process: Process, clock: Clock, store: Memory
) -> None:
    serve(httpserver, COSTS, *[error(500)] * 8, ONE_DAY)
    failure_of(lambda: costs(process()))
    clock.now += 60
    assert costs(process()) == 1
    assert store.read() == {}
    assert costs(process()) == 1


def test_an_outage_of_one_endpoint_leaves_the_others_alone(
    httpserver: HTTPServer, process: Process
) -> None:
    serve(httpserver, COSTS, error(500))
    serve(httpserver, IMAGES, ONE_DAY)
    failure_of(lambda: costs(process()))
    assert images(process()) == 1


def test_three_families_that_are_down_without_any_answer_are_an_outage_of_the_api(
    httpserver: HTTPServer, process: Process, clock: Clock
) -> None:
    for path in (COSTS, IMAGES, PROJECTS):
        serve(httpserver, path, error(502))
    users = serve(httpserver, "/organization/users", error(502), page())
    for read in (costs, images, projects):
        failure_of(partial(read, process()))
    failure = failure_of(lambda: list(process().list("users")))
    assert "HTTP 502: no; API down since 1970-01-01 00:17 UTC, tried again" in failure.detail
    assert len(users) == 0
    clock.now += 60
    failure_of(lambda: list(process().list("users")))
    failure_of(lambda: costs(process()))
    assert len(users) == 1
    clock.now += 60
    assert list(process().list("users")) == []
    assert failure_of(lambda: costs(process())).detail == "HTTP 502: no"


def test_an_answer_in_between_shows_that_the_api_is_there(
    httpserver: HTTPServer, process: Process, clock: Clock
) -> None:
    for path in (COSTS, IMAGES, PROJECTS):
        serve(httpserver, path, error(502))
    users = serve(httpserver, "/organization/users", page())
    client = process()
    for read in (costs, images):
        failure_of(partial(read, client))
        client = process()
    list(client.list("users"))
    clock.now += 1
    failure_of(lambda: projects(process()))
    list(process().list("users"))
    assert len(users) == 2


def test_three_kinds_of_usage_that_are_down_without_an_answer_stop_the_others(
    httpserver: HTTPServer, process: Process
) -> None:
    for kind in ("images", "completions", "embeddings"):
        serve(httpserver, f"/organization/usage/{kind}", error(500))
    seen = serve(httpserver, "/organization/usage/moderations", page())
    for kind in ("images", "completions", "embeddings"):
        failure_of(partial(usage, process(), kind))
    failure = failure_of(lambda: usage(process(), "moderations"))
    assert "HTTP 500: no; usage down since" in failure.detail
    assert len(seen) == 0


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429])
def test_a_refusal_is_no_outage(
    httpserver: HTTPServer, process: Process, status: int, store: Memory
) -> None:
    seen = serve(httpserver, COSTS, error(status, Retry_After="1"))
    failure_of(lambda: costs(process()))
    before = len(seen)
    failure_of(lambda: costs(process()))
    assert len(seen) > before or status == 429
    assert "down" not in store.read()


def test_a_refusal_ends_an_outage(httpserver: HTTPServer, process: Process, clock: Clock) -> None:
    serve(httpserver, COSTS, *[error(500)] * 8, error(403))
    failure_of(lambda: costs(process()))
    clock.now += 60
    assert failure_of(lambda: costs(process())).kind == "refused"
    assert failure_of(lambda: costs(process())).kind == "refused"


def test_one_short_failure_just_before_the_deadline_is_no_outage(
    httpserver: HTTPServer, clock: Clock, store: Memory
) -> None:
    serve(httpserver, COSTS, error(503))
    failure_of(lambda: costs(client_of(httpserver, clock, seconds=0.4, notes=Notes(store, clock))))
    assert store.read() == {}


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("http://127.0.0.1:9", "Connection refused"),
        ("https://no-such-host.invalid", "Name or service not known"),
    ],
)
def test_without_a_connection_the_whole_api_is_down_at_once(
    url: str, detail: str, clock: Clock, store: Memory
) -> None:
    def client() -> Client:
        transport = Transport(Connection(url, KEY), environ={})
        return Client(transport, clock=clock, sleep=clock.sleep, notes=Notes(store, clock))

    first = failure_of(lambda: costs(client()))
    assert isinstance(first, NotConnected)
    second = failure_of(lambda: images(client()))
    assert second.kind == "unreachable"
    assert "API down since 1970-01-01 00:17 UTC" in second.detail
    assert client().counters.requests == 0


def test_a_broken_connection_concerns_its_endpoint_only(
    httpserver: HTTPServer, process: Process
) -> None:
    cut = Response("half", headers={"Content-Length": "1000"})
    serve(httpserver, COSTS, cut)
    serve(httpserver, IMAGES, ONE_DAY)
    assert failure_of(lambda: costs(process())).kind in ("unreachable", "not_json")
    assert images(process()) == 1


def test_when_the_api_is_back_all_requests_of_the_trying_process_go_on(
    httpserver: HTTPServer, process: Process, clock: Clock, store: Memory
) -> None:
    """Sixteen threads find the note; one makes the try, and the others wait for its success."""
    Notes(store, clock).failed("costs", NotConnected("unreachable", "costs", "refused"), clock.now)
    clock.now += 60
    seen = serve(httpserver, IMAGES, ONE_DAY)
    client = process()
    found = client.together([lambda: images(client)] * 16)
    assert found == [1] * 16
    assert len(seen) == 16


def test_during_a_long_pause_one_process_tries_once_a_minute(
    httpserver: HTTPServer, process: Process, clock: Clock
) -> None:
    """The first 429 asks for a day; the pause is five minutes, and a success ends it."""
    day = error(429, Retry_After="86400")
    seen = serve(httpserver, COSTS, day, day, ONE_DAY)
    failure_of(lambda: costs(process()))
    clock.now += 59
    failure_of(lambda: costs(process()))
    assert len(seen) == 1
    clock.now += 1
    failure = failure_of(lambda: costs(process()))
    assert "no request for another 300 s" in failure.detail
    assert "the API asked for a pause of 86400 s" in failure.detail
    failure_of(lambda: costs(process()))
    assert len(seen) == 2
    clock.now += 60
    assert costs(process()) == 1
    assert costs(process()) == 1
    assert clock.waits == []


def test_a_success_that_began_before_a_429_does_not_end_its_pause(
    clock: Clock, store: Memory
) -> None:
    notes = Notes(store, clock)
    sent = clock.now
    clock.now += 1
    notes.throttled("costs", 100, None)
    notes.answered("costs", sent)
    assert notes.pause("costs").until == clock.now + 100
    notes.answered("costs", clock.now + 1)
    assert notes.pause("costs").until == 0


def test_a_shorter_pause_does_not_end_a_longer_one(clock: Clock, store: Memory) -> None:
    notes = Notes(store, clock)
    notes.throttled("costs", 60, None)
    notes.throttled("costs", 1, None)
    assert notes.pause("costs").until == clock.now + 60


def test_a_clock_that_is_set_back_neither_prolongs_a_pause_nor_stops_the_tries(
    clock: Clock, store: Memory
) -> None:
    notes = Notes(store, clock)
    notes.throttled("costs", 300, None)
    notes.failed("projects", ApiFailure("down", "projects", "HTTP 500"), clock.now)
    clock.now -= 500
    assert notes.pause("costs").until == clock.now + 300
    assert notes.claim("projects", clock.now + 500)
    assert not notes.claim("projects", clock.now)


def test_only_one_of_many_threads_gets_the_try(clock: Clock, store: Memory) -> None:
    notes = Notes(store, clock)
    gate = threading.Barrier(8)
    got: list[bool] = []

    def claim() -> None:
        gate.wait(30)
        got.append(notes.claim("costs", clock.now - 60))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(got) == [False] * 7 + [True]
