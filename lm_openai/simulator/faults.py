"""Faults to inject: their kinds, the requests that they affect and how often they occur."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from threading import Lock
from typing import Any, NamedTuple

from lm_openai.simulator import refusals
from lm_openai.simulator.refusals import Refusal

GATEWAY_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
CURSOR_FIELDS = {"next_page", "last_id", "next"}
MEBIBYTE = 1024 * 1024


class Fault(NamedTuple):
    """Fault of a kind (see KINDS) for requests whose path matches the glob `path`.

    `times` is the number of responses that it changes (None: all), after the first `skip` ones,
    which stay normal. `retry_after` is the verbatim Retry-After header of a status such as 429 or
    503; `seconds` the delay of `slow`; `size` the MiB that `huge` adds; `field` the field that
    `missing` removes, or `replace` sets to the JSON `value`, at every depth; `rows` the number of
    list rows that `missing` and `replace` change (None: all, and the fields around them);
    `location` the target of `redirect`; `code` the error code of `quota`. `rate` answers 429 beyond
    `per_second` requests. `grouping` refuses costs by user and project, or by the dimension
    `field`.
    """

    kind: str
    path: str = "*"
    times: int | None = None
    skip: int = 0
    retry_after: str | float | None = None
    seconds: float = 2.0
    size: int = 80
    field: str = "data"
    value: str = "null"
    rows: int | None = None
    per_second: float = 6.0
    location: str = "/v1/elsewhere"
    code: str = "insufficient_quota"


class Response(NamedTuple):
    """Response to send; `cut` is the number of bytes in Content-Length that are never sent.

    A status of 0 closes the connection without a response. `wait` is a delay in seconds.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    cut: int = 0
    wait: float = 0.0


class RequestInfo(NamedTuple):
    """Facts about a request that faults use: its query and the scope that its path needs."""

    query: dict[str, list[str]]
    scope: str


class Plan:
    """Faults of one simulator with the remaining count of each; thread-safe."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._lock = Lock()
        self._due: list[tuple[Fault, _Count | _Rate]] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Add a fault. Raises ValueError for an unknown kind."""
        if fault.kind not in KINDS and not _is_status(fault.kind):
            raise ValueError(_unknown("fault kind", fault.kind, [*KINDS, "429", "500", "503"]))
        with self._lock:
            self._due.append((fault, _Rate(fault) if fault.kind == "rate" else _Count(fault)))

    def clear(self) -> None:
        with self._lock:
            self._due.clear()

    def take(self, path: str, info: RequestInfo) -> Fault | None:
        """Return the first fault due for a request, and reduce its count; None if none is due."""
        with self._lock:
            for fault, count in self._due:
                affected = fnmatchcase(path, fault.path) and _applies(fault, info)
                if affected and count.due():
                    return fault
        return None


class _Count:
    """Number of requests that a fault still skips, and number that it still affects."""

    def __init__(self, fault: Fault) -> None:
        self.skip = fault.skip
        self.times = fault.times

    def due(self) -> bool:
        """Count one matching request; return True if the fault affects it."""
        if self.skip:
            self.skip -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


class _Rate:
    """Requests that a fault of kind `rate` still lets through; a second's worth at most."""

    def __init__(self, fault: Fault) -> None:
        self.per_second = self.left = fault.per_second
        self.counted = time.monotonic()

    def due(self) -> bool:
        """Count one matching request; return True if it exceeds the rate."""
        now = time.monotonic()
        gained = (now - self.counted) * self.per_second
        self.left, self.counted = min(self.per_second, self.left + gained), now
        if self.left < 1:
            return True
        self.left -= 1
        return False


def parse_fault(text: str) -> Fault:
    """Parse `KIND[:PATH][:NAME=VALUE]...`, for example `429:*/costs:times=2:retry_after=1`.

    Raises ValueError that names the unknown kind, the unknown setting or the wrong number.
    """
    kind, *parts = _parts(text)
    words: dict[str, Any] = {"kind": kind}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            name, value = "path", part
        if name not in Fault._fields or name == "kind":
            raise ValueError(_unknown("fault setting", name, Fault._fields[1:]))
        words[name] = _converted(name, value)
    fault = Fault(**words)
    Plan((fault,))
    return fault


def inject(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    """Return the response with the fault; `respond` computes the normal one and may go unused."""
    if _is_status(fault.kind):
        return _status(fault)
    return KINDS[fault.kind](fault, info, respond)


def error_response(refusal: Refusal, headers: tuple[tuple[str, str], ...] = ()) -> Response:
    return Response(refusal.status, json.dumps(refusal.body).encode(), headers=headers)


def _status(fault: Fault) -> Response:
    status = int(fault.kind)
    headers: tuple[tuple[str, str], ...] = ()
    if fault.retry_after is not None:
        headers = (("Retry-After", str(fault.retry_after)),)
    if status == 401:
        return error_response(refusals.wrong_key("sk-admin-revoked"))
    known = {429: refusals.throttled, 503: refusals.overloaded}
    return error_response(known[status]() if status in known else refusals.failed(status), headers)


def _quota(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    return error_response(refusals.quota(fault.code))


def _scope(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    return error_response(refusals.missing_scopes([info.scope], status=401))


def _expired(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    return error_response(refusals.bad_page())


def _grouping(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    return error_response(refusals.unsupported_grouping(_dimension(fault)))


def _gateway(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    page = GATEWAY_PAGE.format("502 Bad Gateway").encode()
    return Response(502, page, content_type="text/html")


def _html(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    page = GATEWAY_PAGE.format("Sign in to continue").encode()
    return Response(200, page, content_type="text/html")


def _truncated(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    normal = respond()
    return normal._replace(body=normal.body[: len(normal.body) // 2])


def _cut(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    normal = respond()
    half = len(normal.body) // 2
    return normal._replace(body=normal.body[:half], cut=len(normal.body) - half)


def _slow(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    return respond()._replace(wait=fault.seconds)


def _repeated_cursor(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    """Return the cursor of the request as the next cursor, so that paging never ends."""
    given = info.query.get("page") or info.query.get("after")

    def repeat(page: dict[str, Any]) -> None:
        page["has_more"] = True
        for name in CURSOR_FIELDS & page.keys():
            page[name] = given[-1] if given else page[name] or "page_AAAA"

    return _edited(respond(), repeat)


def _no_cursor(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    def remove(page: dict[str, Any]) -> None:
        page["has_more"] = True
        for name in CURSOR_FIELDS & page.keys():
            page[name] = None

    return _edited(respond(), remove)


def _rate(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    return error_response(refusals.throttled())


def _missing(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    return _edited(respond(), lambda page: _change(_rows(page, fault), fault.field))


def _replace(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    value = json.loads(fault.value)
    return _edited(respond(), lambda page: _change(_rows(page, fault), fault.field, value))


def _rows(page: dict[str, Any], fault: Fault) -> Any:
    return page if fault.rows is None else page.get("data", [])[: fault.rows]


def _change(part: Any, field: str, value: Any = None) -> None:
    """Set a field to `value` wherever it occurs, or remove it if `value` is None."""
    if isinstance(part, dict):
        if field in part and value is None:
            del part[field]
        elif field in part:
            part[field] = value
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            _change(inner, field, value)


def _huge(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    normal = respond()
    return normal._replace(body=b" " * (fault.size * MEBIBYTE) + normal.body)


def _redirect(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    return Response(302, b"", content_type="text/html", headers=(("Location", fault.location),))


def _closed(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    return Response(0, b"")


def _edited(response: Response, edit: Callable[[dict[str, Any]], None]) -> Response:
    page = json.loads(response.body)
    edit(page)
    return response._replace(body=json.dumps(page).encode())


def _applies(fault: Fault, info: RequestInfo) -> bool:
    """Return True if the fault applies to the request; two kinds depend on its query."""
    if fault.kind == "expired-page":
        return "page" in info.query
    if fault.kind == "grouping":
        grouped = ",".join(info.query.get("group_by", []) + info.query.get("group_by[]", []))
        if _dimension(fault):
            return _dimension(fault) in grouped
        by_project = "project_id" in grouped or any(
            name.startswith("project_ids") for name in info.query
        )
        return "user_id" in grouped and by_project
    return True


def _dimension(fault: Fault) -> str:
    """Return the dimension that a grouping fault refuses; empty for user and project together."""
    return "" if fault.field == Fault._field_defaults["field"] else fault.field


def _parts(text: str) -> list[str]:
    """Split at colons, except at those inside a value."""
    head, *settings = re.split(r":(?=\w+=)", text)
    return [*head.split(":", 1), *settings]


def _converted(name: str, value: str) -> Any:
    numbers: dict[str, Callable[[str], Any]] = {
        "times": int,
        "skip": int,
        "size": int,
        "rows": int,
        "seconds": float,
        "per_second": float,
    }
    try:
        return numbers.get(name, str)(value)
    except ValueError:
        raise ValueError(f"fault setting {name}: '{value}' is not a valid number") from None


def _is_status(kind: str) -> bool:
    return kind.isdigit() and 400 <= int(kind) <= 599


def _unknown(noun: str, word: str, known: Any) -> str:
    near = get_close_matches(word, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
    return f"unknown {noun} '{word}'; {hint}"


KINDS: dict[str, Callable[[Fault, RequestInfo, Callable[[], Response]], Response]] = {
    "quota": _quota,
    "scope": _scope,
    "expired-page": _expired,
    "grouping": _grouping,
    "gateway": _gateway,
    "html": _html,
    "truncated": _truncated,
    "cut": _cut,
    "slow": _slow,
    "repeated-cursor": _repeated_cursor,
    "no-cursor": _no_cursor,
    "missing": _missing,
    "replace": _replace,
    "rate": _rate,
    "huge": _huge,
    "redirect": _redirect,
    "closed": _closed,
}
"""Fault kinds by name; any status from 400 to 599 is a kind as well."""
