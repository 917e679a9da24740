"""Audit events: how they are read, when one happened, who did it and whether it makes an owner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_openai.api.records import Record, count

if TYPE_CHECKING:
    from lm_openai.api.client import Client

OWNER = "owner"
TENANT = "tenant."
WITH_ROLE = ("user", "invite", "service_account")
ROLE_ASSIGNED = "role.assignment.created"


class Actor(NamedTuple):
    """Who did it, as far as the event says; empty where it does not.

    `id` is the user's or service account's, else the key's; `key` the API key that was used.
    """

    type: str = ""
    id: str = ""
    email: str = ""
    key: str = ""
    address: str = ""
    agent: str = ""


def read(client: Client, start: int, end: int | None = None) -> Iterator[Record]:
    """Events from `start` until before `end` (Unix seconds; None: the newest), newest first."""
    times = {"gte": start} if end is None else {"gte": start, "lt": end}
    return client.list("audit_logs", effective_at=times)


def moment(event: Record) -> int:
    """When it took effect, in Unix seconds."""
    return count(event, "effective_at", "audit_logs")


def kind(event: Record) -> str:
    """Its type; the set of types is open."""
    return str(event["type"])


def actor(event: Record) -> Actor:
    """Whoever did it: a person in a session, or a key and its owner."""
    told = event.get("actor")
    session, key = part(told, "session"), part(told, "api_key")
    owners = (part(session, "user"), part(key, "user"), part(key, "service_account"))
    owner = next((found for found in owners if found), {})
    return Actor(
        type=word(told, "type"),
        id=word(owner, "id") or word(key, "id"),
        email=word(owner, "email"),
        key=word(key, "id"),
        address=word(session, "ip_address"),
        agent=word(session, "user_agent"),
    )


def grants_owner(event: Record) -> bool:
    """Whether somebody becomes an owner by it, or is invited as one.

    Types do not tell: the role stands in the payload of user, invite and service account events,
    and a role assignment names the role by its id (`role-api-organization-owner__…`).
    """
    said = event.get(kind(event))
    plain = kind(event).removeprefix(TENANT)
    if plain == ROLE_ASSIGNED:
        return re.search(r"(?<![a-z])owner(?![a-z])", word(said, "id").lower()) is not None
    if plain.rpartition(".")[0] not in WITH_ROLE:
        return False
    roles = (word(part(said, name), "role") for name in ("data", "changes_requested"))
    return any(role.lower() == OWNER for role in roles)


def part(record: Any, name: str) -> Record:
    """An object inside an object; empty when either is none."""
    found = record.get(name) if isinstance(record, dict) else None
    return found if isinstance(found, dict) else {}


def word(record: Any, name: str) -> str:
    """A text inside an object; empty when there is none."""
    found = record.get(name) if isinstance(record, dict) else None
    return found if isinstance(found, str) else ""
