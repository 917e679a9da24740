#!/usr/bin/env python3
"""Number of projects, users, service accounts, keys and pending invitations."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("organization")

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from lm_openai.collect import api_keys
from lm_openai.errors import ApiFailure
from lm_openai.metrics import usage
from lm_openai.model.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.api.records import Record
    from lm_openai.collect.poll import Poll

Count = Callable[[], int]


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield the organization, the only instance; sends no request."""
    yield usage.instance(poll, (), ())


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield each count whose parts were all read; raises ApiFailure if no count is known."""
    poll.covered = (poll.now, poll.now)
    values: dict[str, int] = {}
    failures: list[ApiFailure] = []
    for name, parts in _parts(poll).items():
        failed = [part for part in parts if isinstance(part, ApiFailure)]
        if failed:
            failures += failed
            poll.report_failure(failed[0], f"{name} is left out", hides_instances=False)
        else:
            values[name] = sum(part for part in parts if isinstance(part, int))
    if not values:
        raise failures[0]
    for instance in instances:
        yield Sample(instance, dict(values))


def _parts(poll: Poll) -> dict[str, list[int | ApiFailure]]:
    """Return the parts of each datapoint's count, all requested in parallel."""
    counts = {**_project_counts(poll), **_organization_counts(poll)}
    results = iter(poll.client.together(each for parts in counts.values() for each in parts))
    return {name: list(islice(results, len(parts))) for name, parts in counts.items()}


def _project_counts(poll: Poll) -> dict[str, list[Count]]:
    """Return the counts that depend on the list of projects; without it each one fails."""
    names = ("projects_active", "projects_archived", "service_accounts", "api_keys")
    (projects,) = poll.client.together([poll.directory.projects])
    if isinstance(projects, ApiFailure):
        return {name: [partial(_fail, projects)] for name in names}
    active = [entry["id"] for entry in projects if not entry["archived"]]
    return {
        "projects_active": [lambda: len(active)],
        "projects_archived": [lambda: len(projects) - len(active)],
        "service_accounts": [partial(_service_accounts, poll, project) for project in active],
        "api_keys": [partial(_keys, poll, project) for project in active],
    }


def _organization_counts(poll: Poll) -> dict[str, list[Count]]:
    return {
        "admin_api_keys": [partial(_keys, poll, None)],
        "users": [partial(_count, poll, "users", _is_person)],
        "invites_pending": [partial(_count, poll, "invites", partial(_is_pending, poll.now))],
    }


def _fail(failure: ApiFailure) -> int:
    raise failure


def _keys(poll: Poll, project: str | None) -> int:
    return len(api_keys.project_keys(poll.source, project))


def _service_accounts(poll: Poll, project: str) -> int:
    """Count a project's service accounts; 0 if it was archived after the list was read."""
    try:
        return sum(1 for _ in poll.client.list("service_accounts", project_id=project))
    except ApiFailure as failure:
        if failure.kind == "archived":
            return 0
        raise


def _count(poll: Poll, name: str, counted: Callable[[Record], bool]) -> int:
    return sum(1 for row in poll.client.list(name) if counted(row))


def _is_person(user: Record) -> bool:
    return not user.get("is_service_account")


def _is_pending(now: int, invite: Record) -> bool:
    """Return True if an invitation is open; the API may report expired ones as pending."""
    if invite["status"] != "pending":
        return False
    return not invite.get("expires_at") or bool(invite["expires_at"] > now)
