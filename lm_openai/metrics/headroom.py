"""Headroom under rate limits: a pool's use against its limits, by peak minute and day."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from lm_openai.collect.poll import Poll
from lm_openai.metrics.headroom_use import COUNTED, NOTHING, Counts, Day, Key, Use, add
from lm_openai.metrics.limit_pools import Pool
from lm_openai.model.aggregation import percent
from lm_openai.model.report import Missing, Values
from lm_openai.timespans import MINUTE

BUSY_PERCENT = 80
PLACES = {"rpm": 0, "tpm": 1, "ipm": 2}
"""Position in Counts of what each limit by the minute limits."""


class Tally(NamedTuple):
    """Use of one pool over all kinds.

    `minutes` maps a minute (Unix seconds) to (requests, tokens, images). `day` is the use in the
    UTC day so far. `kinds` are the usage kinds with use in the last 7 days. `lost` are the failed
    kinds that may have been used: minutes and day are lower bounds of what they contribute to.
    """

    minutes: dict[int, Counts]
    day: Day
    kinds: frozenset[str]
    lost: frozenset[str] = frozenset()


def idle(used: Tally) -> bool:
    """Return True if every kind that matters could be read and no datapoint shows use.

    That is no use in the minutes read and none in the UTC day so far, batches included.
    """
    return not used.lost and used.day == NOTHING and not any(map(any, used.minutes.values()))


def tally(found: Mapping[str, Use], members: Iterable[Key]) -> Tally:
    """Add up the use of one pool's groups, minute by minute, over the kinds that did not fail.

    A failed kind may have been used if an earlier poll saw it used by the pool, or if no earlier
    poll is known, or if the pool is not known to have used anything.
    """
    keys = set(members)
    minutes: dict[int, Counts] = {}
    requests = batch_tokens = 0
    kinds = set()
    for name, use in found.items():
        for key in keys:
            if key not in use.seen and key not in use.minutes:
                continue
            kinds.add(name)
            day = use.day.get(key, NOTHING)
            requests += day.requests
            batch_tokens += day.batch_tokens
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
    for short, amount in _used(pool, used) if used.lost else ():
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
        place = PLACES[short]
        return max([counts[place] for counts in used.minutes.values()], default=0)
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
