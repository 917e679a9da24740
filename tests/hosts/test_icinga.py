"""Icinga 2 with the file that `lm-openai config icinga` writes: from discovery to recovery.

One scenario runs in the real server; the tests read what it stored of it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from lm_openai import resources
from lm_openai.hosts.jobs import HEALTH, OUTAGE_POLLS, jobs
from lm_openai.simulator import Simulator
from tests.hosts.conftest import Influx
from tests.hosts.icinga_site import (
    MODELS,
    SIZE,
    Server,
    Site,
    heat,
    icinga_of,
)
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
API = f"{HEALTH} organization"
KEY, SCOPES = f"{API} 1 poll", f"{API} 3 polls"
"""Services of collection_health; the last one is notified for UNKNOWN."""
QUERY = "SELECT last(value) FROM icinga GROUP BY service, metric"


class Scenario(NamedTuple):
    """Services as Icinga stored them after each step, its notifications in that step, and the site.

    `stored` is the first value in InfluxDB by service and label, `pools` the rows of two pools.
    """

    site: Site
    documents: dict[str, dict[str, Any]]
    states: dict[str, dict[str, Status]]
    notified: dict[str, list[Notification]]
    messages: dict[str, str]
    stored: dict[tuple[str, str], float]
    pools: tuple[dict[str, Any], dict[str, Any]]
    forced: tuple[str, ...]


def hottable(document: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the rows of two pools of different projects with use and a token limit."""
    found = {
        row["dimensions"]["project_id"]: row
        for row in document["instances"]
        if row["state"] == "ok" and row["datapoints"].get("tpm_used", 0) > 1
    }
    first, second, *_ = found.values()
    return first, second


def service(row: dict[str, Any], folder: str = LIMITS) -> str:
    return f"{folder} {row['wildvalue']}"


@pytest.fixture(scope="module")
def scenario(
    tool: Callable[[str], str], influx: Influx, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scenario]:
    program = tool("icinga2")
    with Simulator(projects=SIZE, models=MODELS) as demo:
        heat(demo)
        site = Site(tmp_path_factory.mktemp("icinga"), demo)
        message = site.configure()
        with icinga_of(program, site, influx) as server:
            yield run(site, server, influx, message)


def run(site: Site, server: Server, influx: Influx, message: str) -> Scenario:
    """Let the scenario happen."""
    demo = site.demo
    states = {"start": server.start()}
    documents = {folder: site.document(folder) for folder in resources.folders()}
    stored = values_in(influx, sum(len(one.perfdata) for one in states["start"].values()))
    server.settle()
    notified = {"start": server.notifications()}
    messages = {"first": message, "again": site.configure()}
    first, second = hottable(documents[LIMITS])
    hot = (service(first), service(second))
    each = [service(document["instances"][0], name) for name, document in documents.items()]
    others = tuple(name for name in each if name != API)

    def step(name: str, *names: str, **settings: Any) -> None:
        if re.fullmatch("outage [1-9]", name):
            site.forget_answers()
        else:
            site.forget()
        states[name] = server.check(*names, **settings)
        time.sleep(0.3)  # a notification is a process that begins after the result is stored
        notified[name] = server.notifications()

    for name, rows in (("hot", (first,)), ("second", (first, second))):
        heat(demo, *rows)
        for number in (1, 2, 3):
            step(f"{name} {number}", *hot)
    heat(demo, second)
    step("clear", *hot)

    site.set(timeout="6")
    demo.fault("500")
    step("outage 0", *hot)
    step("outage 1", API)
    step("outage 2", OTHER, SCOPES, suppressed=(*hot, f"{hot[0]} 1 poll"))
    step("outage 3", API, KEY, suppressed=hot)
    step("outage 4", *others, force=True)
    step("outage 5", API, OTHER, SCOPES)
    step("outage 6", SCOPES)
    site.set()
    heat(demo, second)
    step("back", API, KEY)
    recovered = states["back"][API].checked
    step("back 2", *others, *hot, SCOPES, since=recovered)

    site.set(timeout="soon")
    for number in (1, 2, 3, 4):
        step(f"broken {number}", API, KEY, SCOPES)
    site.set()
    step("fixed", API, KEY, SCOPES)

    demo.fault("gone", project=second["dimensions"]["project_id"], start=0)
    site.forget()
    messages["gone"] = site.configure()
    states["gone"] = server.reload({OTHER, *expected(site)})
    step("after", service(first))
    return Scenario(
        site, documents, states, notified, messages, stored, (first, second), (API, *others)
    )


def expected(site: Site) -> set[str]:
    """Return the names of all services, from a discovery of each DataSource."""
    polls = {job.definition.folder: suffixes(job) for job in jobs()}
    return {
        f"{folder} {row['wildvalue']}{suffix}"
        for folder, ends in polls.items()
        for row in site.document(folder)["instances"]
        for suffix in ends
    }


def suffixes(job: Any) -> list[str]:
    """Return the ends of the names of an instance's services."""
    polls = [*dict.fromkeys(one.threshold.consecutive for one in job.alerts)]
    return ["", *(f" {number} poll{'s' if number > 1 else ''}" for number in polls[1:])]


def values_in(influx: Influx, total: int) -> dict[tuple[str, str], float]:
    """Return the values in InfluxDB, by service and label, after Icinga has written them."""
    for _ in range(100):
        found = {
            (one["tags"]["service"], one["tags"]["metric"]): one["values"][0][1]
            for one in influx.query(QUERY)
            if one["tags"]["metric"]
        }
        if len(found) >= total:
            return found
        time.sleep(0.1)
    raise AssertionError(f"InfluxDB has {len(found)} of {total} values")


def of_instance(scenario: Scenario, folder: str, row: dict[str, Any]) -> dict[str, Status]:
    """Return the services of an instance by name, as they were at the start."""
    (job,) = jobs((folder,))
    names = [f"{service(row, folder)}{suffix}" for suffix in suffixes(job)]
    return {name: scenario.states["start"][name] for name in names}


def test_every_instance_of_every_datasource_has_its_services_and_a_result(
    scenario: Scenario,
) -> None:
    found = {
        name
        for folder, document in scenario.documents.items()
        for row in document["instances"]
        for name in of_instance(scenario, folder, row)
    }
    assert {*scenario.states["start"]} == {OTHER, *found}
    assert all(one.checked for one in scenario.states["start"].values())


def test_icinga_and_influxdb_store_every_value_with_its_unit(scenario: Scenario) -> None:
    """Those of collection_health belong to one poll each, except for the judged ones."""
    checked = 0
    for job in jobs():
        folder, judged = job.definition.folder, {one.datapoint.name for one in job.alerts}
        for row in scenario.documents[folder]["instances"]:
            right = {
                name: (float(value), job.definition.datapoint(name).measure.uom)
                for name, value in row["datapoints"].items()
                if folder != HEALTH or name in judged
            }
            found = {
                label: (name, value, unit)
                for name, one in of_instance(scenario, folder, row).items()
                for label, value, unit in items(one)
                if folder != HEALTH or label in judged
            }
            assert {label: one[1:] for label, one in found.items()} == right, row["alias"]
            for label, (name, value, _) in found.items():
                assert scenario.stored[name, label] == pytest.approx(value, abs=1e-6)
            checked += len(right)
    assert checked > 300


def test_each_service_has_the_state_of_its_own_datapoints(scenario: Scenario) -> None:
    for folder, document in scenario.documents.items():
        for row in document["instances"]:
            found = of_instance(scenario, folder, row)
            if not row["unjudged"]:
                worst = max(found.values(), key=lambda one: one.state)
                assert worst.state == STATES[row["state"]], (folder, row["alias"], worst.text)


def notified(scenario: Scenario, *steps: str) -> list[Notification]:
    return [one for step in steps for one in scenario.notified[step]]


def test_a_hot_pool_is_notified_once_after_three_polls_and_clears(scenario: Scenario) -> None:
    name = service(scenario.pools[0])
    rounds = [scenario.states[f"hot {number}"][name] for number in (1, 2, 3)]

    assert [(one.state, one.hard) for one in rounds] == [
        (WARNING, False),
        (WARNING, False),
        (WARNING, True),
    ]
    assert notified(scenario, "hot 1", "hot 2", "hot 3") == [Notification(name, "WARNING")]
    assert scenario.notified["hot 3"]
    assert scenario.states["clear"][name].state == OK
    assert notified(scenario, "clear") == [Notification(name, "OK")]


def test_a_second_pool_is_notified_of_its_own(scenario: Scenario) -> None:
    name = service(scenario.pools[1])

    assert notified(scenario, "second 1", "second 2") == []
    assert notified(scenario, "second 3") == [Notification(name, "WARNING")]


def test_an_outage_is_one_notification_and_no_better_state(scenario: Scenario) -> None:
    steps = [f"outage {number}" for number in range(7)]

    for row in scenario.pools:
        assert scenario.states["outage 0"][service(row)].state == UNKNOWN
    found = scenario.states["outage 4"]
    assert {name: found[name].state for name in scenario.forced} == {
        name: CRITICAL if name == API else UNKNOWN for name in scenario.forced
    }
    assert notified(scenario, *steps) == [Notification(API, "CRITICAL")]
    assert scenario.states["outage 3"][API].hard


def test_other_services_of_the_host_are_checked_during_an_outage(scenario: Scenario) -> None:
    checks = [scenario.states[step][OTHER].checked for step in ("start", "outage 2", "outage 5")]
    assert checks == sorted(set(checks))


def test_after_an_outage_everything_recovers_by_itself(scenario: Scenario) -> None:
    """A problem whose check ran before that of collection_health may be notified again."""
    assert notified(scenario, "back") == [Notification(API, "OK")]
    before, found = scenario.states["clear"], scenario.states["back 2"]
    lasting = {name for name, one in before.items() if one.state != OK}
    assert {one.service for one in notified(scenario, "back 2")} <= lasting
    for name in scenario.forced:
        assert found[name].state != UNKNOWN or before[name].state == UNKNOWN, found[name].text
    assert found[service(scenario.pools[1])].state == WARNING


def test_a_check_that_cannot_work_is_one_notification_after_three_polls(scenario: Scenario) -> None:
    steps = [f"broken {number}" for number in (1, 2, 3, 4)]

    for step in steps:
        assert {scenario.states[step][name].state for name in (API, KEY, SCOPES)} == {UNKNOWN}
    assert notified(scenario, *steps[: OUTAGE_POLLS - 1]) == []
    assert notified(scenario, *steps[OUTAGE_POLLS - 1 :]) == [Notification(SCOPES, "UNKNOWN")]
    assert notified(scenario, "fixed") == [Notification(SCOPES, "OK")]


def test_a_vanished_instance_closes_its_problem(scenario: Scenario) -> None:
    gone = service(scenario.pools[1])

    assert scenario.states["fixed"][gone].state != OK
    assert gone not in scenario.states["gone"]
    assert scenario.states["after"][service(scenario.pools[0])].state == OK
    assert {one.word for one in notified(scenario, "after")} <= {"OK"}


def test_config_writes_only_changes_and_says_what_to_reload(scenario: Scenario) -> None:
    changed = f"{scenario.site.output} changed; run: icinga2 daemon -C && systemctl reload icinga2"
    assert scenario.messages["first"].startswith(changed)
    assert scenario.messages["again"] == ""
    assert scenario.messages["gone"].startswith(changed)
