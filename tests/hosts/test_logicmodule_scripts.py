"""Scripts of the LogicModules under the real Groovy, with the demo organization behind them."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lm_openai.hosts.jobs import HEALTH, jobs
from lm_openai.hosts.logicmonitor_module import is_fixed
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.hosts.conftest import free_ports
from tests.hosts.logicmonitor_scripts import (
    MODULES,
    Result,
    Task,
    command,
    evaluated,
    recorder,
    started,
)
from tests.support import replay
from tests.support.demo_polls import VARYING, WEDNESDAY, document

pytestmark = pytest.mark.slow

JOBS = jobs()
FOLDERS = [job.definition.folder for job in JOBS]
NAMES = {job.definition.folder: job.definition.name for job in JOBS}
SCRIPTS = ("collect", "ad")
OPERATORS = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    "!=": operator.ne,
}
LEVELS = ("warning", "error", "critical")


class Ran(NamedTuple):
    """Results of one Groovy process: of all scripts by (folder, script), and of the odd ones."""

    demo: Simulator
    folder: Path
    healthy: dict[tuple[str, str], Result]
    outage: dict[tuple[str, str], Result]
    odd: dict[str, Result]


@pytest.fixture(scope="module")
def ran(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Evaluate all scripts, with the API and without it, and some with other commands."""
    groovy, folder = tool("groovy"), tmp_path_factory.mktemp("collector")
    (closed_port,) = free_ports(1)
    with Simulator(at=WEDNESDAY, projects=3, models=4) as demo:
        healthy = properties(folder, demo.url)
        outage = properties(folder, f"http://127.0.0.1:{closed_port}/v1", "down")
        odd = {**odd_commands(folder, healthy), **odd_properties(healthy)}
        keys = [(one, script) for one in FOLDERS for script in SCRIPTS]
        tasks = [Task(path(*key), healthy) for key in keys]
        tasks += [Task(path(*key), outage) for key in keys]
        results = evaluated(groovy, tool("java"), folder, [*tasks, *odd.values()])
        half = len(keys)
        yield Ran(
            demo,
            folder,
            dict(zip(keys, results)),
            dict(zip(keys, results[half:])),
            dict(zip(odd, results[2 * half :])),
        )


def properties(folder: Path, url: str, cache: str = "cache") -> dict[str, str]:
    """Return the properties of the resource, also those that are not for the collector."""
    return {
        "system.hostname": "api.openai.com",
        "snmp.community": "not for the collector",
        "openai.admin.key": ADMIN_KEY,
        "openai.api.url": url,
        "openai.org.name": "acme",
        "openai.cache.dir": str(folder / cache),
        "openai.collector.command": str(recorder(folder, WEDNESDAY)),
        "openai.budget.project.proj_Demo": "100",
        "openai.organization.window": "1h",
        "openai.budget.montly": "5",
    }


def odd_commands(folder: Path, healthy: dict[str, str]) -> dict[str, Task]:
    """Return collections with commands that are missing, foreign, too new or too slow."""
    texts = {
        "junk": "echo 'Filesystem 1K-blocks'",
        "newer": "echo organization.unjudged=0; echo organization.novelty=1; echo note >&2",
        "slow": "exec sleep 60",
        "silent": "exit 0",
        "wrong": "echo 'wrong usage' >&2; exit 2",
    }
    paths = {name: command(folder / name, text) for name, text in texts.items()}
    paths["missing"] = folder / "nowhere/lm-openai"
    paths["other"] = Path("/bin/echo")
    return {
        name: Task(
            path("cost_by_organization", "ad" if name == "silent" else "collect"),
            {**healthy, "openai.timeout": "1", "openai.collector.command": str(found)},
        )
        for name, found in paths.items()
    }


def odd_properties(healthy: dict[str, str]) -> dict[str, Task]:
    """Return the PropertySource on resources with and without a key, and a DataSource without."""
    script = MODULES / "addCategory_OpenAI/collect.groovy"
    keyless = {name: text for name, text in healthy.items() if name != "openai.admin.key"}
    return {
        "category": Task(script, healthy),
        "category of a key file": Task(script, {"openai.admin.key.file": "/etc/lm-openai/key"}),
        "no category": Task(script, {"system.hostname": "web01", "openai.org.name": "acme"}),
        "no key": Task(path("rate_limits", "ad"), keyless),
    }


def path(folder: str, script: str) -> Path:
    return MODULES / NAMES[folder] / f"{script}.groovy"


@pytest.fixture(scope="module")
def documents(ran: Ran) -> dict[str, dict[str, Any]]:
    """Report of each DataSource as JSON, of the same moment."""
    budget = {"openai.budget.project.proj_Demo": "100"}
    return {
        folder: document(folder, ran.demo, ran.folder / "json", properties=budget)
        for folder in FOLDERS
    }


def values(result: Result) -> dict[str, dict[str, float]]:
    """Return the printed values by wildvalue and key, as the portal splits them."""
    found: dict[str, dict[str, float]] = {}
    for line in result.lines:
        key, _, value = line.partition("=")
        wildvalue, _, name = key.partition(".")
        found.setdefault(wildvalue, {})[name] = float(value)
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_discovery_finds_the_instances_of_a_json_poll(
    ran: Ran, documents: dict[str, dict[str, Any]], folder: str
) -> None:
    result = ran.healthy[folder, "ad"]
    found = dict(line.split("##")[:2] for line in result.lines)
    expected = {row["wildvalue"]: row["alias"] for row in documents[folder]["instances"]}
    assert found == expected
    assert (result.status == 0) == bool(expected)
    ordinary = replay.collected(
        folder,
        replay.Record(WEDNESDAY, {"openai.org.name": "acme"}, ()),
        ran.demo.url,
        ran.folder / "json",
        "logicmonitor",
        True,
        ADMIN_KEY,
    )
    assert sorted(result.lines) == sorted(ordinary.stdout.splitlines())


@pytest.mark.parametrize("folder", FOLDERS)
def test_collection_prints_the_values_of_a_json_poll(
    ran: Ran, documents: dict[str, dict[str, Any]], folder: str
) -> None:
    result = ran.healthy[folder, "collect"]
    assert result.status == 0, result.stderr
    camel = {one.name: one.camel for one in JOBS[FOLDERS.index(folder)].definition.datapoints}
    names = [name for name in camel if name not in VARYING]
    found = values(result)
    for row in documents[folder]["instances"]:
        own = row["datapoints"]
        expected = {camel[name]: float(own[name]) for name in names if name in own}
        printed = found[row["wildvalue"]]
        assert {name: printed[name] for name in expected} == pytest.approx(expected)
        assert printed["unjudged"] == len(row.get("unjudged", ()))
    assert set(found) == {row["wildvalue"] for row in documents[folder]["instances"]}


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_thresholds_of_a_logicmodule_give_the_levels_of_a_json_poll(
    ran: Ran, documents: dict[str, dict[str, Any]], folder: str
) -> None:
    module = json.loads((MODULES / NAMES[folder] / f"{NAMES[folder]}.json").read_text())
    limits = {one["name"]: one["threshold"] for one in module["datapoints"] if "threshold" in one}
    camel = {one.name: one.camel for one in JOBS[FOLDERS.index(folder)].definition.datapoints}
    for row in documents[folder]["instances"]:
        levels = {camel[one["datapoint"]]: one["level"] for one in row["breaches"]}
        # A LogicModule has no override for some instances; its notes say what to set by hand.
        expected = {name: found for name, found in levels.items() if name in limits}
        printed = values(ran.healthy[folder, "collect"])[row["wildvalue"]]
        judged = {name: level(limits[name], printed[name]) for name in limits if name in printed}
        assert {name: found for name, found in judged.items() if found} == expected


def level(expression: str, value: float) -> str:
    """Return the level that LogicMonitor shows: the highest that the value reaches."""
    sign, *numbers = expression.split(" ")
    reached = [name for name, limit in zip(LEVELS, numbers) if OPERATORS[sign](value, float(limit))]
    return reached[-1] if reached else ""


def test_some_value_of_the_demo_breaches_a_threshold(documents: dict[str, dict[str, Any]]) -> None:
    assert any(row["breaches"] for found in documents.values() for row in found["instances"])


@pytest.mark.parametrize("folder", FOLDERS)
def test_an_outage_has_an_exit_status_a_reason_and_no_output(ran: Ran, folder: str) -> None:
    fixed = is_fixed(JOBS[FOLDERS.index(folder)].definition)
    for script in SCRIPTS:
        result = ran.outage[folder, script]
        if script == "ad" and fixed:
            assert (result.status, len(result.lines)) == (0, 1)
        elif folder == HEALTH:
            assert values(result)["organization"]["apiReachable"] == 0
        else:
            assert (result.status, result.stdout) == (1, "")
            assert "no connection to the API" in result.stderr


def test_only_known_properties_are_handed_over_and_only_on_standard_input(ran: Ran) -> None:
    processes = started(ran.folder)
    assert processes
    for process in processes:
        given = json.loads(process["stdin"])
        folder = process["argv"][1]
        assert "sk-" not in "".join(process["argv"])
        assert {"system.hostname", "snmp.community", "openai.budget.montly"}.isdisjoint(given)
        assert given["openai.budget.project.proj_Demo"] == "100"
        assert ("openai.organization.window" in given) == (folder == "organization")
    assert ran.healthy["rate_limits", "collect"].stderr.startswith(
        "not known, so without effect: openai.budget.montly\n"
    )


def test_a_command_that_is_not_the_collector_gives_no_value(ran: Ran) -> None:
    for name, reason in (
        ("junk", "printed an unexpected line: Filesystem 1K-blocks; "),
        ("missing", "nowhere/lm-openai cannot be started"),
        ("other", "openai.collector.command: /bin/echo is not a path of lm-openai"),
        ("silent", "no instance was found, so the known ones stay"),
        ("slow", "lm-openai was stopped after 11 s; see openai.timeout"),
    ):
        assert (ran.odd[name].status, ran.odd[name].stdout) == (1, "")
        assert reason in ran.odd[name].stderr


def test_the_exit_status_and_the_errors_of_the_collector_pass_through(ran: Ran) -> None:
    assert ran.odd["wrong"].status == 2
    assert ran.odd["wrong"].stderr.endswith("wrong usage\n")
    assert ran.odd["no key"].status == 2
    assert ran.odd["no key"].stdout == ""
    assert "no admin key" in ran.odd["no key"].stderr


def test_a_datapoint_of_a_newer_collector_is_left_out_and_named(ran: Ran) -> None:
    newer = ran.odd["newer"]
    assert (newer.status, newer.lines) == (0, ["organization.unjudged=0"])
    assert "note\n" in newer.stderr
    assert "does not declare it: .novelty=; import" in newer.stderr


def test_a_resource_has_the_category_if_it_has_a_key(ran: Ran) -> None:
    given = Result(0, "system.categories=OpenAI\n", "")
    assert ran.odd["category"] == ran.odd["category of a key file"] == given
    assert ran.odd["no category"] == Result(0, "", "")
