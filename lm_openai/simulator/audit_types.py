"""Types of audit events and the payload of each type."""

from __future__ import annotations

from random import Random
from typing import Any

from lm_openai.simulator.organization import Organization, Project, User

UNKNOWN = "agent_runtime.published"
"""Type that no client knows, because the set of types is open."""

GROUPED_TYPES = {
    "api_key": "created updated deleted",
    "certificate": "created updated deleted",
    "certificates": "activated deactivated",
    "checkpoint.permission": "created deleted",
    "external_key": "registered removed",
    "external_storage": "registered removed",
    "group": "created updated deleted",
    "invite": "sent accepted deleted",
    "ip_allowlist": "created updated deleted",
    "ip_allowlist.config": "activated deactivated",
    "login": "succeeded failed",
    "logout": "succeeded failed",
    "organization": "updated",
    "project": "created updated archived deleted",
    "rate_limit": "updated deleted",
    "resource": "deleted",
    "role": "created updated deleted bound_to_resource unbound_from_resource",
    "role.assignment": "created deleted",
    "scim": "enabled disabled",
    "service_account": "created updated deleted",
    "tunnel": "created updated deleted",
    "user": "added updated deleted",
    "workload_identity_provider": "created updated deleted",
    "workload_identity_provider_mapping": "created updated deleted",
}
KNOWN = tuple(f"{noun}.{verb}" for noun, verbs in GROUPED_TYPES.items() for verb in verbs.split())
TYPES = (*KNOWN, UNKNOWN)

PROJECT_NOUNS = ("api_key", "checkpoint.permission", "rate_limit", "service_account")
ORGANIZATION_NOUNS = ("login", "logout", "scim")
OWNER_ROLE = "role-api-organization-owner__api-organization"
WITHOUT_PAYLOAD = ("resource.deleted", "tunnel.created", "tunnel.updated", "tunnel.deleted")


def in_project(kind: str) -> bool:
    return noun_of(kind) in PROJECT_NOUNS


def noun_of(kind: str) -> str:
    return kind.rsplit(".", 1)[0]


def payload(
    kind: str, organization: Organization, project: Project, user: User, chance: Random
) -> dict[str, Any] | None:
    """Return the value of the field named after the type; None for types without that field."""
    if kind in WITHOUT_PAYLOAD:
        return None
    if kind in ("login.failed", "logout.failed"):
        return {"error_code": "invalid_credentials", "error_message": "Invalid credentials"}
    if noun_of(kind) in ("login", "logout"):
        return {}
    if kind.startswith("role.assignment."):
        return _role_assignment(kind, user)
    if noun_of(kind) in ("certificates", "ip_allowlist.config"):
        field = "certificates" if noun_of(kind) == "certificates" else "configs"
        return {field: [{"id": _generated_id("cert", chance), "name": "gateway"}]}
    subject = _subject(kind, organization, project, user, chance)
    return {"id": subject, **_details(kind, project, user, chance)}


def _subject(
    kind: str, organization: Organization, project: Project, user: User, chance: Random
) -> str:
    noun = noun_of(kind)
    if noun == "api_key":
        return chance.choice(organization.keys).id
    if noun == "service_account":
        return next(
            account.id
            for account in organization.service_accounts
            if account.project_id == project.id
        )
    if noun == "rate_limit":
        return "rl-" + chance.choice(organization.models).name
    if noun == "organization":
        return "org-demo"
    return {"project": project.id, "user": user.id}.get(noun) or _generated_id(noun, chance)


def _details(kind: str, project: Project, user: User, chance: Random) -> dict[str, Any]:
    table: dict[str, dict[str, Any]] = {
        "api_key.created": {"data": {"scopes": ["api.model.request"]}},
        "api_key.updated": {"changes_requested": {"scopes": ["api.model.read"]}},
        "certificate.created": {"name": "gateway"},
        "certificate.updated": {"name": "gateway"},
        "certificate.deleted": {"name": "gateway", "certificate": "-----BEGIN CERTIFICATE-----"},
        "checkpoint.permission.created": {
            "data": {"project_id": project.id, "fine_tuned_model_checkpoint": "ft:gpt-4o:acme::1"}
        },
        "group.created": {"data": {"group_name": "Analysts"}},
        "group.updated": {"changes_requested": {"group_name": "Analysts"}},
        "invite.sent": {"data": {"email": user.email, "role": "reader"}},
        "ip_allowlist.created": {"name": "office", "allowed_ips": ["192.0.2.0/24"]},
        "ip_allowlist.updated": {"allowed_ips": ["192.0.2.0/24", "198.51.100.0/24"]},
        "ip_allowlist.deleted": {"name": "office", "allowed_ips": ["192.0.2.0/24"]},
        "organization.updated": {"changes_requested": {"title": "Acme"}},
        "project.created": {"data": {"name": project.name, "title": project.name}},
        "project.updated": {"changes_requested": {"title": project.name}},
        "rate_limit.updated": {
            "changes_requested": {"max_requests_per_1_minute": 100 * chance.randint(1, 50)}
        },
        "role.created": _role(["api.usage.read"]),
        "role.updated": {"changes_requested": {"permissions_added": ["api.usage.read"]}},
        "service_account.created": {"data": {"role": "member"}},
        "service_account.updated": {"changes_requested": {"role": "owner"}},
        "user.added": {"data": {"role": "reader"}},
        "user.updated": {"changes_requested": {"role": chance.choice(("owner", "reader"))}},
        UNKNOWN: {"data": {"version": 3}},
    }
    return table.get(kind, {})


def _role(permissions: list[str]) -> dict[str, Any]:
    return {
        "role_name": "Cost reader",
        "permissions": permissions,
        "resource_type": "api.organization",
        "resource_id": "org-demo",
    }


def _role_assignment(kind: str, user: User) -> dict[str, Any]:
    return {
        "id": OWNER_ROLE,
        "principal_id": user.id,
        "principal_type": "user",
        "resource_id": "org-demo",
        "resource_type": "api.organization",
    }


def _generated_id(noun: str, chance: Random) -> str:
    return f"{noun.replace('.', '_')}_{chance.getrandbits(48):012x}"
