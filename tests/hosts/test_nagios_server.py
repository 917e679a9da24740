"""Nagios with the shipped files and the services of a site: from discovery to recovery.

One scenario runs in the real server; the tests read what it stored of it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lm_openai import resources
from lm_openai.config import registry
from lm_openai.errors import WrongUsage
from lm_openai.hosts import nagios
from lm_openai.hosts.jobs import HEALTH, OUTAGE_POLLS, PROPERTIES, Organization, jobs
from lm_openai.model.report import Instance, wildvalue
from lm_openai.model.thresholds import Override, describe
from lm_openai.simulator import Simulator
from lm_openai.simulator import organization as simulated
from tests.hosts.nagios_site import (
    DEBIAN,
    OBJECTS,
    SHIPPED,
    Server,
    Site,
    nagios_of,
)
from tests.hosts.plugin_hosts import nagios_settings
from tests.hosts.services import (
    CRITICAL,
    OK,
    OTHER,
    STATES,
    UNKNOWN,
    WARNING,
    Notification,
    Status,
    items,
)

pytestmark = pytest.mark.slow

LIMITS = "rate_limits"
SCOPES = f"{HEALTH} 3 polls"
"""Service of collection_health that is notified for UNKNOWN."""


def defined(text: str) -> list[dict[str, str]]:
    """Return the objects of a file, each with its kind as `define`."""
    found = []
    for kind, body in re.findall(r"^define (\w+) \{\n(.*?)^\}", text, re.S | re.M):
        pairs = (tuple(line.split(None, 1)) for line in body.splitlines())
        found.append({"define": kind, **dict(pairs)})
    return found


def services(text: str) -> dict[str, dict[str, str]]:
    return {one["service_description"]: one for one in defined(text) if one["define"] == "service"}


class Scenario(NamedTuple):
    """Services as Nagios stored them after each step, its notifications, and the site."""

    site: Site
    text: str
    documents: dict[str, dict[str, Any]]
    states: dict[str, dict[str, Status]]
    notified: dict[str, list[Notification]]
    messages: dict[str, str]
    pools: tuple[str, str]


original = simulated.rate_limits


def hottable(document: dict[str, Any]) -> tuple[str, str]:
    """Return two pools of different projects with use and a token limit, by wildvalue."""
    found = {
        row["dimensions"]["project_id"]: row["wildvalue"]
        for row in document["instances"]
        if row["state"] == "ok" and row["datapoints"].get("tpm_used", 0) > 1
    }
    first, second, *_ = found.values()
    return first, second


def heat(patch: pytest.MonkeyPatch, document: dict[str, Any], *wildvalues: str) -> None:
    """Heat these pools alone, which are rows of the document."""
    rows = (row["dimensions"] for row in document["instances"] if row["wildvalue"] in wildvalues)
    hot = {(row["project_id"], row["model"]) for row in rows}

    def limited(organization: Any, project: str) -> list[dict[str, Any]]:
        found = original(organization, project)
        names = "|".join(re.escape(model) for one, model in hot if one == project)
        family = re.compile(rf"({names})(-\d{{4}}-\d\d-\d\d)?")
        return [
            {**row, "max_tokens_per_1_minute": 1}
            if names and family.fullmatch(row["model"])
            else row
            for row in found
        ]

    patch.setattr(simulated, "rate_limits", limited)


def pool_service(wildvalue: str) -> str:
    return f"{LIMITS} {wildvalue}"


@pytest.fixture(scope="module")
def scenario(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scenario]:
    program = tool("nagios4")
    with Simulator(projects=3, models=3) as demo, pytest.MonkeyPatch.context() as patch:
        site = Site(tmp_path_factory.mktemp("nagios"), demo)
        site.lay_out()
        message = site.configure()
        with nagios_of(program, site) as server:
            yield run(site, server, message, patch)


def run(site: Site, server: Server, message: str, patch: pytest.MonkeyPatch) -> Scenario:
    """Let the scenario happen."""
    text = site.output.read_text()
    states = {"start": server.wait(lambda found: all(one.checked for one in found.values()))}
    documents = {folder: site.document(folder) for folder in resources.folders()}
    notified, messages = {"start": server.notifications()}, {"first": message}
    messages["again"] = site.configure()
    first, second = hottable(documents[LIMITS])

    def step(name: str, *names: str, suppressed: tuple[str, ...] = ()) -> None:
        if re.fullmatch("outage [1-9]", name):
            site.forget_answers()
        else:
            site.forget()
        states[name] = server.check(*names, suppressed=suppressed)
        notified[name] = server.notifications()

    hot = [pool_service(one) for one in (first, second)]
    heat(patch, documents[LIMITS], first)
    for number in (1, 2, 3):
        step(f"hot {number}", *hot)
    heat(patch, documents[LIMITS], first, second)
    for number in (1, 2, 3):
        step(f"second {number}", *hot)
    heat(patch, documents[LIMITS], second)
    step("clear", *hot)

    site.set(timeout="6")
    site.demo.fault("500")
    step("outage 0", *hot)
    step("outage 1", HEALTH)
    step("outage 2", OTHER, suppressed=(*hot, f"{LIMITS} {first} 1 poll", SCOPES))
    step("outage 3", HEALTH, suppressed=(SCOPES,))
    step("outage 4", HEALTH, OTHER, suppressed=(*hot, SCOPES))
    site.demo.clear()
    site.set()
    heat(patch, documents[LIMITS], second)
    step("back", HEALTH)
    step("back 2", *hot, SCOPES)

    site.set(timeout="soon")
    health = sorted(name for name in states["start"] if name.split()[0] == HEALTH)
    for number in (1, 2, 3, 4):
        step(f"broken {number}", *health)
    site.set()
    step("fixed", *health)

    project = next(
        row["dimensions"]["project_id"]
        for row in documents[LIMITS]["instances"]
        if row["wildvalue"] == second
    )
    site.set(projects_exclude=project)
    messages["gone"] = site.configure()
    states["gone"] = server.reload({OTHER, *services(site.output.read_text())})
    step("after", pool_service(first))
    return Scenario(site, text, documents, states, notified, messages, (first, second))


def test_every_instance_of_every_datasource_has_its_services_and_a_result(
    scenario: Scenario,
) -> None:
    for folder, document in scenario.documents.items():
        for row in document["instances"]:
            found = of_instance(scenario, folder, row)
            assert found, (folder, row["alias"])
            assert all(one.checked for one in found.values())
    assert set(scenario.states["start"]) == {OTHER, *services(scenario.text)}


def of_instance(scenario: Scenario, folder: str, row: dict[str, Any]) -> dict[str, Status]:
    """Return the services of an instance by name."""
    word = f"--instance {row['wildvalue']}"
    return {
        name: scenario.states["start"][name]
        for name, one in services(scenario.text).items()
        if name.split()[0] == folder
        and word in f"{one['check_command']} ".split("!")[-1]
        and re.search(rf"{re.escape(word)}( |$)", one["check_command"])
    }


def test_nagios_stores_every_value_with_its_unit(scenario: Scenario) -> None:
    """Those of collection_health belong to one poll each, except for the judged ones."""
    checked = 0
    for job in jobs():
        folder, judged = job.definition.folder, {one.datapoint.name for one in job.alerts}
        for row in scenario.documents[folder]["instances"]:
            stored = [
                item for one in of_instance(scenario, folder, row).values() for item in items(one)
            ]
            right = [
                (name, float(value), job.definition.datapoint(name).measure.uom)
                for name, value in row["datapoints"].items()
                if folder != HEALTH or name in judged
            ]
            kept = [item for item in stored if folder != HEALTH or item[0] in judged]
            assert sorted(kept) == sorted(right), (folder, row["alias"])
            checked += len(right)
    assert checked > 300


def test_each_service_has_the_state_of_its_own_datapoints(scenario: Scenario) -> None:
    for job in jobs():
        folder = job.definition.folder
        for row in scenario.documents[folder]["instances"]:
            found = of_instance(scenario, folder, row)
            if not row["unjudged"]:
                worst = max(found.values(), key=lambda one: one.state)
                assert worst.state == STATES[row["state"]], (folder, row["alias"], worst.text)


def test_a_hot_pool_is_notified_once_after_three_polls_and_clears(scenario: Scenario) -> None:
    name = pool_service(scenario.pools[0])
    rounds = [scenario.states[f"hot {number}"][name] for number in (1, 2, 3)]

    assert [one.state for one in rounds] == [rounds[0].state] * 3
    assert rounds[0].state in (WARNING, CRITICAL)
    assert [(one.hard, one.attempt) for one in rounds] == [(False, 1), (False, 2), (True, 3)]
    assert notified(scenario, "hot 1", "hot 2") == []
    assert [one.service for one in notified(scenario, "hot 3")] == [name]
    assert scenario.states["clear"][name].state == OK
    assert Notification(name, "OK") in notified(scenario, "clear")


def test_a_second_pool_is_notified_of_its_own(scenario: Scenario) -> None:
    name = pool_service(scenario.pools[1])

    assert notified(scenario, "second 1", "second 2") == []
    assert [one.service for one in notified(scenario, "second 3")] == [name]
    assert [one.service for one in notified(scenario, "clear")] == [pool_service(scenario.pools[0])]


def notified(scenario: Scenario, *steps: str) -> list[Notification]:
    return [one for step in steps for one in scenario.notified[step]]


def test_an_outage_is_one_notification_and_no_better_state(scenario: Scenario) -> None:
    hot = pool_service(scenario.pools[1])
    steps = [f"outage {number}" for number in range(5)]

    for step in steps:
        assert scenario.states[step][hot].state in (UNKNOWN, CRITICAL)
        assert scenario.states[step][pool_service(scenario.pools[0])].state == UNKNOWN
    assert notified(scenario, *steps) == [Notification(HEALTH, "CRITICAL")]
    assert scenario.states["outage 4"][HEALTH].hard


def test_other_services_of_the_host_are_checked_during_an_outage(scenario: Scenario) -> None:
    checks = [scenario.states[step][OTHER].checked for step in ("start", "outage 2", "outage 4")]
    assert checks == sorted(set(checks))


def test_after_an_outage_everything_recovers_by_itself(scenario: Scenario) -> None:
    assert notified(scenario, "back") == [Notification(HEALTH, "OK")]
    found = scenario.states["back 2"]
    assert found[pool_service(scenario.pools[0])].state == OK
    assert found[pool_service(scenario.pools[1])].state in (WARNING, CRITICAL)
    assert found[SCOPES].state == OK


def test_a_check_that_cannot_work_is_one_notification_after_three_polls(scenario: Scenario) -> None:
    steps = [f"broken {number}" for number in (1, 2, 3, 4)]
    health = [name for name in scenario.states["start"] if name.split()[0] == HEALTH]

    for step in steps:
        assert {scenario.states[step][name].state for name in health} == {UNKNOWN}
    assert notified(scenario, *steps[: OUTAGE_POLLS - 1]) == []
    assert notified(scenario, *steps[OUTAGE_POLLS - 1 :]) == [Notification(SCOPES, "UNKNOWN")]
    assert notified(scenario, "fixed") == [Notification(SCOPES, "OK")]


def test_a_vanished_instance_closes_its_problem(scenario: Scenario) -> None:
    gone = pool_service(scenario.pools[1])

    assert scenario.states["fixed"][gone].state != OK
    assert gone not in scenario.states["gone"]
    assert scenario.states["gone"][pool_service(scenario.pools[0])].state == OK
    assert notified(scenario, "after") == []


def test_config_writes_only_changes_and_says_what_to_reload(scenario: Scenario) -> None:
    changed = f"{scenario.site.output} changed; run: nagios4 -v "
    assert scenario.messages["first"].startswith(changed)
    assert scenario.messages["again"] == ""
    assert scenario.messages["gone"].startswith(changed)


def test_intervals_are_never_shorter_than_a_shared_answer_lasts() -> None:
    longest = registry.row("openai.cache.ttl").bounds["x-maximum"]
    for name, service in services((SHIPPED / nagios.SERVICES).read_text()).items():
        for field in ("check_interval", "retry_interval"):
            assert float(service[field]) * 60 >= longest, name


WILD = {
    "proj_1/gpt-4o": "Kid's & Söhne; $1 | <b> / gpt-4o",
    "proj_2/gpt-4o": "Kid's & Söhne; $1 | <b> / gpt-4o",
    "a b!c": "=~`(null)",
}


def organization(name: str) -> Organization:
    """Return an organization whose instances have names that Nagios does not accept."""
    wild = tuple(Instance(id, alias, {"project_id": id}) for id, alias in WILD.items())
    whole = (Instance("organization", name, {}),)
    found = {job.definition.folder: wild if job.definition.dimensions else whole for job in jobs()}
    return Organization(name, PROPERTIES, found)


@pytest.mark.parametrize(
    "text",
    [
        (SHIPPED / nagios.SERVICES).read_text(),
        nagios.site(jobs(), [organization("Kid's & Söhne"), organization("Kid?s & Söhne")]),
        nagios.site(jobs((LIMITS, HEALTH)), [organization("acme")]),
        nagios.site(jobs((HEALTH,)), [organization("acme")]),
    ],
    ids=["shipped", "two organizations", "one DataSource", "health"],
)
def test_nagios_accepts_the_files_beside_those_of_debian(
    text: str, tool: Callable[[str], str], tmp_path: Path
) -> None:
    folder = tmp_path / "etc"
    (folder / "spool").mkdir(parents=True)
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    for name in (nagios.COMMANDS, nagios.TEMPLATES):
        (folder / name).write_text((SHIPPED / name).read_text())
    (folder / "site.cfg").write_text(text)
    settings = nagios_settings(tmp_path / "nagios", OBJECTS, [*DEBIAN, f"cfg_dir={folder}"])

    ran = subprocess.run([tool("nagios4"), "-v", settings], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout
    assert "Total Warnings: 0" in ran.stdout, ran.stdout
    names = re.findall(r"service_description  +(.*)", text)
    assert not set("".join(names)) & set("`~!$%^&*|'\"<>?()=")


def test_two_organizations_have_a_host_each_with_its_own_properties() -> None:
    first, second = organization("Acme"), organization("Other & Co")
    text = nagios.site(jobs(), [first, second._replace(properties="/etc/lm-openai/b.properties")])

    hosts = [one for one in defined(text) if one["define"] == "host"]
    assert [(one["alias"], one["_OPENAI_PROPERTIES"]) for one in hosts] == [
        ("Acme", PROPERTIES),
        ("Other & Co", "/etc/lm-openai/b.properties"),
    ]
    assert len({one["host_name"] for one in hosts}) == 2


@pytest.mark.parametrize("path", ["/etc/a b", "/etc/a;b", "/etc/$a", "/etc/ä"])
def test_a_path_that_a_command_line_splits_is_refused(path: str) -> None:
    with pytest.raises(WrongUsage, match="cannot stand in a command line of Nagios"):
        nagios.site(jobs(), [organization("acme")._replace(properties=path)])


def test_display_names_have_no_character_that_a_shell_interprets() -> None:
    """Nagios puts $SERVICEDISPLAYNAME$ into notification commands as it is."""
    alias = "R&D \"x\" 'y' `id` $(id) ${a} \\ ~ <b> | c"
    acme = organization("acme")
    wild = tuple(one._replace(alias=alias) for one in acme.instances[LIMITS])
    changed = acme._replace(instances={**acme.instances, LIMITS: wild})

    found = services(nagios.site(jobs((LIMITS, HEALTH)), [changed]))
    names = {one["display_name"] for name, one in found.items() if name.startswith(f"{LIMITS} ")}
    assert "OpenAI Rate Limits By Project: RD x y id (id) {a} b c" in names
    removed = set(DEBIAN[1].partition("=")[2]) | {"\\"}
    assert not set("".join(names)) & removed


def test_an_override_gives_an_instance_its_own_number_of_polls() -> None:
    """It is the second of two thresholds whose datapoints need two polls more."""
    (job,) = jobs((LIMITS,))
    change = {"consecutive": 5, "warning": None, "error": None, "critical": Decimal(70)}
    override = Override((("project_id", "proj_1*"),), "tpm_utilization", change, "site")
    tuned = job._replace(rules=job.rules._replace(overrides=(override,)))
    text = nagios.site((tuned, *jobs((HEALTH,))), [organization("acme")])

    found = services(text)
    one = wildvalue("proj_1/gpt-4o")
    polls = {name: service["max_check_attempts"] for name, service in found.items() if one in name}
    assert polls == {
        f"{LIMITS} {one}": "3",
        f"{LIMITS} {one} 5 polls": "5",
        f"{LIMITS} {one} 1 poll": "1",
    }
    own = found[f"{LIMITS} {one} 5 polls"]
    assert own["check_command"].endswith(f"!--instance {one} --datapoint tpm_utilization")
    assert own["notes"].startswith("tpm_utilization: critical at or over 70%. Tokens of the")


def test_each_datapoint_is_in_one_service() -> None:
    for job in jobs():
        shipped = services((SHIPPED / nagios.SERVICES).read_text())
        names = [name for name in shipped if name.split()[0] == job.definition.folder]
        words = [re.findall(r"--datapoint (\w+)", shipped[name]["check_command"]) for name in names]
        if len(names) > 1:
            listed = sorted(word for own in words for word in own)
            assert listed == sorted(one.name for one in job.definition.datapoints)
        else:
            assert words == [[]]


def test_the_notes_hold_every_reason() -> None:
    text = " ".join((SHIPPED / nagios.SERVICES).read_text().split())
    for job in jobs():
        for line in describe(job.rules):
            assert " ".join(line.threshold.reason.split()).replace(";", ",") in text
