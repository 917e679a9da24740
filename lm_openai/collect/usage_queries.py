"""Usage queries of one run: those that cover the same window are merged where that saves pages."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, NamedTuple, TypeVar

from lm_openai.api.client import Client
from lm_openai.api.endpoints import USAGE_KINDS, UsageKind
from lm_openai.api.records import Bucket, Fold, Record
from lm_openai.errors import ApiFailure
from lm_openai.model.report import NONE, Values
from lm_openai.storage.cache import Cache
from lm_openai.timespans import DAY, WIDTHS, Window

T = TypeVar("T")
PAGE_ROWS = 27_000
"""Rows of usage that fit on one page of the client, about 10 MB."""
TOO_MANY = 10**9
Group = tuple[str, ...]


class UsageQuery(NamedTuple):
    """Usage of one kind in one window, grouped by some dimensions.

    `projects` are the ids of the projects to read; empty means all, which other polls can share.
    """

    kind: str
    window: Window
    dimensions: Group
    projects: Group = ()


class UsageBucket(NamedTuple):
    """One bucket: `start` on its boundary, `end` as the API sent it, values by group."""

    start: int
    end: int
    groups: dict[Group, Values]


class UsageQueries:
    """The usage that one run reads; `expected` are the queries of all its DataSources.

    Queries of the same kind and window with different dimensions become one request grouped by all
    these dimensions, folded into each grouping, if that takes no more pages than separate requests:
    when one of them has all the dimensions, or when the number of rows is known from before.
    """

    def __init__(self, client: Client, cache: Cache, expected: Iterable[UsageQuery] = ()) -> None:
        self._client, self._cache = client, cache
        self._expected: dict[tuple[str, Window], list[Group]] = {}
        for query in expected:
            if not query.projects:
                self._expected.setdefault(query[:2], []).append(query.dimensions)
        self._kept: dict[UsageQuery, list[UsageBucket] | ApiFailure] = {}
        self._once: dict[Hashable, Any] = {}

    def buckets(self, query: UsageQuery, groups: int | None = None) -> Iterable[UsageBucket]:
        """Return the buckets, oldest first; `groups` is the expected number of rows per bucket.

        Raises ApiFailure; after a merged request failed it is raised for each of its queries.
        """
        if query not in self._kept and not query.projects:
            wanted = self._expected.get(query[:2], [])
            union = tuple(sorted(set(chain(*wanted))))
            if query.dimensions in wanted and self._saves_pages(query, wanted, union):
                self._request_merged(query, wanted, union)
        if query not in self._kept:
            return self._requested(query, groups)
        kept = self._kept[query]
        if isinstance(kept, ApiFailure):
            raise kept
        return kept

    def once(self, name: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`, or raise its ApiFailure, the same for every poll of the run."""
        if name not in self._once:
            try:
                self._once[name] = compute()
            except ApiFailure as failure:
                self._once[name] = failure
        if isinstance(self._once[name], ApiFailure):
            raise self._once[name]
        value: T = self._once[name]
        return value

    def _requested(self, query: UsageQuery, groups: int | None) -> Iterator[UsageBucket]:
        width = WIDTHS[query.window.width]
        for bucket in self._raw(query, groups, partial(folded, dimensions=query.dimensions)):
            yield UsageBucket(bucket.start // width * width, bucket.end, bucket.results)

    def _request_merged(self, query: UsageQuery, wanted: list[Group], union: Group) -> None:
        """Request all dimensions and fold every bucket into each of the wanted groupings."""
        kind, width = USAGE_KINDS[query.kind], WIDTHS[query.window.width]
        kept: dict[Group, list[UsageBucket]] = {dimensions: [] for dimensions in wanted}
        most = 0
        try:
            for bucket in self._raw(query._replace(dimensions=union), self._rows(query, union)):
                most = max(most, len(bucket.results))
                for dimensions, buckets in kept.items():
                    buckets.append(_usage_bucket(kind, bucket, dimensions, width))
        except ApiFailure as failure:
            if failure.kind == "too_large":
                self._cache.put(_rows_key(query, union), TOO_MANY, DAY)
                return
            for dimensions in kept:
                self._kept[query._replace(dimensions=dimensions)] = failure
            return
        self._cache.put(_rows_key(query, union), most, DAY)
        for dimensions, buckets in kept.items():
            self._kept[query._replace(dimensions=dimensions)] = buckets

    def _saves_pages(self, query: UsageQuery, wanted: list[Group], union: Group) -> bool:
        if len(wanted) < 2:
            return False
        rows = self._rows(query, union)
        if rows is None:
            return any(len(dimensions) == len(union) for dimensions in wanted)
        start, end, width = query.window
        return rows * -(-(end - start) // WIDTHS[width]) <= PAGE_ROWS * len(set(wanted))

    def _rows(self, query: UsageQuery, union: Group) -> int | None:
        """Return the rows per bucket that the last request with all these dimensions had."""
        found: int | None = self._cache.get(_rows_key(query, union))
        return found

    def _raw(
        self, query: UsageQuery, groups: int | None, fold: Fold | None = None
    ) -> Iterator[Bucket]:
        filters = {"project_ids": query.projects} if query.projects else {}
        return self._client.usage(
            query.kind,
            *query.window,
            group_by=query.dimensions,
            filters=filters,
            groups=groups,
            fold=fold,
        )


def folded(rows: list[Record], quantities: Sequence[str], dimensions: Group) -> dict[Group, Values]:
    """Return one bucket's rows by group, and empty the list; an absent field stays absent."""
    groups: dict[Group, Values] = {}
    rows.reverse()
    while rows:  # each row is freed before the next group is made
        row = rows.pop()
        values: Values = {
            name: value for name in quantities if (value := row.get(name)) is not None
        }
        group = group_of(row, dimensions)
        if group in groups:
            add(groups[group], values)
        else:
            groups[group] = values
    return groups


def add(sums: Values, values: Values) -> None:
    """Add counts to the sums of the same names; an absent count stays absent."""
    for name, value in values.items():
        sums[name] = int(sums.get(name, 0)) + int(value)


def group_of(row: Record, dimensions: Group) -> Group:
    """Return the row's ids, with null as `none` and a boolean as `true` or `false`."""
    group = tuple(map(row.get, dimensions))
    for value in group:
        if not value or type(value) is not str:
            return tuple(map(_text, group))
    return group  # type: ignore[return-value]


def _usage_bucket(kind: UsageKind, bucket: Bucket, dimensions: Group, width: int) -> UsageBucket:
    groups = folded([*bucket.results], kind.quantities, dimensions)
    return UsageBucket(bucket.start // width * width, bucket.end, groups)


def _text(value: object) -> str:
    if value is None or value == "":
        return NONE
    return str(value).lower() if isinstance(value, bool) else str(value)


def _rows_key(query: UsageQuery, union: Group) -> str:
    return f"rows {query.kind} {','.join(union)}"
