"""When questions are asked again over real HTTP: waits, deadlines, throttling, parallelism."""

from __future__ import annotations

import json
import threading

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from lm_openai.api.client import Client
from lm_openai.api.transport import Connection, Transport
from lm_openai.simulator import Simulator
from tests.support.http_api import (
    DAY,
    KEY,
    SCOPE,
    Clock,
    answers,
    bucket,
    client_of,
    demo_client,
    error,
    failure_of,
    page,
)

COSTS = "/organization/costs"
NOON = 1795348800


class Shared:
    """What another process would see of pauses, by the same clock."""

    def __init__(self, clock: Clock, until: float = 0.0) -> None:
        self.clock, self.end = clock, clock.now + until
        self.told: list[float] = []

    def until(self) -> float:
        return self.end - self.clock.now

    def pause(self, seconds: float) -> None:
        self.told.append(seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(httpserver: HTTPServer, clock: Clock) -> Client:
    return client_of(httpserver, clock)


@pytest.mark.parametrize(
    "trouble",
    [
        error(408),
        error(409),
        error(500),
        error(503, "overloaded", "server_is_overloaded"),
        Response("<html>502 Bad Gateway</html>", 502),
        Response('{"data": [{"start_ti'),
        Response(""),
    ],
    ids=["408", "409", "500", "503", "HTML 502", "truncated", "empty"],
)
def test_passing_trouble_is_asked_again_and_forgotten(
    httpserver: HTTPServer, client: Client, clock: Clock, trouble: Response
) -> None:
    answers(httpserver, COSTS, trouble, trouble, page(bucket(0, width=DAY)))
    assert len(list(client.costs(0, DAY))) == 1
    assert clock.waits == [0.5, 1.0]
    assert (client.counters.requests, client.counters.retries) == (3, 2)


@pytest.mark.parametrize(
    ("trouble", "kind", "said"),
    [
        (error(503, "Overloaded."), "down", "HTTP 503: Overloaded"),
        (Response("<html>", 502), "down", "HTTP 502"),
        (Response('{"data": ['), "not_json", "HTTP 200 with broken JSON"),
    ],
)
def test_lasting_trouble_is_reported_when_the_next_try_would_be_too_late(
    httpserver: HTTPServer, client: Client, clock: Clock, trouble: Response, kind: str, said: str
) -> None:
    answers(httpserver, COSTS, trouble)
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    assert (failure.kind, failure.detail) == (kind, said)
    assert clock.waits == [0.5, 1, 2, 4, 8, 16, 16]


def test_jitter_shortens_a_wait_by_at_most_a_quarter(httpserver: HTTPServer, clock: Clock) -> None:
    transport = Transport(Connection(httpserver.url_for(""), KEY), environ={})
    client = Client(transport, clock=clock, sleep=clock.sleep, jitter=lambda: 1.0)
    answers(httpserver, COSTS, error(500), error(500), page())
    list(client.costs(0, DAY))
    assert clock.waits == [0.375, 0.75]


def test_missing_scopes_said_by_mistake_are_asked_once_more(
    httpserver: HTTPServer, client: Client
) -> None:
    seen = answers(httpserver, COSTS, error(401, SCOPE), page())
    assert list(client.costs(0, DAY)) == []
    assert len(seen) == 2


def test_a_connection_closed_without_an_answer_is_asked_again() -> None:
    with Simulator(at=NOON) as simulator:
        simulator.fault("closed", "*/costs", times=1)
        clock = Clock()
        client = demo_client(simulator, clock=clock, sleep=clock.sleep)
        assert len(list(client.costs(NOON - NOON % DAY, NOON + DAY))) > 0
        assert client.counters.retries == 1


def test_nothing_is_asked_once_the_time_is_over(
    httpserver: HTTPServer, client: Client, clock: Clock
) -> None:
    clock.now += 51
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    assert (failure.kind, failure.detail) == ("deadline", "the request was not sent")
    assert httpserver.log == []


def test_an_answer_slower_than_the_polls_time_is_a_deadline(httpserver: HTTPServer) -> None:
    enough = threading.Event()

    def wait(_: Request) -> Response:
        enough.wait(30)
        return Response(json.dumps(page()))

    httpserver.expect_request(COSTS).respond_with_handler(wait)
    transport = Transport(Connection(httpserver.url_for(""), KEY), environ={})
    client = Client(transport, deadline_seconds=0.2)
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    enough.set()
    assert failure.kind == "deadline"
    assert client.counters.requests == 1


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry_After": "7"}, 7),
        ({"Retry_After": "1.5"}, 1.5),
        ({"Retry_After": "soon"}, 0.5),
        ({}, 0.5),
    ],
)
def test_a_throttled_poll_waits_as_it_was_told(
    httpserver: HTTPServer, clock: Clock, headers: dict[str, str], wait: float
) -> None:
    shared = Shared(clock)
    answers(httpserver, COSTS, error(429, code="rate_limit_exceeded", **headers), page())
    client = client_of(httpserver, clock, pauses=shared)
    assert list(client.costs(0, DAY)) == []
    assert sum(clock.waits) == wait
    assert shared.told == [wait]
    assert (client.counters.throttled, client.counters.retries) == (1, 1)


def test_throttling_without_an_end_is_reported_as_such(
    httpserver: HTTPServer, client: Client, clock: Clock
) -> None:
    answers(httpserver, COSTS, error(429))
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    assert failure.kind == "throttled"
    assert clock.waits == [0.5, 1, 2, 4, 8, 16, 16]


def test_a_wait_beyond_the_polls_time_fails_at_once_with_the_seconds(
    httpserver: HTTPServer, clock: Clock
) -> None:
    shared = Shared(clock)
    answers(httpserver, COSTS, error(429, Retry_After="120"))
    client = client_of(httpserver, clock, pauses=shared)
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    assert failure.kind == "throttled"
    assert "no request for another 120 s" in str(failure)
    assert clock.waits == []
    assert shared.told == [120]


def test_a_pause_of_another_process_is_kept(httpserver: HTTPServer, clock: Clock) -> None:
    answers(httpserver, COSTS, page())
    list(client_of(httpserver, clock, pauses=Shared(clock, until=12)).costs(0, DAY))
    assert clock.waits == [12]
    failure = failure_of(
        lambda: list(client_of(httpserver, clock, pauses=Shared(clock, until=90)).costs(0, DAY))
    )
    assert failure.kind == "throttled"
    assert len(httpserver.log) == 1


def test_one_429_pauses_and_halves_the_whole_poll() -> None:
    """Eight questions at once, all throttled once: the poll halves once, then asks at most four."""
    everyone = threading.Barrier(8)
    lock = threading.Lock()
    asked = busy = busiest = 0

    def reply(_: Request) -> Response:
        nonlocal asked, busy, busiest
        with lock:
            asked += 1
            throttled = asked <= 8
        if throttled:
            everyone.wait(30)
            return error(429, Retry_After="0.05")
        with lock:
            busy += 1
            busiest = max(busiest, busy)
        threading.Event().wait(0.02)
        with lock:
            busy -= 1
        return Response(json.dumps({"id": "p", "created_at": 1}))

    with HTTPServer(threaded=True) as server:
        server.expect_request("/organization/projects/p").respond_with_handler(reply)
        transport = Transport(Connection(server.url_for(""), KEY, concurrency=8), environ={})
        client = Client(transport, concurrency=8)
        found = client.together([lambda: client.record("project", project_id="p")] * 24)
        transport.close()
    assert [row["id"] for row in found if isinstance(row, dict)] == ["p"] * 24
    assert busiest <= 4
    assert client.counters.throttled == 8
