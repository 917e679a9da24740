"""API keys of projects and admin keys: when each was created, last used and will expire."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple

from lm_openai.api.records import Record
from lm_openai.collect.source import Source
from lm_openai.errors import ApiFailure

SECONDS_TO_LIVE = 900


class Key(NamedTuple):
    """One key; times are Unix seconds.

    None means: `project_id` an admin key, `last_used_at` never used, `expires_at` no expiry, other
    fields unknown. A time of 0 is none.
    """

    id: str
    name: str | None
    project_id: str | None
    created_at: int | None
    last_used_at: int | None
    expires_at: int | None
    owner_name: str | None
    owner_active: bool | None

    @property
    def is_admin(self) -> bool:
        """True for an admin key, which belongs to no project."""
        return self.project_id is None


def all_keys(source: Source, projects: Iterable[str]) -> dict[str | None, list[Key] | ApiFailure]:
    """Return the keys by project id, and the admin keys under None.

    The lists are requested in parallel; an ApiFailure takes the place of a list that failed.
    """
    owners = [*projects, None]
    outcomes = source.client.together(partial(project_keys, source, owner) for owner in owners)
    return dict(zip(owners, outcomes))


def project_keys(source: Source, project: str | None) -> list[Key]:
    """Return one project's keys, or the admin keys for None; raises ApiFailure."""
    return [Key(*row) for row in source.shared(SECONDS_TO_LIVE, listed_keys, project)]


def listed_keys(source: Source, project: str | None) -> list[Key]:
    """Request one project's keys, or the admin keys for None; raises ApiFailure."""
    if project is None:
        rows = source.client.list("admin_api_keys")
        return [_key(row, None) for row in rows]
    rows = source.client.list("api_keys", project_id=project)
    return [_key(row, project) for row in rows]


def _key(row: Record, project: str | None) -> Key:
    access = row.get("owner_project_access")
    return Key(
        id=row["id"],
        name=row.get("name") or None,
        project_id=project,
        created_at=row.get("created_at") or None,
        last_used_at=row.get("last_used_at") or None,
        expires_at=row.get("expires_at") or None,
        owner_name=_owner_name(row.get("owner")),
        owner_active=None if access is None else access == "active",
    )


def _owner_name(owner: Any) -> str | None:
    """Return the owner's name.

    A project key's owner holds an object named like its type; an admin key's holds the name itself.
    """
    if not isinstance(owner, dict):
        return None
    inner = owner.get(str(owner.get("type")))
    name = (inner if isinstance(inner, dict) else owner).get("name")
    return name if name and isinstance(name, str) else None
