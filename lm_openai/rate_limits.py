"""How near the organization comes to its rate limits: peaks, day totals and limits by pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.derive import percent
from lm_openai.errors import ApiFailure
from lm_openai.pools import Pool, Pools, pools
from lm_openai.records import KINDS, Bucket, Kind, RateLimit, Record, rate_limit
from lm_openai.report import Values
from lm_openai.usage import DAY, SEEN_DAYS, group_of

if TYPE_CHECKING:
    from lm_openai.poll import Poll

MINUTE = 60
LIMITS_TO_LIVE = 900
EDGE_SOUGHT = 90 * MINUTE
BUSY_PERCENT = 80
COUNTED = {
    "tpm": ("completions", "decisions", "embeddings", "moderations"),
    "rpm": (
        "completions",
        "decisions",
        "embeddings",
        "moderations",
        "images",
        "audio_speeches",
        "audio_transcriptions",
    ),
    "ipm": ("images",),
}
KINDS_ASKED = COUNTED["rpm"]
BY_POOL = ("project_id", "model")
Key = tuple[str, str]


class Day(NamedTuple):
    """The use of one project's model in the UTC day so far."""

    requests: int
    batch_tokens: int


class Use(NamedTuple):
    """What one usage kind showed: minutes by (project, model), the week's groups, the UTC day.

    `minutes` maps a group to {minute: (requests, tokens, images)}; `seen` holds every group of the
    last 7 days.
    """

    minutes: dict[Key, dict[int, tuple[int, int, int]]]
    seen: set[Key]
    day: dict[Key, Day]
    newest: int | None = None


EMPTY = Use({}, set(), {})


def limits(poll: Poll) -> dict[str, Pools | ApiFailure]:
    """The pools of every active project, asked in parallel; a failure stands in its place."""
    active = poll.names.active()
    answers = poll.client.together(partial(_project_limits, poll, project) for project in active)
    return {
        project: answer
        if isinstance(answer, ApiFailure)
        else pools(RateLimit(*row) for row in answer)
        for project, answer in zip(active, answers)
    }


def uses(poll: Poll, kinds: Iterable[str] = KINDS_ASKED) -> dict[str, Use | ApiFailure]:
    """What each kind showed, asked in parallel; a kind that the API does not know shows nothing."""
    asked = list(kinds)
    answers = poll.client.together(partial(use, poll, KINDS[name]) for name in asked)
    found: dict[str, Use | ApiFailure] = {}
    for name, answer in zip(asked, answers):
        if isinstance(answer, ApiFailure) and answer.kind == "not_found":
            poll.notes.append(f"this API has no usage/{name} yet")
            answer = EMPTY
        found[name] = answer
        if isinstance(answer, Use) and answer.newest is not None:
            poll.ages[name] = max(0, poll.now - answer.newest)
    return found


def use(poll: Poll, kind: Kind) -> Use:
    """One kind's last minutes of data, its week and its day; raises ApiFailure."""
    seen, day = _week(poll, kind)
    edge = _edge(poll, kind)
    if edge is None:
        return Use({}, seen, day)
    return Use(_minutes(poll, kind, edge, len(seen)), seen, day, edge.end)


def missing(found: dict[str, Use | ApiFailure], counted: Iterable[str]) -> bool:
    """Whether a kind that has to be added up stayed unanswered."""
    return any(isinstance(found.get(name), ApiFailure) for name in counted)


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
        for key in keys & (answer.seen | answer.minutes.keys()):
            kinds.add(name)
            requests += answer.day.get(key, Day(0, 0)).requests
            batch_tokens += answer.day.get(key, Day(0, 0)).batch_tokens
            for minute, counts in answer.minutes.get(key, {}).items():
                minutes[minute] = add(minutes.get(minute, (0, 0, 0)), counts)
    return Tally(minutes, Day(requests, batch_tokens), frozenset(kinds))


def values(poll: Poll, pool: Pool, used: Tally, found: dict[str, Use | ApiFailure]) -> Values:
    """The datapoints of one pool; what an unanswered kind would add to is left out."""
    known: Values = {f"{short}_limit": limit for short, limit in pool.limits.items()}
    known |= {"limit_known": int(pool.known)}
    for short, amount in _used(used, found):
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


def _used(used: Tally, found: dict[str, Use | ApiFailure]) -> Iterator[tuple[str, int]]:
    """(dimension, used) where usage can show it for this pool and every kind answered.

    The tokens of image and speech models do not show in usage, nor do the images that a text
    model reads; a pool that nothing used has used none of either.
    """
    for place, short in enumerate(("rpm", "tpm", "ipm")):
        shown = not used.kinds or used.kinds & set(COUNTED[short])
        if shown and not missing(found, COUNTED[short]):
            yield short, max((counts[place] for counts in used.minutes.values()), default=0)
    if not missing(found, COUNTED["rpm"]):
        yield "rpd", used.day.requests
    if not missing(found, ("completions",)):
        yield "batch_tpd", used.day.batch_tokens


def _peak_values(poll: Poll, pool: Pool, used: Tally, found: dict[str, Use | ApiFailure]) -> Values:
    place, short = (1, "tpm") if used.kinds & set(COUNTED["tpm"]) else (0, "rpm")
    if missing(found, COUNTED[short]):
        return {}
    known: Values = {}
    peak = max(used.minutes, key=lambda minute: (used.minutes[minute][place], minute), default=None)
    if peak is not None and used.minutes[peak][place]:
        known["peak_age_seconds"] = max(0, poll.now - (peak + MINUTE))
    limit = pool.limits.get("tpm")
    if limit and short == "tpm":
        known["tpm_busy_minutes"] = sum(
            counts[1] * 100 >= limit * BUSY_PERCENT for counts in used.minutes.values()
        )
    return known


def _project_limits(poll: Poll, project: str) -> list[RateLimit]:
    return poll.cache.remember(
        f"limits {project}",
        LIMITS_TO_LIVE,
        lambda: [rate_limit(row) for row in poll.client.list("rate_limits", project_id=project)],
    )


def _week(poll: Poll, kind: Kind) -> tuple[set[Key], dict[Key, Day]]:
    """The groups of the last 7 days and the running UTC day, from one request."""
    today = poll.now // DAY * DAY
    by = (*BY_POOL, "batch") if kind.knows_batch else BY_POOL
    seen: set[Key] = set()
    day: dict[Key, Day] = {}
    for bucket in poll.client.usage(
        kind.name, today - SEEN_DAYS * DAY, poll.now, "1d", group_by=by
    ):
        for row in bucket.results:
            key = _key(row)
            seen.add(key)
            if bucket.start >= today:
                day[key] = _add_day(day.get(key, Day(0, 0)), row)
    return seen, day


def _add_day(day: Day, row: Record) -> Day:
    if row.get("batch") is True:
        return day._replace(batch_tokens=day.batch_tokens + row["input_tokens"])
    return day._replace(requests=day.requests + row["num_model_requests"])


def _edge(poll: Poll, kind: Kind) -> Bucket | None:
    """The newest minute in which anyone used this kind: data ends there, however late it is."""
    now = poll.now - poll.now % MINUTE
    newest = None
    for bucket in poll.client.usage(
        kind.name, now - EDGE_SOUGHT, poll.now, "1m", filters=_live(kind)
    ):
        newest = bucket if bucket.results else newest
    return newest


def _minutes(
    poll: Poll, kind: Kind, edge: Bucket, groups: int
) -> dict[Key, dict[int, tuple[int, int, int]]]:
    lookback = int(poll.properties.seconds("openai.headroom.lookback"))
    last = edge.start - edge.start % MINUTE
    start = last + MINUTE - max(MINUTE, lookback - lookback % MINUTE)
    found: dict[Key, dict[int, tuple[int, int, int]]] = {}
    for bucket in poll.client.usage(
        kind.name,
        start,
        min(poll.now, last + MINUTE),
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


def _live(kind: Kind) -> dict[str, tuple[str, ...]]:
    """Batch work has a queue of its own and takes nothing from the minute's limits."""
    return {"batch": ("false",)} if kind.knows_batch else {}


def _counts(row: Record) -> tuple[int, int, int]:
    tokens = row.get("input_tokens", 0) + row.get("output_tokens", 0)
    return (row["num_model_requests"], tokens, row.get("images", 0))


def _key(row: Record) -> Key:
    project, model = group_of(row, BY_POOL)
    return (project, model)
