"""Nagios and Icinga through faults of the API: no state improves, and perfdata keeps its series.

One scenario of polls, twenty simulated minutes apart, runs in both servers; the tests read what the
servers stored of it.
"""

from __future__ import annotations

import io
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lm_openai.api.client import Client
from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.api.transport import Connection, Transport
from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.collect import datasource
from lm_openai.simulator import ADMIN_KEY, Simulator
from lm_openai.timespans import DAY
from tests.hosts.conftest import Influx, free_ports
from tests.hosts.plugin_hosts import PluginHost, Result, forced, icinga, nagios
from tests.hosts.services import CRITICAL, OK, STATES, UNKNOWN, WARNING
from tests.support import notes
from tests.support.demo_polls import WEDNESDAY
from tests.support.kinds import kinds_by_folder
from tests.support.paths import ROOT
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

BETTER = (OK, WARNING, UNKNOWN, CRITICAL)
WORDS = {"OK": OK, "WARNING": WARNING, "CRITICAL": CRITICAL, "UNKNOWN": UNKNOWN}
HOSTS = ("nagios", "icinga")
STEP = 1200
SETS = ("openai.org.name=acme", "openai.window=24h", "openai.budget.monthly=10")
KINDS = {kind: folder for folder, kind in kinds_by_folder().items()}
LIMITS, COSTS, SPENDING = "rate_limits", "cost_by_organization", "spend_limits_by_project"
ONE = "one_pool"
"""Service of the form with one exact `--instance`."""
EVERY = (LIMITS, ONE, COSTS, SPENDING, *KINDS.values())
HEALTHY, STOPPED, MISSING_DAY, ERROR_500 = "no fault", "API stop", "missing day", "HTTP 500"
REFUSALS = ("400", "html", "scope")
"""Faults of the usage kinds, in turn."""
# Limits that the demo always exceeds, so that these DataSources are critical.
LOW = {"operator": ">=", "warning": None, "error": None, "critical": 0.000001}
ITEM = re.compile(r"([A-Za-z0-9_-]+)=(-?[0-9.]+)[a-zA-Z%]*((?:;[-0-9.:]*)*)")
Documents = dict[tuple[str, str], dict[str, Any]]


class Poll(NamedTuple):
    """One poll of some services by both hosts under a fault: HEALTHY, …, or a usage kind.

    By (host, service): `results` are those that the host stored, `expected` the JSON documents of
    the same moment with the host's own cache. `truth` are documents without any fault, by service.
    """

    fault: str
    results: dict[tuple[str, str], Result]
    expected: Documents
    truth: dict[str, dict[str, Any]]


class Scenario(NamedTuple):
    """All polls; by kind the (project, model) pairs that used it; the series in InfluxDB.

    `series` are the rows of (time, value, warn, crit) by (service, label).
    """

    polls: tuple[Poll, ...]
    users: dict[str, set[tuple[str, str]]]
    series: dict[tuple[str, str], list[list[Any]]]


def steps() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield (fault, services to poll) of each poll."""
    money = (LIMITS, COSTS, SPENDING)
    yield HEALTHY, EVERY
    for kind, folder in KINDS.items():
        yield kind, (LIMITS, folder)
    yield from ((fault, money) for fault in (HEALTHY, MISSING_DAY, HEALTHY))
    yield ERROR_500, (LIMITS, KINDS["completions"])
    yield HEALTHY, (LIMITS,)
    yield STOPPED, EVERY
    yield STOPPED, (LIMITS,)
    # One process makes the first try after an outage; until it succeeds, the others report it.
    yield HEALTHY, (LIMITS,)
    yield HEALTHY, EVERY


class Site:
    """Scripts and site files of one host, and the demo organization that they poll."""

    def __init__(self, folder: Path, demo: Simulator, pool: str) -> None:
        self.checks, self.demo = folder / "checks", demo
        self.environ = environment(demo.url, folder / "etc")
        self.checks.mkdir(parents=True)
        self.now = folder / "now"
        thresholds = folder / "etc/thresholds.d"
        thresholds.mkdir(parents=True)
        limits = {name: USAGE_KINDS[kind].required[0] for kind, name in KINDS.items()}
        for name, datapoint in {**limits, SPENDING: "used_percent"}.items():
            document = {
                "datasource": datasource.definition(name).name,
                "thresholds": [{"datapoint": datapoint, **LOW}],
            }
            (thresholds / f"{name}.json").write_text(json.dumps(document))
        for name in EVERY:
            self._write(name, *(("rate_limits", "--instance", pool) if name == ONE else (name,)))

    def _write(self, name: str, folder: str, *words: str) -> None:
        script = ROOT / "modules" / folder / f"{folder}.py"
        sets = [word for item in SETS for word in ("--set", item)]
        command = shlex.join([sys.executable, str(script), "--format", "nagios", *sets, *words])
        exports = "".join(f"export {key}={value}\n" for key, value in self.environ.items())
        path = self.checks / name
        path.write_text(f'#!/bin/sh\n{exports}exec {command} $(cat "{self.now}")\n')
        path.chmod(0o755)

    def advance(self, stopped: bool) -> None:
        """Set the time of the next polls, and let the notes on the API grow as old."""
        timeout = 4 if stopped else 40
        self.now.write_text(f"--at {int(self.demo.now)} --timeout {timeout}")
        notes.age(self.environ, SETS, int(self.demo.now), STEP)

    def document(self, name: str, pool: str) -> dict[str, Any]:
        """Return what the check would print as JSON with its own cache; empty if the poll fails."""
        out, err = io.StringIO(), io.StringIO()
        around = Surroundings(self.environ, io.StringIO(), out, err, int(self.demo.now))
        only = (pool,) if name == ONE else ()
        options = Options(format="json", sets=SETS, instances=only)
        run(LIMITS if name == ONE else name, options, around)
        found: dict[str, Any] = json.loads(out.getvalue() or "{}")
        return found


@pytest.fixture(scope="module")
def scenario(
    tool: Callable[[str], str], influx: Influx, tmp_path_factory: pytest.TempPathFactory
) -> Scenario:
    """Run all polls in both hosts."""
    folder = tmp_path_factory.mktemp("hosts")
    programs = {"nagios": tool("nagios4"), "icinga": tool("icinga2")}
    with ExitStack() as stack:
        demo = stack.enter_context(Simulator(at=WEDNESDAY))
        healthy = stack.enter_context(Simulator(at=WEDNESDAY))
        users = used(healthy)
        project, model = sorted(users["embeddings"])[0]
        pool = f"{project}/{model}"
        sites = {name: Site(folder / name, demo, pool) for name in HOSTS}
        truth = Site(folder / "truth", healthy, pool)
        hosts: dict[str, PluginHost] = {}
        checks = sites["nagios"].checks
        hosts["nagios"] = stack.enter_context(
            nagios(programs["nagios"], folder / "nagios/host", checks)
        )
        (port,) = free_ports(1)
        hosts["icinga"] = stack.enter_context(
            icinga(
                programs["icinga"],
                folder / "icinga/host",
                sites["icinga"].checks,
                port,
                int(influx.url.rpartition(":")[2]),
            )
        )
        polls = tuple(
            polled(fault, services, sites, hosts, truth, pool) for fault, services in steps()
        )
        return Scenario(polls, users, stored(influx, polls))


def polled(
    fault: str,
    services: tuple[str, ...],
    sites: dict[str, Site],
    hosts: dict[str, PluginHost],
    truth: Site,
    pool: str,
) -> Poll:
    """Inject the fault, force the checks in both hosts and return what they stored."""
    demo = sites["nagios"].demo
    inject(demo, fault)
    for site in (*sites.values(), truth):
        site.advance(fault in (STOPPED, ERROR_500))
    with ThreadPoolExecutor() as threads:
        running = {name: threads.submit(forced, hosts[name], services) for name in HOSTS}
        right = {name: truth.document(name, pool) for name in services}
        found = {name: future.result() for name, future in running.items()}
    results = {(host, name): found[host][name] for host in HOSTS for name in services}
    judged = {HEALTHY: services, STOPPED: (), ERROR_500: ()}.get(fault, (LIMITS,))
    expected = {(host, name): sites[host].document(name, pool) for host in HOSTS for name in judged}
    if fault == STOPPED:
        demo.start()
    demo.clear()
    for simulator in (demo, truth.demo):
        simulator.now += STEP
    return Poll(fault, results, expected, right)


def inject(demo: Simulator, fault: str) -> None:
    if fault == STOPPED:
        demo.stop()
    elif fault == ERROR_500:
        demo.fault("500", "*/usage/completions")
    elif fault == MISSING_DAY:
        demo.fault("hole", "*/costs", start=WEDNESDAY // DAY * DAY - 3 * DAY)
    elif fault != HEALTHY:
        kind = REFUSALS[list(KINDS).index(fault) % len(REFUSALS)]
        demo.fault(kind, f"*{USAGE_KINDS[fault].path}")


def used(demo: Simulator) -> dict[str, set[tuple[str, str]]]:
    """Return the (project, model) pairs that used each kind in the last 8 days."""
    client = Client(Transport(Connection(demo.url, ADMIN_KEY)))
    now = int(demo.now)
    found: dict[str, set[tuple[str, str]]] = {}
    for name, kind in USAGE_KINDS.items():
        grouping = [word for word in ("project_id", "model") if word in kind.dimensions]
        buckets = client.usage(name, now // DAY * DAY - 8 * DAY, now, "1d", group_by=grouping)
        rows = [row for bucket in buckets for row in bucket.results]
        found[name] = {(row["project_id"], row.get("model") or "") for row in rows}
    return found


def stored(influx: Influx, polls: tuple[Poll, ...]) -> dict[tuple[str, str], list[list[Any]]]:
    """Return the series of the services in InfluxDB, after Icinga has written all of them."""
    total = sum(
        len(items(result))
        for poll in polls
        for (host, _), result in poll.results.items()
        if host == "icinga"
    )
    query = "SELECT value, warn, crit FROM icinga WHERE value = value GROUP BY service, metric"
    for _ in range(100):
        found = {
            (series["tags"]["service"], series["tags"]["metric"]): series["values"]
            for series in influx.query(query)
            if series["tags"]["metric"]
        }
        if sum(map(len, found.values())) >= total:
            return found
        time.sleep(0.1)
    raise AssertionError(f"InfluxDB has {sum(map(len, found.values()))} of {total} values")


def items(result: Result) -> dict[str, tuple[float, str]]:
    """Return value and limits by label; fails if a label occurs twice or anything else does."""
    found = ITEM.findall(result.perfdata)
    assert len(found) == len(result.perfdata.split()) == len({label for label, *_ in found})
    return {label: (float(value), limits) for label, value, limits in found}


def lines(result: Result) -> dict[str, int]:
    """Return the state of each instance by its alias, from the lines below the first."""
    found = re.findall(r"^\[(\w+)\] (.*?): ", result.text, re.M)
    return {alias: WORDS[word] for word, alias in found}


def agrees(host: str, found: dict[str, int], right: dict[str, int]) -> bool:
    """Return True if the states are the right ones.

    Nagios may lack the last lines: at times it cuts the output at byte 8,190.
    """
    complete = host == "nagios" or found.keys() == right.keys()
    return complete and found != {} and found.items() <= right.items()


def right_states(document: dict[str, Any]) -> dict[str, int]:
    return {row["alias"]: STATES[row["state"]] for row in document["instances"]}


def right_state(document: dict[str, Any]) -> int:
    return max(right_states(document).values(), key=BETTER.index)


def observed(scenario: Scenario, host: str) -> Iterator[tuple[Poll, str, Result, dict[str, Any]]]:
    """Yield (poll, service, result, document without faults) of one host."""
    for poll in scenario.polls:
        for (name, service), result in poll.results.items():
            if name == host:
                yield poll, service, result, poll.truth[service]


@pytest.mark.parametrize("host", HOSTS)
def test_every_usage_kind_and_the_costs_are_critical_before_the_faults(
    scenario: Scenario, host: str
) -> None:
    first = scenario.polls[0]

    assert {right_state(poll.truth[LIMITS]) for poll in scenario.polls} == {CRITICAL}
    assert set(KINDS) == set(USAGE_KINDS)
    assert {name for (where, name), one in first.results.items() if where == host} == set(EVERY)
    for name in {*EVERY} - {ONE}:
        assert first.results[host, name].state == CRITICAL, name


@pytest.mark.parametrize("host", HOSTS)
def test_no_state_is_better_than_without_the_fault(scenario: Scenario, host: str) -> None:
    seen = set()
    for poll, service, result, truth in observed(scenario, host):
        seen.add(poll.fault)
        right, found = right_states(truth), lines(result)
        assert bad_enough(result.state, right_state(truth)), (poll.fault, service)
        for alias, state in found.items():
            assert bad_enough(state, right[alias]), (poll.fault, service, alias)
        vanished = {right[alias] for alias in right.keys() - found.keys()} - {OK}
        assert not vanished or result.state in (UNKNOWN, CRITICAL), (poll.fault, service)
    assert seen == {HEALTHY, STOPPED, MISSING_DAY, ERROR_500, *USAGE_KINDS}


def bad_enough(state: int, right: int) -> bool:
    """Return True if a state is UNKNOWN or not better than the right one."""
    return state == UNKNOWN or BETTER.index(state) >= BETTER.index(right)


@pytest.mark.parametrize("host", HOSTS)
def test_each_fault_makes_what_needs_it_unknown(scenario: Scenario, host: str) -> None:
    """Otherwise the other tests would compare two organizations without faults."""
    hit = {
        STOPPED: set(EVERY),
        MISSING_DAY: {COSTS, SPENDING},
        ERROR_500: {KINDS["completions"]},
        **{kind: {folder} for kind, folder in KINDS.items()},
    }
    unknown: dict[str, set[str]] = {}
    for poll, service, result, _ in observed(scenario, host):
        if result.state == UNKNOWN:
            unknown.setdefault(poll.fault, set()).add(service)

    # With a usage kind missing, an error of another pool may stay in rate_limits.
    assert {fault: services | {LIMITS} for fault, services in unknown.items()} == {
        fault: services | {LIMITS} for fault, services in hit.items()
    }


@pytest.mark.parametrize("host", HOSTS)
def test_states_recover_by_themselves(scenario: Scenario, host: str) -> None:
    last = scenario.polls[-1]

    assert last.fault == HEALTHY
    for service in EVERY:
        result, truth = last.results[host, service], last.truth[service]
        assert result.state == right_state(truth), result.text
        assert agrees(host, lines(result), right_states(truth))


@pytest.mark.parametrize("host", HOSTS)
def test_a_pool_that_does_not_need_the_faulty_kind_keeps_its_state(
    scenario: Scenario, host: str
) -> None:
    for poll, service, result, truth in observed(scenario, host):
        if poll.fault in USAGE_KINDS and service == LIMITS:
            right, found = right_states(truth), lines(result)
            pools = unaffected(truth, scenario.users[poll.fault])
            kept = {alias: right[alias] for alias in pools}
            assert agrees(host, {alias: found[alias] for alias in pools & found.keys()}, kept)


def unaffected(truth: dict[str, Any], users: set[tuple[str, str]]) -> set[str]:
    """Return the aliases of the pools whose project used no model of that first word."""
    words = {(project, model.partition("-")[0]) for project, model in users}
    rows = [(row["alias"], row["dimensions"]) for row in truth["instances"]]
    return {
        alias
        for alias, own in rows
        if (own["project_id"], own["model"].partition("-")[0]) not in words
    }


@pytest.mark.parametrize("host", HOSTS)
def test_every_perfdata_value_is_the_number_of_its_instance(scenario: Scenario, host: str) -> None:
    """In at least eight polls, also in those with a fault."""
    checked = 0
    for poll in scenario.polls:
        for (where, service), document in poll.expected.items():
            if where != host:
                continue
            found = items(poll.results[host, service])
            right = numbers(service, document)
            assert {label: value for label, (value, _) in found.items()} == {
                label: right[label] for label in found
            }
            missing = right.keys() - found.keys()
            left_out = "left out" in poll.results[host, service].text
            assert left_out or not missing & graphed(service, document), (poll.fault, service)
            checked += service == LIMITS
    assert checked >= 8


def numbers(service: str, document: dict[str, Any]) -> dict[str, float]:
    """Return the value of each label that an instance may have."""
    return {
        label(service, row, name): float(value)
        for row in document.get("instances", ())
        for name, value in row["datapoints"].items()
    }


def graphed(service: str, document: dict[str, Any]) -> set[str]:
    definition = datasource.definition(LIMITS if service == ONE else service)
    drawn = {name for graph in definition.graphs for name in graph.datapoints}
    return {label(service, row, name) for row in document.get("instances", ()) for name in drawn}


def label(service: str, row: dict[str, Any], name: str) -> str:
    """Return the label of a datapoint; the demo has no two instances with equal aliases."""
    if service == ONE:
        return name
    alias = row["alias"].replace("Ü", "U").replace("ü", "u")
    clean = re.sub("[^A-Za-z0-9_-]+", "_", alias)
    return (
        f"{clean}_{name}" if row["alias"].isascii() else f"{clean}_{row['wildvalue'][-6:]}_{name}"
    )


def test_influx_has_each_value_of_each_poll_in_the_series_of_its_label(scenario: Scenario) -> None:
    """Icinga writes six decimal places."""
    expected: dict[tuple[str, str], list[float]] = {}
    for _, service, result, _ in observed(scenario, "icinga"):
        for name, (value, _limits) in items(result).items():
            expected.setdefault((service, name), []).append(value)
    found = {key: [row[1] for row in rows] for key, rows in scenario.series.items()}

    assert found.keys() == expected.keys()
    for key, values in found.items():
        assert values == pytest.approx(expected[key], rel=0, abs=1e-6), key
    assert max(map(len, expected.values())) >= 8


def test_influx_has_the_limits_of_high_values(scenario: Scenario) -> None:
    used = [rows for (_, name), rows in scenario.series.items() if name.endswith("_utilization")]

    assert used
    assert {tuple(row[2:]) for rows in used for row in rows} == {(80.0, 90.0)}


def test_labels_do_not_come_and_go_between_polls(scenario: Scenario) -> None:
    healthy = [poll for poll in scenario.polls if poll.fault == HEALTHY]
    first, last = healthy[0], healthy[-1]
    for service in {*EVERY} - {LIMITS}:
        instances = [
            {row["id"] for row in poll.truth[service]["instances"]} for poll in (first, last)
        ]
        if instances[0] == instances[1]:
            labels = [items(poll.results["nagios", service]).keys() for poll in (first, last)]
            assert labels[0] == labels[1], service
