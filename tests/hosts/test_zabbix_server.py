"""The shipped Zabbix templates in a real server: values, problems, outage, recovery."""

from __future__ import annotations

import io
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.hosts import zabbix as artefacts
from lm_openai.hosts.jobs import HEALTH, SCRIPTS, Job, jobs
from lm_openai.hosts.zabbix_names import KEY
from lm_openai.simulator import Simulator
from tests.hosts.zabbix_server import Zabbix, wait, zabbix
from tests.support import notes
from tests.support.demo_polls import VARYING, WEDNESDAY
from tests.support.paths import ROOT
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

HOST, EXTERNAL = "openai", "openai by external check"
WARNING, AVERAGE, HIGH = "2", "3", "4"
LIMITS, BROKEN = "rate_limits", "broken"
FAST, SPAN = 4, 10
"""Seconds between two polls of the DataSources whose problems the tests follow, and the interval
for which the expressions of their triggers are made, so that polls may be late by half of it."""
PROJECTS = ("Customer Support", "Data Platform", "Marketing", "Voice Assistant")
"""Projects of the demo organization; together they use every DataSource."""
HOT, SECOND = "Customer Support / gpt-4o", "Marketing / gpt-4o"
PERCENTS = {HOT: 85, SECOND: 92}
TITLE = "OpenAI Rate Limits By Project"
FIRST = f"{TITLE}: {HOT}: tpm_utilization warning"
NEXT = f"{TITLE}: {SECOND}: tpm_utilization error"
OUTAGE = "OpenAI Collection Health: api_reachable critical"
SILENT = "Broken: no data"
INCIDENTS = (FIRST, NEXT, OUTAGE, SILENT)
AGENT_TEMPLATE, EXTERNAL_TEMPLATE = (template.file for template in artefacts.TEMPLATES)
SHIM = """#!/bin/sh
{exports}
exec {python} {script} "$@" --at {now}
"""


class Site:
    """Agent's folder with scripts that poll the demo organization at one time."""

    sets = ("openai.org.name=acme",)

    def __init__(self, demo: Simulator) -> None:
        self.demo = demo
        self.folder = Path()

    def configure(self, folder: Path) -> None:
        """Write the shipped files, with another folder of the scripts, which take a time."""
        self.folder = folder
        shipped = artefacts.files(jobs(["organization"]))
        scripts = str(folder / "bin")
        for path, name in (("agent.d/openai.conf", "lm-openai.conf"), (f"external/{KEY}", KEY)):
            (folder / path).write_text(shipped[name].replace(SCRIPTS, scripts))
            (folder / path).chmod(0o755)
        (folder / "alerts/notify").write_text(f'#!/bin/sh\necho "$1" >>{folder}/notifications\n')
        (folder / "alerts/notify").chmod(0o755)
        (folder / "bin").mkdir()
        for name in (job.definition.folder for job in jobs()):
            self.install(name, name)
        self.share("50s")

    def install(self, name: str, folder: str) -> None:
        """Write the script `name`, which starts that of the DataSource in a folder."""
        exports = "\n".join(f"export {key}={value}" for key, value in self.environ.items())
        script = ROOT / "modules" / folder / f"{folder}.py"
        path = self.folder / "bin" / f"{name}.py"
        words = {"exports": exports, "python": sys.executable, "script": script}
        path.write_text(SHIM.format(**words, now=WEDNESDAY))
        path.chmod(0o755)

    @property
    def environ(self) -> dict[str, str]:
        return environment(self.demo.url, self.folder / "cache")

    @property
    def properties(self) -> Path:
        return self.folder / "properties"

    def share(self, seconds: str) -> None:
        """Set for how long the scripts share responses."""
        sets = (*self.sets, f"openai.cache.ttl={seconds}")
        self.properties.write_text("".join(f"{line}\n" for line in sets))

    def heat(self, alias: str) -> None:
        """Let a pool use its share of its limit."""
        project, model = alias.split(" / ")
        self.demo.fault("heat", project=project, model=model, percent=PERCENTS[alias])

    def document(self, folder: str) -> dict[str, Any]:
        """Return what the DataSource prints as JSON, from the responses of the agent's poll."""
        out, err = io.StringIO(), io.StringIO()
        around = Surroundings(self.environ, io.StringIO(), out, err, WEDNESDAY)
        options = Options(at=str(WEDNESDAY), properties=(str(self.properties),))
        assert run(folder, options, around) == 0, err.getvalue()
        found: dict[str, Any] = json.loads(out.getvalue())
        return found

    def notifications(self) -> Counter[str]:
        """Return how often each notification was sent: `PROBLEM name` and `OK name`."""
        path = self.folder / "notifications"
        return Counter(path.read_text().splitlines() if path.exists() else ())


def compressed(job: Job) -> Job:
    """Return the job with the interval of the tests, in which all spans of time follow."""
    fast = job.definition.folder in (HEALTH, LIMITS)
    return job._replace(interval=SPAN) if fast else job


def accelerated() -> str:
    """Return the agent's template with the intervals of the tests, and one job without a script."""
    shipped = jobs()
    one = next(job for job in shipped if job.definition.dimensions and not job.alerts)
    definition = one.definition._replace(folder=BROKEN, title="Broken")
    broken = one._replace(definition=definition, interval=SPAN)
    text = artefacts.files([*map(compressed, shipped), broken])[AGENT_TEMPLATE]
    return text.replace(f'"delay": "{SPAN}s"', f'"delay": "{FAST}s"')


class Running(NamedTuple):
    """Zabbix with a host for the agent's template, and the documents of the first polls."""

    zabbix: Zabbix
    site: Site
    host: str
    documents: dict[str, dict[str, Any]]

    def items(self, *, host: str = "") -> dict[str, dict[str, Any]]:
        """Return all items by key."""
        found = self.zabbix.call(
            "item.get",
            hostids=host or self.host,
            output=["key_", "lastvalue", "lastclock", "units", "state", "error", "name"],
        )
        return {item["key_"]: item for item in found}

    def problems(self) -> dict[str, str]:
        """Return the severity of each open problem by the name of its trigger."""
        found = self.zabbix.call(
            "trigger.get",
            hostids=self.host,
            filter={"value": 1},
            output=["description", "priority"],
            expandDescription=True,
        )
        return {trigger["description"]: trigger["priority"] for trigger in found}

    def raised(self, name: str) -> int:
        """Return the time of a trigger's only problem."""
        [trigger] = self.zabbix.call("trigger.get", hostids=self.host, filter={"description": name})
        [event] = self.zabbix.call("event.get", objectids=trigger["triggerid"], value=1)
        return int(event["clock"])

    def history(self, key: str) -> list[tuple[int, str]]:
        """Return (time, value) of an item, the oldest first."""
        [item] = self.zabbix.call("item.get", hostids=self.host, filter={"key_": key})
        found = self.zabbix.call(
            "history.get", itemids=item["itemid"], history=item["value_type"], sortfield="clock"
        )
        return [(int(row["clock"]), row["value"]) for row in found]


@pytest.fixture(scope="module")
def running(tool: Callable[[str], str]) -> Iterator[Running]:
    """Import the templates, poll each DataSource once and return what it printed."""
    with Simulator(at=WEDNESDAY, lag=0) as demo:
        all_projects = demo.organization.projects
        some = tuple(project for project in all_projects if project.name in PROJECTS)
        demo.organization = demo.organization._replace(projects=some)
        site = Site(demo)
        site.heat(HOT)
        with zabbix(tool, site.configure) as server:
            server.load(accelerated())
            server.load(artefacts.files(jobs(["organization"]))[EXTERNAL_TEMPLATE])
            notify(server)
            host = create(server, HOST, AGENT_TEMPLATE, site)
            create(server, EXTERNAL, EXTERNAL_TEMPLATE, site)
            names = [job.definition.folder for job in jobs()]
            documents = {name: site.document(name) for name in names}
            found = Running(server, site, host, documents)
            poll_all(found)
            yield found


def notify(server: Zabbix) -> None:
    """Send every problem and every recovery once, to the file of notifications."""
    messages = [
        {"eventsource": "0", "recovery": recovery, "subject": "", "message": text}
        for recovery, text in (("0", "PROBLEM {TRIGGER.NAME}"), ("1", "OK {TRIGGER.NAME}"))
    ]
    media = server.call(
        "mediatype.create",
        name="notify",
        type=1,
        exec_path="notify",
        exec_params="{ALERT.MESSAGE}\n",
        message_templates=messages,
    )["mediatypeids"][0]
    server.call("user.update", userid="1", medias=[{"mediatypeid": media, "sendto": "file"}])
    message = {"default_msg": 1, "mediatypeid": media}
    server.call(
        "action.create",
        name="notify",
        eventsource=0,
        esc_period="1h",
        operations=[{"operationtype": 0, "opmessage": message, "opmessage_usr": [{"userid": "1"}]}],
        recovery_operations=[{"operationtype": 11, "opmessage": {"default_msg": 1}}],
    )


def create(server: Zabbix, name: str, file: str, site: Site) -> str:
    """Create a host with a template and an item of its own, and return its id."""
    template = next(one.name for one in artefacts.TEMPLATES if one.file == file)
    [found] = server.call("template.get", filter={"host": template})
    interface = {"type": 1, "main": 1, "useip": 1, "ip": "127.0.0.1", "dns": ""}
    host = server.call(
        "host.create",
        host=name,
        groups=[{"groupid": "2"}],
        templates=[{"templateid": found["templateid"]}],
        macros=[{"macro": "{$OPENAI.PROPERTIES}", "value": str(site.properties)}],
        interfaces=[{**interface, "port": str(server.agent_port)}],
    )["hostids"][0]
    [one] = server.call("hostinterface.get", hostids=host)
    words = {"interfaceid": one["interfaceid"], "type": 0, "value_type": 3, "delay": "1s"}
    server.call("item.create", hostid=host, name="ping", key_="agent.ping", **words)
    return str(host)


def poll_all(running: Running) -> None:
    """Run each discovery rule, and then each poll until all items have their values."""
    server = running.zabbix
    rules = server.call("discoveryrule.get", monitored=True, output=["itemid"])
    server.poll(rule["itemid"] for rule in rules)
    wanted = {key for key, _ in expected(running)}
    wait(lambda: wanted <= running.items().keys())
    time.sleep(2)  # the server's cache of the configuration is a second behind
    masters = server.call("item.get", monitored=True, search={"key_": f"{KEY}["}, output=["itemid"])
    server.poll(item["itemid"] for item in masters)

    def complete() -> bool:
        found = running.items()
        return all(found[key]["lastclock"] != "0" for key in wanted)

    wait(complete)


def expected(running: Running) -> Iterator[tuple[str, float]]:
    """Yield the key of each item that has a value, and the value in the collector's JSON."""
    for name, document in running.documents.items():
        for row in document["instances"]:
            place = row["wildvalue"]
            for datapoint in row["datapoints"].keys() - VARYING:
                value = row["datapoints"][datapoint]
                yield f"openai.value[{name},{place},{datapoint}]", float(value)


class Look(NamedTuple):
    """State of the server at one time."""

    problems: dict[str, str]
    figures: dict[str, str]
    sent: Counter[str]


class Scenario(NamedTuple):
    """Views of the server after the first polls, in a part's failure, an outage and at the end.

    Each is (open problems, figures of the pools, notifications sent so far); `partial` also lasts
    until a threshold could not be judged. `pings` are the seconds in the outage between the values
    of another item of the same host.
    """

    first: Look
    partial: Look
    before: Look
    outage: Look
    last: Look
    unread: list[str]
    pings: list[int]


@pytest.fixture(scope="module")
def scenario(running: Running) -> Scenario:
    """Fail in one endpoint, heat a second pool, stop the API, and repair everything at once."""
    site = running.site
    first = wait(lambda: showing(running, FIRST))
    site.share("0s")
    site.demo.fault("400", "*/usage/completions", times=8)
    wait(lambda: [one for one in running.history(f"openai.unjudged[{LIMITS}]") if one[1] != "0"])
    partial = look(running)
    site.heat(SECOND)
    before = wait(lambda: showing(running, FIRST, NEXT, SILENT))
    site.demo.stop()
    started = time.time()
    wait(lambda: showing(running, OUTAGE))
    time.sleep(4 * FAST)
    outage = look(running)
    clocks = [clock for clock, _ in running.history("agent.ping") if clock >= started]
    repair(site)
    last = wait(lambda: repaired(running))
    recovered = {f"OK {name}" for name in INCIDENTS}
    wait(lambda: recovered <= site.notifications().keys())
    return Scenario(
        first,
        partial,
        before,
        outage,
        last._replace(sent=site.notifications()),
        [text for _, text in running.history(f"openai.failures[{LIMITS}]")],
        [later - earlier for earlier, later in pairwise(clocks)],
    )


def repair(site: Site) -> None:
    """Start the API without the heat and without the second pool, and add the missing script."""
    site.demo.clear()
    project, model = SECOND.split(" / ")
    site.demo.fault("gone", project=project, model=model, start=0)
    site.install(BROKEN, "images_by_model")
    notes.age(site.environ, site.sets, WEDNESDAY, 120)
    site.demo.start()


def look(running: Running) -> Look:
    """Return the state of the server."""
    figures = {
        key: item["lastvalue"]
        for key, item in running.items().items()
        if key.startswith((f"openai.value[{LIMITS},", f"openai.state[{LIMITS},"))
    }
    return Look(running.problems(), figures, running.site.notifications())


def showing(running: Running, *names: str) -> Look | None:
    """Return the state of the server if these problems are open and were notified."""
    if not running.site.notifications().keys() >= {f"PROBLEM {name}" for name in names}:
        return None
    found = look(running)
    return found if found.problems.keys() >= set(names) else None


def repaired(running: Running) -> Look | None:
    """Return the state of the server if no incident is a problem."""
    return None if running.problems().keys() & set(INCIDENTS) else look(running)


def test_every_datapoint_of_every_instance_has_its_value_and_unit(running: Running) -> None:
    wanted, found = dict(expected(running)), running.items()
    values = {key: item for key, item in found.items() if key.startswith("openai.value[")}
    known = {
        key: float(item["lastvalue"])
        for key, item in values.items()
        if item["lastclock"] != "0" and not key.endswith(tuple(f"{name}]" for name in VARYING))
    }

    assert known == pytest.approx(wanted, rel=1e-12)
    assert len({key.split("[")[1].split(",")[0] for key in known}) > 20
    units = {
        (job.definition.folder, point.name): point.measure.zabbix
        for job in jobs()
        for point in job.definition.datapoints
    }
    for key, item in values.items():
        folder, _, datapoint = key.removeprefix("openai.value[").rstrip("]").split(",")
        if folder != BROKEN:
            assert item["units"] == units[folder, datapoint]


def test_no_item_and_no_rule_has_an_error(running: Running) -> None:
    for item in running.items().values():
        assert item["error"] == "" or f"[{BROKEN}," in item["key_"]
    rules = running.zabbix.call("discoveryrule.get", hostids=running.host, output="extend")
    for rule in rules:
        assert rule["error"] == "" or f"[{BROKEN}," in rule["key_"]
    [broken] = [rule for rule in rules if f"[{BROKEN}," in rule["key_"]]
    assert "broken.py: not found" in broken["error"]
    [poll] = [item for key, item in running.items().items() if key.startswith(f"{KEY}[{BROKEN},")]
    assert "broken.py: not found" in poll["error"]


def test_the_problems_are_the_breaches_of_the_collector(
    running: Running, scenario: Scenario
) -> None:
    """For DataSources that were polled once: thresholds that need one poll."""
    wanted = set()
    for job in jobs():
        polls = {one.datapoint.name: one.threshold.consecutive for one in job.alerts}
        for row in running.documents[job.definition.folder]["instances"]:
            alias = f": {row['alias']}" if job.definition.dimensions else ""
            wanted |= {
                f"{job.definition.title}{alias}: {breach['datapoint']} {breach['level']}"
                for breach in row["breaches"]
                if job.definition.folder not in (HEALTH, LIMITS) and polls[breach["datapoint"]] == 1
            }
    fast = (TITLE, "OpenAI Collection Health", "Broken")
    found = {name.partition(" [")[0] for name in scenario.before.problems}

    assert {name for name in found if not name.startswith(fast)} == wanted
    assert [name for name in wanted if "age_days" in name]
    assert len(wanted) > 5


def test_three_polls_in_a_row_raise_one_problem_of_the_right_severity(
    running: Running, scenario: Scenario
) -> None:
    assert scenario.first.problems[FIRST] == WARNING
    assert scenario.before.problems[NEXT] == AVERAGE
    for alias, trigger, limit in ((HOT, FIRST, 80), (SECOND, NEXT, 90)):
        rows = running.documents[LIMITS]["instances"]
        [place] = [row["wildvalue"] for row in rows if row["alias"] == alias]
        history = running.history(f"openai.value[{LIMITS},{place},tpm_utilization]")
        values = [(clock, float(text)) for clock, text in history]
        start = next(clock for clock, value in values if value >= limit)
        raised = running.raised(trigger)
        assert len([one for one, value in values if start <= one <= raised]) >= 3
        assert all(value >= limit for one, value in values if start <= one <= raised)


def test_a_part_that_cannot_be_read_closes_nothing(scenario: Scenario) -> None:
    assert [text for text in scenario.unread if "usage/completions" in text]
    assert FIRST in scenario.partial.problems
    assert not [name for name in scenario.partial.sent if name == f"OK {FIRST}"]


def test_an_outage_is_one_problem_and_changes_no_other(scenario: Scenario) -> None:
    before, outage = scenario.before, scenario.outage

    assert outage.problems.keys() - before.problems.keys() == {OUTAGE}
    assert outage.problems.keys() >= before.problems.keys()
    assert outage.problems[OUTAGE] == HIGH
    assert outage.figures == before.figures
    assert outage.sent - before.sent == Counter({f"PROBLEM {OUTAGE}": 1})


def test_other_items_of_the_host_keep_arriving_in_the_outage(scenario: Scenario) -> None:
    assert len(scenario.pings) >= 2 * FAST
    assert max(scenario.pings) < 20


def test_every_incident_is_notified_once_and_recovers_once_without_a_hand(
    scenario: Scenario,
) -> None:
    sent = scenario.last.sent

    for name in INCIDENTS:
        assert (sent[f"PROBLEM {name}"], sent[f"OK {name}"]) == (1, 1), name
    assert {name for name, times in sent.items() if times > 1} == set()


def test_the_external_check_reads_the_same(running: Running) -> None:
    [host] = running.zabbix.call("host.get", filter={"host": EXTERNAL})
    found = running.items(host=host["hostid"])
    [row] = running.documents["organization"]["instances"]

    for datapoint, value in row["datapoints"].items():
        item = found[f"openai.value[organization,organization,{datapoint}]"]
        assert float(item["lastvalue"]) == value


def test_an_update_keeps_all_items(running: Running) -> None:
    """The server finds them by their ids, although a name has changed."""
    [host] = running.zabbix.call("host.get", filter={"host": EXTERNAL})
    before = running.items(host=host["hostid"])
    text = artefacts.files(jobs(["organization"]))[EXTERNAL_TEMPLATE]
    running.zabbix.load(text.replace(": api_keys", ": keys of projects"))
    after = running.items(host=host["hostid"])

    assert {key: item["itemid"] for key, item in after.items()} == {
        key: item["itemid"] for key, item in before.items()
    }
    changed = after["openai.value[organization,organization,api_keys]"]
    assert changed["name"] == "OpenAI Organization: keys of projects"
