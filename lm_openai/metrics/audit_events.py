"""Fields of audit events: time, type, actor, and whether the event grants the owner role."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_openai.api.records import Record

if TYPE_CHECKING:
    from lm_openai.api.client import Client

OWNER = "owner"
TENANT = "tenant."
WITH_ROLE = ("user", "invite", "service_account")
ROLE_ASSIGNED = "role.assignment.created"


class Actor(NamedTuple):
    """Person or key that caused an event; fields that the event lacks are empty.

    `id` is the id of the user or service account, else of the key. `key` is the id of the API key
    that was used.
    """

    type: str = ""
    id: str = ""
    email: str = ""
    key: str = ""
    address: str = ""
    agent: str = ""


def read(client: Client, start: int, end: int | None = None) -> Iterator[Record]:
    """Yield the events from `start` until before `end` (None: no end), newest first.

    Times are Unix seconds. Raises ApiFailure.
    """
    times = {"gte": start} if end is None else {"gte": start, "lt": end}
    return client.list("audit_logs", effective_at=times)


def moment(event: Record) -> int:
    """Return the time at which the event took effect, in Unix seconds."""
    return int(event["effective_at"])


def kind(event: Record) -> str:
    """Return the event's type; the API may add types at any time."""
    return str(event["type"])


def actor(event: Record) -> Actor:
    """Return the actor: a person in a session, or a key and its owner."""
    record = event.get("actor")
    session, key = part(record, "session"), part(record, "api_key")
    owners = (part(session, "user"), part(key, "user"), part(key, "service_account"))
    owner = next((candidate for candidate in owners if candidate), {})
    return Actor(
        type=word(record, "type"),
        id=word(owner, "id") or word(key, "id"),
        email=word(owner, "email"),
        key=word(key, "id"),
        address=word(session, "ip_address"),
        agent=word(session, "user_agent"),
    )


def grants_owner(event: Record) -> bool:
    """Return True if the event makes somebody an owner or invites somebody as one.

    The type alone does not show it: events of users, invites and service accounts have the role in
    their payload, and a role assignment has the role's id (`role-api-organization-owner__…`).
    """
    payload = event.get(kind(event))
    plain = kind(event).removeprefix(TENANT)
    if plain == ROLE_ASSIGNED:
        return re.search(r"(?<![a-z])owner(?![a-z])", word(payload, "id").lower()) is not None
    if plain.rpartition(".")[0] not in WITH_ROLE:
        return False
    roles = (word(part(payload, name), "role") for name in ("data", "changes_requested"))
    return any(role.lower() == OWNER for role in roles)


def part(record: Any, name: str) -> Record:
    """Return the object in a field; empty if it is missing or either is not an object."""
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, dict) else {}


def word(record: Any, name: str) -> str:
    """Return the text in a field; empty if it is missing or not text."""
    value = record.get(name) if isinstance(record, dict) else None
    return value if isinstance(value, str) else ""
