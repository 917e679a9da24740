"""Real servers that store the output, on free ports and in temporary folders."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

SETTINGS = """reporting-disabled = true
bind-address = "127.0.0.1:{rpc}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  query-log-enabled = false
[monitor]
  store-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
"""

FILE = re.compile(r'node_textfile_mtime_seconds\{file="([^"]*)"')


class Influx(NamedTuple):
    """A running InfluxDB 1.x with one database."""

    url: str

    def query(self, text: str) -> list[dict[str, Any]]:
        """Return the series of a query, with times in nanoseconds."""
        words = urlencode({"db": "ci", "epoch": "ns", "q": text})
        with urlopen(Request(f"{self.url}/query", words.encode())) as response:
            result = json.load(response)["results"][0]
        assert "error" not in result, result
        found: list[dict[str, Any]] = result.get("series", [])
        return found

    def write(self, lines: str) -> None:
        """Store line protocol; raises if the server responds with an error."""
        request = Request(f"{self.url}/write?db=ci&precision=ns", lines.encode(), method="POST")
        with urlopen(request) as response:
            assert response.status == 204


@pytest.fixture(scope="session")
def influx(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Influx]:
    """Start InfluxDB from Debian's package, with an empty database."""
    folder = tmp_path_factory.mktemp("influx")
    rpc, port = free_ports(2)
    settings = folder / "influxdb.conf"
    settings.write_text(SETTINGS.format(folder=folder, rpc=rpc, port=port))
    found = Influx(f"http://127.0.0.1:{port}")
    command = [tool("influxd"), "run", "-config", str(settings)]
    with serving(command, folder, f"{found.url}/ping"):
        found.query("CREATE DATABASE ci")
        yield found


class NodeExporter(NamedTuple):
    """A running node exporter that reads the files `*.prom` of a folder at each scrape."""

    url: str
    folder: Path

    def scrape(self) -> dict[str, float]:
        """Return the values by series, as `name{label="value"}`; fails if the scrape fails."""
        with urlopen(f"{self.url}/metrics") as response:
            lines = response.read().decode().splitlines()
        series = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in series}

    def files(self) -> list[str]:
        """Return the names of the files that the exporter read."""
        found = map(FILE.match, self.scrape())
        return sorted(Path(one[1]).name for one in found if one)

    @classmethod
    @contextmanager
    def running(cls, tool: Callable[[str], str], home: Path) -> Iterator[NodeExporter]:
        """Start the exporter with its textfile collector alone and an empty folder in `home`."""
        folder = home / "textfile"
        folder.mkdir()
        (port,) = free_ports(1)
        words = ["--collector.disable-defaults", "--collector.textfile"]
        words += [f"--collector.textfile.directory={folder}"]
        words += [f"--web.listen-address=127.0.0.1:{port}", "--web.disable-exporter-metrics"]
        found = cls(f"http://127.0.0.1:{port}", folder)
        with serving([tool("prometheus-node-exporter"), *words], home, found.url):
            yield found


@pytest.fixture
def node_exporter(tool: Callable[[str], str], tmp_path: Path) -> Iterator[NodeExporter]:
    """Start the node exporter with its textfile collector alone and an empty folder."""
    with NodeExporter.running(tool, tmp_path) as found:
        yield found


@contextmanager
def serving(command: list[str], folder: Path, url: str) -> Iterator[None]:
    """Run a server with its log in this folder during the block, once it responds at the URL."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
    try:
        ready(url, log)
        yield
    finally:
        server.terminate()
        server.wait(20)


def until(condition: Callable[[], Any], seconds: float, what: str) -> None:
    """Wait until the condition holds; fails after this many seconds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)


def ready(url: str, log: Path) -> None:
    """Wait up to 15 s until the server responds; fails with the end of its log."""
    for _ in range(150):
        try:
            urlopen(url).close()
            return
        except URLError:
            time.sleep(0.1)
    pytest.fail(f"{url} does not respond:\n{log.read_text()[-2000:]}")


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback address that are free."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [taken.getsockname()[1] for taken in sockets]
    for taken in sockets:
        taken.close()
    return ports
