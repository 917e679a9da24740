"""Site with Nagios, the shipped files, and the services that `lm-openai config nagios` writes.

The files run unchanged, except that the plugins are those of the checkout. Nagios starts each
check once; all later checks are scheduled by the test, because the real intervals are minutes.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from lm_openai.hosts.jobs import PLUGINS
from lm_openai.hosts.nagios import COMMANDS, TEMPLATES
from lm_openai.simulator import Simulator
from tests.hosts.agent_site import AgentSite
from tests.hosts.plugin_hosts import PAUSE, WAIT, nagios_settings, running
from tests.hosts.services import Notification, Status
from tests.support.paths import ROOT

SHIPPED = ROOT / "packaging/nagios"
HOST = "openai-acme"
DEBIAN = (
    "illegal_object_name_chars=`~!$%^&*|'\"<>?,()=",
    "illegal_macro_output_chars=`~$&|'\"<>",
)
"""Lines of Debian's nagios.cfg that decide which names are legal."""
FURTHER = (
    *DEBIAN,
    "cfg_file={0}/" + COMMANDS,
    "cfg_file={0}/" + TEMPLATES,
    "cfg_file={0}/site.cfg",
    "enable_notifications=1",
    "execute_host_checks=1",
    "soft_state_dependencies=1",
    "retain_state_information=1",
    "service_inter_check_delay_method=n",
    "max_service_check_spread=1",
    "max_concurrent_checks=40",
    "log_service_retries=1",
)
# What Debian's own files under /etc/nagios4/objects have, and another service.
OBJECTS = """define command {
  command_name none
  command_line /bin/true
}
define timeperiod {
  timeperiod_name 24x7
  alias always
  sunday 00:00-24:00
  monday 00:00-24:00
  tuesday 00:00-24:00
  wednesday 00:00-24:00
  thursday 00:00-24:00
  friday 00:00-24:00
  saturday 00:00-24:00
}
define contact {
  contact_name operator
  host_notification_commands none
  service_notification_commands none
  host_notification_period 24x7
  service_notification_period 24x7
  host_notification_options d,u,r
  service_notification_options w,u,c,r
}
define contactgroup {
  contactgroup_name admins
  alias admins
  members operator
}
"""
OTHER_SERVICE = """define service {
  use openai-service
  host_name openai-acme
  service_description other
  check_command none
  max_check_attempts 1
  check_interval 5
  retry_interval 5
}
"""


class Site(AgentSite):
    """Site with Nagios's own files."""

    def __init__(self, folder: Path, demo: Simulator) -> None:
        self.host = folder / "nagios"
        super().__init__("nagios", folder, demo, self.host / "site.cfg")

    def lay_out(self) -> Path:
        """Write Nagios's files, with the plugins of the checkout, and return the main one."""
        further = [line.format(self.host) for line in FURTHER]
        settings = nagios_settings(self.host, OBJECTS + OTHER_SERVICE, further)
        commands = (SHIPPED / COMMANDS).read_text().replace(PLUGINS, str(self.plugins))
        (self.host / COMMANDS).write_text(commands)
        (self.host / TEMPLATES).write_text((SHIPPED / TEMPLATES).read_text())
        return settings


class Server:
    """Running Nagios of a site."""

    def __init__(self, site: Site, process: subprocess.Popen[bytes]) -> None:
        self.site, self._process, self._noted = site, process, 0

    def services(self) -> dict[str, Status]:
        """Read the services in status.dat, where line ends are a literal backslash and n."""
        text = (self.site.host / "status.dat").read_text()
        blocks = re.findall(r"^servicestatus \{\n(.*?)\n\t\}", text, re.S | re.M)
        found = (dict(line.strip().split("=", 1) for line in one.splitlines()) for one in blocks)
        return {one["service_description"]: _status(one) for one in found}

    def notifications(self) -> list[Notification]:
        """Return the notifications since the last call."""
        log = (self.site.host / "nagios.log").read_text()
        found = [line.split(";")[2:4] for line in log.splitlines() if " NOTIFICATION: " in line]
        new = [Notification(*one) for one in found[self._noted :]]
        self._noted = len(found)
        return new

    def check(self, *names: str, suppressed: Collection[str] = ()) -> dict[str, Status]:
        """Let the checks run now and return all services when they have a new result.

        The checks of `suppressed` are due too; Nagios must put them off.
        """
        before, now = self.services(), int(time.time())
        lines = [
            f"[{now}] SCHEDULE_SVC_CHECK;{HOST};{name};{now}\n" for name in (*names, *suppressed)
        ]
        with (self.site.host / "nagios.cmd").open("w") as pipe:
            pipe.write("".join(lines))

        def done(found: dict[str, Status]) -> bool:
            new = all(found[name].checked > before[name].checked for name in names)
            return new and all(found[name].next > now + 30 for name in suppressed)

        found = self.wait(done)
        for name in suppressed:
            assert found[name].checked == before[name].checked, name
        return found

    def wait(self, done: Callable[[dict[str, Status]], bool]) -> dict[str, Status]:
        """Return the services as soon as `done` is True; fails after WAIT seconds."""
        for _ in range(int(WAIT / PAUSE)):
            found = self.services()
            if found and done(found):
                return found
            time.sleep(PAUSE)
        log = (self.site.host / "nagios.log").read_text()[-1500:]
        raise AssertionError(f"Nagios did not do it: {log}")

    def reload(self, present: Collection[str]) -> dict[str, Status]:
        """Read the configuration again; return the services when they are those in `present`."""
        self._process.send_signal(signal.SIGHUP)
        return self.wait(lambda found: found.keys() == set(present))


def _status(entry: dict[str, str]) -> Status:
    text = f"{entry['plugin_output']}\\n{entry['long_plugin_output']}".replace("\\n", "\n")
    # last_check is in seconds, so the latency tells apart two checks within one.
    checked = float(entry["last_check"]) + float(entry["check_latency"]) % 1
    return Status(
        int(entry["current_state"]),
        entry["state_type"] == "1",
        int(entry["current_attempt"]),
        checked if entry["has_been_checked"] == "1" else 0.0,
        float(entry["next_check"]),
        text,
        tuple(entry["performance_data"].split()),
    )


@contextmanager
def nagios_of(program: str, site: Site) -> Iterator[Server]:
    """Start Nagios for a site whose services have been written."""
    settings = site.host / "nagios.cfg"
    command = [program, str(settings)]
    log, ready = site.host / "console.log", (site.host / "status.dat").exists
    with running(command, log, ready, site.environ) as process:
        yield Server(site, process)
