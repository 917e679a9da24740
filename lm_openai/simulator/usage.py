"""Usage endpoints: the dimensions, filters and fields of each kind, and its buckets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import add
from types import MappingProxyType
from typing import Any, NamedTuple

from lm_openai.simulator.incidents import changed
from lm_openai.simulator.organization import DEFAULT_SETTINGS, Organization, Settings
from lm_openai.simulator.rhythm import (
    DAY,
    HOUR,
    MINUTE,
    Leaf,
    View,
    hours,
    level,
    minutes,
    span,
    view,
)
from lm_openai.simulator.traffic import leaves

WIDTHS = {"1m": MINUTE, "1h": HOUR, "1d": DAY}


class BucketQuery(NamedTuple):
    """Query of a bucketed endpoint; `filters` are the API's own, with all values as strings."""

    start_time: int
    end_time: int | None
    bucket_width: str = "1d"
    group_by: tuple[str, ...] = ()
    filters: Mapping[str, tuple[str, ...]] = MappingProxyType({})


Columns = dict[str, Sequence[int]]
Interval = tuple[int, int]


class Kind(NamedTuple):
    """Usage endpoint.

    `filters` maps each filter to its dimension. `counter` is the field that all usage has. `fields`
    are the fields of a result, in order. `delay` is the number of seconds after which a minute
    begins to appear. A `level` is not summed over time: a bucket has the value of its newest
    minute.
    """

    object: str
    dimensions: tuple[str, ...]
    filters: Mapping[str, str]
    counter: str
    fields: tuple[str, ...]
    delay: int
    derive: Callable[[Columns, Sequence[int]], Columns] | None = None
    level: bool = False


def buckets(
    organization: Organization,
    kind: str,
    query: BucketQuery,
    now: int,
    settings: Settings = DEFAULT_SETTINGS,
) -> Iterator[dict[str, Any]]:
    """Yield the buckets of a query in wire form, oldest first, computed on demand.

    The first bucket is clipped to the start, rounded down to the minute; the last one to the end or
    to now. Raises KeyError for an unknown kind, width or filter.
    """
    declared = KINDS[kind]
    sources = changed(leaves(organization, kind), kind, settings.incidents)
    chosen = selected(sources, query.filters, declared.filters)
    groups = _groups(chosen, query.group_by)
    seen = usage_view(kind, now, settings)
    for block in _blocks(intervals(query, now), seen.settled, len(chosen)):
        yield from _wire_buckets(declared, query.group_by, block, groups, seen)


def usage_view(kind: str, now: int, settings: Settings) -> View:
    """Return the view of a kind's usage at `now`."""
    return view(now, settings.lag, delay(kind, settings), ARRIVAL, LUMP)


def delay(kind: str, settings: Settings) -> int:
    """Return the seconds after which a minute of the kind's usage begins to appear."""
    return settings.delays.get(kind, int(settings.lag * KINDS[kind].delay))


def intervals(query: BucketQuery, now: int) -> Iterator[Interval]:
    """Yield the start and end times of the buckets, oldest first."""
    width = WIDTHS[query.bucket_width]
    end = now if query.end_time is None else min(query.end_time, now)
    start = query.start_time - query.start_time % MINUTE
    while start < end:
        boundary = min(start - start % width + width, end)
        yield start, boundary
        start = boundary


def selected(
    sources: Iterable[Leaf], filters: Mapping[str, tuple[str, ...]], dimensions: Mapping[str, str]
) -> list[Leaf]:
    """Return the leaves that pass all filters; an empty filter passes everything."""
    wanted = [(dimensions[name], frozenset(values)) for name, values in filters.items() if values]
    return [
        leaf
        for leaf in sources
        if all(_text(leaf.dimensions.get(dimension)) in values for dimension, values in wanted)
    ]


def _text(value: str | bool | None) -> str | None:
    return str(value).lower() if isinstance(value, bool) else value


def _groups(
    sources: Iterable[Leaf], group_by: tuple[str, ...]
) -> dict[tuple[object, ...], list[Leaf]]:
    found: dict[tuple[object, ...], list[Leaf]] = {}
    for leaf in sources:
        key = tuple(leaf.dimensions.get(dimension) for dimension in group_by)
        found.setdefault(key, []).append(leaf)
    return found


def _blocks(found: Iterable[Interval], settled: int, sources: int) -> Iterator[list[Interval]]:
    """Yield buckets to compute together: minutes of an hour, settled hours of a day, else one."""
    most = min(60, max(6, MAX_LEAF_MINUTES // max(sources, 1))) * MINUTE

    def block(interval: Interval) -> tuple[int, int]:
        start, end = interval
        if end - start <= MINUTE:
            return start // HOUR, start % HOUR // most
        whole = start % HOUR == 0 and end - start == HOUR and end <= settled
        return (start // DAY, -1) if whole else (start, -2)

    for _, intervals_of_block in groupby(found, key=block):
        yield list(intervals_of_block)


def _wire_buckets(
    declared: Kind,
    group_by: tuple[str, ...],
    block: list[Interval],
    groups: Mapping[tuple[object, ...], list[Leaf]],
    seen: View,
) -> Iterator[dict[str, Any]]:
    names = (*declared.fields, *declared.dimensions)
    lines = []
    for key, members in groups.items():
        columns = _columns(declared, members, block, seen)
        if columns:
            grouped = dict(zip(group_by, key))
            tail = tuple(grouped.get(dimension) for dimension in declared.dimensions)
            rows = zip(*_fields(declared, columns, len(block)))
            lines.append((iter(columns[declared.counter]), rows, tail))
    for start, end in block:
        results = [
            {"object": declared.object, **dict(zip(names, (*row, *tail)))}
            for count, row, tail in (
                (next(counts), next(rows), tail) for counts, rows, tail in lines
            )
            if count
        ]
        yield {"object": "bucket", "start_time": start, "end_time": end, "results": results}


def _columns(declared: Kind, members: Iterable[Leaf], block: list[Interval], seen: View) -> Columns:
    """Return each field's values by bucket of the block, summed over the leaves."""
    total: Columns = {}
    for leaf in members:
        if declared.level:
            found: Sequence[Sequence[int]] | None = [
                [level(leaf, start, end, seen) for start, end in block]
            ]
        else:
            found = _leaf_columns(leaf, block, seen)
        if found is None:
            continue
        for name, column in zip((declared.counter, *leaf.fields), found):
            have = total.get(name)
            total[name] = column if have is None else list(map(add, have, column))
    return total


def _leaf_columns(leaf: Leaf, block: list[Interval], seen: View) -> Sequence[Sequence[int]] | None:
    start, end = block[0]
    if len(block) == 1:
        values = span(leaf, start, end, seen)
        return [(value,) for value in values] if values[0] else None
    if end - start <= MINUTE:
        whole = minutes(leaf, start // HOUR, seen)
        low = start % HOUR // MINUTE
    else:
        whole = hours(leaf, start // DAY)
        low = start % DAY // HOUR
    return whole and [column[low : low + len(block)] for column in whole]


def _fields(declared: Kind, columns: Columns, length: int) -> list[Sequence[int]]:
    zeros = (0,) * length
    if declared.derive is not None:
        columns = declared.derive(columns, zeros)
    return [columns.get(name, zeros) for name in declared.fields]


def _token_sums(columns: Columns, zeros: Sequence[int]) -> Columns:
    """Add the sums that the contract defines to the split counts."""
    total = dict(columns)
    for name, parts in TOKEN_SUMS.items():
        present = [total[part] for part in parts if part in total] or [zeros]
        total[name] = present[0] if len(present) == 1 else list(map(sum, zip(*present)))
    return total


TOKEN_SUMS = {
    "input_uncached_tokens": ("input_text_tokens", "input_audio_tokens", "input_image_tokens"),
    "input_cached_tokens": (
        "input_cached_text_tokens",
        "input_cached_audio_tokens",
        "input_cached_image_tokens",
    ),
    "input_cache_write_tokens": ("input_cache_write_30m_tokens", "input_cache_write_12h_tokens"),
    "input_tokens": ("input_uncached_tokens", "input_cached_tokens", "input_cache_write_tokens"),
    "output_tokens": ("output_text_tokens", "output_audio_tokens", "output_image_tokens"),
}

# Seconds after a kind's first counts, and the visible share in 1024ths. The real API's counts grow
# in lumps as well, the last ones hours later.
ARRIVAL = ((0, 512), (240, 930), (600, 990), (2700, 1019), (7500, 1024))
LUMP = 240

MAX_LEAF_MINUTES = 500_000  # computed at once, so that 2,000 projects fit into memory

CALLER = ("project_id", "user_id", "api_key_id")
CALLERS = {"project_ids": "project_id", "user_ids": "user_id", "api_key_ids": "api_key_id"}
MODELS = {**CALLERS, "models": "model"}
PROJECTS = {"project_ids": "project_id"}
REQUESTS = "num_model_requests"


def _text_kind(name: str, delay: int) -> Kind:
    return Kind(
        object=f"organization.usage.{name}.result",
        dimensions=(*CALLER, "model", "batch", "service_tier", "api_source"),
        filters={**MODELS, "batch": "batch"},
        counter=REQUESTS,
        fields=(
            "input_tokens",
            "input_cached_tokens",
            "input_cache_write_tokens",
            "input_cache_write_30m_tokens",
            "input_cache_write_12h_tokens",
            "input_uncached_tokens",
            "output_tokens",
            "input_text_tokens",
            "output_text_tokens",
            "input_cached_text_tokens",
            "input_audio_tokens",
            "input_cached_audio_tokens",
            "output_audio_tokens",
            "input_image_tokens",
            "input_cached_image_tokens",
            "output_image_tokens",
            REQUESTS,
        ),
        delay=delay,
        derive=_token_sums,
    )


def _model_kind(name: str, field: str, delay: int) -> Kind:
    return Kind(
        object=f"organization.usage.{name}.result",
        dimensions=(*CALLER, "model"),
        filters=MODELS,
        counter=REQUESTS,
        fields=(field, REQUESTS),
        delay=delay,
    )


def _project_kind(name: str, counter: str, level: bool = False) -> Kind:
    return Kind(
        object=f"organization.usage.{name}.result",
        dimensions=("project_id",),
        filters=PROJECTS,
        counter=counter,
        fields=(counter,),
        delay=1200,
        level=level,
    )


KINDS: dict[str, Kind] = {
    "completions": _text_kind("completions", 360),
    "decisions": _text_kind("decisions", 420),
    "embeddings": _model_kind("embeddings", "input_tokens", 420),
    "moderations": _model_kind("moderations", "input_tokens", 480),
    "images": Kind(
        object="organization.usage.images.result",
        dimensions=(*CALLER, "model", "size", "source"),
        filters={**MODELS, "sizes": "size", "sources": "source"},
        counter=REQUESTS,
        fields=("images", REQUESTS),
        delay=900,
    ),
    "audio_speeches": _model_kind("audio_speeches", "characters", 600),
    "audio_transcriptions": _model_kind("audio_transcriptions", "seconds", 600),
    "vector_stores": _project_kind("vector_stores", "usage_bytes", level=True),
    "code_interpreter_sessions": _project_kind("code_interpreter_sessions", "num_sessions"),
    "file_search_calls": Kind(
        object="organization.usage.file_searches.result",
        dimensions=(*CALLER, "vector_store_id"),
        filters={**CALLERS, "vector_store_ids": "vector_store_id"},
        counter="num_requests",
        fields=("num_requests",),
        delay=720,
    ),
    "web_search_calls": Kind(
        object="organization.usage.web_searches.result",
        dimensions=(*CALLER, "model", "context_level", "api_source"),
        filters={**MODELS, "context_levels": "context_level"},
        counter=REQUESTS,
        fields=(REQUESTS, "num_requests"),
        delay=540,
    ),
}
