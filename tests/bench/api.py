"""API of the benchmark: a process that answers every request after the same time.

`api.py '{"projects": 2, "groups": 10, "latency": 0.08, …}'` serves an organization (see
Organization) and prints its URL. The simulator is a whole organization, but it computes what it
sends; these answers are text that was made before.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

MODELS = 50
WIDTHS = {"1m": 60, "1h": 3600, "1d": 86400}
LARGEST_PAGES = {"1m": 1440, "1h": 168, "1d": 31}
LIMITS = {
    "max_requests_per_1_minute": 10_000,
    "max_tokens_per_1_minute": 2_000_000,
    "max_requests_per_1_day": 2_000_000,
    "batch_1_day_max_input_tokens": 200_000_000,
}
QUANTITIES = {
    "input_tokens": 123_456,
    "output_tokens": 23_456,
    "input_cached_tokens": 3_456,
    "input_audio_tokens": 0,
    "output_audio_tokens": 0,
    "num_model_requests": 321,
}


class Organization(NamedTuple):
    """Size and speed of the API.

    `groups` is the number of rows in a bucket of usage, `latency` the seconds before each answer.
    `folder` holds the certificate and its key, without which plain HTTP is served. With `saved`,
    a folder, the body of every answer with usage is stored there. If `down`, the connection is
    closed after `latency` without an answer.
    """

    projects: int = 1
    groups: int = 10
    latency: float = 0.0
    folder: str = ""
    saved: str = ""
    down: bool = False


class Api:
    """Answers of one organization."""

    def __init__(self, organization: Organization) -> None:
        self._organization, self._numbers = organization, count()
        projects = map(project_id, range(organization.projects))
        self._projects = [
            {"object": "organization.project", "id": one, "name": one.title(), "status": "active"}
            for one in projects
        ]
        self._limits = page(
            {"object": "project.rate_limit", "id": f"rl-{model(number)}", "model": model(number)}
            | LIMITS
            for number in range(MODELS)
        )
        self._rows: dict[frozenset[str], bytes] = {}
        self.limits_sent: list[float] = []
        self.requests = 0

    def answer(self, path: str, query: Mapping[str, list[str]]) -> bytes:
        """Return the body for a path below the base URL."""
        if path.startswith("organization/usage/"):
            return self._usage(query, path.endswith("/completions"))
        if path == "limits_sent":
            return self._limits_sent()
        if path == "requests":
            self.requests, sent = 0, self.requests - 1
            return json.dumps(sent).encode()
        if path == "organization/projects":
            return page(self._projects, query)
        if path.endswith("/rate_limits"):
            return self._limits
        if path == "organization/costs":
            return page(days(query))
        return page(())

    def _usage(self, query: Mapping[str, list[str]], used: bool) -> bytes:
        width, (start, end) = WIDTHS[query["bucket_width"][0]], span(query)
        start = int(query["page"][0]) if "page" in query else start
        size = min(int(query["limit"][0]), LARGEST_PAGES[query["bucket_width"][0]])
        starts = range(start, end, width)
        rows = self._rows_by(frozenset(query.get("group_by[]", ()))) if used else b""
        buckets = b",".join(
            b'{"object":"bucket","start_time":%d,"end_time":%d,"results":[%b]}'
            % (one, min(one + width, end), rows)
            for one in starts[:size]
        )
        following = b'"%d"' % starts[size] if len(starts) > size else b"null"
        more = b"false" if following == b"null" else b"true"
        body = b'{"object":"page","data":[%b],"has_more":%b,"next_page":%b}'
        body %= (buckets, more, following)
        if self._organization.saved:
            Path(self._organization.saved, f"{next(self._numbers)}.json").write_bytes(body)
        return body

    def _limits_sent(self) -> bytes:
        """Return the answers with limits since the last call, and the seconds they took in all."""
        times, self.limits_sent = self.limits_sent, []
        seconds = max(times) - min(times) if times else 0
        return json.dumps({"answers": len(times) // 2, "seconds": seconds}).encode()

    def _rows_by(self, dimensions: frozenset[str]) -> bytes:
        if dimensions not in self._rows:
            rows = map(json.dumps, usage_rows(self._organization, dimensions))
            self._rows[dimensions] = ",".join(rows).encode()
        return self._rows[dimensions]


def usage_rows(organization: Organization, dimensions: frozenset[str]) -> Iterator[object]:
    """Yield the rows of a bucket; without a dimension there is one."""
    for number in range(organization.groups if dimensions else 1):
        ids = {
            "project_id": project_id(number % organization.projects),
            "user_id": f"user-{number:024}",
            "api_key_id": f"key_{number:024}",
            "model": model(number // organization.projects),
            "batch": False,
            "service_tier": "default",
        }
        shown = {name: text if name in dimensions else None for name, text in ids.items()}
        yield {"object": "organization.usage.completions.result", **QUANTITIES, **shown}


def days(query: Mapping[str, list[str]]) -> Iterator[object]:
    """Yield the buckets of costs, each with one row."""
    start, end = span(query)
    row = {
        "object": "organization.costs.result",
        "amount": {"value": "12.5", "currency": "usd"},
        "project_id": project_id(0) if "project_id" in query.get("group_by[]", ()) else None,
    }
    for one in range(start, end, WIDTHS["1d"]):
        yield {"object": "bucket", "start_time": one, "end_time": one + 86400, "results": [row]}


def span(query: Mapping[str, list[str]]) -> tuple[int, int]:
    """Return the requested start and end in Unix seconds."""
    return int(query["start_time"][0]), int(query["end_time"][0])


def page(rows: object, query: Mapping[str, list[str]] | None = None) -> bytes:
    """Return a page of a list; with a query, the rows after its cursor, up to its limit."""
    every = list(rows)  # type: ignore[call-overload]
    if query is not None:
        after = (query.get("after") or [""])[0]
        first = next((place + 1 for place, row in enumerate(every) if row["id"] == after), 0)
        every = every[first:]
        shown = every[: int((query.get("limit") or ["20"])[0])]
    else:
        shown = every
    last = shown[-1].get("id") if shown else None
    body = {"object": "list", "data": shown, "has_more": len(shown) < len(every), "last_id": last}
    return json.dumps({**body, "next_page": None}).encode()


def project_id(number: int) -> str:
    """Return the id of a project."""
    return f"proj_{number:024}"


def model(number: int) -> str:
    """Return the name of a model."""
    return f"gpt-{number}-benchmark"


async def serve(organization: Organization) -> None:
    """Serve until the process is ended; print the URL first."""
    api = Api(organization)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                arrived = time.monotonic()
                target = urlsplit(head.split(b" ", 2)[1].decode())
                api.requests += 1
                path = target.path.removeprefix("/v1/")
                if organization.latency and path != "requests":
                    await asyncio.sleep(organization.latency)
                if organization.down and path != "requests":
                    raise ConnectionError
                body = api.answer(path, parse_qs(target.query))
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                    b"Content-Length: %d\r\n\r\n" % len(body)
                )
                writer.write(body)
                await writer.drain()
                if path.endswith("/rate_limits"):
                    api.limits_sent += [arrived, time.monotonic()]
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    context = None
    if organization.folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(Path(organization.folder, "server.pem"))
    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context, backlog=256)
    port = server.sockets[0].getsockname()[1]
    print(f"{'https' if context else 'http'}://127.0.0.1:{port}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Organization(**json.loads(sys.argv[1]))))
