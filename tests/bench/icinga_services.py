"""Row 13: a real Icinga checks 100 instances of one DataSource every minute, for ten minutes."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from lm_openai.simulator import Simulator
from tests.bench import measure
from tests.bench.measure import Row
from tests.hosts.conftest import free_ports
from tests.hosts.plugin_hosts import ICINGA_SERVER, Icinga, icinga_with

FOLDER, SERVICES, INTERVAL, MINUTES = "rate_limits", 100, 60, 10
TICKS = os.sysconf("SC_CLK_TCK")
PROGRAMS = "icinga2/sbin/icinga2"
SETTINGS = (
    ICINGA_SERVER
    + """object CheckCommand "none" {{ command = [ "/bin/true" ] }}
object CheckCommand "openai" {{
  command = [ {command}, "--format", "nagios", "--instance", "$instance$" ]
  env = {{ {environment} }}
}}
object Host "openai" {{ check_command = "none"; enable_active_checks = false }}
"""
)
SERVICE = """object Service "{name}" {{
  host_name = "openai"
  check_command = "openai"
  vars.instance = "{instance}"
  check_interval = {interval}s
  retry_interval = {interval}s
  max_check_attempts = 1
}}
"""


def rows(rounds: int) -> Iterator[Row]:
    """Yield the requests and the CPU time of the services' checks; `rounds` does not matter."""
    with tempfile.TemporaryDirectory() as scratch, Simulator(projects=50, models=20) as demo:
        folder = Path(scratch)
        environ = measure.clean(scratch, OPENAI_BASE_URL=demo.url, OPENAI_ADMIN_KEY=measure.KEY)
        instances = _instances(environ)
        demo.clear()
        (port,) = free_ports(1)
        settings = _settings(port, environ, instances)
        with icinga_with(_program(), folder / "icinga", settings, port) as icinga:
            begun, spent = time.monotonic(), _cpu()
            time.sleep(MINUTES * 60)
            seconds, cpu = time.monotonic() - begun, _cpu() - spent
            _require_all(icinga, instances)
        polls = Counter(
            request.query["end_time"][0]
            for request in demo.requests
            if request.path.endswith("/usage/completions")
            and request.query["bucket_width"] == ["1m"]
        )
        sent = Counter((request.path, str(request.query)) for request in demo.requests)
        yield Row(
            "13",
            f"{SERVICES} --instance services in Icinga, {MINUTES} minutes: upstream requests",
            f"the same requests, each once, of {len(polls)} polls",
            f"{sent.total()}",
            sent.total() / len(sent),
            1.0,
        )
        share = cpu / seconds
        yield Row("13", "the same: CPU of Icinga's checks", "a core", f"{cpu:.1f} s", share, 0.05)


def _instances(environ: dict[str, str]) -> list[str]:
    """Return the wildvalues of the services' instances."""
    command = measure.script(FOLDER, "--format", "logicmonitor", "--discover")
    listed = subprocess.run(command, env=environ, check=True, capture_output=True, text=True)
    return [line.partition("##")[0] for line in listed.stdout.splitlines()][:SERVICES]


def _settings(port: int, environ: dict[str, str], instances: list[str]) -> str:
    command = ", ".join(f'"{word}"' for word in measure.script(FOLDER))
    variables = " ; ".join(f'"{name}" = "{text}"' for name, text in environ.items())
    head = SETTINGS.format(port=port, command=command, environment=variables)
    services = (
        SERVICE.format(name=f"instance {number}", instance=instance, interval=INTERVAL)
        for number, instance in enumerate(instances)
    )
    return head + "".join(services)


def _require_all(icinga: Icinga, instances: list[str]) -> None:
    """Exit if a service has no result or the result of a check that failed."""
    results = icinga.results()
    failed = [found.text for _, found in results.values() if found.state == 3]
    if len(results) < len(instances) or failed:
        sys.exit(f"{len(results)} of {len(instances)} services have a result; failed: {failed[:3]}")


def _cpu() -> float:
    """Return the seconds of CPU time of all checks that processes of Icinga have waited for."""
    total = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = path.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name.startswith("icinga2"):
            waited_user, waited_system = rest.split()[13:15]
            total += int(waited_user) + int(waited_system)
    return total / TICKS


def _program() -> str:
    for found in Path("/usr/lib").glob(f"*/{PROGRAMS}"):
        return str(found)
    sys.exit("row 13 needs Icinga: apt install icinga2-bin")
