"""Four ways in which the API splits a long list into pages."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from struct import Struct
from typing import Any, NamedTuple, TypeVar

from lm_openai.simulator import refusals
from lm_openai.simulator.parameters import Query, choice, integer, text

Row = TypeVar("Row")
Wire = dict[str, Any]

TOKEN = Struct(">qIq")  # issue time, check, start of the next bucket
PREFIX = "page_"


class Widths(NamedTuple):
    """Bucket width in seconds, and the default and maximum number of buckets per page."""

    seconds: int
    default: int
    maximum: int


class Span(NamedTuple):
    """Time range of one page in Unix seconds, `start` inclusive and `end` exclusive.

    `next` is the start of the next page; None on the last page.
    """

    start: int
    end: int
    next: int | None


def span(
    query: Query, path: str, start: int, end: int, widths: Widths, now: int, life: float | None
) -> Span:
    """Return the part of the requested range that this page holds.

    A clipped first bucket counts towards `limit`. `life` is the lifetime of a token in seconds.
    Raises Refusal for an invalid limit or page token.
    """
    limit = integer(query, "limit", 1, widths.maximum) or widths.default
    token = text(query, "page")
    if token is not None:
        start = _next_start(token, query, path, now, life)
    full = start - start % widths.seconds + limit * widths.seconds
    return Span(start, min(full, end), full if full < end else None)


def bucketed(buckets: Iterable[Wire], query: Query, path: str, page: Span, now: int) -> Wire:
    """Return a page of buckets (family A); its token is valid only for the same query."""
    token = None if page.next is None else _token(query, path, now, page.next)
    return {
        "object": "page",
        "data": list(buckets),
        "has_more": token is not None,
        "next_page": token,
    }


def by_last_id(
    rows: Sequence[Row],
    query: Query,
    identify: Callable[[Row], str],
    wire: Callable[[Row], Wire],
    default: int = 20,
    maximum: int | None = 100,
    minimum: int = 1,
) -> Wire:
    """Return a page of families B and C: the rows after the id in `after`.

    With `before`, which only some endpoints declare, the rows end before that id.
    """
    limit = _limit(query, default, maximum, minimum)
    before, after = text(query, "before"), text(query, "after")
    stop = len(rows) if before is None else _index(rows, "before", before, identify)
    start = 0 if after is None else _index(rows, "after", after, identify) + 1
    if before is not None and after is None:
        chosen, more = rows[max(start, stop - limit) : stop], stop - limit > start
    else:
        chosen, more = rows[start : min(start + limit, stop)], start + limit < stop
    return listed([wire(row) for row in chosen], [identify(row) for row in chosen], more)


def listed(items: list[Wire], identifiers: Sequence[str], more: bool) -> Wire:
    """Return the page object of families B and C."""
    return {
        "object": "list",
        "data": items,
        "first_id": identifiers[0] if identifiers else None,
        "last_id": identifiers[-1] if identifiers else None,
        "has_more": more and bool(items),
    }


def by_next(
    rows: Sequence[Row],
    query: Query,
    identify: Callable[[Row], str],
    wire: Callable[[Row], Wire],
    default: int = 100,
    maximum: int | None = 1000,
) -> Wire:
    """Return a page of family D: `next` holds the value for `after`, a cursor that is not an id."""
    limit = _limit(query, default, maximum, 0)
    after = text(query, "after")
    start = 0 if after is None else _index(rows, "after", after, lambda row: _next(identify(row)))
    start += after is not None
    chosen = rows[start : start + limit]
    more = bool(chosen) and start + limit < len(rows)
    return {
        "object": "list",
        "data": [wire(row) for row in chosen],
        "has_more": more,
        "next": _next(identify(chosen[-1])) if more else None,
    }


def ordered(rows: Sequence[Row], query: Query, default: str = "asc") -> Sequence[Row]:
    """Return rows, given in ascending order, in the order that the query requests."""
    wanted = choice(query, "order", ("asc", "desc"), default)
    return rows if wanted == "asc" else rows[::-1]


def _limit(query: Query, default: int, maximum: int | None, minimum: int) -> int:
    given = integer(query, "limit", minimum, maximum)
    return default if given is None else given


def _index(rows: Sequence[Row], name: str, cursor: str, identify: Callable[[Row], str]) -> int:
    for index, row in enumerate(rows):
        if identify(row) == cursor:
            return index
    raise refusals.bad_cursor(name, cursor)


def _next(identifier: str) -> str:
    return "cursor_" + b64encode(identifier.encode()).decode()


def _token(query: Query, path: str, now: int, start: int) -> str:
    packed = TOKEN.pack(now, _check(query, path, now, start), start)
    return PREFIX + b64encode(packed).decode()


def _next_start(token: str, query: Query, path: str, now: int, life: float | None) -> int:
    try:
        packed = b64decode(token.removeprefix(PREFIX), validate=True)
    except (NotBase64, ValueError):
        raise refusals.bad_page() from None
    if len(packed) != TOKEN.size:
        raise refusals.bad_page()
    issued, check, start = TOKEN.unpack(packed)
    expired = life is not None and now - issued > life
    if expired or check != _check(query, path, issued, start):
        raise refusals.bad_page()
    return int(start)


def _check(query: Query, path: str, issued: int, start: int) -> int:
    pairs = sorted((name, value) for name, value in query.items() if name != "page")
    signed = repr((path, pairs, issued, start))
    return int.from_bytes(blake2b(signed.encode(), digest_size=4).digest(), "big")
