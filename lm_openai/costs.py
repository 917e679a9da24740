"""What every cost DataSource shares: dollars by UTC day, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.derive import mean, percent
from lm_openai.errors import ApiFailure
from lm_openai.records import Cost
from lm_openai.report import Values

if TYPE_CHECKING:
    from lm_openai.poll import Poll

DAY = 86400
AVERAGED_DAYS = 7
RHYTHM_DAYS = 28
CURRENCY = "usd"
Days = dict[int, Decimal]
Group = tuple[str | None, ...]
Pick = Callable[[list[Decimal]], Decimal]


class Calendar(NamedTuple):
    """The UTC days that cost figures hang on, as Unix seconds at midnight."""

    today: int
    month: int
    next_month: int
    last_month: int

    @property
    def tomorrow(self) -> int:
        """The next midnight, which is what costs are asked up to."""
        return self.today + DAY

    @property
    def earliest(self) -> int:
        """The first day that any figure needs."""
        return min(self.last_month, self.today - RHYTHM_DAYS * DAY)

    def complete(self, count: int) -> range:
        """The last `count` days before today, oldest first."""
        return range(self.today - count * DAY, self.today, DAY)

    def this_month(self) -> range:
        """The days of this month up to today."""
        return range(self.month, self.tomorrow, DAY)

    def later(self) -> range:
        """The days of this month after today."""
        return range(self.tomorrow, self.next_month, DAY)


class Forecast(NamedTuple):
    """Dollars that the month is likely to cost, and the least and most by the same rhythm."""

    expected: Decimal
    low: Decimal
    high: Decimal


def calendar(now: int) -> Calendar:
    """The days around `now`.

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


def by_group(poll: Poll, start: int, end: int, group_by: Sequence[str] = ()) -> dict[Group, Days]:
    """Dollars by group and day; every group has each answered day, at 0 where it cost nothing.

    Without `group_by` the one group is `()`. Raises ApiFailure on a second currency, since money
    of two currencies has no sum.
    """
    answered: list[int] = []
    groups: dict[Group, Days] = {(): {}} if not group_by else {}
    for day, costs in poll.client.costs(start, end, group_by=group_by):
        answered.append(day)
        for cost in costs:
            days = groups.setdefault(tuple(getattr(cost, name) for name in group_by), {})
            days[day] = days.get(day, Decimal(0)) + _dollars(cost)
    return {
        group: {day: days.get(day, Decimal(0)) for day in answered}
        for group, days in groups.items()
    }


def figures(days: Days, dates: Calendar, floor: Decimal) -> Values:
    """Today, yesterday, the week before, the months; a figure lacking a day is left out."""
    average = _mean_of(days, dates.complete(AVERAGED_DAYS))
    known = {
        "amount": days.get(dates.today),
        "amount_yesterday": days.get(dates.today - DAY),
        "amount_7d_average": average,
        "amount_change_percent": _change(days.get(dates.today), average, floor),
        "amount_month_to_date": _total(days, dates.this_month()),
        "amount_last_month": _total(days, range(dates.last_month, dates.month, DAY)),
    }
    return {name: value for name, value in known.items() if value is not None}


def forecast(days: Days, dates: Calendar) -> Forecast | None:
    """The month by the rhythm of the week, or None under 7 complete days of spend.

    Billed through yesterday, plus the greater of today so far and what such a day costs, plus what
    the days to come cost: the mean (low: least, high: greatest) of that weekday among the last 28
    complete days; days before the first spend and days in credit say nothing of the rhythm.
    """
    billed = _total(days, range(dates.month, dates.today, DAY))
    rhythm = _rhythm(days, dates)
    if billed is None or dates.today not in days or len(rhythm) < AVERAGED_DAYS:
        return None
    picks: tuple[Pick, ...] = (_average, min, max)
    return Forecast(*(billed + _to_come(days, dates, rhythm, pick) for pick in picks))


def forecast_figures(days: Days, dates: Calendar) -> Values:
    """The forecast as datapoints; none when there is no forecast."""
    month = forecast(days, dates)
    if month is None:
        return {}
    return {
        "amount_month_forecast": month.expected,
        "amount_month_forecast_low": month.low,
        "amount_month_forecast_high": month.high,
    }


def budget_figures(values: Values, budget: Decimal | None) -> Values:
    """The budget with its used and forecast share; nothing where no budget is known."""
    if budget is None:
        return {}
    shares = {
        "budget_used_percent": percent(values.get("amount_month_to_date"), budget),
        "budget_forecast_percent": percent(values.get("amount_month_forecast"), budget),
    }
    return {
        "budget": budget,
        **{name: value for name, value in shares.items() if value is not None},
    }


def _dollars(cost: Cost) -> Decimal:
    if cost.currency != CURRENCY:
        raise ApiFailure(
            "contract",
            "costs",
            f"an amount in {cost.currency}, which cannot be added to {CURRENCY}",
        )
    return cost.amount


def _change(today: Decimal | None, average: Decimal | None, floor: Decimal) -> float | None:
    if today is None or average is None or average < floor:
        return None
    return percent(today - average, average)


def _rhythm(days: Days, dates: Calendar) -> Days:
    """The complete days that say something of a usual day."""
    complete = [day for day in dates.complete(RHYTHM_DAYS) if day in days]
    first = next((day for day in complete if days[day] > 0), dates.today)
    return {day: days[day] for day in complete if day >= first and days[day] >= 0}


def _to_come(days: Days, dates: Calendar, rhythm: Days, pick: Pick) -> Decimal:
    today = max(days[dates.today], _usual(rhythm, dates.today, pick))
    return today + sum((_usual(rhythm, day, pick) for day in dates.later()), Decimal(0))


def _usual(rhythm: Days, day: int, pick: Pick) -> Decimal:
    """What a day of that weekday costs; a weekday not seen yet stands for any day."""
    same = [amount for seen, amount in rhythm.items() if (day - seen) // DAY % 7 == 0]
    return pick(same or list(rhythm.values()))


def _average(amounts: list[Decimal]) -> Decimal:
    return mean(amounts) or Decimal(0)


def _total(days: Mapping[int, Decimal], wanted: Iterable[int]) -> Decimal | None:
    amounts = _amounts(days, wanted)
    return None if amounts is None else sum(amounts, Decimal(0))


def _mean_of(days: Mapping[int, Decimal], wanted: Iterable[int]) -> Decimal | None:
    amounts = _amounts(days, wanted)
    return None if amounts is None else mean(amounts)


def _amounts(days: Mapping[int, Decimal], wanted: Iterable[int]) -> list[Decimal] | None:
    """The amounts of all wanted days, or None when one of them was not answered."""
    known = [days.get(day) for day in wanted]
    return None if None in known else [amount for amount in known if amount is not None]


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())
