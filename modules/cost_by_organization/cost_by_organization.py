#!/usr/bin/env python3
"""What the organization spends: today, this month, against its budget and its balance."""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import sys

    checkout = os.path.realpath(__file__).rsplit(os.sep, 3)[0]
    if os.path.isdir(os.path.join(checkout, "lm_openai")):
        sys.path[0] = checkout
    from lm_openai.start import main

    main("cost_by_organization")

from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import TYPE_CHECKING

from lm_openai import costs
from lm_openai.derive import mean
from lm_openai.errors import ApiFailure
from lm_openai.records import spend_limit
from lm_openai.report import Instance, Sample, Values
from lm_openai.usage import ORGANIZATION

if TYPE_CHECKING:
    from lm_openai.poll import Poll


def discover(poll: Poll) -> Iterator[Instance]:
    """The organization itself."""
    yield Instance(ORGANIZATION, poll.properties.organization, {})


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Dollars of today and around it; with a series, one sample per day as well."""
    dates = costs.calendar(poll.now)
    window = poll.window
    poll.covered = (dates.today, poll.now)
    read_at = poll.properties.date("openai.balance.date")
    start = min(dates.earliest, read_at or dates.earliest)
    days = costs.by_group(poll, start, dates.tomorrow).get((), {})
    for organization in instances:
        if poll.with_series and dates.today in days:
            for day in sorted(day for day in days if day >= window.start):
                yield Sample(organization, {"amount": days[day]}, day)
        yield Sample(organization, _figures(poll, days, dates))


def _figures(poll: Poll, days: costs.Days, dates: costs.Calendar) -> Values:
    floor = poll.properties.dollars("openai.cost.floor") or Decimal(0)
    values = costs.figures(days, dates, floor)
    values |= costs.forecast_figures(days, dates)
    values |= costs.budget_figures(values, _budget(poll))
    return values | _balance(poll, days, dates)


def _budget(poll: Poll) -> Decimal | None:
    """The site's own budget, else the vendor's monthly spend limit, else none."""
    if poll.properties.is_set("openai.budget.monthly"):
        return poll.properties.dollars("openai.budget.monthly")
    try:
        limit = spend_limit(poll.client.one("spend_limit"))
    except ApiFailure as failure:
        if failure.kind != "not_found":
            poll.miss(failure, "no budget figures")
        return None
    return limit.amount if limit.interval == "month" and limit.currency == costs.CURRENCY else None


def _balance(poll: Poll, days: costs.Days, dates: costs.Calendar) -> Values:
    """The prepaid balance read in the console, less what was spent from that day on."""
    amount = poll.properties.dollars("openai.balance.amount")
    read_at = poll.properties.date("openai.balance.date")
    if amount is None or read_at is None:
        return {}
    wanted = range(read_at // costs.DAY * costs.DAY, dates.tomorrow, costs.DAY)
    if any(day not in days for day in wanted):
        return {}
    left = amount - sum((days[day] for day in wanted), Decimal(0))
    week = [days[day] for day in dates.complete(costs.AVERAGED_DAYS) if day in days]
    usual = mean(week) or Decimal(0)
    if usual <= 0:
        return {"balance": left}
    return {"balance": left, "balance_days": round(max(left, Decimal(0)) / usual, 6)}
