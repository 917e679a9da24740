"""Checkmk: the shipped local checks under a stand-in for its agent, read by its own rules."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lm_openai.hosts import checkmk
from lm_openai.hosts.jobs import HEALTH, PROPERTIES, Job, jobs
from lm_openai.model.thresholds import Override
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support import demo_polls
from tests.support.checkmk import Service, hosts
from tests.support.paths import ROOT

JOBS = {job.definition.folder: job for job in jobs()}
STATES = {"ok": 0, "warning": 1, "error": 2, "critical": 2, "unknown": 3}
HOT = "OpenAI Rate Limits By Project"


class Agent(NamedTuple):
    """Stand-in for the agent: it runs local/SECONDS/ and inserts `cached(…)`, as the real one."""

    folder: Path
    simulator: Simulator

    def run(self, *intervals: int) -> dict[str, Service]:
        """Run the local checks of these intervals, by default all; return the host's services."""
        found = sorted(self.folder.glob("local/*/*"), key=lambda path: int(path.parent.name))
        wanted = [path for path in found if not intervals or int(path.parent.name) in intervals]
        printed = hosts("".join(map(self._cached, wanted)))
        assert printed.keys() == {checkmk.HOST}
        return printed[checkmk.HOST]

    def _cached(self, script: Path) -> str:
        """Return what the agent sends for a script whose output it keeps."""
        ran = subprocess.run([script], capture_output=True, text=True, timeout=120)
        assert ran.returncode == 0  # the agent discards the output of a failed command
        stamp = f"cached({int(self.simulator.now)},{script.parent.name}) "
        lines = ran.stdout.splitlines()
        marked = (line if re.match("<<<.*>>>", line) else stamp + line for line in lines)
        return "<<<local:sep(0)>>>\n" + "".join(f"{line}\n" for line in marked)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    """Yield an agent with the shipped local checks, behind the demo organization."""
    folder = tmp_path_factory.mktemp("checkmk")
    with Simulator(at=demo_polls.WEDNESDAY, projects=3, models=4, lag=0) as simulator:
        (folder / "properties").write_text(
            f"openai.org.name=acme\nopenai.admin.key={ADMIN_KEY}\n"
            f"openai.api.url={simulator.url}\nopenai.cache.dir={folder}/cache\n"
        )
        (folder / "properties").chmod(0o600)
        (folder / "now").write_text(str(int(simulator.now)))
        command = f"{sys.executable} -m lm_openai.start"
        for path, text in checkmk.files(jobs()).items():
            script = folder / path
            script.parent.mkdir(parents=True, exist_ok=True)
            text = text.replace(checkmk.COMMAND, command).replace(
                f"--properties {PROPERTIES}",
                f'--properties {folder}/properties --at "$(cat {folder}/now)"',
            )
            script.write_text(text.replace("#!/bin/sh", f"#!/bin/sh\ncd {ROOT} || exit"))
            script.chmod(0o755)
        yield Agent(folder, simulator)


@pytest.fixture
def after(agent: Agent) -> Iterator[None]:
    """End the faults after the test, and let the next poll request everything again."""
    yield
    agent.simulator.clear()


def later(agent: Agent, seconds: int) -> None:
    agent.simulator.now += seconds
    (agent.folder / "now").write_text(str(int(agent.simulator.now)))


def reports(agent: Agent) -> dict[str, Any]:
    """Return the JSON of an own poll of all DataSources, by folder, with the same responses."""
    words = ["collect", *JOBS, "--properties", str(agent.folder / "properties")]
    ran = subprocess.run(
        [sys.executable, "-m", "lm_openai.start", *words, "--at", str(int(agent.simulator.now))],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
    )
    documents = map(json.loads, ran.stdout.splitlines())
    return {found["datasource"]["folder"]: found for found in documents}


def test_every_instance_is_a_service_with_the_values_of_a_poll(agent: Agent) -> None:
    services = agent.run()

    expected = {job.definition.title for job in JOBS.values()}
    found = reports(agent)
    for folder, job in JOBS.items():
        for row in found[folder]["instances"]:
            name = f"{job.definition.title} {row['wildvalue']}"
            expected.add(name)
            values = {key: one.value for key, one in services[name].metrics.items()}
            if folder != HEALTH:  # counts the requests of its own poll
                assert services[name].state == STATES[row["state"]], name
                assert values == pytest.approx(row["datapoints"]), name
    assert services.keys() == expected


@pytest.mark.usefixtures("after")
def test_a_hot_pool_is_critical_a_second_one_too_and_both_clear(agent: Agent) -> None:
    def bad() -> set[str]:
        later(agent, 300)
        found = agent.run(300)
        return {
            one.text.split(":")[0]
            for name, one in found.items()
            if name.startswith(f"{HOT} ") and one.state == 2
        }

    agent.simulator.fault("heat", project="Data Platform", model="gpt-4o-mini", percent=20)
    assert bad() == set()
    agent.simulator.fault("heat", project="Customer Support", model="gpt-4o", percent=92)
    assert bad() == {"Customer Support / gpt-4o"}
    agent.simulator.fault("heat", project="Data Platform", model="gpt-4o-mini", percent=92)
    assert bad() == {"Customer Support / gpt-4o", "Data Platform / gpt-4o-mini"}
    agent.simulator.clear()
    agent.simulator.fault("heat", project="Data Platform", model="gpt-4o-mini", percent=20)
    assert bad() == set()


@pytest.mark.usefixtures("after")
def test_an_outage_is_state_3_of_every_poll_and_no_instance_is_ok(agent: Agent) -> None:
    later(agent, 7200)
    agent.simulator.fault("401")
    found = agent.run(300)

    titles = {job.definition.title for job in JOBS.values() if job.interval == 300}
    health = f"{JOBS[HEALTH].definition.title} organization"
    states = {name: one.state for name, one in found.items()}
    assert states == {**dict.fromkeys(titles, 3), health: 2}


@pytest.mark.usefixtures("after")
def test_an_instance_that_is_gone_has_no_service(agent: Agent) -> None:
    agent.simulator.fault("gone", project="Data Platform", start=0)
    later(agent, 7200)
    found = agent.run(300)

    assert any(one.text.startswith("Customer Support / ") for one in found.values())
    assert not any(one.text.startswith("Data Platform / ") for one in found.values())


def test_a_missing_key_is_state_3_of_each_poll(agent: Agent) -> None:
    [script] = agent.folder.glob("local/21600/*")
    environ = {"PATH": os.environ["PATH"], "HOME": str(agent.folder)}
    text = script.read_text().replace(f"{agent.folder}/properties", f"{agent.folder}/missing")
    script.with_name("without").write_text(text)
    ran = subprocess.run(
        ["sh", script.with_name("without")], capture_output=True, text=True, env=environ
    )
    script.with_name("without").unlink()
    titles = {job.definition.title for job in JOBS.values() if job.interval == 21600}

    found = hosts(ran.stdout)[checkmk.HOST]
    assert {name: one.state for name, one in found.items()} == dict.fromkeys(titles, 3)


def attempts(*some: Job) -> dict[str, str]:
    """Return the attempts by the expression of the services' names."""
    lines = checkmk.files(some)["attempts.txt"].splitlines()
    return dict(line.split("\t")[1::-1] for line in lines if not line.startswith("#"))


def test_the_attempts_cover_the_polls_in_a_row() -> None:
    rules = attempts(*JOBS.values())

    assert rules[f'"^{HOT} ."'] == str(2 * 300 // 60 + 1)
    assert rules[f'"^{JOBS[HEALTH].definition.title}$"'] == "11"


def test_the_attempts_are_those_of_the_thresholds_in_force() -> None:
    job = JOBS["rate_limits"]
    change = {"consecutive": 5}
    override = Override((("project_id", "batch-*"),), "tpm_utilization", change, "site.json")
    off = {
        name: one._replace(warning=None, error=None, critical=None)
        for name, one in job.rules.thresholds.items()
    }

    assert attempts(job._replace(rules=job.rules._replace(overrides=(override,)))) == {
        f'"^{HOT} ."': str(4 * 300 // 60 + 1)
    }
    assert attempts(job._replace(rules=job.rules._replace(thresholds=off))) == {}
