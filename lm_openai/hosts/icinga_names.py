"""Names, arguments and dependencies that Icinga's files and Director's basket share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from lm_openai.collect.poll import WHOLE
from lm_openai.hosts.icinga_checks import Check
from lm_openai.hosts.icinga_dsl import Value
from lm_openai.hosts.jobs import HEALTH, PLUGINS
from lm_openai.output.command_line import OPTIONS

NAME = "openai"
"""Name of the check command and of the templates that all others import."""
PREFIX = f"{NAME}_"
"""Beginning of the custom variables, each named like the option whose value it is."""
DATASOURCE, DIMENSIONS = f"{PREFIX}datasource", f"{PREFIX}dimensions"
NOTIFY_UNKNOWN = f"{PREFIX}notify_unknown"
"""Custom variable of the only service whose UNKNOWN is notified."""
COMMAND = f"{PLUGINS}/check_openai_${DATASOURCE}$"
FORMAT: dict[str, Value] = {f"{PREFIX}format": "nagios"}
HOST_TEXT = {"dummy_text": "See the services of collection_health."}
"""Output of the host's check: an organization is no machine."""
NOTIFIED, UNKNOWN, TYPES = ("OK", "Warning", "Critical"), "Unknown", ("Problem", "Recovery")
VERBOSE = "-v"


def variable(flag: str) -> str:
    """Return the custom variable of an option: `openai_no_series` for `--no-series`."""
    word = "verbose" if flag == VERBOSE else flag.strip("-").replace("-", "_")
    return PREFIX + word


def arguments() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield each option of a script with the fields of a CheckCommand's argument.

    An option with a value has the field `value`, a switch the field `set_if`. No option takes a
    secret.
    """
    for option in OPTIONS:
        field = "set_if" if option.value is None else "value"
        yield option.flag, {field: f"${variable(option.flag)}$", "description": option.help}
        if option.negative:
            fields = {field: f"${variable(option.negative)}$", "description": f"not: {option.help}"}
            yield option.negative, fields


def service(check: Check, wildvalue: str) -> str:
    """Return the name of an instance's service: `rate_limits proj_1-gpt-4o 1 poll`.

    It depends on ids alone, so that a renamed project keeps its history.
    """
    return f"{check.job.definition.folder} {wildvalue}{check.suffix}"


def title(check: Check, alias: str) -> str:
    """Return the display name of an instance's service."""
    return f"{check.job.definition.title}: {alias}{check.judged}"


def variables(check: Check) -> dict[str, Value]:
    """Return the custom variables of all services of a check."""
    found: dict[str, Value] = {DATASOURCE: check.job.definition.folder}
    if check.group.datapoints:
        found[variable("--datapoint")] = [*check.group.datapoints]
    if check.unknown:
        found[NOTIFY_UNKNOWN] = True
    return found


class Dependency(NamedTuple):
    """Rule that suppresses what depends on `parent` while it is not in one of the states `good`.

    `child` is a check of collection_health, whose notifications it suppresses; its values go on,
    since they describe an outage. None is all other DataSources, whose checks it suppresses too.
    """

    name: str
    parent: Check
    child: Check | None
    good: tuple[str, ...]

    @property
    def stops(self) -> bool:
        """Return True if it suppresses checks."""
        return self.child is None


def whole(check: Check) -> str:
    """Return the name of the service of a DataSource that has one instance."""
    return service(check, WHOLE)


def dependencies(checks: Sequence[Check]) -> Iterator[Dependency]:
    """Yield the rules by which an outage or an invalid key is one problem.

    Each service has one dependency: of several, Icinga 2.13 needs all to fail, 2.14 only one. So
    the checks of collection_health that can be CRITICAL are a chain, which all others depend on.
    """
    health = sorted((check for check in checks if check.health), key=lambda check: check.polls)
    chain = [check for check in health if check.critical and not check.unknown]
    ends = [check for check in health if check.unknown]
    for parent, child in pairwise((*chain, *ends)):
        name = f"{NAME} {HEALTH}{child.suffix}"
        yield Dependency(name, parent, child, ("OK", "Warning", UNKNOWN))
    if health and len(health) < len(checks):
        yield Dependency(NAME, (chain or ends)[-1], None, ("OK", "Warning"))
