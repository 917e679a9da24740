"""Limits of pools and their use by minute and day, read from the API for headroom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import add as plus
from typing import Any, NamedTuple

from lm_openai.api.endpoints import TOTALS, USAGE_KINDS, UsageKind, kinds_with
from lm_openai.api.records import Record
from lm_openai.collect import project_limits
from lm_openai.collect.page_sizes import buckets
from lm_openai.collect.poll import Poll
from lm_openai.collect.project_limits import Limits
from lm_openai.collect.source import Source
from lm_openai.collect.usage_queries import (
    SEEN_DAYS,
    Group,
    UsageBucket,
    UsageQuery,
    days_until,
    groups_of,
)
from lm_openai.errors import ApiFailure
from lm_openai.metrics.limit_pools import Pools, pools
from lm_openai.metrics.usage import MODEL_KINDS, not_offered
from lm_openai.model.report import Values
from lm_openai.timespans import DAY, HOUR, MINUTE

EDGE_SOUGHT = 90 * MINUTE
LIMITS = "limits"
"""Name of the age of the limits among those of the usage kinds."""
OLD_LIMITS = 2 * HOUR
MODELS_A_PROJECT = 20
"""Estimate; it only sets the size of the pages that cover the last 7 days."""

COUNTED = {
    "rpm": kinds_with("requests"),
    "tpm": kinds_with("tokens"),
    "ipm": kinds_with("images"),
    "rpd": kinds_with("requests"),
    "batch_tpd": tuple(name for name in MODEL_KINDS if USAGE_KINDS[name].knows_batch),
}
"""Usage kinds whose counts are added up for each limit."""

BY_POOL = ("project_id", "model")
NO_POOLS = Pools((), {}, {})
Key = tuple[str, str]
Counts = tuple[int, int, int]
"""Requests, tokens and images of one minute."""


_COUNTED_FIELDS = tuple(TOTALS[total] for total in ("requests", "tokens", "images"))


class Day(NamedTuple):
    """Use of one project's model in the UTC day so far.

    `requests` excludes batches where usage tells them apart; `batch_tokens` are their input tokens.
    """

    requests: int
    batch_tokens: int


class Use(NamedTuple):
    """Use that one usage kind shows: minutes and day by (project id, model), groups of the week.

    `minutes` maps a group to {minute: (requests, tokens, images)}. `seen` is every group of the
    last 7 days. `covered` is the start and end of the minutes, None without recent use. If the
    kind's requests failed, `failure` is the reason, `seen` is what an earlier poll of this host saw
    and `remembered` tells whether there was one.
    """

    minutes: dict[Key, dict[int, Counts]]
    seen: set[Key]
    day: dict[Key, Day]
    covered: tuple[int, int] | None = None
    failure: ApiFailure | None = None
    remembered: bool = False


class Minute(NamedTuple):
    """Newest minute with use, in Unix seconds; `end` is earlier than its boundary at the poll."""

    start: int
    end: int


NOTHING = Day(0, 0)
EMPTY = Use({}, set(), {})


def limits(
    poll: Poll, wanted: Callable[[str], bool] = lambda project: True
) -> dict[str, Pools | ApiFailure]:
    """Return the pools of every active project that is `wanted`; requests run in parallel.

    An ApiFailure takes the place of a project without limits. If all failed, the first one is
    raised. A project that was archived in the meantime has no pools. The age of the oldest limits
    is added to the report.
    """
    active = [project for project in poll.directory.active() if wanted(project)]
    read = project_limits.read(poll.source, active)
    ages = [poll.now - one.read_at for one in read.values() if not isinstance(one, ApiFailure)]
    if ages:
        poll.ages[LIMITS] = max(ages)
    if max(ages, default=0) > OLD_LIMITS:
        hours = max(ages) // HOUR
        poll.notes.append(f"some limits are {hours} hours old, since reading them fails")
    result = {project: _pools(limits) for project, limits in read.items()}
    _raise_if_all_failed(result)
    return result


def uses(poll: Poll, kinds: Iterable[str] = MODEL_KINDS) -> dict[str, Use]:
    """Return the use of each kind; requests run in parallel.

    A kind whose requests failed has a `failure`. If all failed, the first failure is raised. A new
    kind that the API, or a gateway in front of it, does not offer yet is empty.
    """
    names = list(kinds)
    lookback = poll.properties.seconds("openai.headroom.lookback")
    outcomes = poll.client.together(
        partial(poll.source.once, use, name, _until(poll), lookback) for name in names
    )
    _raise_if_all_failed(dict(zip(names, outcomes)))
    result = {name: _with_history(poll, name, outcome) for name, outcome in zip(names, outcomes)}
    for name, found in result.items():
        if found.covered:
            poll.ages[name] = max(0, poll.now - found.covered[1])
        elif found.seen and not found.failure:
            quiet = f"usage/{name} shows no use in the last {EDGE_SOUGHT // MINUTE} minutes"
            poll.notes.append(f"{quiet}: there were no requests, or the data is very late")
    return result


def _with_history(poll: Poll, name: str, outcome: Use | ApiFailure) -> Use:
    """Remember the groups of a kind for 7 days; return those remembered if its requests failed."""
    cache, key = poll.source.cache, f"groups of {name}"
    history = cache.get(key)
    if isinstance(outcome, Use):
        seen = sorted(map(list, outcome.seen))
        if seen != history:
            cache.put(key, seen, SEEN_DAYS * DAY)
        return outcome
    if not_offered(poll, name, outcome):
        return EMPTY
    known = {(project, model) for project, model in history or ()}
    return Use({}, known, {}, failure=outcome, remembered=history is not None)


def use(source: Source, name: str, until: int, lookback: int) -> Use:
    """Return one kind's use before `until`: the minutes, the last 7 days and the UTC day so far.

    The minutes are the `lookback` seconds that end with the newest minute with data. Raises
    ApiFailure.
    """
    kind = USAGE_KINDS[name]
    if until == source.now and not kind.new:
        source.client.together(source.queries.ahead(source.queries.spans(name)))
    seen, day = _week(source, kind, until)
    recent = source.queries.recent(name) if until == source.now else None
    newest = _newest(recent or ()) or _sought(source, kind, until)
    if newest is None:
        return Use({}, seen, day)
    start, end = _span(newest, until, lookback)
    if recent and recent[0].start <= start:
        minutes = _by_pool(bucket for bucket in recent if start <= bucket.start < end)
    else:
        minutes = _minutes(source, kind, start, end, len(seen))
    return Use(minutes, seen, day, (start, newest.end))


def covered(poll: Poll, found: Mapping[str, Use]) -> tuple[int, int]:
    """Return the start and end of all minutes read, or of the last 90 minutes if none has data."""
    spans = [use.covered for use in found.values() if use.covered]
    if not spans:
        return _until(poll) - EDGE_SOUGHT, _until(poll)
    return min(start for start, _ in spans), max(end for _, end in spans)


def groups(poll: Poll, uses: Mapping[str, Use], lost: str) -> set[Key]:
    """Return every (project id, model) with use of some kind in the last 7 days.

    A kind that failed is reported. `lost` names the values that are then left out, for each limit
    to whose use the kind contributes and each pool that used the kind in the last 7 days.
    """
    for name, use in uses.items():
        if use.failure:
            affected = ", ".join(short for short, kinds in COUNTED.items() if name in kinds)
            pools = "pools that used it in the last 7 days" if use.remembered else "all pools"
            sentence = f"{lost} of {affected} are left out for {pools}"
            poll.report_failure(use.failure, sentence, hides_instances=not use.remembered)
    return {key for use in uses.values() for key in (*use.seen, *use.minutes)}


def add(one: Counts, other: Counts) -> Counts:
    """Add two triples of (requests, tokens, images)."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2])


def _pools(limits: Limits | ApiFailure) -> Pools | ApiFailure:
    if isinstance(limits, ApiFailure):
        return NO_POOLS if limits.kind == "archived" else limits
    return pools(limits.rows)


def _raise_if_all_failed(outcomes: Mapping[str, object]) -> None:
    """Raise the first failure if every request failed."""
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, ApiFailure)]
    if failures and len(failures) == len(outcomes):
        raise failures[0]


def _week(source: Source, kind: UsageKind, until: int) -> tuple[set[Key], dict[Key, Day]]:
    """Return the groups of the last 7 days and the use of the UTC day so far.

    Both usually come from one request.
    """
    window = days_until(source.now)._replace(end=until)
    today = window.start + SEEN_DAYS * DAY
    seen: set[Key] = set()
    day: dict[Key, Day] = {}
    query = UsageQuery(kind.name, window, kind.shared)
    for bucket in buckets(source, query, a_project=MODELS_A_PROJECT):
        for group, values in bucket.groups.items():
            key = _pool(group)
            seen.add(key)
            if bucket.start >= today:
                day[key] = _add_day(day.get(key, NOTHING), values, _is_batch(group))
    return seen, day


def _add_day(day: Day, values: Values, is_batch: bool) -> Day:
    if is_batch:
        return day._replace(batch_tokens=day.batch_tokens + int(values["input_tokens"]))
    return day._replace(requests=day.requests + int(values["num_model_requests"]))


def _newest(buckets: Iterable[UsageBucket]) -> Minute | None:
    """Return the newest minute with use other than batches, or None."""
    newest = None
    for bucket in buckets:
        if not all(map(_is_batch, bucket.groups)):
            newest = Minute(bucket.start, bucket.end)
    return newest


def _by_pool(buckets: Iterable[UsageBucket]) -> dict[Key, dict[int, Counts]]:
    """Return the counts of each minute by pool, without batches."""
    result: dict[Key, dict[int, Counts]] = {}
    for bucket in buckets:
        live = {group: values for group, values in bucket.groups.items() if not _is_batch(group)}
        present = set[str]().union(*live.values())
        counted = _by_key(map(_pool, live), _counts([*live.values()], present))
        for key, counts in counted.items():
            result.setdefault(key, {})[bucket.start] = counts
    return result


def _sought(source: Source, kind: UsageKind, until: int) -> Minute | None:
    """Return the newest minute with use of this kind in the whole organization.

    The data ends there, however late it is. Returns None without use in the last 90 minutes.
    """
    start = until - until % MINUTE - EDGE_SOUGHT
    newest = None
    for bucket in source.client.usage(kind.name, start, until, "1m", filters=_live(kind)):
        newest = Minute(bucket.start, bucket.end) if bucket.results else newest
    return newest


def _span(edge: Minute, until: int, lookback: int) -> tuple[int, int]:
    """Return the start and end of the minutes to read: the last one is the edge, cut at `until`."""
    end = edge.start - edge.start % MINUTE + MINUTE
    return end - max(MINUTE, lookback - lookback % MINUTE), min(until, end)


def _minutes(
    source: Source, kind: UsageKind, start: int, end: int, groups: int
) -> dict[Key, dict[int, Counts]]:
    result: dict[Key, dict[int, Counts]] = {}
    for bucket in source.client.usage(
        kind.name,
        start,
        end,
        "1m",
        group_by=BY_POOL,
        filters=_live(kind),
        groups=groups or None,
        fold=_folded,
    ):
        minute = bucket.start - bucket.start % MINUTE
        for key, counts in bucket.results.items():
            minutes = result.setdefault(key, {})
            minutes[minute] = add(minutes[minute], counts) if minute in minutes else counts
    return result


def _until(poll: Poll) -> int:
    """Return the end of the usage that this poll reads."""
    return poll.now - poll.properties.seconds("openai.finalization.grace")


def _live(kind: UsageKind) -> dict[str, tuple[str, ...]]:
    """Return the filter that excludes batches, whose queue does not count against minute limits."""
    return {"batch": ("false",)} if kind.knows_batch else {}


def _pool(group: Group) -> Key:
    """Return the pool of a group in the kind's shared grouping."""
    project, model, *_ = group
    return project, model


def _is_batch(group: Group) -> bool:
    """Return True for a group of batches, whose queue does not count against minute limits."""
    return group[len(BY_POOL) :] == ("true",)


def _folded(rows: list[Record], quantities: Iterable[str]) -> dict[Key, Counts]:
    """Return one bucket's counts by pool."""
    return _by_key(map(_pool, groups_of(rows, BY_POOL)), _counts(rows, quantities))


def _by_key(keys: Iterable[Key], counts: Iterable[Counts]) -> dict[Key, Counts]:
    result: dict[Key, Counts] = {}
    for key, one in zip(keys, counts):
        result[key] = add(result[key], one) if key in result else one
    return result


def _counts(rows: Sequence[Mapping[str, Any]], present: Iterable[str]) -> Iterable[Counts]:
    """Return each row's requests, tokens and images; `present` are the quantities of some row."""
    columns = [[0] * len(rows) for _ in _COUNTED_FIELDS]
    for field in present:
        for place, fields in enumerate(_COUNTED_FIELDS):
            if field in fields:
                amounts = [row.get(field) or 0 for row in rows]
                columns[place] = [*map(plus, columns[place], amounts)]
    requests, tokens, images = columns
    return zip(requests, tokens, images)
