"""Formats of the audit feed: one event as one line for a log pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import blake2b
from ipaddress import ip_address
from typing import Any

from lm_openai.api.records import Record
from lm_openai.metrics import audit_events
from lm_openai.output.influx import quoted, tag
from lm_openai.output.text import one_line
from lm_openai.timespans import iso

HEADS = ("id", "type", "effective_at")
LATEST = 2**63 // 10**9 - 1
"""Unix seconds of the last timestamp that fits into 64-bit nanoseconds, in the year 2262."""

LONGEST_MESSAGE = 32_000
LONGEST_FIELD = 64_000

ECS_VERSION = "8.11.0"
AUTHENTICATION = {"login": "start", "logout": "end"}
IDENTITY = {
    "admin_api_key",
    "api_key",
    "checkpoint.permission",
    "group",
    "invite",
    "role",
    "role.assignment",
    "scim",
    "service_account",
    "user",
}
VERBS = {
    "created": "creation",
    "added": "creation",
    "sent": "creation",
    "registered": "creation",
    "deleted": "deletion",
    "removed": "deletion",
    "accepted": "change",
    "activated": "change",
    "archived": "change",
    "bound_to_resource": "change",
    "deactivated": "change",
    "disabled": "change",
    "enabled": "change",
    "unbound_from_resource": "change",
    "updated": "change",
}


def as_json(event: Record, organization: str) -> str:
    """Return the event exactly as the API sent it, as JSON."""
    return compact(event)


def as_influx(event: Record, organization: str) -> str:
    """Return the event as line protocol; the nanoseconds within its second are a hash of its id.

    Two events of one second therefore stay two points, and an event that is delivered again
    overwrites itself. If the event is larger than 64 kB, its largest members are left out of the
    field `event`.
    """
    who = audit_events.actor(event)
    tags = {
        "organization": organization,
        "type": audit_events.kind(event),
        "project_id": project(event)["id"],
        "actor_type": who.type,
        "actor_id": who.id,
    }
    fields = {
        "id": str(event["id"]),
        "project_name": project(event)["name"],
        "actor_email": who.email,
        "ip_address": who.address,
        "event": fitted(event, LONGEST_FIELD)[0],
    }
    head = ",".join(f"{name}={tag(one_line(text))}" for name, text in tags.items() if text)
    body = ",".join(f"{name}={quoted(text)}" for name, text in fields.items() if text)
    granted = str(audit_events.grants_owner(event)).lower()
    return f"openai_audit,{head} {body},owner_granted={granted} {nanoseconds(event)}"


def as_logicmonitor(event: Record, organization: str) -> str:
    """Return an entry for LogicMonitor's log ingestion, with the event as its message.

    A message holds 32 kB. If the event is larger, its largest members are left out and
    `openai.event.cut` names them.
    """
    who = audit_events.actor(event)
    message, cut = fitted(event, LONGEST_MESSAGE)
    notable = audit_events.grants_owner(event) or audit_events.kind(event).endswith(".failed")
    entry = {
        "message": message,
        "timestamp": timestamp(event),
        "_lm.resourceId": {"openai.org.name": organization},
        "_lm.logsource_type": "openai-audit",
        "log_level": "warn" if notable else "info",
        "openai.organization": organization,
        "openai.event.id": event["id"],
        "openai.event.type": audit_events.kind(event),
        "openai.event.cut": ", ".join(cut),
        "openai.owner.granted": "true" if audit_events.grants_owner(event) else "",
        "openai.project.id": project(event)["id"],
        "openai.project.name": project(event)["name"],
        "openai.actor.type": who.type,
        "openai.actor.id": who.id,
        "openai.actor.email": who.email,
        "openai.actor.key": who.key,
        "openai.source.ip": who.address,
    }
    return compact(filled(entry))


def as_ecs(event: Record, organization: str) -> str:
    """Return a document of the Elastic Common Schema with the whole event in `openai.audit`."""
    who = audit_events.actor(event)
    user = {"id": who.id, "email": who.email}
    address = source(who.address)
    document = {
        "@timestamp": timestamp(event),
        "ecs": {"version": ECS_VERSION},
        "event": described(event),
        "organization": {"name": organization},
        "cloud": filled({"provider": "openai", "project": filled(project(event))}),
        "user": filled(user),
        "source": address,
        "user_agent": filled({"original": who.agent}),
        "related": filled({"user": [*filled(user).values()], "ip": [*address.values()][1:]}),
        "tags": ["owner-granted"] if audit_events.grants_owner(event) else [],
        "openai": {"audit": event},
    }
    return compact(filled(document))


FORMATS: dict[str, Callable[[Record, str], str]] = {
    "json": as_json,
    "influx": as_influx,
    "logicmonitor-logs": as_logicmonitor,
    "ecs": as_ecs,
}


def described(event: Record) -> dict[str, Any]:
    """Return the ECS field `event`; an unknown type is category `configuration`, type `info`."""
    noun, _, verb = audit_events.kind(event).removeprefix(audit_events.TENANT).rpartition(".")
    if noun in AUTHENTICATION:
        category, kinds = "authentication", [AUTHENTICATION[noun]]
    else:
        category = "iam" if noun in IDENTITY else "configuration"
        kinds = [VERBS.get(verb, "info")]
    if noun in ("user", "group"):
        kinds.insert(0, noun)
    return {
        "id": str(event["id"]),
        "kind": "event",
        "module": "openai",
        "dataset": "openai.audit",
        "action": audit_events.kind(event),
        "category": [category],
        "type": kinds,
        "outcome": "failure" if verb == "failed" else "success",
    }


def project(event: Record) -> dict[str, str]:
    """Return the id and name of the event's project, empty if it has none."""
    found = audit_events.part(event, "project")
    return {"id": audit_events.word(found, "id"), "name": audit_events.word(found, "name")}


def source(address: str) -> dict[str, str]:
    """Return the ECS field `source`.

    It has `ip` only for an IP address: Elasticsearch rejects a document with any other `ip`.
    """
    try:
        ip_address(address)
    except ValueError:
        return filled({"address": address})
    return {"address": address, "ip": address}


def fitted(event: Record, most: int) -> tuple[str, list[str]]:
    """Return the event as JSON, and the names of the members left out of it.

    The largest members are left out first until the text has at most `most` bytes. The members in
    HEADS always stay.
    """
    left, cut = dict(event), []
    sizes = {name: len(compact(value)) for name, value in event.items() if name not in HEADS}
    text = compact(left)
    while len(text) > most and sizes:
        largest = max(sizes, key=lambda name: sizes[name])
        cut.append(largest)
        del left[largest], sizes[largest]
        text = compact(left)
    return text, cut


def compact(value: Any) -> str:
    """Return JSON in one line of ASCII; no character can break the line or the encoding."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def filled(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members that are not empty."""
    return {name: value for name, value in members.items() if value not in ("", [], {})}


def timestamp(event: Record) -> str:
    """Return the event's time in ISO 8601 and UTC."""
    return iso(seconds(event))


def nanoseconds(event: Record) -> int:
    """Return the event's time in Unix nanoseconds; the part below a second is a hash of its id."""
    digest = blake2b(str(event["id"]).encode("utf-8", "replace"), digest_size=8).digest()
    return seconds(event) * 10**9 + int.from_bytes(digest, "big") % 10**9


def seconds(event: Record) -> int:
    """Return the event's time in Unix seconds, limited to the range from 0 to LATEST."""
    return min(max(audit_events.moment(event), 0), LATEST)
