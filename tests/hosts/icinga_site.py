"""Site with Icinga 2 and the file that `lm-openai config icinga` writes.

The file runs unchanged, except that the plugins are those of the checkout and the intervals a day:
the test schedules the checks.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError

from lm_openai.hosts.icinga_names import NAME
from lm_openai.hosts.jobs import PLUGINS
from lm_openai.simulator import Simulator
from tests.hosts.agent_site import ORGANIZATION, AgentSite
from tests.hosts.conftest import Influx, free_ports
from tests.hosts.plugin_hosts import (
    ICINGA_INFLUX,
    ICINGA_SERVER,
    PAUSE,
    WAIT,
    Icinga,
    icinga_daemon,
    icinga_with,
    service_user,
)
from tests.hosts.services import Notification, Status

HOST = f"{NAME}-{ORGANIZATION}"
SIZE, MODELS = 6, 17
PROJECTS = ("Customer Support", "Data Platform", "Marketing")
"""Size of the demo organization, and its projects that are monitored: they use almost all kinds."""
QUIET = ("tts-1", "whisper-1")
"""Models of the kinds that these projects use only if they are heated."""
# What a site has besides: somebody to notify, and another service.
SITE = """const MaxConcurrentChecks = 8
object NotificationComponent "notification" {{ }}
object User "operator" {{ }}
object NotificationCommand "file" {{
  command = [ "/bin/sh", "-c", "echo \\"$$0|$$1\\" >> {notified}", "$service.name$" ]
  arguments = {{ "state" = {{ value = "$service.state$"; skip_key = true }} }}
}}
const OpenAINotification = {{ command = "file", users = [ "operator" ], user_groups = [ ] }}
object CheckCommand "none" {{ command = [ "/bin/true" ] }}
object Service "other" {{
  host_name = "openai-acme"
  check_command = "none"
}}
include "{output}"
"""
INTERVAL = re.compile(r"(check|retry)_interval = \w+")
FIELDS = ("state", "state_type", "check_attempt", "next_check", "last_check_result")


class Site(AgentSite):
    """Site with Icinga's own files."""

    def __init__(self, folder: Path, demo: Simulator) -> None:
        self.written, self.notified = folder / "lm-openai.conf", folder / "notified"
        super().__init__("icinga", folder, demo, folder / "made.conf")
        self.settings["openai.projects.include"] = ",".join(PROJECTS)
        self.set()

    def configure(self) -> str:
        """Write the file as `lm-openai config` does, and the copy that runs."""
        message = super().configure()
        text = INTERVAL.sub(r"\1_interval = 1d", self.output.read_text())
        assert PLUGINS in text
        self.written.write_text(text.replace(PLUGINS, str(self.plugins)))
        return message

    def settings_of(self, port: int, influx: int) -> str:
        """Return the configuration of the server; `influx` is the port of its InfluxDB."""
        text = "".join((ICINGA_SERVER, ICINGA_INFLUX, SITE))
        return text.format(port=port, influx=influx, output=self.written, notified=self.notified)


def heat(demo: Simulator, *rows: dict[str, Any]) -> None:
    """Heat these pools to 85% of their limit and no others; every usage kind has some use."""
    demo.clear()
    for model in QUIET:
        demo.fault("heat", project=PROJECTS[0], model=model, limit="rpm", percent=10)
    for row in rows:
        known = row["dimensions"]
        demo.fault("heat", project=known["project_id"], model=known["model"], percent=85)


class Server:
    """Running Icinga of a site."""

    def __init__(self, site: Site, icinga: Icinga) -> None:
        self.site, self._icinga, self._noted = site, icinga, 0

    def services(self) -> dict[str, Status]:
        """Return the services of the organization's host by name; none while Icinga reloads."""
        attributes = "".join(f"&attrs={name}" for name in ("name", "host_name", *FIELDS))
        try:
            found = self._icinga.request(f"objects/services?{attributes[1:]}")
        except URLError:
            return {}
        entries = [one["attrs"] for one in found if one["attrs"]["host_name"] == HOST]
        return {entry["name"]: _status(entry) for entry in entries}

    def notifications(self) -> list[Notification]:
        """Return the notifications since the last call, by service."""
        path = self.site.notified
        lines = path.read_text().splitlines() if path.exists() else []
        new = sorted(Notification(*line.split("|")) for line in lines[self._noted :])
        self._noted = len(lines)
        return new

    def start(self) -> dict[str, Status]:
        """Let all services be checked and return them when they have a result."""
        self._schedule([*self.services()], time.time(), False)
        return self.wait(lambda found: all(one.checked for one in found.values()))

    def settle(self) -> dict[str, Status]:
        """Repeat the checks of all soft states until every state is hard; return the services."""
        found = self.services()
        while soft := [name for name, one in found.items() if one.state and not one.hard]:
            found = self.check(*soft, since=max(found[name].checked for name in soft))
        return found

    def check(
        self,
        *names: str,
        suppressed: Collection[str] = (),
        force: bool = False,
        since: float = 0,
    ) -> dict[str, Status]:
        """Let the checks run now and return all services when they have a new result.

        After a service recovers, Icinga itself soon checks the problems that depend on it; a check
        that began after `since` counts as new.

        The checks of `suppressed` are due too; Icinga must put them off. With `force` a check runs
        in spite of a dependency.
        """
        before, now = self.services(), time.time()
        self._schedule([*names, *suppressed], now, force)

        def done(found: dict[str, Status]) -> bool:
            new = all(found[name].checked > (since or now) for name in names)
            return new and all(found[name].next > now + 1 for name in suppressed)

        found = self.wait(done)
        for name in suppressed:
            assert found[name].checked == before[name].checked, name
        return found

    def wait(self, done: Callable[[dict[str, Status]], bool]) -> dict[str, Status]:
        """Return the services as soon as `done` is True; fails after WAIT seconds."""
        for _ in range(int(WAIT / PAUSE / 3)):
            found = self.services()
            if found and done(found):
                return found
            time.sleep(PAUSE * 3)
        bad = {name: one for name, one in found.items() if one.state}
        log = (self.site.folder / "icinga/log/icinga2.log").read_text()[-1500:]
        raise AssertionError(f"Icinga did not do it: {log or bad}")

    def reload(self, present: Collection[str]) -> dict[str, Status]:
        """Read the configuration again; return the services when they are those in `present`."""
        os.kill(self._icinga.pid, signal.SIGHUP)
        return self.wait(lambda found: found.keys() == set(present))

    def dependencies(self) -> list[dict[str, Any]]:
        """Return the attributes of all dependencies."""
        return [one["attrs"] for one in self._icinga.request("objects/dependencies")]

    def _schedule(self, names: list[str], moment: float, force: bool) -> None:
        body = {"type": "Service", "filter": "service.name in names", "force": force}
        words = {"filter_vars": {"names": names}, "next_check": moment}
        self._icinga.request("actions/reschedule-check", {**body, **words})


def _status(entry: dict[str, Any]) -> Status:
    last = entry["last_check_result"] or {}
    return Status(
        int(entry["state"]),
        entry["state_type"] == 1,
        int(entry["check_attempt"]),
        float(last.get("execution_start", 0)),
        float(entry["next_check"]),
        last.get("output", ""),
        tuple(last.get("performance_data") or ()),
    )


@contextmanager
def icinga_of(program: str, site: Site, influx: Influx) -> Iterator[Server]:
    """Start Icinga for a site whose file has been written."""
    (port,) = free_ports(1)
    settings = site.settings_of(port, int(influx.url.rpartition(":")[2]))
    with icinga_with(program, site.folder / "icinga", settings, port, site.environ) as icinga:
        yield Server(site, icinga)


def icinga_accepts(program: str, folder: Path, configuration: str) -> str:
    """Return what `icinga2 daemon -C` prints about a configuration; fails if it is refused."""
    command = [*icinga_daemon(program, folder, configuration), "-C"]
    ran = subprocess.run(command, env=service_user(), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout
    return ran.stdout
