"""Icinga Director: a basket with the check command, the templates and the apply rules."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any
from urllib.parse import quote

from lm_openai.hosts.icinga_checks import Check
from lm_openai.hosts.icinga_names import (
    COMMAND,
    DATASOURCE,
    FORMAT,
    HOST_TEXT,
    NAME,
    NOTIFIED,
    NOTIFY_UNKNOWN,
    PREFIX,
    TYPES,
    UNKNOWN,
    arguments,
    dependencies,
    service,
    variable,
    variables,
    whole,
)
from lm_openai.hosts.jobs import HEALTH, HOST_SECONDS, PROPERTIES

Object = dict[str, Any]
ARRAY = "Icinga\\Module\\Director\\DataType\\DataTypeArray"
ELEMENT = "$config$"
"""Macro by which Director names the element of an array in an apply rule."""
INSTANCES = f"host.vars.{PREFIX}"
"""Beginning of the host variables, each an array with the wildvalues of one DataSource."""
OURS, ON_HEALTH = f"service.vars.{DATASOURCE}", f"service.vars.{NOTIFY_UNKNOWN}"
SERVED = f"{INSTANCES}{HEALTH}=true"
"""Filter for the hosts that are organizations, in Director's form of a query string."""


def basket(groups: Sequence[Sequence[Check]]) -> str:
    """Return the basket as JSON; a group is the checks of one DataSource's instances."""
    checks = [*chain.from_iterable(groups)]
    fields = [*_fields([group[0] for group in groups])]
    objects = {
        "Datafield": {str(number): field for number, field in enumerate(fields, 1)},
        "Command": _by_name([_command()]),
        "HostTemplate": _by_name([_host_template(len(fields))]),
        "ServiceTemplate": _by_name([_service_template(), *map(_check_template, checks)]),
        "ServiceSet": _by_name([_service_set(checks)]),
        "NotificationTemplate": _by_name([_notification_template()]),
        "Notification": _by_name(_notifications()),
        "Dependency": _by_name(_dependencies(checks)),
    }
    return json.dumps(objects, indent=2, ensure_ascii=False) + "\n"


def _by_name(objects: Iterable[Object]) -> dict[str, Object]:
    return {one["object_name"]: one for one in objects}


def _object(name: str, kind: str, *imported: str, **properties: Any) -> Object:
    return {"object_name": name, "object_type": kind, "imports": [*imported], **properties}


def _fields(checks: Sequence[Check]) -> Iterator[Object]:
    """Yield the form fields of the host template: property files and instances."""
    yield _field(f"{PREFIX}properties", "Files of host properties", f"Such as {PROPERTIES}")
    for check in checks:
        folder = check.job.definition.folder
        source = f"First column of: lm-openai discover {folder} --format nagios"
        yield _field(f"{PREFIX}{folder}", check.job.definition.title, source)


def _field(name: str, caption: str, description: str) -> Object:
    return {
        "varname": name,
        "caption": caption,
        "description": description,
        "datatype": ARRAY,
        "format": None,
        "settings": {},
    }


def _command() -> Object:
    return _object(
        NAME,
        "object",
        arguments=dict(arguments()),
        command=COMMAND,
        fields=[],
        methods_execute="PluginCheck",
        timeout=HOST_SECONDS,
        vars=FORMAT,
    )


def _host_template(fields: int) -> Object:
    return _object(
        NAME,
        "template",
        check_command="dummy",
        fields=[_use(number) for number in range(1, fields + 1)],
        max_check_attempts=1,
        vars={**HOST_TEXT, variable("--properties"): [PROPERTIES]},
    )


def _use(number: int) -> Object:
    return {"datafield_id": number, "is_required": "n", "var_filter": None}


def _service_template() -> Object:
    timeout = {"check_command": NAME, "check_timeout": HOST_SECONDS}
    return _object(NAME, "template", fields=[], **timeout)


def _check_template(check: Check) -> Object:
    return _object(
        _template(check),
        "template",
        NAME,
        check_interval=check.job.check_interval,
        fields=[],
        max_check_attempts=check.polls,
        notes=check.notes,
        retry_interval=check.job.interval,
        vars=variables(check),
    )


def _template(check: Check) -> str:
    return f"{NAME} {check.job.definition.folder}{check.suffix}"


def _service_set(checks: Sequence[Check]) -> Object:
    services = [
        _object(
            service(check, ELEMENT),
            "object",
            _template(check),
            apply_for=f"{INSTANCES}{check.job.definition.folder}",
            fields=[],
            vars={variable("--instance"): ELEMENT},
        )
        for check in checks
    ]
    return _object(
        NAME,
        "template",
        assign_filter=SERVED,
        description="One service for each instance of each DataSource",
        services=services,
        vars={},
    )


def _notification_template() -> Object:
    return _object(
        NAME,
        "template",
        fields=[],
        notification_interval=0,
        states=[*NOTIFIED],
        types=[*TYPES],
        vars={},
    )


def _notifications() -> Iterator[Object]:
    """Yield the rule of all services and that of the only one whose UNKNOWN is notified."""
    others, health = f"{OURS}=true&{ON_HEALTH}!=true", f"{ON_HEALTH}=true"
    yield _rule(f"{NAME} services", NAME, assign_filter=others, fields=[], vars={})
    states = [*NOTIFIED, UNKNOWN]
    yield _rule(f"{NAME} {HEALTH}", NAME, assign_filter=health, fields=[], states=states, vars={})


def _dependencies(checks: Sequence[Check]) -> Iterator[Object]:
    for one in dependencies(checks):
        children = (
            f"{SERVED}&{OURS}=true&{OURS}!={quote(json.dumps(HEALTH))}"
            if one.child is None
            else f"{OURS}=true&service.name={quote(json.dumps(whole(one.child)))}"
        )
        yield _rule(
            one.name,
            assign_filter=children,
            disable_checks=one.stops,
            disable_notifications=True,
            ignore_soft_states=False,
            parent_service_by_name=whole(one.parent),
            states=[*one.good],
        )


def _rule(name: str, *imported: str, **properties: Any) -> Object:
    """Return an apply rule for services."""
    return _object(name, "apply", *imported, apply_to="service", **properties)
