#!/usr/bin/env python3
"""API keys and admin keys: age, last use, expiry and owner of each."""

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
from lm_openai.timespans import DAY

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll
    from lm_openai.model.report import Values

ADMIN, PROJECT = "admin", "project"
USED_DAYS = 14
"""Days after its last use in which a key counts as in use."""


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield every key of the active projects and every admin key."""
    return (_instance(poll, key) for key in _keys(poll))


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the age, last use, expiry and owner of each key at the time of the poll."""
    poll.covered = (poll.now, poll.now)
    known = {instance.id: instance for instance in instances}
    for key in _keys(poll):
        yield Sample(known[key.id], _values(key, poll.now), missing={})


def _keys(poll: Poll) -> list[Key]:
    return poll.once("keys", lambda: list(_readable_keys(poll)))


def _readable_keys(poll: Poll) -> Iterator[Key]:
    """Yield the keys of every list that could be read; failed lists are reported.

    Raises ApiFailure if every list failed.
    """
    found = api_keys.all_keys(poll.source, poll.directory.active())
    failures = [keys for keys in found.values() if isinstance(keys, ApiFailure)]
    if len(failures) == len(found):
        raise failures[0]
    for project, keys in found.items():
        if isinstance(keys, ApiFailure):
            owner = _project_or_admin(poll, project)
            poll.report_failure(keys, f"the keys of {owner} are left out")
        else:
            yield from keys


def _instance(poll: Poll, key: Key) -> Instance:
    project = poll.directory.name("project_id", key.project_id) if key.project_id else None
    names = {
        "api_key_name": key.name,
        "project_name": project,
        "owner_name": key.owner_name,
    }
    return Instance(
        key.id,
        f"{_project_or_admin(poll, key.project_id)} / {key.name or key.id}",
        {
            "api_key_id": key.id,
            "project_id": key.project_id or NONE,
            "key_type": ADMIN if key.is_admin else PROJECT,
        },
        {field: name for field, name in names.items() if name},
    )


def _project_or_admin(poll: Poll, project: str | None) -> str:
    """Return the project's name, else its id; `admin` for the admin keys."""
    if project is None:
        return ADMIN
    return poll.directory.label("project_id", project)


def _values(key: Key, now: int) -> Values:
    """Return the datapoints of a key; one that was never used counts from its creation."""
    last_used = key.created_at if key.last_used_at is None else key.last_used_at
    values: Values = {"is_admin": int(key.is_admin)}
    if key.created_at is not None:
        values["age_days"] = _days(max(0, now - key.created_at))
    if last_used is not None:
        values["unused_days"] = _days(max(0, now - last_used))
    if key.expires_at is not None:
        left = _days(key.expires_at - now)
        values["expires_in_days"] = left
        if key.last_used_at is not None and now - key.last_used_at <= USED_DAYS * DAY:
            values["expires_in_days_in_use"] = left
    if key.owner_active is not None:
        values["owner_active"] = int(key.owner_active)
    return values


def _days(seconds: int) -> float:
    return round(seconds / DAY, 6)
