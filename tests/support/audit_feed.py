"""How the tests of the audit feed run it, and what the API says that it should have printed."""

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
from werkzeug import Request as Asked
from werkzeug import Response

from lm_openai.app import audit_feed
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support.paths import ROOT
from tests.support.replay import Outcome

Event = dict[str, Any]
AT = 1795005296  # 2026-11-18 12:34:56 UTC
HOUR, DAY = 3600, 86400
COMMAND = (sys.executable, "-m", "lm_openai.app.cli", "audit")


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
    """One run of the feed in this process, at a time of its own."""
    sets = tuple(f"{name}={value}" for name, value in (properties or {}).items())
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environment(url, folder, key), io.StringIO(), out, err, int(now))
    status = audit_feed.run(form, since, Options(sets=sets), around, most)
    return Outcome(out.getvalue(), err.getvalue(), status)


def environment(url: str, folder: Path, key: str = ADMIN_KEY) -> dict[str, str]:
    """What a run finds in its environment; the cursor lies in `folder`."""
    return {
        **os.environ,
        "OPENAI_ADMIN_KEY": key,
        "OPENAI_BASE_URL": url,
        "LM_OPENAI_CACHE_DIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }


def events(text: str) -> list[Event]:
    """The events in what was printed as JSON; each line must be whole."""
    return [json.loads(line) for line in text.splitlines()]


def ids(found: Sequence[Event]) -> list[str]:
    """Their ids, in the same order."""
    return [event["id"] for event in found]


def truth(demo: Simulator, start: float, end: float | None = None) -> list[Event]:
    """Every event that the API shows from `start` to before `end`, oldest first."""
    found: list[Event] = []
    query = {"limit": "100", "effective_at[gte]": str(int(start))}
    if end is not None:
        query["effective_at[lt]"] = str(int(end))
    while True:
        request = Request(f"{demo.url}/organization/audit_logs?{urlencode(query)}")
        request.add_header("Authorization", f"Bearer {ADMIN_KEY}")
        with urlopen(request) as answer:
            page = json.load(answer)
        found += page["data"]
        if not page["has_more"]:
            return found[::-1]
        query["after"] = page["last_id"]


class Told:
    """An organization with just the events that a test tells it, shown newest first."""

    def __init__(self, server: HTTPServer, *told: Event) -> None:
        self.events = list(told)
        self.url = server.url_for("")
        server.expect_request(re.compile("/organization/audit_logs")).respond_with_handler(
            self._answer
        )

    def _answer(self, asked: Asked) -> Response:
        first = int(asked.args.get("effective_at[gte]", 0))
        end = int(asked.args.get("effective_at[lt]", 2**62))
        limit = int(asked.args["limit"])
        found = [event for event in self.events if first <= event["effective_at"] < end]
        found.sort(key=lambda event: -event["effective_at"])
        if "after" in asked.args:
            found = found[ids(found).index(asked.args["after"]) + 1 :]
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
    """An event as a test tells it; its payload stands under the name of its type."""
    said = {} if payload is None else {type: payload}
    return {"id": identifier, "type": type, "effective_at": at, "actor": None, **members, **said}
