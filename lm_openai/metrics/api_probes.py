"""The least questions that tell what a key may see and how old the data is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.errors import ApiFailure

if TYPE_CHECKING:
    from lm_openai.api.client import Client

MINUTE, HOUR, DAY = 60, 3600, 86400
NEWEST_SOUGHT = 3 * HOUR
AUDIT_SOUGHT = 30 * DAY
SPOKEN = ("key", "project_key", "scope", "archived", "refused", "throttled", "billing")
"""Failures in the API's own words: whoever sends them has reached it."""
FORBIDDEN = ("scope", "project_key")


class Probes(NamedTuple):
    """What was answered, an ApiFailure in the place of each answer that there is not.

    `audit` says whether there was an event in the last 30 days; `newest` is by usage kind the end
    of the newest minute with use, None when there is none.
    """

    projects: bool | ApiFailure
    audit: bool | ApiFailure
    newest: dict[str, int | ApiFailure | None]

    @property
    def answers(self) -> list[Any]:
        """All of them."""
        return [self.projects, self.audit, *self.newest.values()]


def probe(client: Client, now: int, sought: int = NEWEST_SOUGHT) -> Probes:
    """Ask everything, in parallel; nothing is raised and nothing comes from the cache.

    The newest usage is sought in the last `sought` seconds.
    """
    questions: list[Callable[[], Any]] = [
        partial(any_project, client),
        partial(any_event, client, now),
        *(partial(newest, client, kind, now, sought) for kind in USAGE_KINDS),
    ]
    projects, audit, *ends = client.together(questions)
    return Probes(projects, audit, dict(zip(USAGE_KINDS, ends)))


def any_project(client: Client) -> bool:
    """Whether there is a project: the question that needs `api.management.read`."""
    return any(True for _ in client.list("projects", limit=1))


def any_event(client: Client, now: int) -> bool:
    """Whether the audit log has anything lately: the question that needs `api.audit_logs.read`."""
    since = {"gte": now - AUDIT_SOUGHT}
    return any(True for _ in client.list("audit_logs", effective_at=since, limit=1))


def newest(client: Client, kind: str, now: int, sought: int) -> int | None:
    """Until when there is usage of a kind; a new kind that this API lacks has none."""
    start = (now - sought) // MINUTE * MINUTE
    try:
        ends = [bucket.end for bucket in client.usage(kind, start, now, "1m") if bucket.results]
    except ApiFailure as failure:
        if USAGE_KINDS[kind].new and failure.kind == "not_found":
            return None
        raise
    return max(ends, default=None)


def failures(answers: Iterable[Any]) -> list[ApiFailure]:
    """Those that were no answers."""
    return [answer for answer in answers if isinstance(answer, ApiFailure)]


def reached(answers: Iterable[Any]) -> bool:
    """Whether the API itself spoke, be it to refuse; a server error or a web page is not it."""
    return any(not isinstance(answer, ApiFailure) or answer.kind in SPOKEN for answer in answers)


def granted(answers: Iterable[Any]) -> bool | None:
    """Whether the scope that these answers need was granted; None when they do not tell."""
    answers = list(answers)
    if len(failures(answers)) < len(answers):
        return True
    forbidden = [failure for failure in failures(answers) if failure.kind in FORBIDDEN]
    return False if forbidden else None


def valid(answers: Iterable[Any]) -> bool | None:
    """Whether the API takes the key; False only where it says `invalid_api_key`, None if unclear.

    A 401 in other words has a detail.
    """
    answers = list(answers)
    if len(failures(answers)) < len(answers):
        return True
    if any(failure.kind == "scope" for failure in failures(answers)):
        return True
    refused = [failure for failure in failures(answers) if failure.kind == "key"]
    return False if any(not failure.detail for failure in refused) else None
