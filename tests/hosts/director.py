"""Stand-in for Icinga Director: checks a basket's structure and renders it as Director does.

The properties are those of the classes in Director's source (library/Director/Objects of version
1.11), and the rendering follows `renderObjectHeader` of these classes and `AssignRenderer`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from lm_openai.hosts.icinga_dsl import Code, Statement, block, imports, listed, literal, named

COMMON = {"object_name", "object_type", "imports"}
PROPERTIES = {
    "Command": {"command", "arguments", "methods_execute", "timeout", "vars", "fields"},
    "HostTemplate": {"check_command", "max_check_attempts", "vars", "fields"},
    "ServiceTemplate": {
        "check_command",
        "check_interval",
        "check_timeout",
        "fields",
        "max_check_attempts",
        "notes",
        "retry_interval",
        "vars",
    },
    "ServiceSet": {"assign_filter", "description", "services", "vars"},
    "NotificationTemplate": {"fields", "notification_interval", "states", "types", "vars"},
    "Notification": {"apply_to", "assign_filter", "fields", "states", "vars"},
    "Dependency": {
        "apply_to",
        "assign_filter",
        "disable_checks",
        "disable_notifications",
        "ignore_soft_states",
        "parent_service_by_name",
        "states",
    },
}
FIELD = {"varname", "caption", "description", "datatype", "format", "settings"}
SERVICE = {"apply_for", "fields", "vars"}
ARGUMENT = {"value", "set_if", "description"}
STATES = {"OK", "Warning", "Critical", "Unknown"}
SECONDS = ("timeout", "check_interval", "check_timeout", "retry_interval")
RENAMED = {"parent_service_by_name": "parent_service_name", "notification_interval": "interval"}
INTERNAL = {*COMMON, "apply_to", "assign_filter", "fields", "vars", "methods_execute", "apply_for"}
TYPES = {"HostTemplate": "Host", "ServiceTemplate": "Service"}
Objects = dict[str, dict[str, Any]]


def check(basket: dict[str, Objects]) -> None:
    """Fail if an object has a property that its class in Director does not know, or a wrong name.

    An object's key is its name; a template of services and a set is always of the type template.
    """
    assert set(basket) == {"Datafield", *PROPERTIES}
    for kind, known in PROPERTIES.items():
        for name, one in basket[kind].items():
            assert one["object_name"] == name
            assert set(one) <= COMMON | known, (kind, name)
            assert set(one.get("states", ())) <= STATES
    for kind in ("HostTemplate", "ServiceTemplate", "ServiceSet", "NotificationTemplate"):
        assert {one["object_type"] for one in basket[kind].values()} == {"template"}
    for one in basket["Datafield"].values():
        assert set(one) == FIELD
    for one in basket["Command"]["openai"]["arguments"].values():
        assert set(one) <= ARGUMENT
    for one in basket["ServiceSet"]["openai"]["services"]:
        assert set(one) == COMMON | SERVICE
        assert one["imports"][0] in basket["ServiceTemplate"]
    uses = {one["datafield_id"] for one in basket["HostTemplate"]["openai"]["fields"]}
    assert {str(number) for number in uses} == set(basket["Datafield"])


def rendered(basket: dict[str, Objects], recipients: dict[str, Any]) -> str:
    """Return Icinga's configuration; `recipients` is what a site adds to the notifications."""
    head = 'const DirectorOverrideTemplate = "overrides"\ntemplate Service "overrides" { }'
    return "\n".join((head, *_blocks(basket, recipients)))


def _blocks(basket: dict[str, Objects], recipients: dict[str, Any]) -> Iterator[str]:
    for name, one in basket["Command"].items():
        begin = imports("plugin-check-command"), ("command", one["command"].split())
        rest = {key: value for key, value in one.items() if key != "command"}
        yield block(named("object CheckCommand", name), (*begin, *_statements(rest)))
    for kind, word in TYPES.items():
        for name, one in basket[kind].items():
            yield block(named(f"template {word}", name), _statements(one))
    for group in basket["ServiceSet"].values():
        for one in group["services"]:
            yield _service(one, group["assign_filter"])
    for name, one in basket["NotificationTemplate"].items():
        yield block(named("template Notification", name), _statements({**one, **recipients}))
    for kind in ("Notification", "Dependency"):
        for name, one in basket[kind].items():
            head = f"{named(f'apply {kind}', name)} to {one['apply_to'].title()}"
            yield block(head, [*_statements(one), _assign(one["assign_filter"])])


def _service(one: dict[str, Any], filter_: str) -> str:
    statements: list[Statement] = [
        ("name", _with_config(one["object_name"])),
        *_statements({**one, "vars": {}}),
        *((f"vars.{name}", _with_config(value)) for name, value in one["vars"].items()),
        _assign(filter_),
        Code("import DirectorOverrideTemplate"),
    ]
    return block(f"apply Service for (config in {one['apply_for']})", statements)


def _with_config(text: str) -> Code:
    before, _, after = text.partition("$config$")
    return Code(" + ".join((literal(before), "config", literal(after))))


def _statements(one: dict[str, Any]) -> Iterator[Statement]:
    yield from map(imports, one["imports"])
    for name, value in one.items():
        if name in SECONDS:
            yield name, Code(f"{value}s")
        elif name in ("states", "types"):
            yield name, listed(value)
        elif name not in INTERNAL:
            yield RENAMED.get(name, name), value
    for name, value in one.get("vars", {}).items():
        yield f"vars.{name}", value


def _assign(query: str) -> Code:
    """Render a filter in the form of a query string; its values are JSON."""
    parts = (re.fullmatch(r"([a-z_.]+)(!?=)(.+)", one) for one in query.split("&"))
    return Code("assign where " + " && ".join(_compared(*one.groups()) for one in parts if one))


def _compared(column: str, sign: str, value: str) -> str:
    decoded = json.loads(unquote(value))
    if decoded is True and sign == "=":
        return column
    return f"{column} {'==' if sign == '=' else '!='} {literal(decoded)}"
