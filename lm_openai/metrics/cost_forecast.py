"""Forecast of a month's costs from what each weekday cost in the last 28 days."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from lm_openai.metrics.billing_days import (
    AVERAGED_DAYS,
    RHYTHM_DAYS,
    Calendar,
    Days,
    first_spend,
    lacks,
    total,
)
from lm_openai.model.aggregation import mean
from lm_openai.model.report import Values
from lm_openai.timespans import DAY

Pick = Callable[[list[Decimal]], Decimal]


class Forecast(NamedTuple):
    """Expected dollars of the month, with a low and a high value by the same rule."""

    expected: Decimal
    low: Decimal
    high: Decimal


def figures(days: Days, dates: Calendar) -> Values:
    """Return the forecast as datapoints; empty if there is no forecast."""
    month = forecast(days, dates)
    if month is None:
        return {}
    return {
        "amount_month_forecast": month.expected,
        "amount_month_forecast_low": month.low,
        "amount_month_forecast_high": month.high,
    }


def forecast(days: Days, dates: Calendar) -> Forecast | None:
    """Return the forecast of this month's dollars, or None if there is not enough data.

    It is the sum of three parts: the dollars billed through yesterday; the greater of today so far
    and a typical day of today's weekday; a typical day of its weekday for each later day. A
    typical day is the mean (low: the minimum, high: the maximum) of that weekday among the last 28
    complete days; days before the first spend and days with a negative amount are not used.

    None with fewer than 7 such days, or if one of the 28 days or of this month through today is
    missing.
    """
    if lacks(days, dates.complete(RHYTHM_DAYS)):
        return None
    billed = total(days, range(dates.month, dates.today, DAY))
    typical = _typical_days(days, dates)
    if billed is None or dates.today not in days or len(typical) < AVERAGED_DAYS:
        return None
    picks: tuple[Pick, ...] = (_average, min, max)
    return Forecast(*(billed + _remaining(days, dates, typical, pick) for pick in picks))


def _typical_days(days: Days, dates: Calendar) -> Days:
    """Return the complete days that the forecast uses."""
    complete = [day for day in dates.complete(RHYTHM_DAYS) if day in days]
    first = first_spend(days, complete)
    if first is None:
        return {}
    return {day: days[day] for day in complete if day >= first and days[day] >= 0}


def _remaining(days: Days, dates: Calendar, typical: Days, pick: Pick) -> Decimal:
    today = max(days[dates.today], _usual(typical, dates.today, pick))
    return today + sum((_usual(typical, day, pick) for day in dates.later()), Decimal(0))


def _usual(typical: Days, day: int, pick: Pick) -> Decimal:
    """Return the cost of a typical day of that weekday; without any, the pick is over all days."""
    same = [amount for seen, amount in typical.items() if (day - seen) // DAY % 7 == 0]
    return pick(same or list(typical.values()))


def _average(amounts: list[Decimal]) -> Decimal:
    return mean(amounts) or Decimal(0)
