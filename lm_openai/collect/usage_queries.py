"""Usage queries: those that one shared response answers, and the others."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from lm_openai.api.client import Client
from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.api.records import Record
from lm_openai.collect.once import Once
from lm_openai.errors import ApiFailure
from lm_openai.model.report import NONE, Values
from lm_openai.storage.cache import Cache
from lm_openai.timespans import DAY, HOUR, MINUTE, WIDTHS, Window

T = TypeVar("T")
PAGE_ROWS = 27_000
"""Rows of usage that fit on one page of the client, about 10 MB."""
SHARED_ROWS = 9_000
"""Rows of a shared response, about 3 MB; parsing more costs each reader more than it saves."""
SEEN_DAYS = 7
"""Days in which an instance was used to be discovered."""
TOO_MANY = "too many rows"
OF_THE_QUERY = ("incomplete", "too_large", "contract", "refused")
"""Kinds of failure that a narrower query may not have."""
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
    """One bucket: `start` on its boundary, `end` as the API sent it, values by group.

    Several readers may share the groups, so nobody changes them.
    """

    start: int
    end: int
    groups: dict[Group, Values]


class UsageQueries:
    """The usage that one run reads at `now` (Unix seconds); safe to use from threads.

    A query of the last hour or the last week is answered from the shared one: the same span for
    all DataSources, in the grouping that the kind's row in api/endpoints declares. Other queries,
    and those whose shared response would be large, are requested as they are.
    """

    def __init__(self, client: Client, cache: Cache, now: int) -> None:
        self._client, self._cache, self._now = client, cache, now
        self._once = Once()

    def buckets(
        self, query: UsageQuery, groups: Callable[[], int | None] = lambda: None
    ) -> Iterable[UsageBucket]:
        """Return the buckets, oldest first; raises ApiFailure.

        `groups` returns the expected number of rows per bucket; only the page sizes of a query that
        no shared response answers depend on it.
        """
        shared = self._shared(query)
        found = None if shared is None else self.whole(shared)
        if shared is None or found is None:
            return self._requested(query, groups())
        return _narrowed(found, shared, query)

    def ahead(self, queries: Iterable[UsageQuery]) -> list[Callable[[], object]]:
        """Return the calls that request what these queries share, so that it is there for them."""
        shared = dict.fromkeys(map(self._shared, queries))
        return [partial(self.whole, query) for query in shared if query is not None]

    def recent(self, kind: str) -> list[UsageBucket] | None:
        """Return the minutes of the last hour in the kind's shared grouping.

        Returns None if the response would be large. Raises ApiFailure.
        """
        hour, _ = self.spans(kind)
        return self.whole(hour)

    def spans(self, kind: str) -> tuple[UsageQuery, UsageQuery]:
        """Return the shared queries of the last hour and of the last week."""
        grouping = USAGE_KINDS[kind].shared
        hour, week = _recent(self._now), days_until(self._now)
        return UsageQuery(kind, hour, grouping), UsageQuery(kind, week, grouping)

    def whole(self, shared: UsageQuery) -> list[UsageBucket] | None:
        """Return the buckets of a shared query, or None if each one has to request its own.

        Raises ApiFailure.
        """
        return self._once.get(shared, partial(self._whole, shared))

    def once(self, name: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`, or raise its ApiFailure, the same for every poll of the run."""
        return self._once.get(name, compute)

    def _shared(self, query: UsageQuery) -> UsageQuery | None:
        """Return the shared query that answers a query, or None if there is none."""
        for shared in self.spans(query.kind):
            grouped = set(query.dimensions) <= set(shared.dimensions)
            if grouped and not query.projects and _holds(shared.window, query.window):
                return shared
        return None

    def _whole(self, shared: UsageQuery) -> list[UsageBucket] | None:
        if self._cache.get(f"size {_name(shared)}") == TOO_MANY:
            return None
        try:
            buckets = self._small(shared)
        except ApiFailure as failure:
            if failure.kind not in OF_THE_QUERY:
                raise
            if failure.kind != "too_large":
                return None
            buckets = None
        if buckets is None:
            self._cache.put(f"size {_name(shared)}", TOO_MANY, DAY)
        return buckets

    def _small(self, shared: UsageQuery) -> list[UsageBucket] | None:
        """Request a shared query; return None, as soon as that is known, for too many rows."""
        rows, buckets = 0, []
        for bucket in self._requested(shared, None, splits=False):
            rows += len(bucket.groups)
            if rows > SHARED_ROWS:
                return None
            buckets.append(bucket)
        return buckets

    def _requested(
        self, query: UsageQuery, groups: int | None, splits: bool = True
    ) -> Iterator[UsageBucket]:
        """Yield the buckets of a query, and note a bucket of more than `groups` rows."""
        width, name = WIDTHS[query.window.width], f"groups {_name(query)}"
        seen = self._cache.get(name) if groups else None
        expected = most = max(groups or 0, seen if type(seen) is int else 0)
        for bucket in self._client.usage(
            query.kind,
            *query.window,
            group_by=query.dimensions,
            filters={"project_ids": query.projects} if query.projects else {},
            groups=expected or None,
            fold=partial(folded, dimensions=query.dimensions),
            splits=splits,
        ):
            most = max(most, len(bucket.results))
            yield UsageBucket(bucket.start // width * width, bucket.end, bucket.results)
        if groups and most > expected:
            self._cache.put(name, most, DAY)


def folded(rows: list[Record], quantities: Sequence[str], dimensions: Group) -> dict[Group, Values]:
    """Return one bucket's rows by group, and empty the list; an absent field stays absent."""
    groups: dict[Group, Values] = {}
    of_rows = groups_of(rows, dimensions)
    rows.reverse()
    for group in of_rows:
        row = rows.pop()  # each row is freed before the next values are made
        try:
            values: Values = {name: row[name] for name in quantities}
        except KeyError:
            values = {name: row[name] for name in quantities if name in row}
        if group in groups:
            _add(groups[group], values)
        else:
            groups[group] = values
    return groups


def gather(sums: dict[Group, Values], group: Group, values: Values) -> None:
    """Add counts to the sums of a group; an absent count stays absent."""
    if group in sums:
        _add(sums[group], values)
    else:
        sums[group] = {**values}


def groups_of(rows: Sequence[Record], dimensions: Group) -> Sequence[Group]:
    """Return each row's ids, with null as `none` and a boolean as `true` or `false`."""
    if not dimensions:
        return [()] * len(rows)
    columns = [[row.get(dimension) for row in rows] for dimension in dimensions]
    return [*zip(*map(_texts, columns))]


def days_until(now: int, days: int = SEEN_DAYS) -> Window:
    """Return the UTC days before the day of `now`, and that day until `now`."""
    return Window(now // DAY * DAY - days * DAY, now, "1d")


def _recent(now: int) -> Window:
    """Return the last hour in minutes, the default window of usage."""
    return Window((now - HOUR) // MINUTE * MINUTE, now, "1m")


def _holds(shared: Window, asked: Window) -> bool:
    """Return True if whole buckets of a shared window make up another one."""
    width = WIDTHS[shared.width]
    inside = shared.start <= asked.start and asked.end <= shared.end
    whole = asked.start % width == 0 and (asked.end % width == 0 or asked.end == shared.end)
    return shared.width == asked.width and inside and whole


def _narrowed(
    buckets: Iterable[UsageBucket], shared: UsageQuery, query: UsageQuery
) -> Iterator[UsageBucket]:
    """Yield the buckets of a query from those of the shared one."""
    places = [shared.dimensions.index(dimension) for dimension in query.dimensions]
    for bucket in buckets:
        if not query.window.start <= bucket.start < query.window.end:
            continue
        same = query.dimensions == shared.dimensions
        yield bucket if same else bucket._replace(groups=_refolded(bucket.groups, places))


def _refolded(groups: dict[Group, Values], places: list[int]) -> dict[Group, Values]:
    result: dict[Group, Values] = {}
    for group, values in groups.items():
        gather(result, tuple([group[place] for place in places]), values)
    return result


def _add(sums: Values, values: Values) -> None:
    for name, value in values.items():
        try:
            sums[name] += value  # type: ignore[operator]
        except KeyError:
            sums[name] = value


def _texts(column: Sequence[Any]) -> Sequence[str]:
    """Return the values as text; most are, and the same few others occur in many rows."""
    others = {value: _text(value) for value in {*column} if not value or type(value) is not str}
    return [others.get(value, value) for value in column] if others else column


def _text(value: object) -> str:
    if value is None or value == "":
        return NONE
    return str(value).lower() if isinstance(value, bool) else str(value)


def _name(query: UsageQuery) -> str:
    return f"{query.kind} {query.window.width} {','.join(query.dimensions)}"
