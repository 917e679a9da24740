"""Figures of costs: one group's days as amounts, means, changes, forecast and budget shares."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING

from lm_openai.metrics import cost_forecast
from lm_openai.metrics.bill import Billed, Group
from lm_openai.metrics.billing_days import (
    AVERAGED_DAYS,
    RHYTHM_DAYS,
    Calendar,
    Days,
    daily_mean,
    first_spend,
    total,
)
from lm_openai.metrics.budgets import Budget
from lm_openai.model.aggregation import PLACES, dollar_percent
from lm_openai.model.report import Missing, Values
from lm_openai.timespans import DAY, iso

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll

MONTH_TO_DATE = "amount_month_to_date"
BUDGET = ("budget", "budget_used_percent", "budget_forecast_percent")
FORECAST = (
    "amount_month_forecast",
    "amount_month_forecast_low",
    "amount_month_forecast_high",
)
MEANS = ("amount_7d_average", *FORECAST)
SHARE = "share_percent"


def month_to_date(groups: Mapping[Group, Days], dates: Calendar) -> Decimal | None:
    """Return the dollars of this month so far over all groups, or None if a day is missing."""
    sums = [total(days, dates.this_month()) for days in groups.values()]
    return None if None in sums else sum((one for one in sums if one is not None), Decimal(0))


def figures(poll: Poll, days: Days, dates: Calendar, budget: Budget | None) -> Values:
    """Return one group's datapoints: billed amounts, the forecast and the budget, if they exist.

    Means are rounded here, after everything was computed from them.
    """
    floor = poll.properties.dollars("openai.cost.floor") or Decimal(0)
    exact = billed_figures(days, dates, floor) | cost_forecast.figures(days, dates)
    means: Values = {name: round(Decimal(exact[name]), PLACES) for name in MEANS if name in exact}
    return exact | means | budget_figures(exact, budget)


def missing_figures(
    values: Values, days: Days, found: Billed, dates: Calendar, budget: Budget | None
) -> dict[str, Missing]:
    """Return the figures of one group that a missing day or an unread budget leaves out.

    `values` are the figures that it has.
    """
    unread = dict.fromkeys(BUDGET, Missing(budget.unread)) if budget and budget.unread else {}
    reason = Missing(days_text(found.lacking))
    lost = {
        name: reason
        for name, needed in _needs(values, days, dates, budget)
        if name not in values and not needed.isdisjoint(found.lacking)
    }
    return unread | lost


def _needs(
    values: Values, days: Days, dates: Calendar, budget: Budget | None
) -> Iterator[tuple[str, frozenset[int]]]:
    """Yield each figure that can exist, with the days without which it is left out."""
    today, month = frozenset([dates.today]), frozenset(dates.this_month())
    week = frozenset(dates.complete(AVERAGED_DAYS))
    if first_spend(days, (day for day in sorted(week) if day in days)) is not None:
        week |= frozenset(range(dates.earliest, dates.today, DAY))
    rhythm = frozenset(dates.complete(RHYTHM_DAYS)) | month
    yield "amount", today
    yield "amount_yesterday", frozenset([dates.today - DAY])
    yield "amount_last_month", frozenset(range(dates.last_month, dates.month, DAY))
    yield "amount_7d_average", week
    # With a mean, the change may be absent because of openai.cost.floor.
    yield "amount_change_percent", today if "amount_7d_average" in values else week | today
    yield from ((name, month) for name in (MONTH_TO_DATE, SHARE))
    yield from ((name, rhythm) for name in FORECAST)
    if budget and budget.amount:
        for name, needed in zip(BUDGET[1:], (month, rhythm)):
            yield name, needed
            if budget.own:
                yield f"own_{name}", needed


def days_text(lacking: Iterable[int]) -> str:
    """Return the reason that figures which need the missing days are left out.

    >>> days_text([0, 86400])
    'the costs of 1970-01-01, 1970-01-02 could not be read'
    """
    return f"the costs of {', '.join(iso(day)[:10] for day in lacking)} could not be read"


def billed_figures(days: Days, dates: Calendar, floor: Decimal) -> Values:
    """Return today, yesterday, the mean of 7 days, the change against it, this and last month.

    A figure that needs a missing day is left out. The change is left out as well if the mean is
    unknown, or below `floor` dollars or one cent.
    """
    average = daily_mean(days, dates)
    known = {
        "amount": days.get(dates.today),
        "amount_yesterday": days.get(dates.today - DAY),
        "amount_7d_average": average,
        "amount_change_percent": _change(days.get(dates.today), average, floor),
        MONTH_TO_DATE: total(days, dates.this_month()),
        "amount_last_month": total(days, range(dates.last_month, dates.month, DAY)),
    }
    return {name: value for name, value in known.items() if value is not None}


def budget_figures(values: Values, budget: Budget | None) -> Values:
    """Return the budget with its used and forecast percent; empty without a budget.

    The percentages of a site's own budget stand under names of their own too, which alone have
    thresholds: the vendor's limit alarms in OpenAI_SpendLimits_ByProject.
    """
    if budget is None or budget.amount is None:
        return {}
    amounts = (values.get(MONTH_TO_DATE), values.get("amount_month_forecast"))
    shares: Values = {}
    for name, amount in zip(BUDGET[1:], amounts):
        share = dollar_percent(amount, budget.amount)
        if share is not None:
            shares |= {name: share, f"own_{name}": share} if budget.own else {name: share}
    return {"budget": budget.amount, **shares}


def _change(today: Decimal | None, average: Decimal | None, floor: Decimal) -> float | None:
    if today is None or average is None or average < floor:
        return None
    return dollar_percent(today - average, average)
