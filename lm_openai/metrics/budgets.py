"""What may be spent: a site's own budgets, else the vendor's spend limits, and their alerts."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import partial

from lm_openai.api.records import Record, SpendLimit, spend_limit
from lm_openai.collect.poll import Poll
from lm_openai.collect.source import Source
from lm_openai.errors import ApiFailure
from lm_openai.metrics.costs import CURRENCY

SECONDS_TO_LIVE = 900
NO_LIMIT = ("not_found", "archived")


def organization_budget(poll: Poll) -> Decimal | None:
    """`openai.budget.monthly`, else the vendor's monthly spend limit, else None."""
    if poll.properties.is_set("openai.budget.monthly"):
        return poll.properties.dollars("openai.budget.monthly")
    try:
        return monthly_dollars(organization_limit(poll))
    except ApiFailure as failure:
        poll.report_failure(failure, "no budget figures")
        return None


def project_budgets(poll: Poll, projects: Iterable[str]) -> dict[str, Decimal]:
    """Dollars a month by project id: `openai.budget.project.<id>`, else the vendor's spend limit.

    Only projects that have no budget of the site are asked for.
    """
    budgets = dict(poll.properties.project_budgets())
    unset = set(projects) - budgets.keys()
    for project, limit in project_limits(poll, unset).items():
        amount = monthly_dollars(limit)
        if amount is not None:
            budgets[project] = amount
    return budgets


def organization_limit(poll: Poll) -> SpendLimit | None:
    """The organization's spend limit, None when it has none; raises ApiFailure."""
    return _known(poll.source.shared(SECONDS_TO_LIVE, requested_limit, None))


def project_limits(poll: Poll, projects: Iterable[str] | None = None) -> dict[str, SpendLimit]:
    """The spend limits of those of the projects (None: of all) that are active and have one.

    Asked in parallel, one request for each project that is to be printed; what stays unanswered
    is left out and noted.
    """
    try:
        active = poll.directory.active()
    except ApiFailure as failure:
        poll.report_failure(failure, "no spend limit of any project")
        return {}
    wanted = [
        project
        for project in active
        if (projects is None or project in projects) and _printed(poll, project)
    ]
    answers = poll.client.together(partial(_project_limit, poll, project) for project in wanted)
    failed = [answer for answer in answers if isinstance(answer, ApiFailure)]
    if failed:
        poll.report_failure(failed[0], f"no spend limit of {len(failed)} of {len(wanted)} projects")
    return {
        project: answer
        for project, answer in zip(wanted, answers)
        if isinstance(answer, SpendLimit)
    }


def alerts(poll: Poll, project: str | None = None) -> int:
    """How many spend alerts a project, or the organization, has; raises ApiFailure."""
    return poll.source.shared(SECONDS_TO_LIVE, counted_alerts, project)


def counted_alerts(source: Source, project: str | None) -> int:
    """Request the number of spend alerts; raises ApiFailure."""
    if project is None:
        return sum(1 for _ in source.client.list("spend_alerts"))
    return sum(1 for _ in source.client.list("project_spend_alerts", project_id=project))


def monthly_dollars(limit: SpendLimit | None) -> Decimal | None:
    """A limit's amount where it can be compared with a month's dollars."""
    if limit is None or limit.interval != "month" or limit.currency != CURRENCY:
        return None
    return limit.amount


def _printed(poll: Poll, project: str) -> bool:
    return poll.properties.chosen(
        "projects", project, poll.directory.name("project_id", project) or ""
    )


def _project_limit(poll: Poll, project: str) -> SpendLimit | None:
    return _known(poll.source.shared(SECONDS_TO_LIVE, requested_limit, project))


def requested_limit(source: Source, project: str | None) -> Record | None:
    """Request a spend limit; None if there is none, which the API answers with a 404."""
    try:
        if project is None:
            return source.client.record("spend_limit")
        return source.client.record("project_spend_limit", project_id=project)
    except ApiFailure as failure:
        if failure.kind in NO_LIMIT:
            return None
        raise


def _known(record: Record | None) -> SpendLimit | None:
    return None if record is None else spend_limit(record)
