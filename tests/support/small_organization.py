"""Small organization for tests, which write every minute of use and every limit by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

WIDTHS = {"1m": 60, "1h": 3600, "1d": 86400}
DIMENSIONS = ("project_id", "model", "batch")


class Use(NamedTuple):
    """Counts of one usage kind in the minute that starts at `minute` (Unix seconds)."""

    kind: str
    minute: int
    project_id: str | None
    model: str
    counts: dict[str, int]
    batch: bool = False


class Small(NamedTuple):
    """Small organization.

    `now` is the API's own time. `limits` are the rows by project id, `projects` are (id, name,
    archived). `refused` maps a path to the HTTP status of its error response, or to the message of
    an HTTP 400. A page has at most `page` buckets. `requests` records the path of each request.
    Usage in minutes begins at `since`.
    """

    now: int
    uses: tuple[Use, ...]
    limits: dict[str, list[dict[str, Any]]]
    projects: tuple[tuple[str, str, bool], ...]
    refused: Mapping[str, int | str]
    page: int
    requests: list[str]
    since: int = 0


def unix(clock: str, day: str = "2026-11-18") -> int:
    """Return the Unix seconds of a UTC time such as `12:30` or `12:34:56`."""
    parsed = datetime.fromisoformat(f"{day}T{clock}")
    return int(parsed.replace(tzinfo=timezone.utc).timestamp())


def limit(model: str, rpm: int, tpm: int, **others: int) -> dict[str, Any]:
    """Return a row of a project's rate limits as the API sends it."""
    return {
        "object": "project.rate_limit",
        "id": f"rl-{model}",
        "model": model,
        "max_requests_per_1_minute": rpm,
        "max_tokens_per_1_minute": tpm,
        **others,
    }


def serve(server: HTTPServer, small: Small) -> str:
    """Let the server respond as the organization's API; return its base URL."""
    server.clear()
    anything = server.expect_request(re.compile(".*"))
    anything.respond_with_handler(lambda request: _respond(small, request))
    return server.url_for("/v1")


def _respond(small: Small, request: Request) -> Response:
    path = request.path.removeprefix("/v1/organization/")
    query = parse_qs(request.query_string.decode())
    small.requests.append(path)
    if path in small.refused:
        refusal = small.refused[path]
        text, status = (refusal, 400) if isinstance(refusal, str) else ("not today", refusal)
        error = {"message": text, "type": "x", "param": None, "code": None}
        return _json({"error": error}, status)
    if path.startswith("usage/"):
        return _json(_usage(small, path.removeprefix("usage/"), query))
    if path == "projects":
        return _json(_list([_project(*one) for one in small.projects]))
    return _json(_list(small.limits.get(path.split("/")[1], [])))


def _usage(small: Small, kind: str, query: dict[str, list[str]]) -> dict[str, Any]:
    width = WIDTHS[query["bucket_width"][0]]
    start, end = int(query["start_time"][0]), min(int(query["end_time"][0]), small.now)
    edges = [start, *range(start - start % width + width, end, width)] if start < end else []
    edges = [edge for edge in edges if width > 60 or edge >= small.since]
    first = int(query.get("page", ["0"])[0])
    last = first + min(small.page, int(query["limit"][0]))
    return {
        "object": "page",
        "data": [
            {
                "object": "bucket",
                "start_time": edge,
                "end_time": min(edge - edge % width + width, end),
                "results": _rows(small, kind, edge, min(edge - edge % width + width, end), query),
            }
            for edge in edges[first:last]
        ],
        "has_more": last < len(edges),
        "next_page": str(last) if last < len(edges) else None,
    }


def _rows(
    small: Small, kind: str, start: int, end: int, query: dict[str, list[str]]
) -> list[dict[str, Any]]:
    wanted = query.get("batch")
    grouped = query.get("group_by[]", [])
    sums: dict[tuple[Any, ...], dict[str, int]] = {}
    for use in small.uses:
        if use.kind != kind or not start <= use.minute < end:
            continue
        if wanted and [str(use.batch).lower()] != wanted:
            continue
        key = tuple(getattr(use, name) if name in grouped else None for name in DIMENSIONS)
        for name, count in use.counts.items():
            row = sums.setdefault(key, {})
            row[name] = row.get(name, 0) + count
    return [{**dict(zip(DIMENSIONS, key)), **counts} for key, counts in sums.items()]


def _project(identifier: str, name: str, archived: bool) -> dict[str, Any]:
    return {
        "object": "organization.project",
        "id": identifier,
        "name": name,
        "created_at": 1,
        "archived_at": 2 if archived else None,
        "status": "archived" if archived else "active",
    }


def _list(rows: list[dict[str, Any]]) -> dict[str, Any]:
    last = rows[-1]["id"] if rows else None
    return {"object": "list", "data": rows, "last_id": last, "has_more": False}


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(document), status, content_type="application/json")
