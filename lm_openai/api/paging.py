"""Paging: rows and buckets of all pages, with cursors checked and holes requested once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from lm_openai.api import records
from lm_openai.api.endpoints import endpoint_name
from lm_openai.api.queries import Query
from lm_openai.api.records import Record
from lm_openai.api.responses import Parse, StalePage, parsed
from lm_openai.api.retry import Requester
from lm_openai.errors import ApiFailure
from lm_openai.timespans import DAY, iso

MOST_PAGES = 1000
MOST_ROWS = 10_000
"""Rows of a page; the API sends up to 1,440."""
SMALLER = 4
"""After a page that was too large, the next ones have that many times fewer buckets."""
YOUNG_SECONDS = 300
"""A bucket that began more recently may not exist yet."""


class TooManyPages(ApiFailure):
    """A list or query does not end within MOST_PAGES pages."""


class Hole(NamedTuple):
    """Span, in Unix seconds, that an endpoint's response lacks although it was requested twice."""

    endpoint: str
    start: int
    end: int

    @property
    def failure(self) -> ApiFailure:
        """The hole as a failure."""
        return ApiFailure("incomplete", self.endpoint, f"{iso(self.start)} to {iso(self.end)}")


class Buckets(NamedTuple):
    """Buckets of one query, each a raw record whose `start_time` and `end_time` are int.

    A page has `limit` buckets of `width` seconds. A hole that stays is passed to `report`, the
    time before the start of the data to `begins`. `parse` reads the bodies. With `splits`, a page
    that is too large is requested again in smaller ones.
    """

    requester: Requester
    path: str
    query: Query
    limit: int
    width: int
    report: Callable[[Hole], None]
    begins: Callable[[Hole], None]
    parse: Parse = parsed
    splits: bool = True

    @property
    def endpoint(self) -> str:
        """The name of the endpoint, for messages."""
        return endpoint_name(self.path)

    def covered(
        self, start: int, end: int, *, history: bool, whole_days: bool = False
    ) -> Iterator[Record]:
        """Yield the buckets from `start` to `end`; request a hole once more by itself.

        With `history` the time before the first bucket may be missing, where the data starts; it
        is requested once more too. The last bucket may be missing if it began less than
        YOUNG_SECONDS ago; with `whole_days` the day that ends at `end` must be there.
        """
        position, first = start, True
        for raw in self._between(start, end):
            if raw["start_time"] > position:
                yield from self._filled(position, raw["start_time"], history=first and history)
            yield raw
            position, first = raw["end_time"], False
        # Usage ends at the API's own time, which may be behind the host's.
        known = end if whole_days else min(end, self.requester.counters.server_date or end)
        young = DAY - 1 if whole_days else YOUNG_SECONDS
        if position < known - young:
            yield from self._filled(position, known, young)

    def _filled(
        self, start: int, end: int, young: int = 0, history: bool = False
    ) -> Iterator[Record]:
        """Yield the buckets of a hole, no others, and report what is still missing."""
        position, began = start, not history
        try:
            for raw in self._between(start, end):
                if not start <= raw["start_time"] < end:
                    continue
                if raw["start_time"] > position:
                    missing = Hole(self.endpoint, position, raw["start_time"])
                    self.report(missing) if began else self.begins(missing)
                yield raw
                position, began = raw["end_time"], True
        except ApiFailure as failure:
            if failure.kind == "incomplete":
                raise
            began = True
        if position < end - young:
            missing = Hole(self.endpoint, position, end)
            self.report(missing) if began else self.begins(missing)

    def _between(self, start: int, end: int) -> Iterator[Record]:
        """Yield the buckets in ascending order.

        The API may refuse a page token although the query is unchanged (seen on costs over old,
        empty ranges). Then a new query continues, once, from the end of the last bucket. After a
        page that is too large, one for smaller pages continues from there.
        """
        last_start, last_end = -1, start
        limit, may_restart = self.limit, True
        while True:
            try:
                for raw in self._pages(last_end, end, limit):
                    records.require(raw, ("start_time", "end_time"), self.endpoint)
                    before, last_start = last_start, self._moment(raw, "start_time")
                    last_end = self._moment(raw, "end_time")
                    if last_start <= before:
                        raise ApiFailure("contract", self.endpoint, "the buckets are out of order")
                    yield {**raw, "start_time": last_start, "end_time": last_end}
                return
            except StalePage:
                if not may_restart:
                    raise
                may_restart = False
                if last_end >= end:
                    return
            except ApiFailure as failure:
                limit = self._smaller(limit, end - last_end, failure)

    def _pages(self, start: int, end: int, limit: int) -> Iterator[Any]:
        times = [("start_time", str(start)), ("end_time", str(end))]
        query = [*times, *self.query, ("limit", str(limit))]
        return _rows(self.requester, self.path, query, "page", _next_page, self.parse)

    def _smaller(self, limit: int, seconds: int, failure: ApiFailure) -> int:
        """Return the next smaller limit for the `seconds` left, or raise the failure."""
        buckets = min(limit, -(-seconds // self.width))
        large = failure.kind == "too_large" and not isinstance(failure, TooManyPages)
        if not (large and self.splits) or buckets <= 1:
            raise failure
        return max(1, buckets // SMALLER)

    def _moment(self, raw: Record, field: str) -> int:
        return records.moment(raw, field, self.endpoint)


def listed(requester: Requester, path: str, query: Query, paging: str) -> Iterator[Any]:
    """Yield the rows of a list; `paging` is that of its endpoints.Listing."""
    return _rows(requester, path, query, "after", _CURSORS[paging])


def _rows(
    requester: Requester,
    path: str,
    query: Query,
    parameter: str,
    cursor_of: Callable[[Record], Any],
    parse: Parse = parsed,
) -> Iterator[Any]:
    """Yield and drop the rows of all pages; raise ApiFailure rather than end early."""
    endpoint = endpoint_name(path)
    used = set()
    following: Query = []
    for _ in range(MOST_PAGES):
        page = requester.request(path, query + following, parse)
        cursor = _checked_cursor(page, cursor_of, endpoint)
        found = page.pop("data")
        found.reverse()
        while found:
            yield found.pop()
        if cursor is None:
            return
        if cursor in used:
            raise ApiFailure("contract", endpoint, "the next page's cursor was already used")
        used.add(cursor)
        following = [(parameter, cursor)]
    raise TooManyPages("too_large", endpoint, f"more than {MOST_PAGES} pages")


def _checked_cursor(page: Record, cursor_of: Callable[[Record], Any], endpoint: str) -> str | None:
    """Return the cursor of the next page, or None if `has_more` is false; raises ApiFailure."""
    records.require(page, ("data", "has_more"), endpoint)
    if type(page["data"]) is not list:
        raise ApiFailure("contract", endpoint, "data is not a list")
    if len(page["data"]) > MOST_ROWS:
        raise ApiFailure("contract", endpoint, f"a page has over {MOST_ROWS} rows")
    if not records.boolean(page["has_more"], "has_more", endpoint):
        return None
    cursor = cursor_of(page)
    if not cursor or type(cursor) is not str:
        raise ApiFailure("contract", endpoint, "has_more is true, but the cursor is missing")
    return cursor


def _next_page(page: Record) -> Any:
    return page.get("next_page")


def _next(page: Record) -> Any:
    return page.get("next")


def _last_item(page: Record) -> Any:
    last = page["data"][-1] if page["data"] else None
    return last.get("id") if type(last) is dict else None


def _last_id(page: Record) -> Any:
    """Return `last_id`, or the same id from the last row: the contract lets `last_id` be absent."""
    return page.get("last_id") or _last_item(page)


_CURSORS = {"last_id": _last_id, "last_item": _last_item, "next": _next}
