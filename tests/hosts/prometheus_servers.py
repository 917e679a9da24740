"""Prometheus, node exporter and Alertmanager with what is shipped for them, at a faster pace."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

from lm_openai.timespans import duration
from tests.hosts.conftest import NodeExporter, free_ports, serving
from tests.support.paths import ROOT

SHIPPED = ROOT / "packaging/prometheus"
PACE = 150
"""Factor by which every time in the shipped files is shorter: five minutes are two seconds."""
ALERTMANAGER = (
    "prometheus-alertmanager",
    "--config.file=alertmanager.yml",
    "--cluster.listen-address=",
    "--storage.path=alerts",
)
PROMETHEUS = ("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=data")
_DURATION = re.compile(r"(?m)(?<=: )[0-9]+[smhd]$|(?<=\[)[0-9]+[smhd](?=\])")
_LATE = re.compile(r"(?<= > )[0-9]+(?=\) \* 0)")


def faster(text: str) -> str:
    """Return a shipped file with every interval, wait, range and age divided by PACE.

    A scrape alone takes place every second, so that it succeeds on a busy machine too.
    """
    text = text.replace("scrape_interval: 1m", f"scrape_interval: {PACE}s")
    text = _DURATION.sub(lambda found: f"{duration(found[0]) * 1000 // PACE}ms", text)
    return _LATE.sub(lambda found: f"{int(found[0]) / PACE:.3f}", text)


class Notification(NamedTuple):
    """One message of Alertmanager: the alerts that fire and those that are resolved."""

    firing: tuple[dict[str, Any], ...]
    resolved: tuple[dict[str, Any], ...]

    @property
    def name(self) -> str:
        return str((*self.firing, *self.resolved)[0]["labels"]["alertname"])


class Stack(NamedTuple):
    """Running servers: `textfiles` is the exporter's folder, `received` every notification."""

    url: str
    textfiles: Path
    received: list[Notification]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression now."""
        with urlopen(f"{self.url}/api/v1/query?{urlencode({'query': expression})}") as response:
            found: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return found

    def states(self, **labels: str) -> set[tuple[str, str, str]]:
        """Return (name, severity, pending or firing) of the active alerts with these labels."""
        wanted = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
        alerts = [one["metric"] for one in self.query(f"ALERTS{{{wanted}}}")]
        return {(one["alertname"], one["severity"], one["alertstate"]) for one in alerts}


@contextmanager
def running(tool: Callable[[str], str], folder: Path) -> Iterator[Stack]:
    """Start all servers with the shipped files, at PACE; stops them at the end of the block."""
    alerts, prometheus, hook = free_ports(3)
    received: list[Notification] = []
    with ExitStack() as stack:
        exporter = stack.enter_context(NodeExporter.running(tool, folder))
        scraped = int(exporter.url.rpartition(":")[2])
        _configure(folder, {9100: scraped, 9093: alerts, 9099: hook})
        stack.enter_context(_hook(hook, received))
        for port, words in ((alerts, ALERTMANAGER), (prometheus, PROMETHEUS)):
            command = [tool(words[0]), *words[1:], f"--web.listen-address=127.0.0.1:{port}"]
            stack.enter_context(serving(command, folder, f"http://127.0.0.1:{port}/"))
        yield Stack(f"http://127.0.0.1:{prometheus}", exporter.folder, received)


def _configure(folder: Path, ports: dict[int, int]) -> None:
    """Write the shipped files at PACE, without the job for the resident mode."""
    (folder / "openai").mkdir()
    for path in (SHIPPED / "rules").iterdir():
        (folder / "openai" / path.name).write_text(faster(path.read_text()))
    for name in ("prometheus.yml", "alertmanager.yml"):
        text = faster((SHIPPED / name).read_text()).partition("  - job_name: openai\n")[0]
        for port, own in ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{own}")
        (folder / name).write_text(text)


@contextmanager
def _hook(port: int, received: list[Notification]) -> Iterator[None]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found: dict[str, list[Any]] = {"firing": [], "resolved": []}
            for alert in body["alerts"]:
                found[alert["status"]].append(alert)
            received.append(Notification(tuple(found["firing"]), tuple(found["resolved"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
