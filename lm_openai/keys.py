"""The organization's keys, of projects and of admins: when each was made, used and will expire."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_openai.records import Record, count

if TYPE_CHECKING:
    from lm_openai.cache import Cache
    from lm_openai.client import Client
    from lm_openai.errors import ApiFailure

SECONDS_TO_LIVE = 900


class Key(NamedTuple):
    """One key; times are Unix seconds.

    None is: an admin key (`project_id`), never used, no expiry, not told (the rest).
    """

    id: str
    name: str | None
    project_id: str | None
    created_at: int
    last_used_at: int | None
    expires_at: int | None
    owner_name: str | None
    owner_active: bool | None

    @property
    def is_admin(self) -> bool:
        """Whether it opens the admin API, and so belongs to no project."""
        return self.project_id is None


def every(
    client: Client, cache: Cache, projects: Iterable[str]
) -> dict[str | None, list[Key] | ApiFailure]:
    """Keys by project, the admin keys under None; asked in parallel, a failure in its place."""
    owners = [*projects, None]
    answers = client.together(partial(of, client, cache, owner) for owner in owners)
    return dict(zip(owners, answers))


def of(client: Client, cache: Cache, project: str | None) -> list[Key]:
    """One project's keys, or the admin keys (None); raises ApiFailure."""
    name = "admin keys" if project is None else f"keys of {project}"
    rows = cache.remember(name, SECONDS_TO_LIVE, partial(_asked, client, project))
    return [Key(*row) for row in rows]


def _asked(client: Client, project: str | None) -> list[Key]:
    if project is None:
        return [_key(row, None, "admin_api_keys") for row in client.list("admin_api_keys")]
    # Without owner_project_access the API leaves out keys whose owner has left the project.
    rows = client.list("api_keys", project_id=project, owner_project_access="any")
    return [_key(row, project, f"projects/{project}/api_keys") for row in rows]


def _key(row: Record, project: str | None, asked: str) -> Key:
    access = row.get("owner_project_access")
    return Key(
        id=row["id"],
        name=row.get("name") or None,
        project_id=project,
        created_at=count(row, "created_at", asked),
        last_used_at=_moment(row, "last_used_at", asked),
        expires_at=_moment(row, "expires_at", asked),
        owner_name=_owner_name(row.get("owner")),
        owner_active=None if access is None else access == "active",
    )


def _moment(row: Record, field: str, asked: str) -> int | None:
    return None if row.get(field) is None else count(row, field, asked)


def _owner_name(owner: Any) -> str | None:
    """A project key's owner is a member named like its type; an admin key's has the name itself."""
    if not isinstance(owner, dict):
        return None
    inner = owner.get(str(owner.get("type")))
    name = (inner if isinstance(inner, dict) else owner).get("name")
    return name if name and isinstance(name, str) else None
