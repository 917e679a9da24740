"""Admin endpoints: the organization's projects, people, keys and settings in wire form."""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache

from lm_openai.simulator import organization as demo
from lm_openai.simulator.organization import (
    DAY,
    AdminKey,
    ApiKey,
    Organization,
    Project,
    ServiceAccount,
    Settings,
    User,
)
from lm_openai.simulator.paging import Wire

ALERTED_CENTS = (2_500_000, 5_000_000)
PERMISSIONS = {
    "support": ("deny_list", ["o1-pro"]),
    "blocked": ("allow_list", ["gpt-4.1", "gpt-4o-mini"]),
}


def is_archived(project: Project, now: int, settings: Settings) -> bool:
    moment = demo.archived_at(project, settings)
    return moment is not None and moment <= now


def project(entity: Project, now: int, settings: Settings) -> Wire:
    archived = is_archived(entity, now, settings)
    return {
        "id": entity.id,
        "object": "organization.project",
        "name": demo.project_name(entity, now, settings),
        "created_at": entity.created_at,
        "archived_at": demo.archived_at(entity, settings) if archived else None,
        "status": "archived" if archived else "active",
        "external_key_id": None,
        "residency": "GLOBAL",
    }


def api_key(entity: ApiKey, now: int) -> Wire:
    return {
        "object": "organization.project.api_key",
        "id": entity.id,
        "name": entity.name,
        "redacted_value": entity.redacted_value,
        "created_at": entity.created_at,
        "last_used_at": demo.last_used(entity, now),
        "expires_at": entity.expires_at,
        "owner_project_access": "active" if entity.owner_active else "inactive",
        "owner": _key_owner(entity.owner),
    }


def admin_key(entity: AdminKey) -> Wire:
    owner = entity.owner
    is_user = isinstance(owner, User)
    return {
        "object": "organization.admin_api_key",
        "id": entity.id,
        "name": entity.name,
        "redacted_value": entity.redacted_value,
        "created_at": entity.created_at,
        "last_used_at": entity.last_used_at,
        "expires_at": entity.expires_at,
        "owner": {
            "type": "user" if is_user else "service_account",
            "object": "organization.user" if is_user else "organization.service_account",
            "id": owner.id,
            "name": owner.name,
            "created_at": _created_at(owner),
            "role": owner.role,
        },
    }


def service_account(entity: ServiceAccount) -> Wire:
    return {
        "object": "organization.project.service_account",
        "id": entity.id,
        "name": entity.name,
        "role": entity.role,
        "created_at": entity.created_at,
    }


def user(entity: User) -> Wire:
    return {
        "object": "organization.user",
        "id": entity.id,
        "name": entity.name,
        "email": entity.email,
        "role": entity.role,
        "added_at": entity.added_at,
        "created": entity.added_at,
        "is_default": False,
        "is_service_account": False,
        "is_scim_managed": False,
        "api_key_last_used_at": None,
        "projects": None,
        "user": {
            "object": "user",
            "id": entity.id,
            "name": entity.name,
            "email": entity.email,
            "picture": None,
            "enabled": entity.active,
            "banned": False,
            "banned_at": None,
        },
    }


def project_user(entity: User) -> Wire:
    return {
        "object": "organization.project.user",
        "id": entity.id,
        "name": entity.name,
        "email": entity.email,
        "role": "owner" if entity.role == "owner" else "member",
        "added_at": entity.added_at,
    }


def members(organization: Organization, project_id: str) -> list[User]:
    """Return the organization's owners and the users with a key in the project, if active."""
    holders = {key.owner.id for key in keys_by_project(organization).get(project_id, ())}
    return [
        person
        for person in organization.users
        if person.active and (person.role == "owner" or person.id in holders)
    ]


@lru_cache(maxsize=8)
def keys_by_project(organization: Organization) -> dict[str, list[ApiKey]]:
    found: dict[str, list[ApiKey]] = defaultdict(list)
    for key in organization.keys:
        found[key.project_id].append(key)
    return dict(found)


@lru_cache(maxsize=8)
def projects_by_id(organization: Organization) -> dict[str, Project]:
    return {project.id: project for project in organization.projects}


def model_permissions(entity: Project) -> Wire:
    mode, models = PERMISSIONS.get(entity.case, ("allow_list", []))
    return {"object": "project.model_permissions", "mode": mode, "model_ids": models}


def project_retention(entity: Project) -> Wire:
    kind = "zero_data_retention" if entity.case == "translation" else "organization_default"
    return {"object": "project.data_retention", "type": kind}


def organization_retention() -> Wire:
    return {"object": "organization.data_retention", "type": "modified_abuse_monitoring"}


def spend_alerts(organization: Organization) -> list[Wire]:
    return [
        _spend_alert("organization.spend_alert", f"alert_{number:08x}", cents)
        for number, cents in enumerate(ALERTED_CENTS, start=organization.seed)
    ]


def project_spend_alerts(organization: Organization, project_id: str) -> list[Wire]:
    """Return one alert at 80 % of the project's spend limit; no alert if it has no limit."""
    limit = demo.spend_limits(organization).get(project_id)
    if limit is None:
        return []
    cents = int(str(limit["threshold_amount"])) * 8 // 10
    return [_spend_alert("project.spend_alert", f"alert_{project_id[-8:].lower()}", cents)]


def invites(organization: Organization, now: int) -> list[Wire]:
    """Return four invites: accepted, expired, pending, and still pending after its expiry."""
    start = organization.epoch - 30 * DAY
    rows = (
        ("accepted", "dmitri.volkov@acme.example", "owner", start, start + DAY),
        ("expired", "gone.elsewhere@acme.example", "reader", start + DAY, None),
        ("pending", "new.hire@acme.example", "reader", now - now % DAY - 2 * DAY, None),
        ("pending", "never.answered@acme.example", "reader", start, None),
    )
    first = organization.projects[0].id
    return [
        {
            "object": "organization.invite",
            "id": f"invite-{organization.seed:04x}{number:04x}",
            "email": email,
            "role": role,
            "status": status,
            "created_at": created,
            "expires_at": created + 7 * DAY,
            "accepted_at": accepted,
            "projects": [{"id": first, "role": "member"}] if number else [],
        }
        for number, (status, email, role, created, accepted) in enumerate(rows)
    ]


def groups(organization: Organization) -> list[Wire]:
    return [
        {
            "object": "group",
            "id": f"group_{organization.seed:04x}{number:04x}",
            "name": name,
            "created_at": organization.epoch - (300 - number) * DAY,
            "is_scim_managed": managed,
            "group_type": "group",
        }
        for number, (name, managed) in enumerate(
            (("Engineering", True), ("Finance", True), ("Contractors", False))
        )
    ]


def roles(organization: Organization) -> list[Wire]:
    rows = (
        ("role-api-organization-owner", "Owner", ["api.management.read", "api.usage.read"], True),
        ("role-api-organization-reader", "Reader", ["api.model.read"], True),
        (f"role_{organization.seed:08x}", "Cost reader", ["api.usage.read"], False),
    )
    return [
        {
            "object": "role",
            "id": identifier,
            "name": name,
            "description": None if predefined else "Reads usage and costs",
            "permissions": permissions,
            "resource_type": "api.organization",
            "predefined_role": predefined,
        }
        for identifier, name, permissions, predefined in rows
    ]


def certificates(organization: Organization) -> list[Wire]:
    """Return the certificates, oldest first; one expires soon after the epoch."""
    rows = (("gateway 2025", -370, -5, False), ("gateway 2026", -350, 15, True))
    return [
        {
            "object": "organization.certificate",
            "id": f"cert_{organization.seed:04x}{number:04x}",
            "name": name,
            "created_at": organization.epoch + valid * DAY,
            "certificate_details": {
                "valid_at": organization.epoch + valid * DAY,
                "expires_at": organization.epoch + expires * DAY,
            },
            "active": active,
        }
        for number, (name, valid, expires, active) in enumerate(rows)
    ]


def _key_owner(owner: User | ServiceAccount) -> Wire:
    inner: Wire = {
        "id": owner.id,
        "name": owner.name,
        "role": owner.role,
        "created_at": _created_at(owner),
    }
    if isinstance(owner, User):
        return {"type": "user", "user": {**inner, "email": owner.email}}
    return {"type": "service_account", "service_account": inner}


def _created_at(owner: User | ServiceAccount) -> int:
    return owner.added_at if isinstance(owner, User) else owner.created_at


def _spend_alert(kind: str, identifier: str, cents: int) -> Wire:
    return {
        "id": identifier,
        "object": kind,
        "threshold_amount": cents,
        "currency": "USD",
        "interval": "month",
        "notification_channel": {
            "type": "email",
            "recipients": ["finance@acme.example"],
            "subject_prefix": None,
        },
    }
