"""Costs by instance: discovery, samples and series that all cost DataSources share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from lm_openai.api.endpoints import COST_DIMENSIONS
from lm_openai.collect.known_names import DORMANT_DAYS
from lm_openai.errors import ApiFailure
from lm_openai.metrics.bill import Billed, Group, by_group, expected_rows, in_currency, read
from lm_openai.metrics.billing_days import Calendar, Days, calendar, total
from lm_openai.metrics.budgets import Budget
from lm_openai.metrics.cost_figures import SHARE, figures, missing_figures, month_to_date
from lm_openai.metrics.usage import grouping, instance, listed
from lm_openai.model.aggregation import dollar_percent
from lm_openai.model.report import Instance, Sample
from lm_openai.timespans import DAY

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll

NOT_EVERYWHERE = {"api_key_id": "API key", "user_id": "user", "api_source": "API source"}
"""Names of the dimensions by which some organizations cannot group their costs."""


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield every group with a cost or a credit since the start of last month.

    Raises ApiFailure, of kind `ungrouped` if the organization's costs cannot be grouped by these
    dimensions.
    """
    dimensions = dimensions_of(poll)
    poll.read_ahead([partial(billed, poll)], dimensions)
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
        values = figures(poll, days, dates, budget)
        share = dollar_percent(total(days, dates.this_month()), whole)
        if share is not None:
            values[SHARE] = share
        missing = missing_figures(values, days, found, dates, budget)
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


def _group(poll: Poll, known: Instance) -> Group:
    return tuple(known.dimensions[name] for name in dimensions_of(poll))
