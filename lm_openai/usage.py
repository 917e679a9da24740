"""What every usage DataSource shares: its instances, its buckets and the fold of their rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai.errors import WrongUsage
from lm_openai.names import NONE
from lm_openai.records import KINDS, WIDTHS, Bucket, Kind, Record, count
from lm_openai.report import Instance, Sample, Values

if TYPE_CHECKING:
    from lm_openai.poll import Poll

DAY = 86400
ORGANIZATION = "organization"
SEEN_DAYS = 7
Group = tuple[str, ...]


def discover(poll: Poll, kind: str) -> Iterator[Instance]:
    """Everything that was used in the last 7 days, by the chosen dimensions."""
    dimensions = grouping(poll, KINDS[kind])
    groups = poll.cache.remember(
        f"seen {kind} {','.join(dimensions)}",
        poll.datasource.discovery_interval,
        lambda: sorted(seen(poll, KINDS[kind], dimensions)),
    )
    for group in groups:
        yield instance(poll, dimensions, tuple(group))


def collect(poll: Poll, kind: str, instances: Iterable[Instance]) -> Iterator[Sample]:
    """One sample per instance and bucket; without use, the kind's required fields are 0."""
    dimensions = grouping(poll, KINDS[kind])
    known = {entry.id: entry for entry in instances}
    used = set()
    for start, group, values in counted(poll, KINDS[kind], dimensions, len(known)):
        made = instance(poll, dimensions, group)
        used.add(made.id)
        yield Sample(known.get(made.id, made), values, start)
    for idle in known.values():
        if idle.id not in used:
            yield Sample(idle, dict.fromkeys(KINDS[kind].required, 0), idle=True)


def grouping(poll: Poll, kind: Kind) -> Group:
    """The dimensions that `openai.group.by` chooses, else the definition's; `organization` is none.

    Raises WrongUsage for a dimension that the endpoint lacks.
    """
    chosen = poll.properties.words("openai.group.by") or poll.datasource.dimensions
    if tuple(chosen) == (ORGANIZATION,):
        return ()
    for dimension in chosen:
        if dimension not in kind.dimensions:
            raise WrongUsage(
                f"openai.group.by: {kind.name} has no dimension {dimension!r}; "
                f"allowed are {', '.join(kind.dimensions)}, or {ORGANIZATION} alone"
            )
    return tuple(dict.fromkeys(chosen))


def seen(poll: Poll, kind: Kind, dimensions: Group) -> set[Group]:
    """The groups with a row in the last 7 days."""
    start = poll.now // DAY * DAY - SEEN_DAYS * DAY
    buckets = poll.client.usage(kind.name, start, poll.now, "1d", group_by=dimensions)
    return {group_of(row, dimensions) for bucket in buckets for row in bucket.results}


def counted(
    poll: Poll, kind: Kind, dimensions: Group, groups: int
) -> Iterator[tuple[int, Group, Values]]:
    """(bucket start, group, values) for every group with use in a bucket of the poll's window."""
    window = poll.window
    newest = None
    buckets = poll.client.usage(
        kind.name,
        window.start,
        window.end,
        window.width,
        group_by=dimensions,
        groups=groups or None,
    )
    for bucket in buckets:
        if bucket.results:
            newest = bucket
        start = bucket.start // WIDTHS[window.width] * WIDTHS[window.width]
        for group, values in folded(kind, bucket, dimensions).items():
            yield start, group, values
    if newest and window.width == "1m":
        poll.ages[kind.name] = max(0, poll.now - newest.end)


def folded(kind: Kind, bucket: Bucket, dimensions: Group) -> dict[Group, Values]:
    """One bucket's rows by group, rows of the same group added."""
    groups: dict[Group, Values] = {}
    for row in bucket.results:
        values = groups.setdefault(group_of(row, dimensions), {})
        for name, value in quantities(kind, row):
            values[name] = values.get(name, 0) + value
    return groups


def quantities(kind: Kind, row: Record) -> Iterator[tuple[str, int]]:
    """The metric fields that a row carries; an absent one stays absent."""
    for name in kind.quantities:
        if row.get(name) is not None:
            yield name, count(row, name, f"usage/{kind.name}")


def group_of(row: Record, dimensions: Group) -> Group:
    """The row's ids, a null as `none` and a truth value as `true` or `false`."""
    return tuple(_word(row.get(dimension)) for dimension in dimensions)


def instance(poll: Poll, dimensions: Group, group: Group) -> Instance:
    """The instance of one group; without dimensions it is the organization."""
    if not dimensions:
        return Instance(ORGANIZATION, poll.properties.organization, {})
    named = {
        dimension.removesuffix("_id") + "_name": name
        for dimension, identifier in zip(dimensions, group)
        if (name := poll.names.of(dimension, identifier))
    }
    words = [
        named.get(dimension.removesuffix("_id") + "_name") or _readable(dimension, identifier)
        for dimension, identifier in zip(dimensions, group)
    ]
    return Instance(
        "/".join(part.replace("/", "%2F") for part in group) if len(group) > 1 else group[0],
        " / ".join(words),
        dict(zip(dimensions, group)),
        named,
    )


def _word(value: object) -> str:
    if value is None or value == "":
        return NONE
    return str(value).lower() if isinstance(value, bool) else str(value)


def _readable(dimension: str, identifier: str) -> str:
    if dimension == "batch" and identifier != NONE:
        return "batch" if identifier == "true" else "not batch"
    return identifier
