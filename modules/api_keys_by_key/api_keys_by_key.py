#!/usr/bin/env python3
"""Which keys are due: for rotation, for want of use, for their expiry."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("api_keys_by_key")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai.collect import api_keys
from lm_openai.collect.api_keys import Key
from lm_openai.errors import ApiFailure
from lm_openai.model.report import NONE, Instance, Sample

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll
    from lm_openai.model.report import Values

DAY = 86400
ADMIN, PROJECT = "admin", "project"


def discover(poll: Poll) -> Iterator[Instance]:
    """Every key of the active projects and every admin key."""
    return (_instance(poll, key) for key in _keys(poll))


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Where each key stands in its life, at the time of the poll."""
    poll.covered = (poll.now, poll.now)
    known = {instance.id: instance for instance in instances}
    for key in _keys(poll):
        yield Sample(known[key.id], _values(key, poll.now))


def _keys(poll: Poll) -> list[Key]:
    return poll.once("keys", lambda: list(_answered(poll)))


def _answered(poll: Poll) -> Iterator[Key]:
    """The keys that the API told of; what it did not is noted, and raised when that is all."""
    found = api_keys.all_keys(poll.source, poll.directory.active())
    failures = [answer for answer in found.values() if isinstance(answer, ApiFailure)]
    if len(failures) == len(found):
        raise failures[0]
    for project, answer in found.items():
        if isinstance(answer, ApiFailure):
            poll.report_failure(answer, f"no keys of {_holder(poll, project)}")
        else:
            yield from answer


def _instance(poll: Poll, key: Key) -> Instance:
    project = poll.directory.name("project_id", key.project_id) if key.project_id else None
    names = {
        "api_key_name": key.name,
        "project_name": project,
        "owner_name": key.owner_name,
    }
    return Instance(
        key.id,
        f"{_holder(poll, key.project_id)} / {key.name or key.id}",
        {
            "api_key_id": key.id,
            "project_id": key.project_id or NONE,
            "key_type": ADMIN if key.is_admin else PROJECT,
        },
        {word: name for word, name in names.items() if name},
    )


def _holder(poll: Poll, project: str | None) -> str:
    if project is None:
        return ADMIN
    return poll.directory.name("project_id", project) or project


def _values(key: Key, now: int) -> Values:
    """A key never used counts as unused since it was made."""
    used = key.created_at if key.last_used_at is None else key.last_used_at
    values: Values = {
        "age_days": _days(max(0, now - key.created_at)),
        "unused_days": _days(max(0, now - used)),
        "is_admin": int(key.is_admin),
    }
    if key.expires_at is not None:
        values["expires_in_days"] = _days(key.expires_at - now)
    if key.owner_active is not None:
        values["owner_active"] = int(key.owner_active)
    return values


def _days(seconds: int) -> float:
    return round(seconds / DAY, 6)
