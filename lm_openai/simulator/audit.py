"""What happened in the demo organization: an audit feed that is a function of the time."""

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
    """One event; `late` is the part of the longest delay after which it can first be seen."""

    effective_at: int
    id: str
    type: str
    project: Project | None
    actor: dict[str, Any] | None
    payload: dict[str, Any] | None
    late: float


class Filter(NamedTuple):
    """Which events are asked for; `first` and `last` are inclusive seconds."""

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
    """One page, newest first; `longest_delay` is the seconds after which every event is seen."""
    asked = _filter(query, now)
    limit = integer(query, "limit", 1, 100) or 20
    before = text(query, "before")

    def visible(event: Event) -> bool:
        return event.effective_at + int(event.late * longest_delay) <= now

    if before is not None:
        edge = _find(organization, "before", before)
        newer = _events(organization, asked._replace(first=max(asked.first, edge[0])), visible)
        kept = deque((event for event in newer if event[:2] > edge), limit + 1)
        chosen, more = list(kept)[-limit:], len(kept) > limit
    else:
        chosen, more = _older(organization, asked, text(query, "after"), visible, limit)
    items = [_wire(event, settings) for event in chosen]
    return listed(items, [event.id for event in chosen], more)


def _older(
    organization: Organization,
    asked: Filter,
    after: str | None,
    visible: Callable[[Event], bool],
    limit: int,
) -> tuple[list[Event], bool]:
    if after is None:
        found = _events(organization, asked, visible)
    else:
        edge = _find(organization, "after", after)
        older = _events(organization, asked._replace(last=min(asked.last, edge[0])), visible)
        found = (event for event in older if event[:2] < edge)
    chosen = list(islice(found, limit + 1))
    return chosen[:limit], len(chosen) > limit


def _events(
    organization: Organization, asked: Filter, visible: Callable[[Event], bool]
) -> Iterator[Event]:
    for slot in range(asked.last // SLOT, asked.first // SLOT - 1, -1):
        for event in reversed(_slot(organization, slot)):
            if _matches(event, asked) and visible(event):
                yield event


def _matches(event: Event, asked: Filter) -> bool:
    return (
        asked.first <= event.effective_at <= asked.last
        and (not asked.types or event.type in asked.types)
        and (not asked.projects or (event.project and event.project.id) in asked.projects)
        and (not asked.actors or not _actor_names(event, "id").isdisjoint(asked.actors))
        and (not asked.emails or not _actor_names(event, "email").isdisjoint(asked.emails))
        and (not asked.resources or (event.payload or {}).get("id") in asked.resources)
    )


def _actor_names(event: Event, member: str) -> set[str]:
    """The ids or e-mails of the session's user, of the key and of the key's owner."""
    actor = event.actor or {}
    parts = [actor.get("session", {}), actor.get("api_key", {})]
    parts += [
        part[owner] for part in parts for owner in ("user", "service_account") if owner in part
    ]
    return {part[member] for part in parts if member in part}


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
    """Tenant types and the others are never asked for together, and the demo has no tenant."""
    found = values(query, "event_types")
    tenant = bool(flag(query, "tenant_only"))
    for position, value in enumerate(found):
        known = value.startswith("tenant.") if tenant else value in audit_types.TYPES
        if not known:
            raise refusals.wrong_value(f"event_types[{position}]", value, audit_types.TYPES)
    return found or (("tenant.none",) if tenant else ())


def _find(organization: Organization, name: str, identifier: str) -> tuple[int, str]:
    """The place of an event in the feed; its id holds its time."""
    try:
        moment = int(identifier.removeprefix("audit_log-")[:8], 16)
    except ValueError:
        raise refusals.bad_cursor(name, identifier) from None
    if all(event.id != identifier for event in _slot(organization, moment // SLOT)):
        raise refusals.bad_cursor(name, identifier)
    return moment, identifier


@lru_cache(maxsize=8192)
def _slot(organization: Organization, slot: int) -> tuple[Event, ...]:
    """The events of one half hour in the order of their time.

    One type after the other takes its turn, so that each occurs in little more than a day; once a
    day somebody fails to log in many times within two minutes.
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
    interactive = audit_types.noun_of(kind) in audit_types.OF_ORGANIZATION
    if interactive or chance.random() < 0.6:
        return _session(chance.choice(organization.users), f"192.0.2.{chance.randrange(1, 255)}")
    key = chance.choice(organization.admin_keys)
    if isinstance(key.owner, User):
        owner: dict[str, Any] = {"id": key.owner.id, "email": key.owner.email}
        return _by_key(key.id, "user", owner)
    return _by_key(key.id, "service_account", {"id": key.owner.id})


def _session(user: User, address: str) -> dict[str, Any]:
    """With a member that the contract does not declare, as on the wire."""
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
