"""Faults to inject: their kinds, their settings and what each does to a response."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from difflib import get_close_matches
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
    `per_second` requests. `hole` removes the bucket that begins at `start`, or without `start` all
    buckets after the first `rows` (None: all). `grouping` refuses costs by user and project, or by
    the dimension `field`. With `percent`, about that share of the responses is changed.

    Three kinds change the organization, not responses. `heat` makes a pool, a `project` (id or
    name) and a `model`, use exactly `percent` of its `limit` (tpm, rpm or ipm) in each minute, from
    `start` (by default early enough that usage shows it) to `end`. `gone` archives the `project`,
    or with `model` removes that limit row and its usage, from `start` (by default now); with
    `start=0` it has no usage of the past either. `idle` ends all usage from `start` (by default
    now) to `end`.
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
    start: int | None = None
    location: str = "/v1/elsewhere"
    code: str = "insufficient_quota"
    project: str = ""
    model: str = ""
    limit: str = "tpm"
    percent: float | None = None
    end: int | None = None


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


def inject(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    """Return the response with the fault; `respond` computes the normal one and may go unused."""
    if is_status(fault.kind):
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
    return error_response(refusals.unsupported_grouping(dimension(fault)))


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


def _hole(fault: Fault, info: RequestInfo, respond: Callable[[], Response]) -> Response:
    def remove(page: dict[str, Any]) -> None:
        first = page["data"][: fault.rows or 0]
        others = [row for row in page["data"] if row.get("start_time") != fault.start]
        page["data"] = first if fault.start is None else others

    return _edited(respond(), remove)


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


def dimension(fault: Fault) -> str:
    """Return the dimension that a grouping fault refuses; empty for user and project together."""
    return "" if fault.field == Fault._field_defaults["field"] else fault.field


def unknown(noun: str, word: str, known: Sequence[str]) -> str:
    """Return the sentence that refuses a word and names a similar one, or all known ones."""
    near = get_close_matches(word, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(known)}"
    return f"unknown {noun} '{word}'; {hint}"


def is_status(kind: str) -> bool:
    """Return True for a kind that is an HTTP status from 400 to 599."""
    return kind.isdigit() and 400 <= int(kind) <= 599


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
    "hole": _hole,
    "huge": _huge,
    "redirect": _redirect,
    "closed": _closed,
}
"""Fault kinds by name; any status from 400 to 599 is a kind as well."""
