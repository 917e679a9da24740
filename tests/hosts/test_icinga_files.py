"""Icinga's files: every one is accepted by the server, and says what the thresholds say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from lm_openai.config import registry
from lm_openai.hosts import icinga
from lm_openai.hosts.icinga_checks import shape_of_all
from lm_openai.hosts.jobs import (
    COLLECTOR_SECONDS,
    HEALTH,
    HOST_SECONDS,
    OUTAGE_POLLS,
    PLUGINS,
    PROPERTIES,
    Organization,
    jobs,
)
from lm_openai.model.report import Instance, wildvalue
from lm_openai.model.thresholds import Override, describe
from lm_openai.output.command_line import OPTIONS
from tests.conftest import missing
from tests.hosts import director
from tests.hosts.icinga_site import icinga_accepts
from tests.hosts.plugin_hosts import ICINGA_CORE
from tests.support.paths import ROOT

SHIPPED = ROOT / "packaging/icinga"
RULES = (SHIPPED / "lm-openai.conf").read_text()
BASKET = json.loads((SHIPPED / "director-basket.json").read_text())
LIMITS = "rate_limits"
DEBIAN = Path("/etc/icinga2/conf.d")
WILD = {
    "proj_1/gpt-4o": 'Kid\'s & "Söhne"; $1 | <b>\\ / gpt-4o',
    "proj_2/gpt-4o": 'Kid\'s & Söhne\n}; object Host "x" {',
    "a b!c": "$host.name$ {{{",
}


def organization(name: str, properties: str = PROPERTIES) -> Organization:
    """Return an organization whose instances have names that could break the language."""
    wild = tuple(Instance(id, alias, {"project_id": id}) for id, alias in WILD.items())
    whole = (Instance("organization", name, {}),)
    found = {job.definition.folder: wild if job.definition.dimensions else whole for job in jobs()}
    return Organization(name, properties, found)


def accepted(program: str, folder: Path, *texts: str) -> str:
    """Return what Icinga prints about these files beside those of Debian."""
    if not DEBIAN.is_dir():
        missing(f"{DEBIAN} is missing: it comes with Debian's icinga2-common")
    plugins = f'include <plugins>\nconst PluginDir = "{PLUGINS}"\ninclude_recursive "{DEBIAN}"\n'
    head = ICINGA_CORE.format() + plugins
    return icinga_accepts(program, folder / "icinga", "\n".join((head, *texts)))


EVERY = 2 * sum(
    len(shape_of_all(job).checks) * (len(WILD) if job.definition.dimensions else 1)
    for job in jobs()
)
"""Number of services of two organizations."""


@pytest.mark.parametrize(
    ("text", "services"),
    [
        (RULES, 0),
        (icinga.site(jobs(), [organization('Söhne & "'), organization("b!", "/a/$b c")]), EVERY),
        (icinga.site(jobs((LIMITS, HEALTH)), [organization("acme")]), 9),
        (icinga.site(jobs((HEALTH,)), [organization("acme")]), 3),
        (icinga.site(jobs((LIMITS,)), [organization("acme")]), 6),
    ],
    ids=["shipped", "two organizations", "one DataSource", "health", "without health"],
)
def test_icinga_accepts_the_files_beside_those_of_debian(
    text: str, services: int, tool: Callable[[str], str], tmp_path: Path
) -> None:
    program = tool("icinga2")
    alone = accepted(program, tmp_path / "alone")
    found = accepted(program, tmp_path, text)

    assert instantiated(found, "Services") - instantiated(alone, "Services") == services
    made = instantiated(found, "Notifications") - instantiated(alone, "Notifications")
    assert made == services
    assert ("does not match anywhere" in found) == (text is RULES)


def instantiated(printed: str, kind: str) -> int:
    """Return the number of objects; `kind` is in the plural."""
    found = re.search(rf"Instantiated (\d+) {kind}\.", printed)
    return int(found[1]) if found else 0


def test_a_site_says_in_its_constants_who_is_notified(
    tool: Callable[[str], str], tmp_path: Path
) -> None:
    value = '{ command = "pager", users = [ "me" ], user_groups = [ ] }'
    text = icinga.site(jobs((HEALTH,)), [organization("acme")])
    head = ICINGA_CORE.format() + f'object User "me" {{ }}\nconst OpenAINotification = {value}'
    with pytest.raises(
        AssertionError, match="Object 'pager' of type 'NotificationCommand' does not"
    ):
        icinga_accepts(tool("icinga2"), tmp_path / "icinga", f"{head}\n{text}")


def test_director_accepts_the_basket_and_icinga_what_it_renders(
    tool: Callable[[str], str], tmp_path: Path
) -> None:
    director.check(BASKET)
    folders = [job.definition.folder for job in jobs()]
    statements = (f'vars.openai_{folder} = [ "organization" ]' for folder in folders)
    host = "\n".join(('object Host "acme" {', 'import "openai"', *statements, "}"))
    recipients = {"command": "mail-service-notification", "users": ["icingaadmin"]}
    text = director.rendered(BASKET, recipients)

    program = tool("icinga2")
    alone, found = accepted(program, tmp_path / "alone"), accepted(program, tmp_path, text, host)

    made = instantiated(found, "Services") - instantiated(alone, "Services")
    assert made == len(BASKET["ServiceSet"]["openai"]["services"])
    assert "does not match anywhere" not in found
    assert instantiated(found, "Notifications") - instantiated(alone, "Notifications") == made
    health = sum(one["apply_for"].endswith(HEALTH) for one in services_of_basket())
    assert instantiated(found, "Dependencies") == made - 1
    assert health == 3


def services_of_basket() -> list[dict[str, str]]:
    found: list[dict[str, str]] = BASKET["ServiceSet"]["openai"]["services"]
    return found


def templates(text: str) -> dict[str, dict[str, str]]:
    """Return the attributes of the service templates by name."""
    found = re.findall(r'^template Service "([^"]+)" \{\n(.*?)^\}', text, re.S | re.M)
    return {name: dict(re.findall(r"^  ([\w.]+) = (.*)$", body, re.M)) for name, body in found}


def test_the_basket_has_the_same_templates_as_the_file() -> None:
    for name, one in templates(RULES).items():
        if name == "openai":
            continue
        other = BASKET["ServiceTemplate"][name]
        assert int(one["max_check_attempts"]) == other["max_check_attempts"]
        assert json.loads(one["notes"]) == other["notes"]
        assert seconds(one["check_interval"]) == other["check_interval"]
        assert seconds(one["retry_interval"]) == other["retry_interval"]


def seconds(text: str) -> int:
    return int(text[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[text[-1]]


def test_every_option_is_an_argument() -> None:
    head = RULES.partition("template ")[0]
    flags = [flag for one in OPTIONS for flag in (one.flag, one.negative) if flag]
    assert re.findall(r'^    "(-[\w-]+)" = \{', head, re.M) == flags
    assert len(set(re.findall(r'"(?:value|set_if)" = "\$(\w+)\$"', head))) == len(flags)


def test_intervals_and_timeouts_fit_the_collector() -> None:
    longest = registry.row("openai.cache.ttl").bounds["x-maximum"]
    for name, one in templates(RULES).items():
        if name == "openai":
            assert COLLECTOR_SECONDS < seconds(one["check_timeout"]) == HOST_SECONDS
        else:
            assert longest <= seconds(one["check_interval"]) <= 3600
            assert longest <= seconds(one["retry_interval"])


def test_the_notes_hold_every_reason() -> None:
    for job in jobs():
        text = " ".join(
            json.loads(one["notes"])
            for name, one in templates(RULES).items()
            if name.split()[1:2] == [job.definition.folder]
        )
        for line in describe(job.rules):
            assert line.threshold.reason in text


def test_one_check_notifies_unknown_after_three_polls() -> None:
    found = [one for one in templates(RULES).values() if "vars.openai_notify_unknown" in one]
    assert [int(one["max_check_attempts"]) for one in found] == [OUTAGE_POLLS]


def test_an_override_gives_an_instance_its_own_number_of_polls(
    tool: Callable[[str], str], tmp_path: Path
) -> None:
    (job,) = jobs((LIMITS,))
    change = {"consecutive": 5, "warning": None, "error": None, "critical": Decimal(70)}
    override = Override((("project_id", "proj_1*"),), "tpm_utilization", change, "site")
    tuned = job._replace(rules=job.rules._replace(overrides=(override,)))
    text = icinga.site((tuned, *jobs((HEALTH,))), [organization("acme")])

    found = templates(text)
    polls = {name: one["max_check_attempts"] for name, one in found.items() if LIMITS in name}
    assert polls == {
        f"openai {LIMITS}": "3",
        f"openai {LIMITS} 1 poll": "1",
        f"openai {LIMITS}_1": "3",
        f"openai {LIMITS}_1 5 polls": "5",
        f"openai {LIMITS}_1 1 poll": "1",
    }
    own = found[f"openai {LIMITS}_1 5 polls"]
    assert own["vars.openai_datapoint"] == '[ "tpm_utilization" ]'
    assert "tpm_utilization: critical at or over 70%. Tokens of the" in own["notes"]
    host = text.partition("object Host")[2]
    assert host.count(f'"{wildvalue("proj_1/gpt-4o")}" = {{') == 1
    printed = accepted(tool("icinga2"), tmp_path, text)
    assert "does not match anywhere" not in printed
