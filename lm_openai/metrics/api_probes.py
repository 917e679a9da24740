"""Requests that show which endpoints a key can read and how old the usage data is.

They reach every endpoint that a DataSource reads, with the DataSources' own parameters where that
is possible, so that the processes of a host share the responses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_openai.api import records
from lm_openai.api.endpoints import SINGLES, USAGE_KINDS, rows_read
from lm_openai.errors import ApiFailure
from lm_openai.metrics import bill
from lm_openai.metrics.billing_days import calendar
from lm_openai.timespans import DAY, HOUR, MINUTE

if TYPE_CHECKING:
    from lm_openai.api.client import Client
    from lm_openai.api.paging import Hole

NEWEST_SOUGHT = 3 * HOUR
AUDIT_SOUGHT = 30 * DAY
SPOKEN = ("key", "project_key", "scope", "archived", "refused", "throttled", "billing")
"""Kinds of failure that only the API itself reports: each one shows that it was reached."""
FORBIDDEN = ("scope", "project_key")
ABSENT = ("down", "unreachable", "tls")
"""Kinds of failure that mean that the API is not there, now or since an outage was noted."""
PROJECTS, AUDIT_LOGS = "projects", "audit_logs"
"""Lists with a probe of their own: the others depend on the first, and the second is long."""


class Probes(NamedTuple):
    """Results of the probes; an ApiFailure takes the place of each one that failed.

    `management` maps the name of each list and single record to True, or to None if nothing could
    be requested because there is no active project. `costs` are the days that the bill lacks.
    `audit` is True if there was an audit event in the last 30 days. `newest` maps each usage kind
    to the end of its newest minute with usage (Unix seconds), or to None if no minute has any.
    """

    management: dict[str, bool | ApiFailure | None]
    costs: list[Hole] | ApiFailure
    audit: bool | ApiFailure
    newest: dict[str, int | ApiFailure | None]

    @property
    def scopes(self) -> dict[str, list[Any]]:
        """The results and failures by the scope that their requests need."""
        return {
            "api.management.read": [*self.management.values()],
            "api.usage.read": [self.costs, *self.newest.values()],
            "api.audit_logs.read": [self.audit],
        }

    @property
    def answers(self) -> list[Any]:
        """All results and failures, the list of projects first."""
        return [outcome for outcomes in self.scopes.values() for outcome in outcomes]


def probe(client: Client, now: int, sought: int = NEWEST_SOUGHT) -> Probes:
    """Send all probes in parallel; failures are returned, not raised.

    The newest usage is searched for in the last `sought` seconds.
    """
    named = [*_named(of_project=False)]
    calls: list[Callable[[], Any]] = [
        partial(_by_project, client),
        partial(lacking_days, client, now),
        partial(any_event, client, now),
        *(partial(newest, client, kind, now, sought) for kind in USAGE_KINDS),
        *(partial(_request, client, name) for name in named),
    ]
    by_project, costs, audit, *others = _outcomes(client, calls)
    ends, answers = others[: len(USAGE_KINDS)], others[len(USAGE_KINDS) :]
    management = {**by_project, **dict(zip(named, answers))}
    return Probes(management, costs, audit, dict(zip(USAGE_KINDS, ends)))


def _outcomes(client: Client, calls: Iterable[Callable[[], Any]]) -> list[Any]:
    """Return the results of parallel calls of several types, or the failures in their place."""
    return client.together(calls)


def _named(of_project: bool) -> Iterator[str]:
    """Yield the lists and single records that a DataSource reads, those of one project or not."""
    for name, row in rows_read().items():
        own_probe = name in (PROJECTS, AUDIT_LOGS)
        if not own_probe and ("{project_id}" in row.path) == of_project:
            yield name


def _by_project(client: Client) -> dict[str, bool | ApiFailure | None]:
    """Return the outcomes of the list of projects and of each endpoint of an active one.

    Without the list, nobody can read the endpoints of a project: its failure is theirs too.
    """
    names = [*_named(of_project=True)]
    (project,) = client.together([partial(active_project, client)])
    if not isinstance(project, str):
        return {PROJECTS: True if project is None else project, **dict.fromkeys(names, project)}
    calls = [partial(_request, client, name, project_id=project) for name in names]
    return {PROJECTS: True, **dict(zip(names, client.together(calls)))}


def _request(client: Client, name: str, **ids: str) -> bool:
    """Request a record, or a list until its first good row; raises ApiFailure.

    A record that does not exist, or a project that was archived meanwhile, is an answer too.
    """
    absent = SINGLES[name].absent if name in SINGLES else ()
    try:
        if name in SINGLES:
            client.record(name, **ids)
        else:
            next(client.list(name, **ids), None)
    except ApiFailure as failure:
        if failure.kind not in ("archived", *absent):
            raise
    return True


def active_project(client: Client) -> str | None:
    """Return the id of the first active project, or None; needs the scope `api.management.read`."""
    projects = map(records.project, client.list(PROJECTS))
    return next((project.id for project in projects if not project.archived), None)


def lacking_days(client: Client, now: int) -> list[Hole]:
    """Return the days that the bill lacks, of those that any figure needs; raises ApiFailure."""
    dates = calendar(now)
    bill.by_group(client, dates.earliest, dates.tomorrow)
    return bill.holes(client, now)


def any_event(client: Client, now: int) -> bool:
    """Return True if there was an audit event in the last 30 days; needs `api.audit_logs.read`."""
    since = {"gte": now - AUDIT_SOUGHT}
    return any(True for _ in client.list(AUDIT_LOGS, effective_at=since, limit=1))


def newest(client: Client, kind: str, now: int, sought: int) -> int | None:
    """Return the end of a kind's newest minute with usage, or None if there is none.

    A new kind that this API does not offer has none. Raises ApiFailure.
    """
    start = (now - sought) // MINUTE * MINUTE
    try:
        ends = [bucket.end for bucket in client.usage(kind, start, now, "1m") if bucket.results]
    except ApiFailure as failure:
        if USAGE_KINDS[kind].new and failure.kind == "not_found":
            return None
        raise
    return max(ends, default=None)


def failures(outcomes: Iterable[Any]) -> list[ApiFailure]:
    """Return the outcomes that are failures."""
    return [outcome for outcome in outcomes if isinstance(outcome, ApiFailure)]


def reached(outcomes: Iterable[Any]) -> bool:
    """Return True if the API itself responded, even with a refusal.

    A server error or a web page does not count.
    """
    return any(
        not isinstance(outcome, ApiFailure) or outcome.kind in SPOKEN for outcome in outcomes
    )


def down(outcomes: Iterable[Any]) -> bool:
    """Return True if some request failed because the API was not there."""
    return any(failure.kind in ABSENT for failure in failures(outcomes))


def granted(outcomes: Iterable[Any]) -> bool | None:
    """Return True if the key has the scope that these requests need, or None if that is unclear."""
    outcomes = list(outcomes)
    if len(failures(outcomes)) < len(outcomes):
        return True
    forbidden = [failure for failure in failures(outcomes) if failure.kind in FORBIDDEN]
    return False if forbidden else None


def valid(outcomes: Iterable[Any]) -> bool | None:
    """Return True if the API accepts the key, False if it reports `invalid_api_key`, else None.

    An HTTP 401 for any other reason has a detail in its failure.
    """
    outcomes = list(outcomes)
    if len(failures(outcomes)) < len(outcomes):
        return True
    if any(failure.kind == "scope" for failure in failures(outcomes)):
        return True
    refused = [failure for failure in failures(outcomes) if failure.kind == "key"]
    return False if any(not failure.detail for failure in refused) else None
