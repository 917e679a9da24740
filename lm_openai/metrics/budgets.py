"""Budgets (the site's own settings, else the vendor's spend limits) and spend alerts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from lm_openai.api.endpoints import SINGLES
from lm_openai.api.records import Record, SpendLimit, spend_limit
from lm_openai.collect.poll import Poll
from lm_openai.collect.source import Source
from lm_openai.errors import ApiFailure

SECONDS_TO_LIVE = 900
MOST_NAMES = 20


class Budget(NamedTuple):
    """Amount a month; `own` if the site set it by a property, else it is the vendor's limit.

    `unread` is the reason why the amount is unknown, or empty.
    """

    amount: Decimal | None
    own: bool = False
    unread: str = ""


def organization_budget(poll: Poll, currency: str) -> Budget | None:
    """Return `openai.budget.monthly`, else the vendor's monthly spend limit, else None.

    A spend limit counts only in the bill's `currency`. A failed request is reported.
    """
    amount = poll.properties.dollars("openai.budget.monthly")
    if amount is not None:
        return Budget(amount, own=True)
    try:
        amount = monthly_amount(organization_limit(poll), currency)
        return None if amount is None else Budget(amount)
    except ApiFailure as failure:
        poll.report_failure(failure, "budget figures are left out", hides_instances=False)
        return Budget(None, unread=str(failure))


def project_budgets(poll: Poll, projects: Iterable[str], currency: str) -> dict[str, Budget]:
    """Return budgets by project id.

    A project's budget is `openai.budget.project.<id>`, else the vendor's spend limit in the bill's
    `currency`. Spend limits are requested only for projects without that property.
    """
    own = poll.properties.project_budgets()
    budgets = {project: Budget(amount, own=True) for project, amount in own.items()}
    unset = set(projects) - budgets.keys()
    for project, limit in project_limits(poll, unset).items():
        if isinstance(limit, ApiFailure):
            budgets[project] = Budget(None, unread=str(limit))
        elif (amount := monthly_amount(limit, currency)) is not None:
            budgets[project] = Budget(amount)
    return budgets


def organization_limit(poll: Poll) -> SpendLimit | None:
    """Return the organization's spend limit, or None if it has none; raises ApiFailure."""
    read = partial(poll.source.shared, SECONDS_TO_LIVE, requested_limit, None)
    return _known(poll.once("organization limit", read))


def project_limits(
    poll: Poll, projects: Iterable[str] | None = None
) -> dict[str, SpendLimit | ApiFailure]:
    """Return the spend limits of the active projects among `projects` (None: all), by project id.

    Sends one request per printed project, in parallel. A project without a limit is left out; the
    failure of one whose request failed takes its place and is reported.
    """
    try:
        active = poll.directory.active()
    except ApiFailure as failure:
        left_out = "spend limits of all projects are left out"
        poll.report_failure(failure, left_out, hides_instances=projects is None)
        return dict.fromkeys(projects or (), failure)
    wanted = [
        project
        for project in active
        if (projects is None or project in projects) and poll.prints(project)
    ]
    outcomes = poll.client.together(partial(_project_limit, poll, project) for project in wanted)
    found = dict(zip(wanted, outcomes))
    failed = {key: outcome for key, outcome in found.items() if isinstance(outcome, ApiFailure)}
    if failed:
        names = [poll.directory.label("project_id", key) for key in failed]
        poll.report_failure(
            next(iter(failed.values())),
            f"spend limits of {some(names)} are left out",
            hides_instances=projects is None,
        )
    return {key: outcome for key, outcome in found.items() if outcome is not None}


def some(names: Sequence[str]) -> str:
    """Return the first names and the number of the others, in words.

    >>> some([f"P{number}" for number in range(22)])[-18:]
    'P18, P19, 2 others'
    """
    others = len(names) - MOST_NAMES
    return ", ".join([*names[:MOST_NAMES], *([f"{others} others"] if others > 0 else [])])


def alerts(poll: Poll, project: str | None = None) -> int:
    """Return the number of spend alerts of a project (None: of the organization), cached.

    Raises ApiFailure.
    """
    return poll.source.shared(SECONDS_TO_LIVE, counted_alerts, project)


def counted_alerts(source: Source, project: str | None) -> int:
    """Request the spend alerts and return their number; raises ApiFailure."""
    if project is None:
        return sum(1 for _ in source.client.list("spend_alerts"))
    return sum(1 for _ in source.client.list("project_spend_alerts", project_id=project))


def monthly_amount(limit: SpendLimit | None, currency: str) -> Decimal | None:
    """Return a limit's amount a month.

    None without a limit or if it has another interval or currency.
    """
    if limit is None or limit.interval != "month" or limit.currency != currency:
        return None
    return limit.amount


def _project_limit(poll: Poll, project: str) -> SpendLimit | None:
    return _known(poll.source.shared(SECONDS_TO_LIVE, requested_limit, project))


def requested_limit(source: Source, project: str | None) -> Record | None:
    """Request a spend limit; return None if there is none.

    The API reports a missing limit as HTTP 404. An archived project has none either. Raises
    ApiFailure.
    """
    name, ids = "spend_limit", {}
    if project is not None:
        name, ids = "project_spend_limit", {"project_id": project}
    try:
        return source.client.record(name, **ids)
    except ApiFailure as failure:
        if failure.kind in SINGLES[name].absent:
            return None
        raise


def _known(record: Record | None) -> SpendLimit | None:
    return None if record is None else spend_limit(record)
