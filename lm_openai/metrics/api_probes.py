"""Smallest requests that show what a key may read and how old the usage data is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.errors import ApiFailure
from lm_openai.timespans import DAY, HOUR, MINUTE

if TYPE_CHECKING:
    from lm_openai.api.client import Client

NEWEST_SOUGHT = 3 * HOUR
AUDIT_SOUGHT = 30 * DAY
SPOKEN = ("key", "project_key", "scope", "archived", "refused", "throttled", "billing")
"""Kinds of failure that only the API itself reports: each one shows that it was reached."""
FORBIDDEN = ("scope", "project_key")
ABSENT = ("down", "unreachable", "tls")
"""Kinds of failure that mean that the API is not there, now or since an outage was noted."""


class Probes(NamedTuple):
    """Results of the probes; an ApiFailure takes the place of each one that failed.

    `projects` is True if there is a project, `audit` is True if there was an audit event in the
    last 30 days. `newest` maps each usage kind to the end of its newest minute with usage (Unix
    seconds), or to None if no minute has any.
    """

    projects: bool | ApiFailure
    audit: bool | ApiFailure
    newest: dict[str, int | ApiFailure | None]

    @property
    def answers(self) -> list[Any]:
        """All results and failures: projects, audit log, then each usage kind."""
        return [self.projects, self.audit, *self.newest.values()]


def probe(client: Client, now: int, sought: int = NEWEST_SOUGHT) -> Probes:
    """Send all probes in parallel; failures are returned, not raised.

    The newest usage is searched for in the last `sought` seconds.
    """
    calls: list[Callable[[], Any]] = [
        partial(any_project, client),
        partial(any_event, client, now),
        *(partial(newest, client, kind, now, sought) for kind in USAGE_KINDS),
    ]
    projects, audit, *ends = client.together(calls)
    return Probes(projects, audit, dict(zip(USAGE_KINDS, ends)))


def any_project(client: Client) -> bool:
    """Return True if there is a project; needs the scope `api.management.read`."""
    return any(True for _ in client.list("projects", limit=1))


def any_event(client: Client, now: int) -> bool:
    """Return True if there was an audit event in the last 30 days; needs `api.audit_logs.read`."""
    since = {"gte": now - AUDIT_SOUGHT}
    return any(True for _ in client.list("audit_logs", effective_at=since, limit=1))


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
