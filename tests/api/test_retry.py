"""Retries over real HTTP: waits, deadlines, throttling and parallelism."""

from __future__ import annotations

import json
import threading

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from lm_openai.api.client import Client
from lm_openai.api.notes import Memory, Notes
from lm_openai.api.retry import Lane
from lm_openai.api.transport import Connection, Transport
from lm_openai.simulator import Simulator
from tests.support.http_api import (
    DAY,
    KEY,
    SCOPE,
    Clock,
    bucket,
    client_of,
    demo_client,
    error,
    failure_of,
    page,
    serve,
)

COSTS = "/organization/costs"
ONE_DAY = page(bucket(0, width=DAY))
NOON = 1795348800


@pytest.mark.parametrize(
    "temporary",
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
def test_a_temporary_failure_is_retried_until_it_passes(
    httpserver: HTTPServer, client: Client, clock: Clock, temporary: Response
) -> None:
    serve(httpserver, COSTS, temporary, temporary, page(bucket(0, width=DAY)))
    assert len(list(client.costs(0, DAY))) == 1
    assert clock.waits == [0.5, 1.0]
    assert (client.counters.requests, client.counters.retries) == (3, 2)


@pytest.mark.parametrize(
    ("lasting", "kind", "detail"),
    [
        (error(503, "Overloaded."), "down", "HTTP 503: Overloaded"),
        (Response("<html>", 502), "down", "HTTP 502"),
        (Response('{"data": ['), "not_json", "HTTP 200 with broken JSON"),
    ],
)
def test_a_lasting_failure_is_raised_when_the_next_retry_would_miss_the_deadline(
    httpserver: HTTPServer, client: Client, clock: Clock, lasting: Response, kind: str, detail: str
) -> None:
    serve(httpserver, COSTS, lasting)
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    assert (failure.kind, failure.detail) == (kind, detail)
    assert clock.waits == [0.5, 1, 2, 4, 8, 16, 16]


@pytest.mark.parametrize("wait", [50.5, 49.99999])
def test_a_retry_without_time_for_a_response_leaves_the_reason_of_the_attempt_before(
    httpserver: HTTPServer, clock: Clock, wait: float
) -> None:
    """The wait lasts until after the deadline, or until so shortly before that nothing can come."""
    seen = serve(httpserver, COSTS, error(503, "Overloaded."))
    transport = Transport(Connection(httpserver.url_for(""), KEY), environ={})
    client = Client(transport, clock=clock, sleep=lambda _: clock.sleep(wait), deadline_seconds=50)

    failure = failure_of(lambda: list(client.costs(0, DAY)))

    assert (failure.kind, failure.detail) == ("down", "HTTP 503: Overloaded")
    assert len(seen) <= 2


def test_jitter_shortens_a_wait_by_at_most_a_quarter(httpserver: HTTPServer, clock: Clock) -> None:
    transport = Transport(Connection(httpserver.url_for(""), KEY), environ={})
    client = Client(transport, clock=clock, sleep=clock.sleep, jitter=lambda: 1.0)
    serve(httpserver, COSTS, error(500), error(500), page())
    list(client.costs(0, DAY))
    assert clock.waits == [0.375, 0.75]


def test_a_response_that_reports_missing_scopes_is_retried_once(
    httpserver: HTTPServer, client: Client
) -> None:
    seen = serve(httpserver, COSTS, error(401, SCOPE), ONE_DAY)
    assert list(client.costs(0, DAY)) == [(0, [])]
    assert len(seen) == 2


def test_a_whole_body_that_is_not_json_is_retried_once(
    httpserver: HTTPServer, client: Client
) -> None:
    seen = serve(httpserver, COSTS, Response('{"data": [], "has_more": NaN}'))
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    assert (failure.kind, failure.detail) == ("not_json", "HTTP 200 with broken JSON")
    assert len(seen) == 2


def test_a_connection_closed_without_a_response_is_retried() -> None:
    with Simulator(at=NOON) as simulator:
        simulator.fault("closed", "*/costs", times=1)
        clock = Clock()
        client = demo_client(simulator, clock=clock, sleep=clock.sleep)
        assert len(list(client.costs(NOON - NOON % DAY, NOON + DAY))) > 0
        assert client.counters.retries == 1


def test_no_request_is_sent_after_the_deadline(
    httpserver: HTTPServer, client: Client, clock: Clock
) -> None:
    clock.now += 51
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    assert (failure.kind, failure.detail) == ("deadline", "the request was not sent")
    assert httpserver.log == []


def test_a_response_slower_than_the_poll_fails_at_the_deadline(httpserver: HTTPServer) -> None:
    finished = threading.Event()

    def wait(_: Request) -> Response:
        finished.wait(30)
        return Response(json.dumps(page()))

    httpserver.expect_request(COSTS).respond_with_handler(wait)
    transport = Transport(Connection(httpserver.url_for(""), KEY), environ={})
    client = Client(transport, deadline_seconds=0.2)
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    finished.set()
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
def test_a_throttled_poll_waits_for_retry_after_or_else_half_a_second(
    httpserver: HTTPServer, client: Client, clock: Clock, headers: dict[str, str], wait: float
) -> None:
    serve(httpserver, COSTS, error(429, code="rate_limit_exceeded", **headers), page())
    assert list(client.costs(0, DAY)) == []
    assert clock.waits == [wait]
    assert (client.counters.throttled, client.counters.retries) == (1, 1)


def test_endless_throttling_fails_as_throttled(
    httpserver: HTTPServer, client: Client, clock: Clock
) -> None:
    serve(httpserver, COSTS, error(429))
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    assert failure.kind == "throttled"
    assert "no request for another 32 s, longer than this poll may run" in str(failure)
    assert clock.waits == [0.5, 1, 2, 4, 8, 16]


@pytest.mark.parametrize(("asked", "pause"), [("120", 120), ("86400", 300)])
def test_a_retry_after_beyond_the_deadline_fails_at_once_and_is_capped_at_five_minutes(
    httpserver: HTTPServer, clock: Clock, asked: str, pause: int
) -> None:
    notes = Notes(Memory(), clock)
    serve(httpserver, COSTS, error(429, Retry_After=asked))
    failure = failure_of(lambda: list(client_of(httpserver, clock, notes=notes).costs(0, DAY)))
    assert failure.kind == "throttled"
    assert failure.detail == (
        f"no request for another {pause} s, longer than this poll may run; the API asked for a "
        f"pause of {asked} s"
    )
    assert clock.waits == []
    assert notes.pause("costs").until == clock.now + pause


def test_a_poll_waits_for_a_pause_of_another_process(httpserver: HTTPServer, clock: Clock) -> None:
    notes = Notes(Memory(), clock)
    serve(httpserver, COSTS, ONE_DAY)
    notes.throttled("costs", 12, None)
    list(client_of(httpserver, clock, notes=notes).costs(0, DAY))
    assert clock.waits == [12]
    notes.throttled("costs", 90, None)
    failure = failure_of(lambda: list(client_of(httpserver, clock, notes=notes).costs(0, DAY)))
    assert failure.kind == "throttled"
    assert len(httpserver.log) == 1


def test_a_throttled_endpoint_does_not_pause_the_others(
    httpserver: HTTPServer, client: Client, clock: Clock
) -> None:
    serve(httpserver, COSTS, error(429, Retry_After="120"))
    serve(httpserver, "/organization/usage/images", ONE_DAY)
    assert failure_of(lambda: list(client.costs(0, DAY))).kind == "throttled"
    assert len(list(client.usage("images", 0, DAY, "1d"))) == 1
    assert clock.waits == []


def test_simultaneous_429s_pause_the_poll_and_halve_its_parallelism_once() -> None:
    """After eight parallel requests are throttled, four run at once, then slowly more."""
    all_sent = threading.Barrier(8)
    lock = threading.Lock()
    received = busy = 0
    seen: list[int] = []

    def respond(_: Request) -> Response:
        nonlocal received, busy
        with lock:
            received += 1
            throttled = received <= 8
        if throttled:
            all_sent.wait(30)
            return error(429, Retry_After="0.05")
        with lock:
            busy += 1
            seen.append(busy)
        threading.Event().wait(0.02)
        with lock:
            busy -= 1
        return Response(json.dumps({"id": "p", "created_at": 1}))

    with HTTPServer(threaded=True) as server:
        server.expect_request("/organization/projects/p").respond_with_handler(respond)
        transport = Transport(Connection(server.url_for(""), KEY, concurrency=8), environ={})
        client = Client(transport, concurrency=8)
        found = client.together([lambda: client.record("project", project_id="p")] * 24)
        transport.close()
    assert [row["id"] for row in found if isinstance(row, dict)] == ["p"] * 24
    assert max(seen[:4]) <= 4
    assert max(seen) < 8
    assert client.counters.throttled == 8


def test_parallelism_recovers_by_one_after_each_round_of_successes() -> None:
    lane = Lane(16)
    assert lane.throttled(sent=1, now=2)
    assert not lane.throttled(sent=1.5, now=3)
    assert lane.allowed == 8
    lane.succeeded(sent=1.9)
    assert lane.allowed == 8
    for _ in range(9):
        lane.succeeded(sent=3)
    assert 9 <= lane.allowed < 9.2
    for _ in range(200):
        lane.succeeded(sent=3)
    assert lane.allowed == 16


def test_a_success_ends_the_growth_of_pauses(
    httpserver: HTTPServer, client: Client, clock: Clock
) -> None:
    throttled = error(429)
    serve(httpserver, COSTS, throttled, throttled, page(), throttled, page())
    for _ in range(2):
        list(client.costs(0, DAY))
    assert clock.waits == [0.5, 1, 0.5]
