"""How usage is asked: each question by itself, or once for all that a run asks of the same time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lm_openai.errors import ApiFailure
from lm_openai.names import NONE
from lm_openai.parsing import Window
from lm_openai.records import KINDS, WIDTHS, Bucket, Kind, Record, count
from lm_openai.report import Values

if TYPE_CHECKING:
    from lm_openai.cache import Cache
    from lm_openai.client import Client

T = TypeVar("T")
DAY = 86400
PAGE_ROWS = 27_000
"""Rows of usage that fit on one page of the client's, about 10 MB."""
TOO_MANY = 10**9
Group = tuple[str, ...]


class Question(NamedTuple):
    """Usage of one kind in one window by some dimensions."""

    kind: str
    window: Window
    dimensions: Group


class Slice(NamedTuple):
    """One bucket: `start` on its boundary, `end` as the API gave it, values by group."""

    start: int
    end: int
    groups: dict[Group, Values]


class Answers:
    """The usage that one run reads; `expected` are the questions of all its DataSources.

    Questions of the same kind and window by different dimensions are asked once, by all of these
    together, and kept folded, where that takes no more pages than asking one by one: when one of
    them has all the dimensions anyway, else when it is known how many rows that gives.
    """

    def __init__(self, client: Client, cache: Cache, expected: Iterable[Question] = ()) -> None:
        self._client, self._cache = client, cache
        self._expected: dict[tuple[str, Window], list[Group]] = {}
        for kind, window, dimensions in expected:
            self._expected.setdefault((kind, window), []).append(dimensions)
        self._kept: dict[Question, list[Slice] | ApiFailure] = {}
        self._once: dict[Hashable, Any] = {}

    def of(self, question: Question, groups: int | None = None) -> Iterable[Slice]:
        """The answer, oldest bucket first; `groups` is how many rows a bucket is likely to have.

        Raises ApiFailure; one that stood for several questions is not asked again for each.
        """
        if question not in self._kept:
            wanted = self._expected.get(question[:2], [])
            every = tuple(sorted(set(chain(*wanted))))
            if question.dimensions in wanted and self._worth_it(question, wanted, every):
                self._keep(question, wanted, every)
        if question not in self._kept:
            return self._asked(question, groups)
        kept = self._kept[question]
        if isinstance(kept, ApiFailure):
            raise kept
        return kept

    def once(self, name: Hashable, ask: Callable[[], T]) -> T:
        """What `ask` gives, or its ApiFailure, the same for every poll of the run."""
        if name not in self._once:
            try:
                self._once[name] = ask()
            except ApiFailure as failure:
                self._once[name] = failure
        if isinstance(self._once[name], ApiFailure):
            raise self._once[name]
        answer: T = self._once[name]
        return answer

    def _asked(self, question: Question, groups: int | None) -> Iterator[Slice]:
        kind, width = KINDS[question.kind], WIDTHS[question.window.width]
        for bucket in self._buckets(question, groups):
            yield _slice(kind, bucket, question.dimensions, width)

    def _keep(self, question: Question, wanted: list[Group], every: Group) -> None:
        """Ask by all dimensions and fold every bucket into each of the wanted groupings."""
        kind, width = KINDS[question.kind], WIDTHS[question.window.width]
        kept: dict[Group, list[Slice]] = {dimensions: [] for dimensions in wanted}
        most = 0
        try:
            for bucket in self._buckets(
                question._replace(dimensions=every), self._rows(question, every)
            ):
                most = max(most, len(bucket.results))
                for dimensions, slices in kept.items():
                    slices.append(_slice(kind, bucket, dimensions, width))
        except ApiFailure as failure:
            if failure.kind == "too_large":
                self._cache.put(_size(question, every), TOO_MANY, DAY)
                return
            for dimensions in kept:
                self._kept[question._replace(dimensions=dimensions)] = failure
            return
        self._cache.put(_size(question, every), most, DAY)
        for dimensions, slices in kept.items():
            self._kept[question._replace(dimensions=dimensions)] = slices

    def _worth_it(self, question: Question, wanted: list[Group], every: Group) -> bool:
        if len(wanted) < 2:
            return False
        rows = self._rows(question, every)
        if rows is None:
            return any(len(dimensions) == len(every) for dimensions in wanted)
        start, end, width = question.window
        return rows * -(-(end - start) // WIDTHS[width]) <= PAGE_ROWS * len(set(wanted))

    def _rows(self, question: Question, every: Group) -> int | None:
        """Rows a bucket when it was last asked by all these dimensions."""
        found: int | None = self._cache.get(_size(question, every))
        return found

    def _buckets(self, question: Question, groups: int | None) -> Iterator[Bucket]:
        start, end, width = question.window
        return self._client.usage(
            question.kind, start, end, width, group_by=question.dimensions, groups=groups
        )


def folded(kind: Kind, bucket: Bucket, dimensions: Group) -> dict[Group, Values]:
    """One bucket's rows by group, rows of the same group added; an absent field stays absent."""
    groups: dict[Group, Values] = {}
    for row in bucket.results:
        values = groups.setdefault(group_of(row, dimensions), {})
        for name in kind.quantities:
            if row.get(name) is not None:
                values[name] = values.get(name, 0) + count(row, name, f"usage/{kind.name}")
    return groups


def group_of(row: Record, dimensions: Group) -> Group:
    """The row's ids, a null as `none` and a truth value as `true` or `false`."""
    return tuple(_word(row.get(dimension)) for dimension in dimensions)


def _slice(kind: Kind, bucket: Bucket, dimensions: Group, width: int) -> Slice:
    return Slice(bucket.start // width * width, bucket.end, folded(kind, bucket, dimensions))


def _word(value: object) -> str:
    if value is None or value == "":
        return NONE
    return str(value).lower() if isinstance(value, bool) else str(value)


def _size(question: Question, every: Group) -> str:
    return f"rows {question.kind} {','.join(every)}"
