"""Runs of the audit feed in tests, and the events that the API reports."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from pytest_httpserver import HTTPServer
from werkzeug import Request as ServerRequest
from werkzeug import Response

from lm_openai.app import audit_feed
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support.paths import ROOT
from tests.support.replay import Outcome
from tests.support.surroundings import environment

Event = dict[str, Any]
AT = 1795005296  # 2026-11-18 12:34:56 UTC
HOUR, DAY = 3600, 86400
STOPPED = f"import time; time.time = lambda: {AT}.0; "
COMMAND = (sys.executable, "-c", STOPPED + "from lm_openai.app import cli; cli.main()", "audit")
"""The command in a process whose clock stands at AT; --at would move no cursor."""


def followed(
    url: str,
    folder: Path,
    *,
    now: float = AT,
    since: str = "24h",
    form: str = "json",
    key: str = ADMIN_KEY,
    most: int = audit_feed.MOST_EVENTS,
    properties: Mapping[str, str] | None = None,
) -> Outcome:
    """Run the feed once in this process, at the time `now`."""
    sets = tuple(f"{name}={value}" for name, value in (properties or {}).items())
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(process_environment(url, folder, key), io.StringIO(), out, err, int(now))
    status = audit_feed.run(form, since, Options(sets=sets), around, most)
    return Outcome(out.getvalue(), err.getvalue(), status)


def process_environment(url: str, folder: Path, key: str = ADMIN_KEY) -> dict[str, str]:
    """Return the environment of a process; its cursor is in `folder`."""
    return {**os.environ, **environment(url, folder, key), "PYTHONPATH": str(ROOT)}


def events(text: str) -> list[Event]:
    """Parse events printed as JSON; each line must be complete."""
    return [json.loads(line) for line in text.splitlines()]


def ids(found: Sequence[Event]) -> list[str]:
    """Return the events' ids in the same order."""
    return [event["id"] for event in found]


def truth(demo: Simulator, start: float, end: float | None = None) -> list[Event]:
    """Return all events that the API reports from `start` to before `end`, oldest first."""
    found: list[Event] = []
    query = {"limit": "100", "effective_at[gte]": str(int(start))}
    if end is not None:
        query["effective_at[lt]"] = str(int(end))
    while True:
        request = Request(f"{demo.url}/organization/audit_logs?{urlencode(query)}")
        request.add_header("Authorization", f"Bearer {ADMIN_KEY}")
        with urlopen(request) as response:
            page = json.load(response)
        found += page["data"]
        if not page["has_more"]:
            return found[::-1]
        query["after"] = page["last_id"]


class GivenEvents:
    """API of an organization whose only events are those given; it returns the newest first."""

    def __init__(self, server: HTTPServer, *given: Event) -> None:
        self.events = list(given)
        self.url = server.url_for("")
        server.expect_request(re.compile("/organization/audit_logs")).respond_with_handler(
            self._respond
        )

    def _respond(self, request: ServerRequest) -> Response:
        first = int(request.args.get("effective_at[gte]", 0))
        end = int(request.args.get("effective_at[lt]", 2**62))
        limit = int(request.args["limit"])
        found = [event for event in self.events if first <= event["effective_at"] < end]
        found.sort(key=lambda event: -event["effective_at"])
        if "after" in request.args:
            found = found[ids(found).index(request.args["after"]) + 1 :]
        page: dict[str, Any] = {
            "object": "list",
            "data": found[:limit],
            "has_more": len(found) > limit,
        }
        if page["data"]:
            page["last_id"] = page["data"][-1]["id"]
        return Response(json.dumps(page), content_type="application/json")


def event(
    identifier: str,
    at: int = AT - HOUR,
    type: str = "login.succeeded",
    payload: Any = None,
    **members: Any,
) -> Event:
    """Return an event; its payload is a member named after its type."""
    details = {} if payload is None else {type: payload}
    return {"id": identifier, "type": type, "effective_at": at, "actor": None, **members, **details}
