"""Costs: dollars by UTC day and group, and the figures that all cost DataSources derive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.api.endpoints import COST_DIMENSIONS
from lm_openai.collect.known_names import DORMANT_DAYS
from lm_openai.errors import ApiFailure
from lm_openai.metrics import cost_forecast
from lm_openai.metrics.billing_days import (
    AVERAGED_DAYS,
    Calendar,
    Days,
    calendar,
    daily_mean,
    total,
)
from lm_openai.metrics.budgets import Budget
from lm_openai.metrics.usage import grouping, instance, listed
from lm_openai.model.aggregation import PLACES, dollar_percent
from lm_openai.model.report import NONE, Instance, Missing, Sample, Values
from lm_openai.timespans import DAY, iso, newborn_day

if TYPE_CHECKING:
    from lm_openai.api.client import Client
    from lm_openai.collect.directory import Directory
    from lm_openai.collect.poll import Poll

CURRENCY = "usd"
MONTH_TO_DATE = "amount_month_to_date"
SHARE = "share_percent"
BUDGET = ("budget", "budget_used_percent", "budget_forecast_percent")
MEANS = (
    "amount_7d_average",
    "amount_month_forecast",
    "amount_month_forecast_low",
    "amount_month_forecast_high",
)
ROWS_A_PROJECT = {"project_id": 1, "line_item": 30, "api_key_id": 3, "user_id": 3, "api_source": 2}
FEWEST_ROWS = 400
NOT_EVERYWHERE = {"api_key_id": "API key", "user_id": "user", "api_source": "API source"}
"""Names of the dimensions by which some organizations cannot group their costs."""
Group = tuple[str, ...]


class Billed(NamedTuple):
    """Amounts by group and day, all in one currency (`usd`).

    `listed` are the groups with a cost or a credit, even if these cancel each other every day.
    `received` are the days of the response, `lacking` the requested days that it should have had.
    """

    groups: dict[Group, Days]
    currency: str
    listed: set[Group]
    received: Sequence[int] = ()
    lacking: Sequence[int] = ()


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield every group with a cost or a credit since the start of last month.

    Raises ApiFailure, of kind `ungrouped` if the organization's costs cannot be grouped by these
    dimensions.
    """
    dimensions = dimensions_of(poll)
    try:
        found = billed(poll)
    except ApiFailure as failure:
        raise _ungrouped(failure, dimensions) from None
    for group in found.groups:
        if group in found.listed or not dimensions:
            yield in_currency(poll, instance(poll, dimensions, group), found.currency)


def dormant(poll: Poll, words: Sequence[str]) -> Iterator[Instance]:
    """Yield the groups with costs in the last 35 days, and all that a list has."""
    dimensions, dates = dimensions_of(poll), calendar(poll.now)
    start = dates.today - DORMANT_DAYS * DAY
    if start < dates.earliest:
        rows = expected_rows(poll.directory, dimensions)
        for group in by_group(poll.client, start, dates.earliest, dimensions, rows).listed:
            yield instance(poll, dimensions, group)
    yield from listed(poll, dimensions)


def _report_holes(poll: Poll, grouped: bool) -> None:
    """Report the days that the response lacks.

    Groups may be missing if one of the days counts in a figure that has a threshold: those of this
    month and of the last 7 days.
    """
    dates = calendar(poll.now)
    judged = min(dates.month, *dates.complete(AVERAGED_DAYS))
    holes, poll.client.holes = poll.client.holes, []
    for hole in holes:
        if hole.start != newborn_day(poll.now):
            left_out = "figures that need these days are left out"
            hidden = grouped and hole.end > judged
            poll.report_failure(hole.failure, left_out, hides_instances=hidden)


def _ungrouped(failure: ApiFailure, dimensions: Iterable[str]) -> ApiFailure:
    """Return the failure, as one that names the grouping if the API refused it."""
    names = [NOT_EVERYWHERE[name] for name in dimensions if name in NOT_EVERYWHERE]
    if failure.kind != "refused" or not names:
        return failure
    return ApiFailure("ungrouped", f"costs by {' and '.join(names)}", failure.detail)


def collect(
    poll: Poll, instances: Iterable[Instance], budgets: Mapping[str, Budget] = {}
) -> Iterator[Sample]:
    """Yield each instance's figures and its share of the organization.

    The organization's costs are the sum over all groups, also those that are not printed. `budgets`
    are by instance id.
    """
    dates = calendar(poll.now)
    poll.covered = (dates.today, poll.now)
    found = billed(poll)
    whole = month_to_date(found.groups, dates)
    for known in instances:
        days = found.groups.get(_group(poll, known))
        idle = days is None
        if days is None:
            days = _nothing(dates, found)
        budget = budgets.get(known.id)
        compute = partial(figures, poll, dates=dates, budget=budget)
        share = dollar_percent(total(days, dates.this_month()), whole)
        values = compute(days) if share is None else {**compute(days), SHARE: share}
        missing = missing_figures(found, days, budget, compute)
        yield Sample(known, values, idle=idle, missing=missing)


def _nothing(dates: Calendar, found: Billed) -> Days:
    """Return the days of a group without costs."""
    days = range(dates.earliest, dates.tomorrow, DAY)
    return {day: Decimal(0) for day in days if day not in found.lacking}


def series(
    poll: Poll, instances: Iterable[Instance], known: Billed | None = None
) -> Iterator[Sample]:
    """Yield one sample per instance and day of the series; `known` are days that were read.

    Nothing if today is missing, because the last day would be read as today.
    """
    dates, first = calendar(poll.now), poll.series_window.start
    found = known or billed(poll)
    if first < dates.earliest:
        found = read(poll, first // DAY * DAY, dates.tomorrow, dimensions_of(poll))
    for one in instances:
        days = found.groups.get(_group(poll, one), {})
        if dates.today in found.received:
            for day in found.received:
                if day in days and day >= first:
                    yield Sample(one, {"amount": days[day]}, day)


def dimensions_of(poll: Poll) -> Group:
    """Return the dimensions in `openai.group.by`, else the DataSource's own; () for the whole.

    Raises WrongUsage for a dimension that costs do not have.
    """
    return grouping(poll, "costs", COST_DIMENSIONS)


def billed(poll: Poll) -> Billed:
    """Return all days that the figures need, by the chosen dimensions; read once per poll."""
    dates = calendar(poll.now)
    return poll.once(
        "costs", lambda: read(poll, dates.earliest, dates.tomorrow, dimensions_of(poll))
    )


def read(poll: Poll, start: int, end: int, group_by: Sequence[str] = ()) -> Billed:
    """Request the days and return them with 0 for each day on which costs cannot exist.

    These are the days before the first one that the API lists, which a note names, and today in
    the first hour of a UTC day. Raises ApiFailure, see by_group.
    """
    rows = expected_rows(poll.directory, group_by) if group_by else None
    found = by_group(poll.client, start, end, group_by, rows)
    first = min(found.received, default=start)
    empty = {*range(start, first, DAY), newborn_day(poll.now)}.difference(found.received)
    note = f"the API lists no costs before {iso(first)[:10]}; they count as 0"
    if first > start and note not in poll.notes:
        poll.notes.append(note)
    zeros = {day: Decimal(0) for day in range(start, end, DAY) if day in empty}
    lacking = sorted(set(range(start, end, DAY)).difference(found.received, zeros))
    _report_holes(poll, grouped=bool(group_by))
    groups = {group: {**zeros, **days} for group, days in found.groups.items()}
    return found._replace(groups=groups, lacking=lacking)


def _group(poll: Poll, known: Instance) -> Group:
    return tuple(known.dimensions[name] for name in dimensions_of(poll))


def by_group(
    client: Client,
    start: int,
    end: int,
    group_by: Sequence[str] = (),
    rows: int | None = None,
    needed: range = range(0),
) -> Billed:
    """Return amounts by group and day; each group has every day of the response, 0 without costs.

    Without `group_by` the only group is `()`; a null id is `none`. `rows` is the expected number of
    rows per day. Raises ApiFailure if a request fails, if the amounts are in several currencies, or
    if one of the `needed` days is missing.
    """
    zero = Decimal(0)
    received: list[int] = []
    groups: dict[Group, Days] = {(): {}} if not group_by else {}
    listed: set[Group] = set()
    currencies: set[str] = set()
    for day, costs in client.costs(start, end, group_by=group_by, groups=rows):
        received.append(day)
        for cost in costs:
            group = tuple(getattr(cost, name) or NONE for name in group_by)
            days = groups.setdefault(group, {})
            days[day] = days.get(day, zero) + cost.amount
            if cost.amount:
                listed.add(group)
                currencies.add(cost.currency)
    currency = only_currency(currencies)
    refuse_gaps(received, needed)
    whole = {group: {day: own.get(day, zero) for day in received} for group, own in groups.items()}
    return Billed(whole, currency, listed, received)


def refuse_gaps(received: Iterable[int], needed: range) -> None:
    """Raise ApiFailure if a needed day is missing, because every sum would be too low."""
    missing = len(set(needed).difference(received))
    if missing:
        raise ApiFailure("contract", "costs", f"{missing} of {len(needed)} days are missing")


def expected_rows(directory: Directory, group_by: Sequence[str]) -> int:
    """Return an estimate of the rows per day from the number of projects; it limits page sizes."""
    try:
        projects = len(directory.projects())
    except ApiFailure:
        projects = FEWEST_ROWS
    return max(FEWEST_ROWS, projects * prod(ROWS_A_PROJECT[name] for name in group_by))


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
    found: Billed, days: Days, budget: Budget | None, compute: Callable[[Days], Values]
) -> dict[str, Missing]:
    """Return the figures of one group that a missing day or an unread budget leaves out.

    `compute` returns all figures of the group's days.
    """
    unread = dict.fromkeys(BUDGET, Missing(budget.unread)) if budget and budget.unread else {}
    if not found.lacking:
        return unread
    filled = {**dict.fromkeys(found.lacking, Decimal(0)), **days}
    reason = Missing(days_text(found.lacking))
    return unread | dict.fromkeys(compute(filled).keys() - compute(days).keys(), reason)


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


def only_currency(currencies: set[str]) -> str:
    """Return the currency of a bill, `usd` without any amount; raises ApiFailure for several.

    `currencies` are those of amounts other than 0, which belong to any currency.
    """
    if len(currencies) > 1:
        codes = sorted(currency.upper() for currency in currencies)
        raise ApiFailure("currencies", "costs", " and ".join(codes))
    return next(iter(currencies), CURRENCY)


def in_currency(poll: Poll, known: Instance, currency: str) -> Instance:
    """Return the instance with the bill's currency among its names, unless it is US dollars.

    The report then has a note, since texts and units say dollars.
    """
    if currency == CURRENCY:
        return known
    code = currency.upper()
    note = f"the bill is in {code}: read {code} wherever a text, a unit or a property says dollars"
    if note not in poll.notes:
        poll.notes.append(note)
    return known._replace(names={**known.names, "currency": code})


def _change(today: Decimal | None, average: Decimal | None, floor: Decimal) -> float | None:
    if today is None or average is None or average < floor:
        return None
    return dollar_percent(today - average, average)
