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
from lm_openai.model.report import Missing, Values
from lm_openai.timespans import DAY, MINUTE

LIMITS_TO_LIVE = 900
EDGE_SOUGHT = 90 * MINUTE
BUSY_PERCENT = 80
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

PLACES = {"rpm": 0, "tpm": 1, "ipm": 2}
BY_POOL = ("project_id", "model")
NO_POOLS = Pools((), {}, {})
Key = tuple[str, str]


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

    minutes: dict[Key, dict[int, tuple[int, int, int]]]
    seen: set[Key]
    day: dict[Key, Day]
    covered: tuple[int, int] | None = None
    failure: ApiFailure | None = None
    remembered: bool = False


NOTHING = Day(0, 0)
EMPTY = Use({}, set(), {})


def limits(
    poll: Poll, wanted: Callable[[str], bool] = lambda project: True
) -> dict[str, Pools | ApiFailure]:
    """Return the pools of every active project that is `wanted`; requests run in parallel.

    An ApiFailure takes the place of a project whose request failed. If all failed, the first one is
    raised. A project that was archived in the meantime has no pools.
    """
    active = [project for project in poll.directory.active() if wanted(project)]
    outcomes = poll.client.together(
        partial(poll.source.shared, LIMITS_TO_LIVE, listed_limits, project) for project in active
    )
    result = {project: _pools(outcome) for project, outcome in zip(active, outcomes)}
    _raise_if_all_failed(result)
    return result


def uses(poll: Poll, kinds: Iterable[str] = MODEL_KINDS) -> dict[str, Use]:
    """Return the use of each kind; requests run in parallel.

    A kind whose requests failed has a `failure`. If all failed, the first failure is raised. A new
    kind that the API, or a gateway in front of it, does not offer yet is empty.
    """
    names = list(kinds)
    groups = len(poll.directory.projects()) * MODELS_A_PROJECT
    lookback = poll.properties.seconds("openai.headroom.lookback")
    outcomes = poll.client.together(
        partial(poll.source.once, use, name, _until(poll), lookback, groups) for name in names
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


def use(source: Source, name: str, until: int, lookback: int, groups: int | None = None) -> Use:
    """Return one kind's use before `until`: the minutes, the last 7 days and the UTC day so far.

    The minutes are the `lookback` seconds that end with the newest minute with data. `groups` is
    the expected number of rows per day. Raises ApiFailure.
    """
    kind = USAGE_KINDS[name]
    seen, day = _week(source, kind, until, groups)
    edge = _edge(source, kind, until)
    if edge is None:
        return Use({}, seen, day)
    start, end = _span(edge, until, lookback)
    return Use(_minutes(source, kind, start, end, len(seen)), seen, day, (start, edge.end))


def covered(poll: Poll, found: Mapping[str, Use]) -> tuple[int, int]:
    """Return the start and end of all minutes read, or of the last 90 minutes if none has data."""
    spans = [use.covered for use in found.values() if use.covered]
    if not spans:
        return _until(poll) - EDGE_SOUGHT, _until(poll)
    return min(start for start, _ in spans), max(end for _, end in spans)


def idle(used: Tally) -> bool:
    """Return True if every kind that matters could be read and shows no use in the minutes read."""
    return not used.lost and not any(map(any, used.minutes.values()))


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


class Tally(NamedTuple):
    """Use of one pool over all kinds.

    `minutes` maps a minute (Unix seconds) to (requests, tokens, images). `day` is the use in the
    UTC day so far. `kinds` are the usage kinds with use in the last 7 days. `lost` are the failed
    kinds that may have been used: minutes and day are lower bounds of what they contribute to.
    """

    minutes: dict[int, tuple[int, int, int]]
    day: Day
    kinds: frozenset[str]
    lost: frozenset[str] = frozenset()


def tally(found: Mapping[str, Use], members: Iterable[Key]) -> Tally:
    """Add up the use of one pool's groups, minute by minute, over the kinds that did not fail.

    A failed kind may have been used if an earlier poll saw it used by the pool, or if no earlier
    poll is known, or if the pool is not known to have used anything.
    """
    keys = set(members)
    minutes: dict[int, tuple[int, int, int]] = {}
    requests = batch_tokens = 0
    kinds = set()
    for name, use in found.items():
        for key in keys:
            if key in use.seen or key in use.minutes:
                kinds.add(name)
            requests += use.day.get(key, NOTHING).requests
            batch_tokens += use.day.get(key, NOTHING).batch_tokens
            for minute, counts in use.minutes.get(key, {}).items():
                minutes[minute] = add(minutes.get(minute, (0, 0, 0)), counts)
    lost = {
        name
        for name, use in found.items()
        if use.failure and (not use.remembered or name in kinds or not kinds)
    }
    return Tally(minutes, Day(requests, batch_tokens), frozenset(kinds), frozenset(lost))


def values(poll: Poll, pool: Pool, used: Tally) -> Values:
    """Return the datapoints of one pool, without those to which a failed kind would contribute."""
    known: Values = {f"{short}_limit": limit for short, limit in pool.limits.items()}
    known |= {"limit_known": int(pool.known)}
    for short, amount in _used(pool, used):
        if not _lost(used, short):
            known |= _against_limit(pool, short, amount)
    if not _lost(used, _peak_limit(used)):
        known |= _peak_values(poll, pool, used)
    return known


def missing_values(poll: Poll, pool: Pool, used: Tally) -> dict[str, Missing]:
    """Return the datapoints that failed kinds leave out, each with the value of the known part."""
    found: dict[str, Missing] = {}
    for short, amount in _used(pool, used):
        lost = _lost(used, short)
        for name, value in _against_limit(pool, short, amount).items():
            if lost:
                found[name] = Missing(_unread(lost), value)
    lost = _lost(used, _peak_limit(used))
    if lost:
        busy = _peak_values(poll, pool, used).get("tpm_busy_minutes")
        found["tpm_busy_minutes"] = Missing(_unread(lost), busy)
        found["peak_age_seconds"] = Missing(_unread(lost))
    return found


def _lost(used: Tally, short: str) -> frozenset[str]:
    """Return the failed kinds that may have used a limit.

    If no kind is known to use the pool, a failed one may, and then it is also unknown which of the
    pool's limits usage can show.
    """
    return used.lost & set(COUNTED[short]) if used.kinds else used.lost


def _unread(kinds: Iterable[str]) -> str:
    names = " and ".join(f"usage/{name}" for name in sorted(kinds))
    return f"{names} could not be read"


def _against_limit(pool: Pool, short: str, amount: int) -> Values:
    share = utilization(amount, pool.limits.get(short))
    used: Values = {f"{short}_used": amount}
    return used if share is None else {**used, f"{short}_utilization": share}


def utilization(used: int, limit: int | None) -> float | None:
    """Return the used percent of a limit, or None without a limit.

    A limit of 0 is at 100 percent with any use and at 0 percent without.
    """
    if limit == 0:
        return 100.0 if used else 0.0
    return percent(used, limit)


def add(one: tuple[int, int, int], other: tuple[int, int, int]) -> tuple[int, int, int]:
    """Add two triples of (requests, tokens, images)."""
    return (one[0] + other[0], one[1] + other[1], one[2] + other[2])


def _used(pool: Pool, used: Tally) -> Iterator[tuple[str, int]]:
    """Yield (limit's short name, used) for each limit whose use can be shown.

    A limit is skipped if usage cannot show its use: usage has no tokens of image and speech models,
    no images that a text model reads, no batches of embeddings, and nothing for a row that does not
    name a model. Any other pool without use has used 0.
    """
    for short, kinds in COUNTED.items():
        if (used.kinds | used.lost) & set(kinds) if used.kinds else not pool.alone:
            yield short, _amount(used, short)


def _amount(used: Tally, short: str) -> int:
    if short in PLACES:
        return max((counts[PLACES[short]] for counts in used.minutes.values()), default=0)
    return used.day.requests if short == "rpd" else used.day.batch_tokens


def _peak_limit(used: Tally) -> str:
    return "tpm" if used.kinds & set(COUNTED["tpm"]) else "rpm"


def _peak_values(poll: Poll, pool: Pool, used: Tally) -> Values:
    """Return the age of the busiest minute and the number of minutes at 80 percent or more.

    Minutes are compared by tokens if usage shows them for this pool, else by requests.
    """
    short = _peak_limit(used)
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


def _pools(outcome: list[RateLimit] | ApiFailure) -> Pools | ApiFailure:
    if isinstance(outcome, ApiFailure):
        return NO_POOLS if outcome.kind == "archived" else outcome
    return pools(RateLimit(*row) for row in outcome)


def _raise_if_all_failed(outcomes: Mapping[str, object]) -> None:
    """Raise the first failure if every request failed."""
    failures = [outcome for outcome in outcomes.values() if isinstance(outcome, ApiFailure)]
    if failures and len(failures) == len(outcomes):
        raise failures[0]


def listed_limits(source: Source, project: str) -> list[RateLimit]:
    """Request the limit rows of one project; raises ApiFailure."""
    return [rate_limit(row) for row in source.client.list("rate_limits", project_id=project)]


def _week(
    source: Source, kind: UsageKind, until: int, groups: int | None
) -> tuple[set[Key], dict[Key, Day]]:
    """Return the groups of the last 7 days and the use of the UTC day so far.

    Both usually come from one request.
    """
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
    """Return the newest minute with use of this kind in the whole organization.

    The data ends there, however late it is. Returns None without use in the last 90 minutes.
    """
    start = until - until % MINUTE - EDGE_SOUGHT
    newest = None
    for bucket in source.client.usage(kind.name, start, until, "1m", filters=_live(kind)):
        newest = bucket if bucket.results else newest
    return newest


def _span(edge: Bucket, until: int, lookback: int) -> tuple[int, int]:
    """Return the start and end of the minutes to read: the last one is the edge, cut at `until`."""
    end = edge.start - edge.start % MINUTE + MINUTE
    return end - max(MINUTE, lookback - lookback % MINUTE), min(until, end)


def _minutes(
    source: Source, kind: UsageKind, start: int, end: int, groups: int
) -> dict[Key, dict[int, tuple[int, int, int]]]:
    result: dict[Key, dict[int, tuple[int, int, int]]] = {}
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
            minutes = result.setdefault(_key(row), {})
            minutes[minute] = add(minutes.get(minute, (0, 0, 0)), _counts(row))
    return result


def _until(poll: Poll) -> int:
    """Return the end of the usage that this poll reads."""
    return poll.now - poll.properties.seconds("openai.finalization.grace")


def _live(kind: UsageKind) -> dict[str, tuple[str, ...]]:
    """Return the filter that excludes batches, whose queue does not count against minute limits."""
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
