#!/usr/bin/env python3
"""The vendor's spend limits: how high, how much is used, and whether requests are refused."""

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
from lm_openai.model.aggregation import percent
from lm_openai.model.report import Instance, Sample, Values

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll

BY_PROJECT = ("project_id",)


def discover(poll: Poll) -> Iterator[Instance]:
    """The organization, and each active project that has a spend limit."""
    yield Instance(ORGANIZATION, poll.properties.organization, {})
    for project in _project_limits(poll):
        yield instance(poll, BY_PROJECT, (project,))


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Each limit, what was spent of it this month, and whether it is being enforced."""
    poll.covered = (calendar(poll.now).month, poll.now)
    known = list(instances)
    limits = {**_project_limits(poll), **_organization_limit(poll)}
    spent = _spent(poll, known)
    alerts = _alerts(poll, known)
    for one in known:
        values: Values = {}
        if one.id in spent:
            values["spent_month"] = spent[one.id]
        if one.id in limits:
            values |= _limited(limits[one.id], spent.get(one.id))
        if one.id in alerts:
            values["alerts_configured"] = alerts[one.id]
        yield Sample(one, values)


def _limited(limit: SpendLimit, spent: Decimal | None) -> Values:
    """What a limit says; one that is not of dollars a month has no comparable threshold."""
    values: Values = {"enforcing": int(limit.enforcing)}
    threshold = budgets.monthly_dollars(limit)
    if threshold is not None:
        values["threshold"] = threshold
    used = percent(spent, threshold)
    return values if used is None else {**values, "used_percent": used}


def _project_limits(poll: Poll) -> dict[str, SpendLimit]:
    return poll.once("limits", lambda: budgets.project_limits(poll))


def _organization_limit(poll: Poll) -> dict[str, SpendLimit]:
    try:
        limit = budgets.organization_limit(poll)
    except ApiFailure as failure:
        poll.report_failure(failure, "no spend limit of the organization")
        return {}
    return {} if limit is None else {ORGANIZATION: limit}


def _spent(poll: Poll, known: Sequence[Instance]) -> dict[str, Decimal]:
    """This month's dollars, the organization's as the sum of all; nothing when a day is missing."""
    dates = calendar(poll.now)
    rows = costs.expected_rows(poll.directory, BY_PROJECT)
    try:
        groups = costs.by_group(poll.client, dates.month, dates.tomorrow, BY_PROJECT, rows)
    except ApiFailure as failure:
        poll.report_failure(failure, "nothing spent and no used percent")
        return {}
    whole = costs.month_to_date(groups, dates)
    if whole is None:
        return {}
    spent = {project: total(days, dates.this_month()) for (project,), days in groups.items()}
    own = {one.id: spent.get(one.id) or Decimal(0) for one in known}
    return {**own, ORGANIZATION: whole}


def _alerts(poll: Poll, known: Sequence[Instance]) -> dict[str, int]:
    """How many spend alerts each has, asked in parallel."""
    owners = [one.dimensions.get("project_id") for one in known]
    answers = poll.client.together(partial(budgets.alerts, poll, owner) for owner in owners)
    failed = [answer for answer in answers if isinstance(answer, ApiFailure)]
    if failed:
        poll.report_failure(
            failed[0], f"no count of spend alerts of {len(failed)} of {len(known)} instances"
        )
    return {
        one.id: answer for one, answer in zip(known, answers) if not isinstance(answer, ApiFailure)
    }
