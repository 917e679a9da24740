"""Usage DataSources: their dimensions, instances, windows and samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from lm_openai.api.endpoints import USAGE_KINDS, UsageKind, kinds_with
from lm_openai.collect.known_names import dormant_groups, names, seen_groups
from lm_openai.collect.page_sizes import buckets
from lm_openai.collect.poll import GROUP_BY, WHOLE, Poll
from lm_openai.collect.usage_queries import Group, UsageBucket, UsageQuery, days_until, gather
from lm_openai.errors import ApiFailure, WrongUsage
from lm_openai.metrics import narrowing
from lm_openai.model.report import NONE, Instance, Sample, Values
from lm_openai.timespans import DAY, HOUR, Window

Sampling = Callable[[Poll, Iterable[Instance]], Iterator[Sample]]
Functions = tuple[
    Callable[[Poll], Iterator[Instance]],
    Sampling,
    Sampling,
    Callable[[Poll, Sequence[str]], Iterator[Instance]],
]

ORGANIZATION = "organization"
MODEL_KINDS = kinds_with("requests")
"""Usage kinds that together count each request to a model exactly once."""


def functions(name: str) -> Functions:
    """Return the functions of a DataSource that shows one usage kind.

    They are `discover`, `collect`, `series` and `dormant`.
    """
    kind = USAGE_KINDS[name]
    sampling = partial(collect, kind), partial(series, kind)
    return partial(discover, kind), *sampling, partial(dormant, kind)


def discover(kind: UsageKind, poll: Poll) -> Iterator[Instance]:
    """Yield the instances with usage in the last 7 days, by the chosen dimensions.

    Yields nothing if the API has no such kind yet. Raises WrongUsage and ApiFailure.
    """
    dimensions = grouping(poll, kind.name, kind.dimensions)
    poll.read_ahead(_reads(kind, poll, dimensions), dimensions)
    for group in _seen(kind, poll, dimensions) or ():
        yield instance(poll, dimensions, group)


def collect(kind: UsageKind, poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the sums of each instance; without use, the kind's required fields are 0.

    A level has a sample per bucket instead, from the newest bucket with data of any instance and
    the bucket before it, because some instances arrive an hour late. An instance without a row in
    both has level 0. If no bucket has data, levels are unknown and nothing is yielded.
    """
    dimensions = grouping(poll, kind.name, kind.dimensions)
    if _seen(kind, poll, dimensions) is None:
        return
    if is_level(poll) and not dimensions:
        yield from _whole_level(kind, poll)
        return
    known = {entry.id: entry for entry in instances}
    samples: Iterable[Sample] = _sums(kind, poll, dimensions, known)
    if is_level(poll):
        samples = _newest(_samples(kind, poll, dimensions, len(known)))
    used = set()
    for sample in samples:
        used.add(sample.instance.id)
        yield sample._replace(instance=known.get(sample.instance.id, sample.instance))
    if used or not is_level(poll):
        for idle in known.values():
            if idle.id not in used:
                yield Sample(idle, dict.fromkeys(kind.required, 0), idle=True)


def series(kind: UsageKind, poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield one sample per instance with a row and bucket of the series.

    The level of the whole organization has only its newest bucket.
    """
    dimensions = grouping(poll, kind.name, kind.dimensions)
    if is_level(poll) and not dimensions:
        yield from collect(kind, poll, instances)
        return
    if _seen(kind, poll, dimensions) is None:
        return
    known = {entry.id: entry for entry in instances}
    for bucket in _buckets(kind, poll, dimensions, poll.series_window, len(known)):
        for sample in _in_bucket(kind, poll, dimensions, bucket):
            yield sample._replace(instance=known.get(sample.instance.id, sample.instance))


def dormant(kind: UsageKind, poll: Poll, words: Sequence[str]) -> Iterator[Instance]:
    """Yield the instances with use in the last 35 days, and all that a list has."""
    dimensions = grouping(poll, kind.name, kind.dimensions)
    if dimensions and _seen(kind, poll, dimensions) is not None:
        yield from used_lately(poll, (kind.name,), dimensions, kind.dimensions)


def used_lately(
    poll: Poll, kinds: Iterable[str], dimensions: Group, allowed: Group
) -> Iterator[Instance]:
    """Yield the instances with use of the kinds in the last 35 days, and all that a list has.

    The filters narrow the use. `allowed` are the dimensions of the kinds.
    """
    read = narrowing.read_dimensions(poll, dimensions, allowed)
    found = dormant_groups(poll.source, kinds, read)
    used = narrowing.folded(poll, dimensions, read, {group: {} for group in found})
    for group in used:
        yield instance(poll, dimensions, group)
    yield from listed(poll, dimensions)


def listed(poll: Poll, dimensions: Group) -> Iterator[Instance]:
    """Yield what a list of the organization has: projects, users, keys or models; else nothing."""
    if len(dimensions) == 1:
        for key in names(poll.source, poll.directory, dimensions[0]) or ():
            yield instance(poll, dimensions, (key,))


def grouping(poll: Poll, what: str, allowed: Group) -> Group:
    """Return the dimensions in `openai.group.by`, else the definition's; () for `organization`.

    `what` names the thing to group in the error. Raises WrongUsage for a dimension that is not
    allowed.
    """
    for dimension in poll.dimensions:
        if dimension not in allowed:
            raise WrongUsage(
                f"{GROUP_BY}: {what} has no dimension {dimension!r}; "
                f"allowed are {', '.join(allowed)}, or {WHOLE} alone"
            )
    return poll.dimensions


def week(poll: Poll) -> Window:
    """Return the last 7 days and today so far, whose usage decides which instances exist."""
    return days_until(poll.now)


def window(poll: Poll) -> Window:
    """Return the poll's window; for a level, whose newest data counts, the last day in hours."""
    chosen = poll.window
    if not is_level(poll):
        return chosen
    return Window(chosen.end // HOUR * HOUR - DAY, chosen.end, "1h")


def is_level(poll: Poll) -> bool:
    """Return True if the definition uses the newest bucket instead of the sum of buckets."""
    return any(datapoint.fold == "last" for datapoint in poll.definition.datapoints)


def not_offered(poll: Poll, name: str, failure: ApiFailure) -> bool:
    """Return True if the failure only means that the API does not offer a new kind yet.

    In that case a note is added to the report.
    """
    if failure.kind != "not_found" or not USAGE_KINDS[name].new:
        return False
    sentence = f"this API has no usage/{name} yet"
    if sentence not in poll.notes:
        poll.notes.append(sentence)
    return True


def instance(poll: Poll, dimensions: Group, group: Group) -> Instance:
    """Return the instance of one group; without dimensions it is the organization."""
    if not dimensions:
        return Instance(ORGANIZATION, poll.properties.organization, {})
    named = {
        dimension.removesuffix("_id") + "_name": name
        for dimension, identifier in zip(dimensions, group)
        if (name := poll.directory.name(dimension, identifier))
    }
    words = [
        named.get(dimension.removesuffix("_id") + "_name") or _readable(dimension, identifier)
        for dimension, identifier in zip(dimensions, group)
    ]
    return Instance(
        group_id(group),
        " / ".join(words),
        dict(zip(dimensions, group)),
        named,
    )


def group_id(group: Group) -> str:
    """Return the instance id of a group, which has at least one dimension."""
    return "/".join(part.replace("/", "%2F") for part in group) if len(group) > 1 else group[0]


def _reads(kind: UsageKind, poll: Poll, dimensions: Group) -> Iterator[Callable[[], object]]:
    """Yield the calls that request the week and what polls share of the window.

    The window of a kind that the API may not have yet waits for the week.
    """
    yield partial(_seen, kind, poll, dimensions)
    if not poll.discover_only and not kind.new:
        windows = poll.reads(window(poll))
        queries = (_query(kind, poll, dimensions, one) for one in windows)
        yield from poll.source.queries.ahead(queries)


def _seen(kind: UsageKind, poll: Poll, dimensions: Group) -> list[Group] | None:
    """Return the groups with a row in the last 7 days, or None if the API has no such kind."""
    return poll.once("seen", lambda: _remembered(kind, poll, dimensions))


def _remembered(kind: UsageKind, poll: Poll, dimensions: Group) -> list[Group] | None:
    seconds, day = poll.definition.discovery_interval, poll.now // DAY
    query = _query(kind, poll, dimensions, week(poll))
    try:
        found = poll.source.shared(
            seconds, seen_groups, kind.name, day, query.dimensions, query.projects
        )
    except ApiFailure as failure:
        if not_offered(poll, kind.name, failure):
            return None
        raise
    seen: dict[Group, Values] = {tuple(group): {} for group in found}
    return [*narrowing.folded(poll, dimensions, query.dimensions, seen)]


def _query(kind: UsageKind, poll: Poll, dimensions: Group, window: Window) -> UsageQuery:
    """Return the query of a window, with the dimensions of the filters that narrow it."""
    read = narrowing.read_dimensions(poll, dimensions, kind.dimensions)
    return UsageQuery(kind.name, window, read, narrowing.projects(poll, window, read))


def _sums(
    kind: UsageKind, poll: Poll, dimensions: Group, known: Mapping[str, Instance]
) -> Iterator[Sample]:
    """Yield one sample per group with a row in the window; no bucket is kept."""
    read = narrowing.read_dimensions(poll, dimensions, kind.dimensions)
    sums: dict[Group, Values] = {}
    for bucket in _window(kind, poll, dimensions, len(known)):
        for group, values in bucket.groups.items():
            gather(sums, group, values)
    for group, values in narrowing.folded(poll, dimensions, read, sums).items():
        one = known.get(group_id(group)) if dimensions else None
        yield Sample(one or instance(poll, dimensions, group), values)


def _samples(kind: UsageKind, poll: Poll, dimensions: Group, groups: int) -> Iterator[Sample]:
    """Yield one sample per bucket of the window and group with a row in it."""
    for bucket in _window(kind, poll, dimensions, groups):
        yield from _in_bucket(kind, poll, dimensions, bucket)


def _window(kind: UsageKind, poll: Poll, dimensions: Group, groups: int) -> Iterator[UsageBucket]:
    """Yield the buckets of the poll's window; note what it covers and how old its data is."""
    requested = window(poll)
    if is_level(poll):
        poll.covered = requested[:2]
    newest = None
    for bucket in _buckets(kind, poll, dimensions, requested, groups):
        newest = bucket.end if bucket.groups else newest
        yield bucket
    if newest is not None and requested.width == "1m":
        poll.ages[kind.name] = max(0, poll.now - newest)


def _buckets(
    kind: UsageKind, poll: Poll, dimensions: Group, requested: Window, groups: int
) -> Iterator[UsageBucket]:
    """Yield the buckets of a window; `groups` is the expected number of rows, 0 if unknown."""

    def read(window: Window) -> Iterable[UsageBucket]:
        query = _query(kind, poll, dimensions, window)
        known = groups if query.dimensions == dimensions else 0
        return buckets(poll.source, query, known)

    for bucket in poll.read(requested, read):
        if bucket.start >= requested.start:
            yield bucket


def _in_bucket(
    kind: UsageKind, poll: Poll, dimensions: Group, bucket: UsageBucket
) -> Iterator[Sample]:
    """Yield a sample for each group that the filters select; for a level, for every group.

    The newest data of a level is that of the whole organization.
    """
    groups = bucket.groups
    if not is_level(poll):
        read = narrowing.read_dimensions(poll, dimensions, kind.dimensions)
        groups = narrowing.folded(poll, dimensions, read, groups)
    for group, values in groups.items():
        yield Sample(instance(poll, dimensions, group), values, bucket.start)


def _whole_level(kind: UsageKind, poll: Poll) -> Iterator[Sample]:
    """Yield the organization's level: the sum of the newest level of each selected group.

    Some groups arrive an hour late and would be missing from the newest bucket.
    """
    samples = _newest(_samples(kind, poll, kind.dimensions, 0))
    newest = {entry.instance.id: entry for entry in samples}
    if newest:
        levels = [entry.values for entry in newest.values() if poll.shows(entry.instance)]
        values = {name: sum(level[name] for level in levels) for name in kind.required}
        start = max(entry.start or 0 for entry in newest.values())
        yield Sample(instance(poll, (), ()), values, start)


def _newest(samples: Iterable[Sample]) -> list[Sample]:
    """Return the samples of the last two hours with level data."""
    every = list(samples)
    edge = max((sample.start or 0 for sample in every), default=0) - HOUR
    return [sample for sample in every if (sample.start or 0) >= edge]


def _readable(dimension: str, identifier: str) -> str:
    if dimension == "batch" and identifier != NONE:
        return "batch" if identifier == "true" else "not batch"
    return identifier
