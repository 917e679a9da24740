"""Headroom under rate limits: peak minutes, day totals and limits by pool."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from lm_openai.api.endpoints import TOTALS, USAGE_KINDS, UsageKind, kinds_with
from lm_openai.api.records import Bucket, RateLimit, Record, rate_limit
from lm_openai.collect.poll import Poll
from lm_openai.collect.source import Source
from lm_openai.collect.usage_queries import group_of
from lm_openai.errors import ApiFailure
from lm_openai.metrics.limit_pools import Pool, Pools, pools
from lm_openai.metrics.usage import MODEL_KINDS, SEEN_DAYS, not_offered
from lm_openai.model.aggregation import percent
from lm_openai.model.report import Values
from lm_openai.timespans import DAY, MINUTE

LIMITS_TO_LIVE = 900
EDGE_SOUGHT = 90 * MINUTE
BUSY_PERCENT = 80
MODELS_A_PROJECT = 20
"""A guess, for the length of the week's pages alone."""

COUNTED = {
    "rpm": kinds_with("requests"),
    "tpm": kinds_with("tokens"),
    "ipm": kinds_with("images"),
    "rpd": kinds_with("requests"),
    "batch_tpd": tuple(name for name in MODEL_KINDS if USAGE_KINDS[name].knows_batch),
}
"""The kinds whose usage adds up to the use of each limit."""

PLACES = {"rpm": 0, "tpm": 1, "ipm": 2}
BY_POOL = ("project_id", "model")
NO_POOLS = Pools((), {}, {})
Key = tuple[str, str]


class Day(NamedTuple):
    """The use of one project's model in the UTC day so far."""

    requests: int
    batch_tokens: int


class Use(NamedTuple):
    """What one usage kind showed: minutes by (project, model), the week's groups, the UTC day.

    `minutes` maps a group to {minute: (requests, tokens, images)}; `seen` holds every group of the
    last 7 days; `covered` is the start and end of the minutes, None when nothing was used lately.
    """

    minutes: dict[Key, dict[int, tuple[int, int, int]]]
    seen: set[Key]
    day: dict[Key, Day]
    covered: tuple[int, int] | None = None


NOTHING = Day(0, 0)
EMPTY = Use({}, set(), {})


def limits(
    poll: Poll, wanted: Callable[[str], bool] = lambda project: True
) -> dict[str, Pools | ApiFailure]:
    """The pools of every active project that is `wanted`, asked in parallel.

    A failure stands in its project's place; when all fail, the first is raised.
    """
    active = [project for project in poll.directory.active() if wanted(project)]
    answers = poll.client.together(
        partial(poll.source.shared, LIMITS_TO_LIVE, listed_limits, project) for project in active
    )
    found = {project: _pools(answer) for project, answer in zip(active, answers)}
    _refuse_silence(found)
    return found


def uses(poll: Poll, kinds: Iterable[str] = MODEL_KINDS) -> dict[str, Use | ApiFailure]:
    """What each kind showed, asked in parallel; a failure stands in its kind's place.

    A new kind that the API, or what stands before it, does not know yet shows nothing. When all
    kinds fail, the first failure is raised.
    """
    asked = list(kinds)
    groups = len(poll.directory.projects()) * MODELS_A_PROJECT
    lookback = poll.properties.seconds("openai.headroom.lookback")
    answers = poll.client.together(
        partial(poll.source.once, use, name, _until(poll), lookback, groups) for name in asked
    )
    found: dict[str, Use | ApiFailure] = dict(zip(asked, answers))
    for name, answer in found.items():
        if isinstance(answer, ApiFailure) and not_offered(poll, name, answer):
            found[name] = EMPTY
        elif isinstance(answer, Use) and answer.covered:
            poll.ages[name] = max(0, poll.now - answer.covered[1])
        elif isinstance(answer, Use) and answer.seen:
            quiet = f"usage/{name} shows no use in the last {EDGE_SOUGHT // MINUTE} minutes"
            poll.notes.append(f"{quiet}: nobody asked, or its data is very late")
    _refuse_silence(found)
    return found


def use(source: Source, name: str, until: int, lookback: int, groups: int | None = None) -> Use:
    """Return one kind's minutes of data in `lookback` seconds, its week and its day before `until`.

    `groups` is the expected number of rows per day. Raises ApiFailure.
    """
    kind = USAGE_KINDS[name]
    seen, day = _week(source, kind, until, groups)
    edge = _edge(source, kind, until)
    if edge is None:
        return Use({}, seen, day)
    start, end = _span(edge, until, lookback)
    return Use(_minutes(source, kind, start, end, len(seen)), seen, day, (start, edge.end))


def missing(found: Mapping[str, Use | ApiFailure], counted: Iterable[str]) -> bool:
    """Whether a kind that has to be added up stayed unanswered."""
    return any(isinstance(found.get(name), ApiFailure) for name in counted)


def covered(poll: Poll, found: Mapping[str, Use | ApiFailure]) -> tuple[int, int]:
    """From the first to the last minute looked at; the whole search when it found nothing."""
    uses = [answer for answer in found.values() if isinstance(answer, Use)]
    stretches = [answer.covered for answer in uses if answer.covered]
    if not stretches:
        return _until(poll) - EDGE_SOUGHT, _until(poll)
    return min(start for start, _ in stretches), max(end for _, end in stretches)


def idle(used: Tally, found: Mapping[str, Use | ApiFailure]) -> bool:
    """Whether every kind answered and none shows a request in the minutes looked at."""
    return not missing(found, MODEL_KINDS) and not any(map(any, used.minutes.values()))


def groups(poll: Poll, uses: Mapping[str, Use | ApiFailure], lost: str) -> set[Key]:
    """Every project and model that some kind saw in the last 7 days.

    A kind that did not answer is noted, with what is `lost` of the limits whose use it adds to.
    """
    seen: set[Key] = set()
    for name, answer in uses.items():
        if isinstance(answer, ApiFailure):
            fed = ", ".join(short for short, kinds in COUNTED.items() if name in kinds)
            poll.report_failure(answer, f"{lost} of {fed} are left out")
        else:
            seen |= answer.seen | answer.minutes.keys()
    return seen


class Tally(NamedTuple):
    """One pool's use over all kinds: (requests, tokens, images) by minute, the day, and by what."""

    minutes: dict[int, tuple[int, int, int]]
    day: Day
    kinds: frozenset[str]


def tally(found: dict[str, Use | ApiFailure], members: Iterable[Key]) -> Tally:
    """Add up what the groups of one pool used, minute by minute over the answered kinds."""
    keys = set(members)
    minutes: dict[int, tuple[int, int, int]] = {}
    requests = batch_tokens = 0
    kinds = set()
    for name, answer in found.items():
        if isinstance(answer, ApiFailure):
            continue
        for key in keys:
            if key in answer.seen or key in answer.minutes:
                kinds.add(name)
            requests += answer.day.get(key, NOTHING).requests
            batch_tokens += answer.day.get(key, NOTHING).batch_tokens
            for minute, counts in answer.minutes.get(key, {}).items():
                minutes[minute] = add(minutes.get(minute, (0, 0, 0)), counts)
    return Tally(minutes, Day(requests, batch_tokens), frozenset(kinds))


def values(poll: Poll, pool: Pool, used: Tally, found: dict[str, Use | ApiFailure]) -> Values:
    """The datapoints of one pool; what an unanswered kind would add to is left out."""
    known: Values = {f"{short}_limit": limit for short, limit in pool.limits.items()}
    known |= {"limit_known": int(pool.known)}
    for short, amount in _used(pool, used, found):
        known[f"{short}_used"] = amount
        share = utilization(amount, pool.limits.get(short))
        if share is not None:
            known[f"{short}_utilization"] = share
    return known | _peak_values(poll, pool, used, found)


def utilization(used: int, limit: int | None) -> float | None:
    """Used share of a limit in percent; a limit of 0 is full at any use; None without a limit."""
    if limit == 0:
        return 100.0 if used else 0.0
    return percent(used, limit)


def add(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    """(requests, tokens, images) of two parts together."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2])


def _used(pool: Pool, used: Tally, found: dict[str, Use | ApiFailure]) -> Iterator[tuple[str, int]]:
    """(limit, used) where usage can show it for this pool and every kind answered.

    The tokens of image and speech models do not show in usage, nor do the images that a text
    model reads, the batches of embeddings or what counts against a row that is no model; another
    pool that nothing used has used none of any.
    """
    for short, kinds in COUNTED.items():
        shown = used.kinds & set(kinds) if used.kinds else not pool.alone
        if shown and not missing(found, kinds):
            yield short, _amount(used, short)


def _amount(used: Tally, short: str) -> int:
    if short in PLACES:
        return max((counts[PLACES[short]] for counts in used.minutes.values()), default=0)
    return used.day.requests if short == "rpd" else used.day.batch_tokens


def _peak_values(poll: Poll, pool: Pool, used: Tally, found: dict[str, Use | ApiFailure]) -> Values:
    """When the busiest minute was, by tokens where usage shows them, and how many were busy."""
    short = "tpm" if used.kinds & set(COUNTED["tpm"]) else "rpm"
    if missing(found, COUNTED[short]):
        return {}
    known: Values = {}
    amounts = {minute: counts[PLACES[short]] for minute, counts in used.minutes.items()}
    peak = max(amounts, key=lambda minute: (amounts[minute], minute), default=None)
    if peak is not None and amounts[peak]:
        known["peak_age_seconds"] = max(0, poll.now - (peak + MINUTE))
    limit = pool.limits.get("tpm")
    if limit and short == "tpm":
        busy = [amount for amount in amounts.values() if amount * 100 >= limit * BUSY_PERCENT]
        known["tpm_busy_minutes"] = len(busy)
    return known


def _pools(answer: list[RateLimit] | ApiFailure) -> Pools | ApiFailure:
    if isinstance(answer, ApiFailure):
        return NO_POOLS if answer.kind == "archived" else answer
    return pools(RateLimit(*row) for row in answer)


def _refuse_silence(found: Mapping[str, object]) -> None:
    """Raise the first failure when there is nothing else."""
    failures = [answer for answer in found.values() if isinstance(answer, ApiFailure)]
    if failures and len(failures) == len(found):
        raise failures[0]


def listed_limits(source: Source, project: str) -> list[RateLimit]:
    """Request the limit rows of one project; raises ApiFailure."""
    return [rate_limit(row) for row in source.client.list("rate_limits", project_id=project)]


def _week(
    source: Source, kind: UsageKind, until: int, groups: int | None
) -> tuple[set[Key], dict[Key, Day]]:
    """The groups of the last 7 days and the running UTC day, as a rule from one request."""
    today = source.now // DAY * DAY
    by = (*BY_POOL, "batch") if kind.knows_batch else BY_POOL
    seen: set[Key] = set()
    day: dict[Key, Day] = {}
    start = today - SEEN_DAYS * DAY
    for bucket in source.client.usage(kind.name, start, until, "1d", group_by=by, groups=groups):
        for row in bucket.results:
            key = _key(row)
            seen.add(key)
            if bucket.start >= today:
                day[key] = _add_day(day.get(key, NOTHING), row)
    return seen, day


def _add_day(day: Day, row: Record) -> Day:
    if row.get("batch") is True:
        return day._replace(batch_tokens=day.batch_tokens + row["input_tokens"])
    return day._replace(requests=day.requests + row["num_model_requests"])


def _edge(source: Source, kind: UsageKind, until: int) -> Bucket | None:
    """The newest minute in which anyone used this kind: data ends there, however late it is."""
    start = until - until % MINUTE - EDGE_SOUGHT
    newest = None
    for bucket in source.client.usage(kind.name, start, until, "1m", filters=_live(kind)):
        newest = bucket if bucket.results else newest
    return newest


def _span(edge: Bucket, until: int, lookback: int) -> tuple[int, int]:
    """Return the whole minutes to read; the last one is the edge's, and it ends before `until`."""
    end = edge.start - edge.start % MINUTE + MINUTE
    return end - max(MINUTE, lookback - lookback % MINUTE), min(until, end)


def _minutes(
    source: Source, kind: UsageKind, start: int, end: int, groups: int
) -> dict[Key, dict[int, tuple[int, int, int]]]:
    found: dict[Key, dict[int, tuple[int, int, int]]] = {}
    for bucket in source.client.usage(
        kind.name,
        start,
        end,
        "1m",
        group_by=BY_POOL,
        filters=_live(kind),
        groups=groups or None,
    ):
        minute = bucket.start - bucket.start % MINUTE
        for row in bucket.results:
            minutes = found.setdefault(_key(row), {})
            minutes[minute] = add(minutes.get(minute, (0, 0, 0)), _counts(row))
    return found


def _until(poll: Poll) -> int:
    """Return the end of the usage that this poll reads."""
    return poll.now - poll.properties.seconds("openai.finalization.grace")


def _live(kind: UsageKind) -> dict[str, tuple[str, ...]]:
    """Batch work has a queue of its own and takes nothing from the minute's limits."""
    return {"batch": ("false",)} if kind.knows_batch else {}


def _counts(row: Record) -> tuple[int, int, int]:
    requests, tokens, images = (
        sum(row.get(field) or 0 for field in TOTALS[total])
        for total in ("requests", "tokens", "images")
    )
    return requests, tokens, images


def _key(row: Record) -> Key:
    project, model = group_of(row, BY_POOL)
    return (project, model)
