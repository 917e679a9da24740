"""Icinga's check command, templates and apply rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lm_openai.hosts.icinga_checks import Check, Shape
from lm_openai.hosts.icinga_dsl import (
    Code,
    Statement,
    Value,
    block,
    duration,
    imports,
    listed,
    named,
    quoted,
)
from lm_openai.hosts.icinga_names import (
    COMMAND,
    DATASOURCE,
    DIMENSIONS,
    FORMAT,
    HOST_TEXT,
    NAME,
    NOTIFIED,
    NOTIFY_UNKNOWN,
    TYPES,
    UNKNOWN,
    Dependency,
    arguments,
    dependencies,
    service,
    title,
    variable,
    variables,
    whole,
)
from lm_openai.hosts.jobs import HEALTH, HOST_SECONDS, PROPERTIES

RECIPIENTS = "OpenAINotification"
"""Constant that a site defines to say who is notified, and how."""
DEFAULT: dict[str, Value] = {
    "command": "mail-service-notification",
    "users": [],
    "user_groups": ["icingaadmins"],
}
SLOT = "\0"
OURS = f"service.vars.{DATASOURCE}"


def rules(shapes: Sequence[Shape]) -> Iterator[str]:
    """Yield the blocks that are the same for every host."""
    yield _command()
    yield _host_template()
    yield _service_template()
    for shape in shapes:
        for check in shape.checks:
            yield _check_template(shape, check)
            yield _services(shape, check)
    checks = {service(check, ""): check for shape in shapes for check in shape.checks}
    yield from map(_dependency, dependencies([*checks.values()]))
    yield _recipients()
    yield _notification()


def _command() -> str:
    statements: list[Statement] = [
        ("command", [COMMAND]),
        ("arguments", dict(arguments())),
        *_vars(FORMAT),
        ("timeout", duration(HOST_SECONDS)),
    ]
    return block(named("object CheckCommand", NAME), statements)


def _host_template() -> str:
    statements: list[Statement] = [
        ("check_command", "dummy"),
        ("max_check_attempts", 1),
        *_vars({**HOST_TEXT, variable("--properties"): [PROPERTIES]}),
    ]
    return block(named("template Host", NAME), statements)


def _service_template() -> str:
    statements: list[Statement] = [
        ("check_command", NAME),
        ("check_timeout", duration(HOST_SECONDS)),
    ]
    return block(named("template Service", NAME), statements)


def _template(shape: Shape, check: Check) -> str:
    """Return the name of the template of a check: `openai rate_limits 1 poll`."""
    return f"{NAME} {shape.name}{check.suffix}"


def _check_template(shape: Shape, check: Check) -> str:
    statements: list[Statement] = [
        imports(NAME),
        ("check_interval", duration(check.job.check_interval)),
        ("retry_interval", duration(check.job.interval)),
        ("max_check_attempts", check.polls),
        *_vars(variables(check)),
        ("notes", check.notes),
    ]
    return block(named("template Service", _template(shape, check)), statements)


def _services(shape: Shape, check: Check) -> str:
    statements: list[Statement] = [
        imports(_template(shape, check)),
        ("name", _filled(service(check, SLOT), "wildvalue")),
        ("display_name", _filled(title(check, SLOT), "instance.alias")),
        (f"vars.{variable('--instance')}", Code("wildvalue")),
        (f"vars.{DIMENSIONS}", Code("instance.dimensions")),
    ]
    instances = f"host.vars.{NAME}.{shape.name}"
    return block(f"apply Service for (wildvalue => instance in {instances})", statements)


def _filled(text: str, variable: str) -> Code:
    """Return the expression for a text in which the value of the variable replaces SLOT."""
    before, _, after = text.partition(SLOT)
    return Code(f"{quoted(before)} + {variable}" + (f" + {quoted(after)}" if after else ""))


def _dependency(one: Dependency) -> str:
    where = (
        f"{OURS} && {OURS} != {quoted(HEALTH)} && host.vars.{NAME}.{HEALTH}"
        if one.child is None
        else f"{OURS} && service.name == {quoted(whole(one.child))}"
    )
    statements: list[Statement] = [
        ("parent_service_name", whole(one.parent)),
        ("states", listed(one.good)),
        ("ignore_soft_states", False),
        ("disable_checks", one.stops),
        ("disable_notifications", True),
        Code(f"assign where {where}"),
    ]
    return block(f"{named('apply Dependency', one.name)} to Service", statements)


def _recipients() -> str:
    """Return the default of the constant, so that a site need not edit a file that is replaced."""
    statements: list[Statement] = [(f"const {RECIPIENTS}", DEFAULT)]
    return block(f"if (!globals.contains({quoted(RECIPIENTS)}))", statements)


def _notification() -> str:
    """Return the rule that notifies each problem once, and UNKNOWN by collection_health alone."""
    more = f"if (service.vars.{NOTIFY_UNKNOWN}) {{ states += {listed([UNKNOWN]).text} }}"
    statements: list[Statement] = [
        *((field, Code(f"{RECIPIENTS}.{field}")) for field in DEFAULT),
        ("states", listed(NOTIFIED)),
        Code(more),
        ("types", listed(TYPES)),
        ("interval", 0),
        Code(f"assign where {OURS}"),
    ]
    return block(f"{named('apply Notification', NAME)} to Service", statements)


def _vars(values: Mapping[str, Value]) -> Iterator[Statement]:
    return ((f"vars.{name}", value) for name, value in values.items())
