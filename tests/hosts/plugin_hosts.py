"""Nagios 4 and Icinga 2 that run checks only when a test forces them, on loopback."""

from __future__ import annotations

import getpass
import grp
import json
import os
import re
import ssl
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from urllib.error import URLError
from urllib.request import Request, urlopen

WAIT, PAUSE = 90, 0.1
"""Seconds until a forced check must have a result, and between two looks."""

NAGIOS = """cfg_file={folder}/objects.cfg
log_file={folder}/nagios.log
object_cache_file={folder}/objects.cache
status_file={folder}/status.dat
status_update_interval=1
lock_file={folder}/nagios.pid
temp_file={folder}/nagios.tmp
temp_path={folder}
check_result_path={folder}/checkresults
state_retention_file={folder}/retention.dat
command_file={folder}/nagios.cmd
query_socket={folder}/nagios.qh
nagios_user={user}
nagios_group={group}
check_external_commands=1
check_for_updates=0
use_syslog=0
retain_state_information=0
execute_host_checks=0
service_check_timeout=60
enable_notifications=0
enable_flap_detection=0
process_performance_data=0
event_broker_options=0
"""
NAGIOS_OBJECTS = """define command {{
  command_name openai
  command_line {checks}/$SERVICEDESC$
}}
define command {{
  command_name none
  command_line /bin/true
}}
define timeperiod {{
  timeperiod_name never
  alias never
}}
define contact {{
  contact_name nobody
  host_notification_commands none
  service_notification_commands none
  host_notification_period never
  service_notification_period never
}}
define host {{
  host_name openai
  contacts nobody
  address 127.0.0.1
  max_check_attempts 1
  active_checks_enabled 0
}}
"""
NAGIOS_SERVICE = """define service {{
  host_name openai
  service_description {name}
  check_command openai
  contacts nobody
  max_check_attempts 1
  check_interval 60
  retry_interval 60
  active_checks_enabled 0
}}
"""
ICINGA_CORE = """include <itl>
const NodeName = "ci"
const ZoneName = "ci"
object Endpoint NodeName {{ }}
object Zone ZoneName {{ endpoints = [ NodeName ] }}
object CheckerComponent "checker" {{ }}
object FileLogger "main" {{ severity = "warning"; path = LogDir + "/icinga2.log" }}
"""
ICINGA_API = """object ApiListener "api" {{ bind_host = "127.0.0.1"; bind_port = "{port}" }}
object ApiUser "ci" {{ password = "ci"; permissions = [ "*" ] }}
"""
ICINGA_SERVER = ICINGA_CORE + ICINGA_API
ICINGA_INFLUX = """object InfluxdbWriter "influx" {{
  host = "127.0.0.1"
  port = {influx}
  database = "ci"
  flush_threshold = 1
  flush_interval = 1s
  enable_send_thresholds = true
  service_template = {{ measurement = "icinga", tags = {{ service = "$service.name$" }} }}
}}
"""
ICINGA_OBJECTS = """object CheckCommand "none" {{ command = [ "/bin/true" ] }}
object CheckCommand "openai" {{ command = [ "{checks}/$service.name$" ]; timeout = 60s }}
object Host "openai" {{ check_command = "none"; enable_active_checks = false }}
"""
ICINGA_SERVICE = """object Service "{name}" {{
  host_name = "openai"
  check_command = "openai"
  max_check_attempts = 1
  enable_active_checks = false
}}
"""


class Result(NamedTuple):
    """Result of a check as the host stores it: state 0 to 3, text of all lines, perfdata."""

    state: int
    text: str
    perfdata: str


class PluginHost(Protocol):
    """Monitoring host with one service per script in its folder `checks`."""

    def force(self, names: Iterable[str]) -> dict[str, float]:
        """Start the checks; return the time after which a result is new, by service."""

    def results(self) -> dict[str, tuple[float, Result]]:
        """Return the time and the result of each service that has one."""


def forced(host: PluginHost, names: Iterable[str]) -> dict[str, Result]:
    """Run the checks at once and return their results; fails after WAIT seconds."""
    since = host.force(names)
    for _ in range(int(WAIT / PAUSE)):
        found = host.results()
        if all(name in found and found[name][0] > since[name] for name in since):
            return {name: found[name][1] for name in since}
        time.sleep(PAUSE)
    raise AssertionError(f"no new result of all services {sorted(since)}: {found}")


class Nagios(NamedTuple):
    """Running Nagios 4 with its files in `folder`."""

    folder: Path

    def force(self, names: Iterable[str]) -> dict[str, float]:
        last = self.results()
        now = int(time.time())
        commands = [f"[{now}] SCHEDULE_FORCED_SVC_CHECK;openai;{name};{now}\n" for name in names]
        with (self.folder / "nagios.cmd").open("w") as pipe:
            pipe.write("".join(commands))
        return {name: last[name][0] if name in last else 0.0 for name in names}

    def results(self) -> dict[str, tuple[float, Result]]:
        """Read status.dat, where line ends of the long output are a literal backslash and n."""
        status = (self.folder / "status.dat").read_text()
        found = {}
        for block in re.findall(r"^servicestatus \{\n(.*?)\n\t\}", status, re.S | re.M):
            entry = dict(line.strip().split("=", 1) for line in block.splitlines())
            text = f"{entry['plugin_output']}\\n{entry['long_plugin_output']}"
            result = Result(
                int(entry["current_state"]), text.replace("\\n", "\n"), entry["performance_data"]
            )
            # last_check is in seconds, so the latency tells apart two checks within one.
            if entry["has_been_checked"] == "1":
                found[entry["service_description"]] = (_time(entry), result)
        return found


def _time(entry: dict[str, str]) -> float:
    return float(entry["last_check"]) + float(entry["check_latency"]) % 1


@contextmanager
def nagios(program: str, folder: Path, checks: Path) -> Iterator[Nagios]:
    """Start Nagios with a service for each script in `checks`."""
    objects = NAGIOS_OBJECTS.format(checks=checks)
    objects += "".join(NAGIOS_SERVICE.format(name=path.name) for path in checks.iterdir())
    command = [program, str(nagios_settings(folder, objects))]
    with running(command, folder / "console.log", (folder / "status.dat").exists):
        yield Nagios(folder)


def nagios_settings(folder: Path, objects: str, further: Iterable[str] = ()) -> Path:
    """Write the configuration of a Nagios with these objects and return its path.

    Of two lines for one setting, the later one counts, so `further` lines replace those of NAGIOS.
    """
    (folder / "checkresults").mkdir(parents=True)
    group = grp.getgrgid(os.getgid()).gr_name
    settings = folder / "nagios.cfg"
    lines = NAGIOS.format(folder=folder, user=getpass.getuser(), group=group)
    settings.write_text(lines + "".join(f"{line}\n" for line in further))
    (folder / "objects.cfg").write_text(objects)
    return settings


class Icinga(NamedTuple):
    """Running Icinga 2 with its REST API, and the id of the process that reloads it."""

    url: str
    pid: int

    def force(self, names: Iterable[str]) -> dict[str, float]:
        now = time.time()
        wanted = list(names)
        self.request(
            "actions/reschedule-check",
            {
                "type": "Service",
                "filter": "service.name in names",
                "filter_vars": {"names": wanted},
                "force": True,
            },
        )
        return dict.fromkeys(wanted, now)

    def results(self) -> dict[str, tuple[float, Result]]:
        found = {}
        for service in self.request(
            "objects/services?attrs=name&attrs=state&attrs=last_check_result"
        ):
            entry = service["attrs"]
            last = entry["last_check_result"]
            if last:
                perfdata = " ".join(last["performance_data"])
                result = Result(int(entry["state"]), last["output"], perfdata)
                found[entry["name"]] = (float(last["execution_start"]), result)
        return found

    def request(self, path: str, body: Any = None) -> list[dict[str, Any]]:
        """Return the results of a GET, or of a POST of `body`."""
        words = {
            "Accept": "application/json",
            "Authorization": f"Basic {b64encode(b'ci:ci').decode()}",
        }
        data = None if body is None else json.dumps(body).encode()
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with urlopen(Request(f"{self.url}/{path}", data, words), context=context) as response:
            found: list[dict[str, Any]] = json.load(response)["results"]
        return found

    def responds(self) -> bool:
        try:
            return bool(self.request("objects/services?attrs=name"))
        except URLError:
            return False


@contextmanager
def icinga(program: str, folder: Path, checks: Path, port: int, influx: int) -> Iterator[Icinga]:
    """Start Icinga with a service for each script in `checks`; it writes to InfluxDB."""
    services = "".join(ICINGA_SERVICE.format(name=path.name) for path in checks.iterdir())
    parts = ICINGA_SERVER, ICINGA_INFLUX, ICINGA_OBJECTS
    settings = "".join(parts).format(port=port, influx=influx, checks=checks) + services
    with icinga_with(program, folder, settings, port) as found:
        yield found


@contextmanager
def icinga_with(
    program: str, folder: Path, configuration: str, port: int, environ: Mapping[str, str] = {}
) -> Iterator[Icinga]:
    """Start Icinga with this configuration, whose API listens on `port`."""
    command = icinga_daemon(program, folder, configuration)
    _certificates(program, folder)
    found = Icinga(f"https://127.0.0.1:{port}/v1", 0)
    with running(command, folder / "console.log", found.responds, environ) as server:
        yield found._replace(pid=server.pid)


def icinga_daemon(program: str, folder: Path, configuration: str) -> list[str]:
    """Write the files of an Icinga of its own and return the command that starts it."""
    for name in ("data/certs", "log", "cache", "spool", "run"):
        (folder / name).mkdir(parents=True)
    settings = folder / "icinga2.conf"
    settings.write_text(configuration)
    return [program, "daemon", *_folders(folder), "-c", str(settings)]


def _certificates(program: str, folder: Path) -> None:
    certs = folder / "data/certs"
    request = ("--csr", f"{certs}/ci.csr")
    for words in (
        ("new-ca",),
        ("new-cert", "--cn", "ci", "--key", f"{certs}/ci.key", *request),
        ("sign-csr", *request, "--cert", f"{certs}/ci.crt"),
    ):
        command = [program, "pki", words[0], *_folders(folder), *words[1:]]
        subprocess.run(command, env=service_user(), check=True, capture_output=True, timeout=60)
    (certs / "ca.crt").write_bytes((folder / "data/ca/ca.crt").read_bytes())


def _folders(folder: Path) -> Iterator[str]:
    for name, value in (
        ("ConfigDir", folder),
        ("DataDir", folder / "data"),
        ("LogDir", folder / "log"),
        ("CacheDir", folder / "cache"),
        ("SpoolDir", folder / "spool"),
        ("InitRunDir", folder / "run"),
        ("PidPath", folder / "run/icinga2.pid"),
    ):
        yield from ("-D", f"{name}={value}")


def service_user() -> dict[str, str]:
    """Return the environment in which Icinga keeps the user of the tests."""
    group = grp.getgrgid(os.getgid()).gr_name
    return {**os.environ, "ICINGA2_USER": getpass.getuser(), "ICINGA2_GROUP": group}


@contextmanager
def running(
    command: list[str], log: Path, ready: Any, environ: Mapping[str, str] = {}
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server during the `with` block, which begins when `ready()` is True."""
    with log.open("w") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=output, env={**service_user(), **environ}
        )
    try:
        for _ in range(300):
            if ready():
                break
            assert server.poll() is None, log.read_text()[-2000:]
            time.sleep(PAUSE)
        else:
            raise AssertionError(f"{command[0]} does not respond: {log.read_text()[-2000:]}")
        yield server
    finally:
        server.terminate()
        server.wait(20)
