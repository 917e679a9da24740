#!/usr/bin/env python3
"""How many projects, people and keys the organization has."""

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

from lm_openai.api.records import count
from lm_openai.collect import api_keys
from lm_openai.errors import ApiFailure
from lm_openai.metrics import usage
from lm_openai.model.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.api.records import Record
    from lm_openai.collect.poll import Poll

Count = Callable[[], int]


def discover(poll: Poll) -> Iterator[Instance]:
    """The organization itself; nothing is asked."""
    yield usage.instance(poll, (), ())


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Each count whose every part was answered; raises ApiFailure when there is none."""
    poll.covered = (poll.now, poll.now)
    values: dict[str, int] = {}
    failures: list[ApiFailure] = []
    for name, answers in _answers(poll).items():
        missed = [answer for answer in answers if isinstance(answer, ApiFailure)]
        if missed:
            failures += missed
            poll.report_failure(missed[0], f"{name} is left out")
        else:
            values[name] = sum(answer for answer in answers if isinstance(answer, int))
    if not values:
        raise failures[0]
    for instance in instances:
        yield Sample(instance, dict(values))


def _answers(poll: Poll) -> dict[str, list[int | ApiFailure]]:
    """By datapoint what its parts came to, all of them asked in parallel."""
    questions = {**_of_projects(poll), **_of_organization(poll)}
    answers = iter(poll.client.together(ask for parts in questions.values() for ask in parts))
    return {name: list(islice(answers, len(parts))) for name, parts in questions.items()}


def _of_projects(poll: Poll) -> dict[str, list[Count]]:
    """What hangs on the list of projects; without it each is one question that fails."""
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


def _of_organization(poll: Poll) -> dict[str, list[Count]]:
    return {
        "admin_api_keys": [partial(_keys, poll, None)],
        "users": [partial(_count, poll, "users", _is_person)],
        "invites_pending": [partial(_count, poll, "invites", partial(_waits, poll.now))],
    }


def _fail(failure: ApiFailure) -> int:
    raise failure


def _keys(poll: Poll, project: str | None) -> int:
    return len(api_keys.project_keys(poll.source, project))


def _service_accounts(poll: Poll, project: str) -> int:
    """A project archived since the list was read has none any more."""
    try:
        return sum(1 for _ in poll.client.list("service_accounts", project_id=project))
    except ApiFailure as failure:
        if failure.kind == "archived":
            return 0
        raise


def _count(poll: Poll, name: str, counts: Callable[[Record], bool]) -> int:
    return sum(1 for row in poll.client.list(name) if counts(row))


def _is_person(user: Record) -> bool:
    return not user.get("is_service_account")


def _waits(now: int, invite: Record) -> bool:
    """The API may call an invite pending after its expiry."""
    if invite["status"] != "pending":
        return False
    return invite.get("expires_at") is None or count(invite, "expires_at", "invites") > now
