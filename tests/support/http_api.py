"""Helpers for tests over HTTP: clients, a server with prepared responses, and a test clock."""

from __future__ import annotations

import itertools
import json
import threading
import traceback
from collections.abc import Callable
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from lm_openai.api.client import Client
from lm_openai.api.notes import Memory, Notes
from lm_openai.api.transport import Connection, Transport
from lm_openai.collect.source import Source
from lm_openai.collect.usage_queries import UsageQueries
from lm_openai.errors import ApiFailure
from lm_openai.simulator import ADMIN_KEY, Simulator
from lm_openai.storage.cache import Cache

KEY = "sk-admin-very-secret-value"
DAY = 86400
STALE = "The page token is invalid, have you modified the query parameters?"
SCOPE = (
    "You have insufficient permissions for this operation. Missing scopes: api.usage.read. "
    "Check that you have the correct role in your organization."
)


class Clock:
    """Clock that advances only by `sleep`, so that a test can check every wait."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waits: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


def client_of(
    server: HTTPServer, clock: Clock, *, key: str = KEY, seconds: float = 50, **settings: Any
) -> Client:
    """Return a client without jitter, so that waits are exact."""
    transport = Transport(Connection(server.url_for(""), key), environ={})
    settings.setdefault("notes", Notes(Memory(), clock))
    return Client(
        transport,
        deadline_seconds=seconds,
        clock=clock,
        sleep=clock.sleep,
        jitter=lambda: 0.0,
        **settings,
    )


def demo_client(demo: Simulator, key: str = ADMIN_KEY, **settings: Any) -> Client:
    return Client(Transport(Connection(demo.url, key), environ={}), **settings)


def source_of(client: Client, cache: Cache | None = None, now: int = 0) -> Source:
    """Return a Source without expected usage queries."""
    cache = cache or Cache(None, "", lambda: now)
    return Source(client, cache, UsageQueries(client, cache, now), now)


def bucket(start: int, *rows: dict[str, Any], width: int = 60) -> dict[str, Any]:
    return {
        "object": "bucket",
        "start_time": start,
        "end_time": start + width,
        "results": list(rows),
    }


def page(*entries: Any, **cursor: Any) -> dict[str, Any]:
    return {"object": "page", "data": list(entries), "has_more": bool(cursor), **cursor}


def serve(server: HTTPServer, path: str, *responses: Any) -> list[Request]:
    """Serve the responses in turn, then always the last one; return the requests as they arrive.

    A response is a JSON value, a Response or text.
    """
    seen: list[Request] = []
    lock = threading.Lock()
    waiting = itertools.chain(responses, itertools.repeat(responses[-1]))

    def respond(request: Request) -> Response:
        with lock:
            seen.append(request)
            chosen = next(waiting)
        if isinstance(chosen, Response):
            return Response(chosen.get_data(), chosen.status, chosen.headers)
        return Response(chosen if isinstance(chosen, (str, bytes)) else json.dumps(chosen))

    server.expect_request(path).respond_with_handler(respond)
    return seen


def error(status: int, message: str = "no", code: str | None = None, **headers: str) -> Response:
    body = {"error": {"message": message, "type": "invalid_request_error", "code": code}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(json.dumps(body), status, named)


def failure_of(call: Callable[[], Any]) -> ApiFailure:
    """Return the failure that a call raises; its traceback must not contain the key."""
    with pytest.raises(ApiFailure) as caught:
        call()
    assert KEY not in "".join(traceback.format_exception(caught.value))
    return caught.value
