"""UTC days that cost figures need, and sums over them that are None if a day is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import NamedTuple

from lm_openai.model.aggregation import mean
from lm_openai.timespans import DAY

AVERAGED_DAYS = 7
RHYTHM_DAYS = 28
Days = dict[int, Decimal]


class Calendar(NamedTuple):
    """Days around a point in time, each as the Unix seconds of its UTC midnight.

    `month`, `next_month` and `last_month` are the first days of those months.
    """

    today: int
    month: int
    next_month: int
    last_month: int

    @property
    def tomorrow(self) -> int:
        """The next midnight, where every request for costs ends."""
        return self.today + DAY

    @property
    def earliest(self) -> int:
        """The earliest day that any figure needs."""
        return min(self.last_month, self.today - RHYTHM_DAYS * DAY)

    def complete(self, count: int) -> range:
        """Return the last `count` days before today, oldest first."""
        return range(self.today - count * DAY, self.today, DAY)

    def this_month(self) -> range:
        """Return the days of this month through today."""
        return range(self.month, self.tomorrow, DAY)

    def later(self) -> range:
        """Return the days of this month after today."""
        return range(self.tomorrow, self.next_month, DAY)


def calendar(now: int) -> Calendar:
    """Return the days around `now` (Unix seconds).

    >>> calendar(86400).month
    0
    """
    month = datetime.fromtimestamp(now, timezone.utc).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    return Calendar(
        today=now // DAY * DAY,
        month=_seconds(month),
        next_month=_seconds((month + timedelta(days=31)).replace(day=1)),
        last_month=_seconds((month - timedelta(days=1)).replace(day=1)),
    )


def total(days: Mapping[int, Decimal], wanted: Iterable[int]) -> Decimal | None:
    """Return the sum of the wanted days, or None if one of them is missing."""
    amounts = _amounts(days, wanted)
    return None if amounts is None else sum(amounts, Decimal(0))


def daily_mean(days: Days, dates: Calendar) -> Decimal | None:
    """Return the mean of the 7 complete days before today, without days before the first spend.

    None without any spend before today, or if one of these days is missing, also one that may be
    the first spend.
    """
    wanted = dates.complete(AVERAGED_DAYS)
    first = first_spend(days, (day for day in sorted(days) if day < dates.today))
    if first is None or _amounts(days, wanted) is None:
        return None
    if first > wanted[0] and lacks(days, range(min(days), first, DAY)):
        return None
    return mean(days[day] for day in wanted if day >= first)


def lacks(days: Days, wanted: range) -> bool:
    """Return True if a wanted day is missing that is not before the first day of all."""
    return any(day not in days for day in wanted if days and day > min(days))


def first_spend(days: Days, wanted: Iterable[int]) -> int | None:
    """Return the first of the wanted days that cost something, or None; a credit is no cost."""
    return next((day for day in wanted if days[day] > 0), None)


def _amounts(days: Mapping[int, Decimal], wanted: Iterable[int]) -> list[Decimal] | None:
    known = [days.get(day) for day in wanted]
    return None if None in known else [amount for amount in known if amount is not None]


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
