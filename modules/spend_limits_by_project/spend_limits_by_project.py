#!/usr/bin/env python3
"""Spend limits of the vendor: amount, used share, enforcement and alerts."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("spend_limits_by_project")

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from lm_openai.api.records import SpendLimit
from lm_openai.errors import ApiFailure
from lm_openai.metrics import budgets, costs
from lm_openai.metrics.billing_days import calendar, total
from lm_openai.metrics.usage import ORGANIZATION, instance
from lm_openai.model.aggregation import dollar_percent
from lm_openai.model.report import Instance, Sample, Values

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll

BY_PROJECT = ("project_id",)


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield the organization, then each active project that has a spend limit."""
    yield Instance(ORGANIZATION, poll.properties.organization, {})
    for project, limit in _project_limits(poll).items():
        yield costs.in_currency(poll, instance(poll, BY_PROJECT, (project,)), limit.currency)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield each limit, the dollars spent this month, the enforcement and the alerts."""
    poll.covered = (calendar(poll.now).month, poll.now)
    known = list(instances)
    limits = {**_project_limits(poll), **_organization_limit(poll)}
    billed = _billed(poll)
    spent = _spent(poll, billed, known)
    alerts = _alerts(poll, known)
    for one in known:
        values: Values = {}
        if one.id in spent:
            values["spent_month"] = spent[one.id]
        if one.id in limits:
            values |= _limited(limits[one.id], spent.get(one.id), billed)
        if one.id in alerts:
            values["alerts_configured"] = alerts[one.id]
        yield Sample(
            one if billed is None else costs.in_currency(poll, one, billed.currency), values
        )


def _limited(limit: SpendLimit, spent: Decimal | None, billed: costs.Billed | None) -> Values:
    """Return a limit's datapoints; only a limit a month in the bill's currency has a threshold."""
    values: Values = {} if limit.enforcing is None else {"enforcing": int(limit.enforcing)}
    threshold = budgets.monthly_amount(limit, billed.currency if billed else limit.currency)
    if threshold is not None:
        values["threshold"] = threshold
    used = dollar_percent(spent, threshold)
    return values if used is None else {**values, "used_percent": used}


def _project_limits(poll: Poll) -> dict[str, SpendLimit]:
    return poll.once("limits", lambda: budgets.project_limits(poll))


def _organization_limit(poll: Poll) -> dict[str, SpendLimit]:
    try:
        limit = budgets.organization_limit(poll)
    except ApiFailure as failure:
        poll.report_failure(
            failure, "the organization's spend limit is left out", hides_instances=False
        )
        return {}
    return {} if limit is None else {ORGANIZATION: limit}


def _billed(poll: Poll) -> costs.Billed | None:
    """Return this month's costs by project, or None if the request failed, which is reported."""
    dates = calendar(poll.now)
    rows = costs.expected_rows(poll.directory, BY_PROJECT)
    try:
        return costs.by_group(poll.client, dates.month, dates.tomorrow, BY_PROJECT, rows)
    except ApiFailure as failure:
        poll.report_failure(
            failure, "spent_month and used_percent are left out", hides_instances=False
        )
        return None


def _spent(
    poll: Poll, billed: costs.Billed | None, known: Sequence[Instance]
) -> dict[str, Decimal]:
    """Return this month's dollars by instance, the organization's as the sum of all projects.

    Empty if the costs are unknown or if a day of the month is missing.
    """
    dates = calendar(poll.now)
    whole = None if billed is None else costs.month_to_date(billed.groups, dates)
    if billed is None or whole is None:
        return {}
    spent = {project: total(days, dates.this_month()) for (project,), days in billed.groups.items()}
    shown = {one.id: spent.get(one.id) or Decimal(0) for one in known}
    return {**shown, ORGANIZATION: whole}


def _alerts(poll: Poll, known: Sequence[Instance]) -> dict[str, int]:
    """Return the number of spend alerts by instance, requested in parallel."""
    owners = [one.dimensions.get("project_id") for one in known]
    counts = poll.client.together(partial(budgets.alerts, poll, owner) for owner in owners)
    failed = {
        one.alias: count for one, count in zip(known, counts) if isinstance(count, ApiFailure)
    }
    if failed:
        poll.report_failure(
            next(iter(failed.values())),
            f"alerts_configured of {budgets.some([*failed])} is left out",
            hides_instances=False,
        )
    return {one.id: count for one, count in zip(known, counts) if not isinstance(count, ApiFailure)}
