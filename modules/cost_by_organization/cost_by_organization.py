#!/usr/bin/env python3
"""Dollars of the organization: today, this month, its budget and its prepaid balance."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("cost_by_organization")

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from lm_openai.metrics import bill, budgets, cost_figures, costs
from lm_openai.metrics.billing_days import Calendar, Days, calendar, daily_mean
from lm_openai.metrics.cost_figures import SHARE
from lm_openai.metrics.usage import ORGANIZATION
from lm_openai.model.aggregation import CENT, PLACES
from lm_openai.model.report import Instance, Missing, Sample, Values
from lm_openai.timespans import DAY

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield the organization, the only instance unless openai.group.by is set."""
    if costs.dimensions_of(poll):
        yield from costs.discover(poll)
    else:
        known = Instance(ORGANIZATION, poll.properties.organization, {})
        limit = [partial(budgets.organization_limit, poll)] if _needs_limit(poll) else []
        poll.read_ahead([partial(_billed, poll), *limit], ())
        yield bill.in_currency(poll, known, _billed(poll).currency)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the current figures.

    Budget and balance are the organization's; the groups of openai.group.by have none.
    """
    if costs.dimensions_of(poll):
        for sample in costs.collect(poll, instances):
            shown = {name: value for name, value in sample.values.items() if name != SHARE}
            yield sample._replace(values=shown)
        return
    dates = calendar(poll.now)
    poll.covered = (dates.today, poll.now)
    found = _billed(poll)
    days = found.groups[()]
    for organization in instances:
        budget = budgets.organization_budget(poll, found.currency)
        values = cost_figures.figures(poll, days, dates, budget)
        missing = cost_figures.missing_figures(values, days, found, dates, budget)
        yield Sample(
            organization,
            values | _balance(poll, days, dates),
            missing=missing | _missing_balance(poll, days, dates, found),
        )


def dormant(poll: Poll, words: Sequence[str]) -> Iterator[Instance]:
    """Yield what costs.dormant yields for the groups of openai.group.by."""
    return costs.dormant(poll, words) if costs.dimensions_of(poll) else iter(())


def series(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield one sample per instance and day of the series."""
    return costs.series(poll, instances, None if costs.dimensions_of(poll) else _billed(poll))


def _needs_limit(poll: Poll) -> bool:
    return not poll.discover_only and poll.properties.dollars("openai.budget.monthly") is None


def _billed(poll: Poll) -> bill.Billed:
    """Return the costs since the first day that a figure or the balance needs."""
    dates = calendar(poll.now)
    read_at = poll.properties.date("openai.balance.date")
    # The day before the reading, so that a missing first day does not look like a start of history.
    first = min(dates.earliest, (read_at or dates.today) // DAY * DAY - DAY)
    return poll.once("organization", lambda: bill.read(poll, first, dates.tomorrow))


def _balance(poll: Poll, days: Days, dates: Calendar) -> Values:
    """Return the estimated prepaid balance: the amount in the console less the cost since then.

    Empty if a property is not set or if a day since the reading is missing.
    """
    amount = poll.properties.dollars("openai.balance.amount")
    read_at = poll.properties.date("openai.balance.date")
    if amount is None or read_at is None:
        return {}
    needed = range(read_at // DAY * DAY, dates.tomorrow, DAY)
    if any(day not in days for day in needed):
        return {}
    balance = amount - sum((days[day] for day in needed), Decimal(0))
    daily = daily_mean(days, dates)
    if daily is None or daily < CENT:
        return {"balance": balance}
    return {"balance": balance, "balance_days": round(max(balance, Decimal(0)) / daily, PLACES)}


def _missing_balance(
    poll: Poll, days: Days, dates: Calendar, found: bill.Billed
) -> dict[str, Missing]:
    """Return the datapoints of the balance that a missing day leaves out."""
    whole = {**dict.fromkeys(found.lacking, Decimal(0)), **days}
    lost = _balance(poll, whole, dates).keys() - _balance(poll, days, dates).keys()
    return dict.fromkeys(lost, Missing(cost_figures.days_text(found.lacking)))
