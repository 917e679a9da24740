"""What a month is likely to cost, by the rhythm of its weekdays."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from lm_openai.metrics.billing_days import (
    AVERAGED_DAYS,
    DAY,
    RHYTHM_DAYS,
    Calendar,
    Days,
    total,
)
from lm_openai.model.aggregation import mean
from lm_openai.model.report import Values

Pick = Callable[[list[Decimal]], Decimal]


class Forecast(NamedTuple):
    """Dollars that the month is likely to cost, and the least and most by the same rhythm."""

    expected: Decimal
    low: Decimal
    high: Decimal


def figures(days: Days, dates: Calendar) -> Values:
    """The forecast as datapoints; none when there is no forecast."""
    month = forecast(days, dates)
    if month is None:
        return {}
    return {
        "amount_month_forecast": month.expected,
        "amount_month_forecast_low": month.low,
        "amount_month_forecast_high": month.high,
    }


def forecast(days: Days, dates: Calendar) -> Forecast | None:
    """The month by the rhythm of the week, or None under 7 complete days of spend.

    Billed through yesterday, plus the greater of today so far and what such a day costs, plus what
    the days to come cost: the mean (low: least, high: greatest) of that weekday among the last 28
    complete days; days before the first spend and days in credit say nothing of the rhythm.
    """
    billed = total(days, range(dates.month, dates.today, DAY))
    rhythm = _rhythm(days, dates)
    if billed is None or dates.today not in days or len(rhythm) < AVERAGED_DAYS:
        return None
    picks: tuple[Pick, ...] = (_average, min, max)
    return Forecast(*(billed + _to_come(days, dates, rhythm, pick) for pick in picks))


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
