"""Client of the admin API: the query of each request and the paging of its responses."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import local
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Union
from urllib.parse import quote

from lm_openai.api import endpoints, records
from lm_openai.api.endpoints import (
    LISTS,
    MAXIMUM_BUCKETS,
    PREFIX,
    SINGLES,
    USAGE_KINDS,
)
from lm_openai.api.notes import Memory, Notes
from lm_openai.api.records import Bucket, Cost, Record
from lm_openai.api.responses import StalePage
from lm_openai.api.retry import Counters, Pace, Requester
from lm_openai.errors import ApiFailure, WrongUsage
from lm_openai.timespans import DAY, iso

if TYPE_CHECKING:
    from lm_openai.api.transport import Transport

T = TypeVar("T")
Outcomes = list[Union[T, ApiFailure]]  # noqa: UP007
Day = tuple[int, list[Cost]]
Values = Sequence[str] | str | bool
Query = list[tuple[str, str]]
Refusals = list[tuple[str, str]]

MOST_PAGES = 1000
PAGE_BYTES = 10_000_000
ROW_BYTES = 363
"""Measured size of one usage row as text; a page holds at most PAGE_BYTES / ROW_BYTES rows."""


YOUNG_SECONDS = 300
"""A bucket that began more recently may not exist yet."""


class Gap(NamedTuple):
    """Span, in Unix seconds, that an endpoint's response lacks although it was requested twice."""

    endpoint: str
    start: int
    end: int

    @property
    def failure(self) -> ApiFailure:
        """The gap as a failure."""
        return ApiFailure("incomplete", self.endpoint, f"{iso(self.start)} to {iso(self.end)}")


class Client:
    """Requests of one poll to one organization, all within `deadline_seconds` from now.

    Every method raises ApiFailure if a request fails. The generators request one page at a time,
    as they are read, and keep no rows. Safe to use from threads. `notes` are those that processes
    share; without them the client keeps its own. `kept` returns the seconds before the deadline in
    which no request runs, by default 0.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        deadline_seconds: float = 50.0,
        concurrency: int = 16,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = random.random,
        notes: Notes | None = None,
        kept: Callable[[], float] = float,
    ) -> None:
        self.notes = notes or Notes(Memory(), time.time)
        pace = Pace(deadline_seconds, concurrency, clock, sleep, jitter, self.notes, kept)
        self._requester = Requester(transport, pace)
        self._concurrency = concurrency
        self._refused, self._thread = Refusals(), local()
        self.gaps: list[Gap] = []

    @property
    def counters(self) -> Counters:
        """Counts of the requests sent so far."""
        return self._requester.counters

    @contextmanager
    def counting(self) -> Iterator[Counters]:
        """Count the requests of the `with` block separately, then add them to `counters`."""
        whole, part = self._requester.counters, Counters()
        self._requester.counters = part
        try:
            yield part
        finally:
            whole.add(part)
            self._requester.counters = whole

    def usage(
        self,
        kind: str,
        start: int,
        end: int,
        width: str,
        group_by: Sequence[str] = (),
        filters: Mapping[str, Values] = {},
        groups: int | None = None,
    ) -> Iterator[Bucket]:
        """Return the buckets from `start` to `end` (Unix seconds), oldest first.

        `width` is a bucket's width, such as `1h`. `groups` is the expected number of rows in a
        bucket; it keeps pages under about 10 MB. Raises WrongUsage for a dimension or filter that
        the usage kind does not support.
        """
        known = USAGE_KINDS[kind]
        query = [
            ("bucket_width", width),
            *_restrictions(known.name, group_by, known.dimensions, filters, known.filters),
            ("limit", _limit(MAXIMUM_BUCKETS[width], groups)),
        ]
        path = f"{PREFIX}usage/{kind}"
        endpoint = endpoints.endpoint_name(path)
        starts = width == "1d"
        raw = self._covered(path, start, end, query, _raise_gap, history=starts)
        return (records.bucket(entry, known, endpoint) for entry in raw)

    def costs(
        self,
        start: int,
        end: int,
        group_by: Sequence[str] = (),
        filters: Mapping[str, Values] = {},
        groups: int | None = None,
    ) -> Iterator[Day]:
        """Return (UTC midnight, costs) of each day from `start` to `end`, oldest first.

        `end` must be on a later day than `start`. Rows without an amount state no money and are
        left out. A day that the API lacks is left out and noted in `gaps`. Raises WrongUsage for a
        dimension or filter that `costs` does not support.
        """
        query = [
            ("bucket_width", "1d"),
            *_restrictions(
                "costs", group_by, endpoints.COST_DIMENSIONS, filters, endpoints.COST_FILTERS
            ),
            ("limit", _limit(endpoints.MAXIMUM_COST_BUCKETS, groups)),
        ]
        path = f"{PREFIX}costs"
        raw = self._covered(path, start, end, query, self.gaps.append, exact=True, young=DAY - 1)
        return (records.costs(entry, "costs") for entry in raw)

    def list(self, name: str, **ids_and_query: Any) -> Iterator[Record]:
        """Yield all rows of the list `name` (a key of endpoints.LISTS), see records.listed.

        A row that breaks the contract is left out and noted, see `refused`; if no row is left, its
        ApiFailure is raised. `ids_and_query` holds the ids in the path and further parameters: a
        sequence is sent as `name[]`, a mapping as `name[key]`; None is not sent.
        """
        listing = LISTS[name]
        path = _path(listing.path, ids_and_query)
        given = {
            field: value
            for field, value in ids_and_query.items()
            if f"{{{field}}}" not in listing.path
        }
        query = _encoded({"limit": listing.limit, **given})
        endpoint = endpoints.endpoint_name(path)
        rows = self._rows(path, query, "after", _CURSORS[listing.paging])
        return self._good_rows(rows, listing, endpoint)

    @contextmanager
    def refusals(self) -> Iterator[Refusals]:
        """Collect the rows refused by lists that this thread reads in the `with` block."""
        outer, collected = self._refusals(), Refusals()
        self._thread.refusals = collected
        try:
            yield collected
        finally:
            self._thread.refusals = outer

    def refuse(self, rows: Iterable[Sequence[str]]) -> None:
        """Note refused rows, each as (endpoint, detail)."""
        self._refusals().extend((endpoint, detail) for endpoint, detail in rows)

    def refused(self) -> Sequence[ApiFailure]:
        """Return the failure of each refused row since the last call."""
        rows = [self._refused.pop(0) for _ in range(len(self._refused))]
        return [ApiFailure("contract", *row) for row in dict.fromkeys(rows)]

    def _good_rows(
        self, rows: Iterable[Any], listing: endpoints.Listing, endpoint: str
    ) -> Iterator[Record]:
        good, refused = False, []
        for raw in rows:
            try:
                row = records.listed(raw, listing, endpoint)
            except ApiFailure as failure:
                refused.append(failure)
                continue
            good = True
            yield row
        if refused and not good:
            raise refused[0]
        self.refuse((endpoint, failure.detail) for failure in refused)

    def _refusals(self) -> Refusals:
        found: Refusals = getattr(self._thread, "refusals", self._refused)
        return found

    def record(self, name: str, **ids: str) -> Record:
        """Return the record `name` (a key of endpoints.SINGLES).

        Raises ApiFailure, of kind `not_found` if there is no such record.
        """
        template, required = SINGLES[name]
        path = _path(template, ids)
        row = self._requester.request(path, [])
        records.require(row, required, endpoints.endpoint_name(path))
        return row

    def together(self, calls: Iterable[Callable[[], T]]) -> Outcomes[T]:
        """Run the calls in parallel and return their results in the order of the calls.

        The result of a call that raises ApiFailure is that ApiFailure; other exceptions are raised.
        A call must read its generator to the end.
        """
        waiting = [*calls]
        if len(waiting) < 2:
            return [_outcome(call) for call in waiting]
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(min(self._concurrency, len(waiting)))
        try:
            return [*pool.map(_outcome, waiting)]
        finally:
            # an interrupt does not wait for the running requests, which may take the whole poll
            pool.shutdown(wait=False, cancel_futures=True)

    def _covered(
        self,
        path: str,
        start: int,
        end: int,
        query: Query,
        report: Callable[[Gap], None],
        *,
        exact: bool = False,
        young: int = YOUNG_SECONDS,
        history: bool = True,
    ) -> Iterator[Record]:
        """Yield raw buckets from `start` to `end`; request a hole once more by itself.

        A hole that stays is reported. Buckets that began less than `young` seconds before `end` may
        be missing, and with `history` the time before the first bucket, where the data starts.
        """
        position, first = start, True
        for raw in self._buckets(path, start, end, query, exact):
            if raw["start_time"] > position and not (first and history):
                yield from self._filled(path, position, raw["start_time"], query, report, exact)
            yield raw
            position, first = raw["end_time"], False
        # Usage ends at the API's own time, which may be behind the host's.
        known = end if exact else min(end, self.counters.server_date or end)
        if position < known - young:
            yield from self._filled(path, position, known, query, report, exact, young)

    def _filled(
        self,
        path: str,
        start: int,
        end: int,
        query: Query,
        report: Callable[[Gap], None],
        exact: bool,
        young: int = 0,
    ) -> Iterator[Record]:
        """Yield the raw buckets of a hole and report what is still missing."""
        endpoint, position = endpoints.endpoint_name(path), start
        try:
            for raw in self._buckets(path, start, end, query, exact):
                if raw["start_time"] > position:
                    report(Gap(endpoint, position, raw["start_time"]))
                yield raw
                position = raw["end_time"]
        except ApiFailure as failure:
            if failure.kind == "incomplete":
                raise
        if position < end - young:
            report(Gap(endpoint, position, end))

    def _buckets(
        self, path: str, start: int, end: int, query: Query, exact: bool
    ) -> Iterator[Record]:
        """Yield raw buckets in ascending order.

        The API may refuse a page token although the query is unchanged (seen on costs over old,
        empty ranges). Then a new query continues, once, from the end of the last bucket.
        """
        endpoint = endpoints.endpoint_name(path)
        last_start, last_end = -1, start
        for may_restart in (True, False):
            times = [("start_time", str(last_end)), ("end_time", str(end))]
            try:
                for raw in self._rows(path, times + query, "page", _next_page, exact):
                    records.require(raw, ("start_time", "end_time"), endpoint)
                    before, last_start = last_start, records.count(raw, "start_time", endpoint)
                    last_end = records.count(raw, "end_time", endpoint)
                    if last_start <= before:
                        raise ApiFailure("contract", endpoint, "the buckets are out of order")
                    yield {**raw, "start_time": last_start, "end_time": last_end}
                return
            except StalePage:
                if not may_restart:
                    raise
            if last_end >= end:
                return

    def _rows(
        self,
        path: str,
        query: Query,
        parameter: str,
        cursor_of: Callable[[Record], Any],
        exact: bool = False,
    ) -> Iterator[Any]:
        """Yield and drop the rows of all pages; raise ApiFailure rather than end early."""
        endpoint = endpoints.endpoint_name(path)
        used = set()
        following: Query = []
        for _ in range(MOST_PAGES):
            page = self._requester.request(path, query + following, exact)
            cursor = _checked_cursor(page, cursor_of, endpoint)
            rows = page.pop("data")
            rows.reverse()
            while rows:
                yield rows.pop()
            if cursor is None:
                return
            if cursor in used:
                raise ApiFailure("contract", endpoint, "the next page's cursor was already used")
            used.add(cursor)
            following = [(parameter, cursor)]
        raise ApiFailure("too_large", endpoint, f"more than {MOST_PAGES} pages")


def _raise_gap(gap: Gap) -> None:
    raise gap.failure


def _checked_cursor(page: Record, cursor_of: Callable[[Record], Any], endpoint: str) -> str | None:
    """Return the cursor of the next page, or None if `has_more` is false; raises ApiFailure."""
    records.require(page, ("data", "has_more"), endpoint)
    if type(page["data"]) is not list:
        raise ApiFailure("contract", endpoint, "data is not a list")
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


def _restrictions(
    name: str,
    group_by: Sequence[str],
    dimensions: Sequence[str],
    filters: Mapping[str, Values],
    known: Sequence[str],
) -> Query:
    """Return the parameters of group_by and filters; raises WrongUsage for unsupported ones."""
    for given, allowed in ((group_by, dimensions), (filters, known)):
        for word in given:
            if word not in allowed:
                raise WrongUsage(f"{name} does not support {word!r}; allowed: {', '.join(allowed)}")
    query = [("group_by[]", dimension) for dimension in group_by]
    for field, values in filters.items():
        sent_values = (values,) if isinstance(values, (str, bool)) else values
        parameter = field if field == "batch" else f"{field}[]"
        query += [(parameter, _text(value)) for value in sent_values]
    return query


def _limit(most: int, groups: int | None) -> str:
    """Return the buckets per page: the API's maximum, or fewer if a page would be too large."""
    fitting = PAGE_BYTES // (ROW_BYTES * groups) if groups else most
    return str(max(1, min(most, fitting)))


def _encoded(parameters: Mapping[str, Any]) -> Query:
    query: Query = []
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            query += [(f"{name}[{key}]", _text(item)) for key, item in value.items()]
        elif isinstance(value, (tuple, list, set, frozenset)):
            query += [(f"{name}[]", _text(item)) for item in value]
        elif value is not None:
            query.append((name, _text(value)))
    return query


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _path(template: str, ids: Mapping[str, Any]) -> str:
    return PREFIX + template.format_map({name: quote(str(ids[name]), safe="") for name in ids})


def _outcome(call: Callable[[], T]) -> T | ApiFailure:
    try:
        return call()
    except ApiFailure as failure:
        return failure
