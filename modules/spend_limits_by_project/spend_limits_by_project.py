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
from lm_openai.metrics import bill, budgets, cost_figures, usage
from lm_openai.metrics.billing_days import calendar, total
from lm_openai.metrics.usage import ORGANIZATION, instance
from lm_openai.model.aggregation import dollar_percent
from lm_openai.model.report import Instance, Missing, Sample, Values
from lm_openai.redaction import sentence

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll

BY_PROJECT = ("project_id",)


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield the organization, then each active project that has a spend limit."""
    yield Instance(ORGANIZATION, poll.properties.organization, {})
    for project, limit in poll.once("limits", lambda: budgets.project_limits(poll)).items():
        if isinstance(limit, SpendLimit):
            yield bill.in_currency(poll, instance(poll, BY_PROJECT, (project,)), limit.currency)


def dormant(poll: Poll, words: Sequence[str]) -> Iterator[Instance]:
    """Yield all projects, those without a spend limit and the archived ones too."""
    return usage.listed(poll, BY_PROJECT)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield each limit, the dollars spent this month, the enforcement and the alerts."""
    poll.covered = (calendar(poll.now).month, poll.now)
    known = list(instances)
    limits = {**poll.once("limits", lambda: budgets.project_limits(poll)), **_organization(poll)}
    billed = _billed(poll)
    spent = _spent(poll, billed, known)
    alerts = _alerts(poll, known)
    currency = None if isinstance(billed, ApiFailure) else billed.currency
    for one in known:
        own, limit = spent.get(one.id), limits.get(one.id)
        values: Values = {} if own is None else {"spent_month": own}
        if isinstance(limit, SpendLimit):
            values |= _limited(limit, own, currency or limit.currency)
        missing = dict(_missing(values, limit, billed))
        count = alerts.get(one.id)
        if isinstance(count, ApiFailure):
            missing["alerts_configured"] = Missing(str(count))
        elif count is not None:
            values["alerts_configured"] = count
        shown = one if currency is None else bill.in_currency(poll, one, currency)
        yield Sample(shown, values, idle=limit is None and own == 0, missing=missing)


def _limited(limit: SpendLimit, spent: Decimal | None, currency: str) -> Values:
    """Return a limit's datapoints; only a limit a month in the bill's currency has a threshold."""
    values: Values = {} if limit.enforcing is None else {"enforcing": int(limit.enforcing)}
    threshold = budgets.monthly_amount(limit, currency)
    if threshold is not None:
        values["threshold"] = threshold
    used = dollar_percent(spent, threshold)
    return values if used is None else {**values, "used_percent": used}


def _missing(
    values: Values, limit: SpendLimit | ApiFailure | None, billed: bill.Billed | ApiFailure
) -> Iterator[tuple[str, Missing]]:
    """Yield the datapoints that an unread limit or unread costs leave out."""
    if isinstance(limit, ApiFailure):
        yield from ((name, Missing(str(limit))) for name in ("threshold", "enforcing"))
    reason = (
        str(billed) if isinstance(billed, ApiFailure) else cost_figures.days_text(billed.lacking)
    )
    if "spent_month" not in values:
        yield "spent_month", Missing(reason)
    if isinstance(limit, ApiFailure):
        yield "used_percent", Missing(str(limit))
    elif limit is not None and "threshold" not in values:
        yield from ((name, Missing(_unusual(limit))) for name in ("threshold", "used_percent"))
    elif "threshold" in values and "spent_month" not in values:
        yield "used_percent", Missing(reason)


def _unusual(limit: SpendLimit) -> str:
    """Return why the dollars of a month cannot be compared with a limit."""
    return sentence(
        f"the spend limit has the interval {limit.interval!r} and the currency {limit.currency!r}, "
        f"with which a month's costs cannot be compared"
    )


def _organization(poll: Poll) -> dict[str, SpendLimit | ApiFailure]:
    """Return the organization's limit, if it has one, or the failure of its request."""
    try:
        limit = budgets.organization_limit(poll)
    except ApiFailure as failure:
        poll.report_failure(
            failure, "the organization's spend limit is left out", hides_instances=False
        )
        return {ORGANIZATION: failure}
    return {} if limit is None else {ORGANIZATION: limit}


def _billed(poll: Poll) -> bill.Billed | ApiFailure:
    """Return the costs by project, or the failure of the request, which is reported.

    Last month is read too, so that a missing first day does not look like a start of history.
    """
    dates = calendar(poll.now)
    try:
        return bill.read(poll, dates.last_month, dates.tomorrow, BY_PROJECT)
    except ApiFailure as failure:
        poll.report_failure(
            failure, "spent_month and used_percent are left out", hides_instances=False
        )
        return failure


def _spent(
    poll: Poll, billed: bill.Billed | ApiFailure, known: Sequence[Instance]
) -> dict[str, Decimal]:
    """Return this month's dollars by instance, the organization's as the sum of all projects.

    Empty if the costs are unknown or if a day of the month is missing.
    """
    dates = calendar(poll.now)
    if isinstance(billed, ApiFailure) or set(billed.lacking).intersection(dates.this_month()):
        return {}
    spent = {project: total(days, dates.this_month()) for (project,), days in billed.groups.items()}
    shown = {one.id: spent.get(one.id) or Decimal(0) for one in known}
    return {**shown, ORGANIZATION: cost_figures.month_to_date(billed.groups, dates) or Decimal(0)}


def _alerts(poll: Poll, known: Sequence[Instance]) -> dict[str, int | ApiFailure]:
    """Return the number of spend alerts by instance, requested in parallel.

    A failure, which is reported, takes the place of a number.
    """
    archived = poll.directory.archived() if len(known) > 1 else set()
    known = [one for one in known if one.id not in archived]
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
    return {one.id: count for one, count in zip(known, counts)}
