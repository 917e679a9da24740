"""Client of the admin API: usage, costs, lists and records, all within one deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from threading import local
from typing import TYPE_CHECKING, Any, TypeVar, Union

from lm_openai.api import endpoints, paging, queries, records
from lm_openai.api.endpoints import LISTS, MAXIMUM_BUCKETS, PREFIX, SINGLES, USAGE_KINDS
from lm_openai.api.notes import Memory, Notes
from lm_openai.api.paging import Buckets, Hole
from lm_openai.api.queries import Values
from lm_openai.api.records import Bucket, Cost, Fold, Record
from lm_openai.api.responses import parsed
from lm_openai.api.retry import Counters, Pace, Requester
from lm_openai.api.sharing import Responses
from lm_openai.errors import ApiFailure
from lm_openai.timespans import DAY, WIDTHS

if TYPE_CHECKING:
    from lm_openai.api.transport import Transport

MOST_REFUSED = 20
"""Refused rows of a list that are reported by name."""
T = TypeVar("T")
Outcomes = list[Union[T, ApiFailure]]  # noqa: UP007
Day = tuple[int, list[Cost]]
Refusals = list[tuple[str, str]]


def _random() -> float:
    from random import random

    return random()


class Client:
    """Requests of one poll to one organization, all within `deadline_seconds` from now.

    Every method raises ApiFailure if a request fails. The generators request one page at a time,
    as they are read, and keep no rows. Safe to use from threads. `notes` are those that processes
    share; without them the client keeps its own. `kept` returns the seconds before the deadline in
    which no request runs, by default 0. `shared` are the responses that clients share.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        deadline_seconds: float = 50.0,
        concurrency: int = 16,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        jitter: Callable[[], float] = _random,
        notes: Notes | None = None,
        kept: Callable[[], float] = float,
        shared: Responses | None = None,
    ) -> None:
        self.notes = notes or Notes(Memory(), time.time)
        pace = Pace(deadline_seconds, concurrency, clock, sleep, jitter, self.notes, kept)
        self._requester = Requester(transport, pace, shared)
        self._concurrency = concurrency
        self._refused, self._thread = Refusals(), local()
        self.holes: list[Hole] = []
        self.starts: list[Hole] = []

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
        whole: bool = False,
        fold: Fold | None = None,
        splits: bool = True,
    ) -> Iterator[Bucket]:
        """Return the buckets from `start` to `end` (Unix seconds), oldest first.

        `width` is a bucket's width, such as `1h`. `groups` is the expected number of rows in a
        bucket; it keeps pages under about 10 MB. Days before the start of the data are noted in
        `starts`; with `whole` they may not be missing. The result of `fold` takes the place of the
        rows of each bucket as soon as it is parsed, so that no page of rows is kept. With `splits`,
        a page that is too large is requested again in smaller ones. Raises WrongUsage for a
        dimension or filter that the usage kind does not support.
        """
        known = USAGE_KINDS[kind]
        query = [
            ("bucket_width", width),
            *queries.restrictions(known.name, group_by, known.dimensions, filters, known.filters),
        ]
        path = f"{PREFIX}usage/{kind}"
        checked = partial(records.usage, known, endpoints.endpoint_name(path), fold)
        parse = partial(parsed, convert=checked)
        limit = queries.limit(MAXIMUM_BUCKETS[width], groups)
        sizes = limit, WIDTHS[width]
        report, begins = _fail, self.starts.append
        buckets = Buckets(self._requester, path, query, *sizes, report, begins, parse, splits)
        raw = buckets.covered(start, end, history=width == "1d" and not whole)
        return (records.bucket(entry, buckets.endpoint) for entry in raw)

    def costs(
        self,
        start: int,
        end: int,
        group_by: Sequence[str] = (),
        groups: int | None = None,
    ) -> Iterator[Day]:
        """Return (UTC midnight, costs) of each day from `start` to `end`, oldest first.

        `end` must be on a later day than `start`. Rows without an amount state no money and are
        left out. A day that the API lacks is left out and noted in `holes`. Raises WrongUsage for a
        dimension that `costs` does not support.
        """
        query = [
            ("bucket_width", "1d"),
            *queries.restrictions("costs", group_by, endpoints.COST_DIMENSIONS),
        ]
        path = f"{PREFIX}costs"
        parse = partial(parsed, exact=True)
        sizes = queries.limit(endpoints.MAXIMUM_COST_BUCKETS, groups), DAY
        report = self.holes.append
        buckets = Buckets(self._requester, path, query, *sizes, report, lambda _: None, parse)
        raw = buckets.covered(start, end, history=True, whole_days=True)
        return (records.costs(entry, buckets.endpoint) for entry in raw)

    def list(self, name: str, **ids_and_query: Any) -> Iterator[Record]:
        """Yield all rows of the list `name` (a key of endpoints.LISTS), see records.listed.

        A row that breaks the contract is left out and noted, see `refused`; if no row is left, its
        ApiFailure is raised. `ids_and_query` holds the ids in the path and further parameters: a
        sequence is sent as `name[]`, a mapping as `name[key]`; None is not sent.
        """
        listing = LISTS[name]
        path = queries.path(listing.path, ids_and_query)
        given = {
            field: value
            for field, value in ids_and_query.items()
            if f"{{{field}}}" not in listing.path
        }
        query = queries.encoded({"limit": listing.limit, **dict(listing.asked), **given})
        rows = paging.listed(self._requester, path, query, listing.paging)
        return self._good_rows(rows, listing, endpoints.endpoint_name(path))

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
        good, first, more = False, None, 0
        details: dict[str, None] = {}
        for raw in rows:
            try:
                row = records.listed(raw, listing, endpoint)
            except ApiFailure as failure:
                first = first or failure
                if len(details) < MOST_REFUSED:
                    details[failure.detail] = None
                more += failure.detail not in details
                continue
            good = True
            yield row
        if first and not good:
            raise first
        self.refuse((endpoint, detail) for detail in details)
        if more:
            self.refuse([(endpoint, f"{more} more rows")])

    def _refusals(self) -> Refusals:
        found: Refusals = getattr(self._thread, "refusals", self._refused)
        return found

    def record(self, name: str, **ids: str) -> Record:
        """Return the record `name` (a key of endpoints.SINGLES).

        Raises ApiFailure, of kind `not_found` if there is no such record.
        """
        single = SINGLES[name]
        path = queries.path(single.path, ids)
        row = self._requester.request(path, [])
        records.require(row, single.required, endpoints.endpoint_name(path))
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


def _fail(hole: Hole) -> None:
    raise hole.failure


def _outcome(call: Callable[[], T]) -> T | ApiFailure:
    try:
        return call()
    except ApiFailure as failure:
        # The traceback would keep the response that was read.
        return failure.with_traceback(None)
