"""Timing of usage: exact splits of a day into hours and minutes, and its late arrival."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from operator import mul, sub
from typing import NamedTuple

DAY = 86400
HOUR = 3600
MINUTE = 60
FOREVER = 10**11  # later than every time here, in seconds and in days
ALL = 1024  # the share of a unit of time that is fully visible

Columns = Sequence[Sequence[int]]


class Leaf(NamedTuple):
    """Source of usage: dimensions, counts per day, and `rates` of `fields` per 1000 counts.

    `first_day` (inclusive) and `last_day` (exclusive) are days since 1970. `silent` are the start
    and end, Unix seconds of whole minutes, of each span without usage. Usage that arrives `whole`
    appears at once with its first step, not in parts.
    """

    number: int
    kind: str
    dimensions: Mapping[str, str | bool | None]
    daily: int
    fields: tuple[str, ...]
    rates: tuple[int, ...]
    rhythm: str
    first_day: int
    last_day: int
    long_context: bool = False
    silent: tuple[tuple[int, int], ...] = ()
    whole: bool = False

    def __hash__(self) -> int:
        return self.number


class View(NamedTuple):
    """Visibility of usage at `now`: `steps` are (seconds after a unit's end, visible share).

    Usage arrives in lumps, one every `period` seconds.
    """

    now: int
    period: int
    steps: tuple[tuple[int, int], ...]

    @property
    def settled(self) -> int:
        """Unix time before which usage no longer changes."""
        return self.now - self.period - self.steps[-1][0]


def view(now: int, lag: float, delay: int, steps: Iterable[tuple[int, int]], period: int) -> View:
    """Return a view whose first step is `delay` after a unit's end; `lag` scales the rest."""
    scaled = tuple((delay + int(lag * after), share) for after, share in steps)
    return View(now, int(lag * period), scaled)


def span(leaf: Leaf, start: int, end: int, seen: View) -> Sequence[int]:
    """Return visible count and fields of the minutes that start in [start, end) of one UTC day."""
    day = start // DAY
    if not _is_active(leaf, day) or (end - start == DAY and end <= seen.settled):
        return totals(leaf, day)
    first = -(-start // HOUR)
    settled = max(first, min(end, seen.settled) // HOUR)
    low, high = first - 24 * day, settled - 24 * day
    found = [sum(column[low:high]) for column in hours(leaf, day)]
    for hour in (*range(start // HOUR, first), *range(settled, -(-end // HOUR))):
        columns = minutes(leaf, hour, seen)
        if columns:
            inside = slice(max(start - hour * HOUR, 0) // MINUTE, -(-(end - hour * HOUR) // MINUTE))
            found = [have + sum(column[inside]) for have, column in zip(found, columns)]
    return found


def level(leaf: Leaf, start: int, end: int, seen: View) -> int:
    """Return the value of a measured (not counted) source in its newest visible minute.

    That minute starts in [start, end), both within one UTC day; 0 if no minute is visible.
    """
    shown = min(end + -end % MINUTE, seen.now - seen.steps[0][0])
    newest = shown // MINUTE - 1
    if newest * MINUTE < start or not _is_active(leaf, start // DAY):
        return 0
    if _is_silent(leaf, newest * MINUTE, MINUTE):
        return 0
    age = newest - leaf.first_day * DAY // MINUTE
    return leaf.daily + leaf.daily * age // GROWTH


def minutes(leaf: Leaf, hour: int, seen: View) -> Columns | None:
    """Return visible count and fields per minute of an hour since 1970; None without usage."""
    columns = _minutes(leaf, hour)
    if columns is None or (hour + 1) * HOUR <= seen.settled:
        return columns
    shown = shares(seen, leaf.number % LUMPS, hour * HOUR, MINUTE, 60)
    if leaf.whole:
        shown = tuple(ALL if share else 0 for share in shown)
    return visible(columns, shown, scatter(leaf.number, hour))


@lru_cache(maxsize=8192)
def hours(leaf: Leaf, day: int) -> Columns:
    """Return the final count and fields per hour of a day since 1970."""
    if not _is_silent(leaf, day * DAY, DAY):
        return _planned_hours(leaf, day)
    nothing = [(0,)] * (1 + len(leaf.fields))
    found = [_minutes(leaf, hour) or nothing for hour in range(day * 24, day * 24 + 24)]
    return [tuple(map(sum, column)) for column in zip(*found)]


def totals(leaf: Leaf, day: int) -> Sequence[int]:
    """Return the final count and fields of a day since 1970."""
    if _is_silent(leaf, day * DAY, DAY):
        return tuple(map(sum, hours(leaf, day)))
    return _planned_totals(leaf, day)


def _minutes(leaf: Leaf, hour: int) -> Columns | None:
    """Return the final count and fields per minute of an hour since 1970; None without usage."""
    whole = [column[hour % 24] for column in _planned_hours(leaf, hour // 24)]
    if not whole[0]:
        return None
    mix = scatter(leaf.number, hour)
    columns = _split_all(whole, RHYTHMS[leaf.rhythm].minutes[mix % TABLES], leaf, mix)
    if not _is_silent(leaf, hour * HOUR, HOUR):
        return columns
    heard = [not _is_silent(leaf, hour * HOUR + second, MINUTE) for second in range(0, HOUR, 60)]
    return [list(map(mul, column, heard)) for column in columns]


@lru_cache(maxsize=8192)
def _planned_hours(leaf: Leaf, day: int) -> Columns:
    """Return the count and fields per hour of a day, those of its silent spans included."""
    mix = scatter(leaf.number, ~day)
    marks = RHYTHMS[leaf.rhythm].hours[mix % TABLES]
    return _split_all(_planned_totals(leaf, day), marks, leaf, mix)


def _planned_totals(leaf: Leaf, day: int) -> Sequence[int]:
    """Return the count and fields of a day, those of its silent spans included."""
    if not _is_active(leaf, day):
        return (0,) * (1 + len(leaf.fields))
    rhythm = RHYTHMS[leaf.rhythm]
    mix = scatter(leaf.number, day)
    count = leaf.daily * rhythm.week[(day + 3) % 7] * _around(mix, rhythm.spread) // (100 * ALL)
    amounts = (
        count * rate * _around(mix >> 8 * place, rhythm.spread) // (1000 * ALL)
        for place, rate in enumerate(leaf.rates, 1)
    )
    return (count, *amounts)


def visible(columns: Columns, seen: Sequence[int], mix: int) -> Columns:
    """Return the arrived part of the columns: whole counts, each with its part of the fields."""
    counts = columns[0]
    dither = DITHER[mix % TABLES]
    arrived = [(count * share + up) >> 10 for count, share, up in zip(counts, seen, dither)]
    fields = (
        [amount * part // count if part else 0 for amount, part, count in zip(*triple)]
        for triple in ((column, arrived, counts) for column in columns[1:])
    )
    return [arrived, *fields]


@lru_cache(maxsize=512)
def shares(seen: View, phase: int, start: int, width: int, count: int) -> tuple[int, ...]:
    """Return the visible shares of `count` units from `start`; `phase` shifts the lumps."""
    late = phase * seen.period // LUMPS
    arrived = seen.now - (seen.now - late) % seen.period if seen.period else seen.now
    ends = range(start + width, start + width * count + 1, width)
    return tuple(_share(arrived - end, seen.steps) for end in ends)


def scatter(number: int, moment: int) -> int:
    """Return a 64-bit hash of both numbers."""
    mixed = (number ^ (moment * 0x9E3779B97F4A7C15)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 29) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return mixed ^ mixed >> 32


def _is_active(leaf: Leaf, day: int) -> bool:
    return leaf.first_day <= day < leaf.last_day


def _is_silent(leaf: Leaf, start: int, length: int) -> bool:
    """Return True if the leaf is silent in a part of these seconds."""
    return any(first < start + length and start < end for first, end in leaf.silent)


def _split_all(whole: Sequence[int], marks: Sequence[int], leaf: Leaf, mix: int) -> Columns:
    jitter = RHYTHMS[leaf.rhythm].jitter
    counts = _split(whole[0], marks, mix % marks[-1])
    weights = (map(mul, counts, jitter[(mix >> place) % TABLES]) for place in range(1, len(whole)))
    fields = (
        _split(amount, list(accumulate(weight, initial=0)), 0)
        for amount, weight in zip(whole[1:], weights)
    )
    return [counts, *fields]


def _split(amount: int, marks: Sequence[int], phase: int) -> list[int]:
    """Split an amount into integers by cumulative weights; their sum is exact.

    `phase` < marks[-1] places the remainders.
    """
    whole = marks[-1]
    if not amount or not whole:
        return [0] * (len(marks) - 1)
    cuts = [(amount * mark + phase) // whole for mark in marks]
    return list(map(sub, cuts[1:], cuts))


def _around(mix: int, spread: int) -> int:
    return ALL + (mix & 0xFFFF) % (2 * spread + 1) - spread


def _share(age: int, steps: Iterable[tuple[int, int]]) -> int:
    return max((share for after, share in steps if age >= after), default=0)


class Rhythm(NamedTuple):
    """Weights of days, hours and minutes; `spread` is a day's noise in 1024ths.

    The tables `hours` and `minutes` are cumulative.
    """

    week: tuple[int, ...]
    spread: int
    hours: tuple[tuple[int, ...], ...]
    minutes: tuple[tuple[int, ...], ...]
    jitter: tuple[tuple[int, ...], ...]


def _rhythm(name: str, week: str, day: str, noise: int) -> Rhythm:
    """Return a rhythm; `week` and `day` are weights in percent.

    `noise` is the greatest deviation of an hour or a minute, also in percent.
    """
    draw = random.Random(name)

    def noisy(weights: Sequence[int]) -> list[int]:
        return [weight * draw.randint(100 - noise, 100 + noise) for weight in weights]

    daily = tuple(map(int, day.split()))
    return Rhythm(
        week=tuple(map(int, week.split())),
        spread=noise * 2,
        hours=tuple(tuple(accumulate(noisy(daily), initial=0)) for _ in range(TABLES)),
        minutes=tuple(tuple(accumulate(noisy([1] * 60), initial=0)) for _ in range(TABLES)),
        jitter=tuple(tuple(noisy([1] * 60)) for _ in range(TABLES)),
    )


TABLES = 32
LUMPS = 5
GROWTH = 500 * DAY // MINUTE  # minutes in which a measured level doubles
DITHER = tuple(
    tuple(random.Random(number).randrange(ALL) for number in range(60 * table, 60 * table + 60))
    for table in range(TABLES)
)
RHYTHMS = {
    name: _rhythm(name, *shape)
    for name, shape in {
        "flat": ("100 " * 7, "100 " * 24, 0),
        "steady": ("100 100 100 100 100 100 100", "100 " * 24, 3),
        "office": (
            "100 104 106 103 92 22 16",
            "4 3 3 3 4 8 22 55 90 108 110 102 88 104 112 108 98 76 52 36 24 15 9 6",
            55,
        ),
        "visitors": (
            "96 98 100 102 108 116 104",
            "60 48 40 36 34 38 50 66 80 92 98 100 104 104 102 100 102 108 116 122 120 108 92 74",
            40,
        ),
        "nights": (
            "100 100 100 100 100 60 40",
            "120 160 170 140 90 40 12 4 2 1 1 1 1 1 1 1 2 4 8 14 24 40 64 90",
            70,
        ),
    }.items()
}
