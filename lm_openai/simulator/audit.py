"""Audit feed of the demo organization: the events of any time, computed from the seed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from random import Random
from typing import Any, NamedTuple

from lm_openai.simulator import audit_types, refusals
from lm_openai.simulator.organization import (
    DAY,
    Organization,
    Project,
    Settings,
    User,
    project_name,
)
from lm_openai.simulator.paging import Wire, listed
from lm_openai.simulator.parameters import Query, flag, integer, text, values

SLOT = 1800
RETENTION = 90 * DAY
BURST = 18
BURST_SECONDS = 7
COMMON = ("login.succeeded", "api_key.created", "rate_limit.updated", "logout.succeeded")
BOUNDS = ("gt", "gte", "lt", "lte")
PARAMETERS = (
    *(f"effective_at[{bound}]" for bound in BOUNDS),
    "project_ids",
    "event_types",
    "actor_ids",
    "actor_emails",
    "resource_ids",
    "tenant_only",
    "limit",
    "after",
    "before",
)


class Event(NamedTuple):
    """Audit event; `late` is the share of the longest delay after which it becomes visible."""

    effective_at: int
    id: str
    type: str
    project: Project | None
    actor: dict[str, Any] | None
    payload: dict[str, Any] | None
    late: float


class Filter(NamedTuple):
    """Filter of the requested events; `first` and `last` are Unix seconds, both inclusive."""

    first: int
    last: int
    types: tuple[str, ...]
    projects: tuple[str, ...]
    actors: tuple[str, ...]
    emails: tuple[str, ...]
    resources: tuple[str, ...]


def page(
    organization: Organization, query: Query, now: int, settings: Settings, longest_delay: int
) -> Wire:
    """Return one page of events, newest first.

    `longest_delay` is the number of seconds after which every event is visible. Raises Refusal for
    a wrong parameter.
    """
    wanted = _filter(query, now)
    limit = integer(query, "limit", 1, 100) or 20
    before = text(query, "before")

    def visible(event: Event) -> bool:
        return event.effective_at + int(event.late * longest_delay) <= now

    if before is not None:
        edge = _position(organization, "before", before)
        newer = _events(organization, wanted._replace(first=max(wanted.first, edge[0])), visible)
        kept = deque((event for event in newer if event[:2] > edge), limit + 1)
        chosen, more = list(kept)[-limit:], len(kept) > limit
    else:
        chosen, more = _older(organization, wanted, text(query, "after"), visible, limit)
    items = [_wire(event, settings) for event in chosen]
    return listed(items, [event.id for event in chosen], more)


def _older(
    organization: Organization,
    wanted: Filter,
    after: str | None,
    visible: Callable[[Event], bool],
    limit: int,
) -> tuple[list[Event], bool]:
    if after is None:
        found = _events(organization, wanted, visible)
    else:
        edge = _position(organization, "after", after)
        older = _events(organization, wanted._replace(last=min(wanted.last, edge[0])), visible)
        found = (event for event in older if event[:2] < edge)
    chosen = list(islice(found, limit + 1))
    return chosen[:limit], len(chosen) > limit


def _events(
    organization: Organization, wanted: Filter, visible: Callable[[Event], bool]
) -> Iterator[Event]:
    for slot in range(wanted.last // SLOT, wanted.first // SLOT - 1, -1):
        for event in reversed(_slot(organization, slot)):
            if _matches(event, wanted) and visible(event):
                yield event


def _matches(event: Event, wanted: Filter) -> bool:
    return (
        wanted.first <= event.effective_at <= wanted.last
        and (not wanted.types or event.type in wanted.types)
        and (not wanted.projects or (event.project and event.project.id) in wanted.projects)
        and (not wanted.actors or not _actor_names(event, "id").isdisjoint(wanted.actors))
        and (not wanted.emails or not _actor_names(event, "email").isdisjoint(wanted.emails))
        and (not wanted.resources or (event.payload or {}).get("id") in wanted.resources)
    )


def _actor_names(event: Event, field: str) -> set[str]:
    """Return the ids or e-mails of the session's user, of the key and of the key's owner."""
    actor = event.actor or {}
    parts = [actor.get("session", {}), actor.get("api_key", {})]
    parts += [
        part[owner] for part in parts for owner in ("user", "service_account") if owner in part
    ]
    return {part[field] for part in parts if field in part}


def _filter(query: Query, now: int) -> Filter:
    bound = {name: integer(query, f"effective_at[{name}]") for name in BOUNDS}
    firsts = (now - RETENTION, bound["gte"], None if bound["gt"] is None else bound["gt"] + 1)
    lasts = (now, bound["lte"], None if bound["lt"] is None else bound["lt"] - 1)
    return Filter(
        first=max(edge for edge in firsts if edge is not None),
        last=min(edge for edge in lasts if edge is not None),
        types=_types(query),
        projects=values(query, "project_ids"),
        actors=values(query, "actor_ids"),
        emails=values(query, "actor_emails"),
        resources=values(query, "resource_ids"),
    )


def _types(query: Query) -> tuple[str, ...]:
    """Return the requested types. Raises Refusal for an unknown one.

    `tenant_only` allows only tenant types; without it, only the other types are allowed. The demo
    organization has no tenant events.
    """
    found = values(query, "event_types")
    tenant = bool(flag(query, "tenant_only"))
    for position, value in enumerate(found):
        known = value.startswith("tenant.") if tenant else value in audit_types.TYPES
        if not known:
            raise refusals.wrong_value(f"event_types[{position}]", value, audit_types.TYPES)
    return found or (("tenant.none",) if tenant else ())


def _position(organization: Organization, name: str, identifier: str) -> tuple[int, str]:
    """Return an event's position in the feed: its time, which the id contains, and the id.

    Raises Refusal for an unknown id.
    """
    try:
        moment = int(identifier.removeprefix("audit_log-")[:8], 16)
    except ValueError:
        raise refusals.bad_cursor(name, identifier) from None
    if all(event.id != identifier for event in _slot(organization, moment // SLOT)):
        raise refusals.bad_cursor(name, identifier)
    return moment, identifier


@lru_cache(maxsize=8192)
def _slot(organization: Organization, slot: int) -> tuple[Event, ...]:
    """Return the events of one half hour, oldest first.

    Each half hour has the next type in turn, so that every type occurs in little more than a day.
    Once a day, many logins of one user fail within two minutes.
    """
    chance = Random(f"{organization.seed}/audit/{slot}")
    kinds = [audit_types.TYPES[slot % len(audit_types.TYPES)]]
    kinds += [kind for kind in COMMON if chance.random() < 0.25]
    events = [
        _event(organization, kind, slot * SLOT + chance.randrange(SLOT), chance) for kind in kinds
    ]
    if slot % (DAY // SLOT) == (organization.seed * 7 + 5) % (DAY // SLOT):
        start = slot * SLOT + chance.randrange(SLOT - BURST * BURST_SECONDS)
        moments = range(start, start + BURST * BURST_SECONDS, BURST_SECONDS)
        user = chance.choice(organization.users)
        events += [_failed_login(organization, moment, user, chance) for moment in moments]
    return tuple(sorted(events, key=lambda event: event[:2]))


def _event(organization: Organization, kind: str, moment: int, chance: Random) -> Event:
    project, user = chance.choice(organization.projects), chance.choice(organization.users)
    return Event(
        effective_at=moment,
        id=_identifier(moment, chance),
        type=kind,
        project=project if audit_types.in_project(kind) else None,
        actor=_actor(organization, kind, chance),
        payload=audit_types.payload(kind, organization, project, user, chance),
        late=max(0.0, chance.random() - 0.75) * 4,
    )


def _failed_login(organization: Organization, moment: int, user: User, chance: Random) -> Event:
    event = _event(organization, "login.failed", moment, chance)
    return event._replace(actor=_session(user, "203.0.113.66"), late=0.0)


def _actor(organization: Organization, kind: str, chance: Random) -> dict[str, Any] | None:
    if kind.startswith("scim.") or (kind == "login.failed" and chance.random() < 0.3):
        return None
    interactive = audit_types.noun_of(kind) in audit_types.ORGANIZATION_NOUNS
    if interactive or chance.random() < 0.6:
        return _session(chance.choice(organization.users), f"192.0.2.{chance.randrange(1, 255)}")
    key = chance.choice(organization.admin_keys)
    if isinstance(key.owner, User):
        owner: dict[str, Any] = {"id": key.owner.id, "email": key.owner.email}
        return _by_key(key.id, "user", owner)
    return _by_key(key.id, "service_account", {"id": key.owner.id})


def _session(user: User, address: str) -> dict[str, Any]:
    """Return a session with `user_agent`, which the API sends and the contract does not declare."""
    person = {"id": user.id, "email": user.email}
    session = {"user": person, "ip_address": address, "user_agent": "Mozilla/5.0"}
    return {"type": "session", "session": session}


def _by_key(key_id: str, owner_type: str, owner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "api_key", "api_key": {"id": key_id, "type": owner_type, owner_type: owner}}


def _identifier(moment: int, chance: Random) -> str:
    return f"audit_log-{moment:08x}{chance.getrandbits(40):010x}"


def _wire(event: Event, settings: Settings) -> Wire:
    item: Wire = {"id": event.id, "type": event.type, "effective_at": event.effective_at}
    if event.project is not None:
        name = project_name(event.project, event.effective_at, settings)
        item["project"] = {"id": event.project.id, "name": name}
    item["actor"] = event.actor
    if event.payload is not None:
        item[event.type] = event.payload
    return item
