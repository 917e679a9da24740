"""Resident mode: scrapes over HTTP, lines on standard input, and its end."""

from __future__ import annotations

import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from urllib3.util import connection

from lm_openai import resources
from lm_openai.app import metrics_server, run_many, serve
from lm_openai.app.commands import suite
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.errors import WrongUsage
from lm_openai.simulator import ADMIN_KEY, NO_USAGE_KEY, Simulator
from lm_openai.timespans import DAY
from tests.support.paths import ROOT
from tests.support.surroundings import environment

FOLDERS = ("images_by_model", "moderations_by_model")
AT = 1795005296  # 2026-11-18 12:34:56 UTC


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=AT, projects=3, models=6) as simulator:
        yield simulator


class Resident:
    """A poller and its server; `now` is its time in Unix seconds."""

    def __init__(self, environ: dict[str, str], options: Options) -> None:
        self.now, self.environ, self.stderr = float(AT), environ, io.StringIO()
        around = Surroundings(environ, io.StringIO(), io.StringIO(), self.stderr, AT)
        self.poller = serve.Poller(options, around, lambda: self.now)
        self.server = metrics_server.Server(("127.0.0.1", 0), self.poller.page, FOLDERS)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.server.server_address[:2]
        return str(host), port

    def text(self, path: str = "/metrics") -> str:
        with urlopen(self.server.url + path, timeout=20) as response:
            body: str = response.read().decode()
        assert response.status == 200
        return body

    def scrape(self, path: str = "/metrics") -> dict[tuple[str, str], float]:
        """Return the values by metric and DataSource, the last one of each."""
        return {
            (sample.name, sample.labels.get("datasource", "")): sample.value
            for family in text_string_to_metric_families(self.text(path))
            for sample in family.samples
        }

    def success(self, path: str = "/metrics") -> list[float]:
        found = self.scrape(path)
        return [found["openai_poll_success", folder] for folder in FOLDERS]

    def status(self, path: str, method: str = "GET") -> tuple[int, str]:
        try:
            urlopen(Request(self.server.url + path, method=method), timeout=20).close()
        except HTTPError as refused:
            with refused:
                return refused.code, refused.read().decode()
        return 200, ""


@pytest.fixture
def start(demo: Simulator, tmp_path: Path) -> Iterator[Callable[..., Resident]]:
    started: list[Resident] = []

    def run(options: Options | None = None, **environ: str) -> Resident:
        given = {**environment(demo.url, tmp_path / "cache"), **environ}
        wanted = options or Options(format="prometheus")
        started.append(Resident({name: text for name, text in given.items() if text}, wanted))
        return started[-1]

    yield run
    for resident in started:
        resident.server.shutdown()
        resident.server.server_close()


class TestPages:
    def test_all_datasources_or_one(self, start: Callable[..., Resident]) -> None:
        resident = start()
        assert resident.success() == [1, 1]
        one = resident.scrape("/metrics/images_by_model")
        assert one["openai_poll_success", "images_by_model"] == 1
        assert one["openai_poll_timestamp_seconds", "images_by_model"] == AT
        assert {folder for _, folder in one} == {"images_by_model"}

    def test_every_datasource_in_one_page(
        self, demo: Simulator, start: Callable[..., Resident]
    ) -> None:
        page = start().poller.page(resources.folders())
        families = {family.name: family for family in text_string_to_metric_families(page)}
        success = families["openai_poll_success"].samples
        assert {one.labels["datasource"] for one in success} == set(resources.folders())
        assert {one.value for one in success} == {1}
        assert ADMIN_KEY not in page

    def test_health_needs_no_poll(self, demo: Simulator, start: Callable[..., Resident]) -> None:
        assert start(OPENAI_ADMIN_KEY="").text("/-/healthy") == "ok\n"
        assert demo.requests == []

    @pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/cost_by_user", "/metrics/%2e"])
    def test_another_path_is_refused(self, start: Callable[..., Resident], path: str) -> None:
        status, text = start().status(path)
        assert (status, text.startswith("try /metrics, /metrics/images_by_model")) == (404, True)

    def test_only_reading_is_allowed(self, start: Callable[..., Resident]) -> None:
        assert start().status("/metrics?a=b", "HEAD") == (200, "")
        assert start().status("/metrics", "POST")[0] == 501


class TestPolls:
    def test_scrapes_at_once_share_one_poll(
        self, demo: Simulator, start: Callable[..., Resident]
    ) -> None:
        resident = start(LM_OPENAI_CACHE_TTL="0s")
        resident.text()
        once = len(demo.requests)
        demo.clear()
        demo.fault("slow", seconds=0.3)
        threads = [threading.Thread(target=resident.text) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert 0 < len(demo.requests) <= once

    def test_there_is_one_poll_in_each_time_to_live(
        self, demo: Simulator, start: Callable[..., Resident]
    ) -> None:
        resident, times = start(), []
        for seconds in (0, 30, 49, 50, 99):
            resident.now = AT + seconds
            before = len(demo.requests)
            at = resident.scrape()["openai_poll_timestamp_seconds", FOLDERS[0]]
            times.append((at - AT, len(demo.requests) > before))
        assert times == [(0, True), (0, False), (0, False), (50, True), (50, False)]

    def test_a_page_ends_at_midnight(self, demo: Simulator, start: Callable[..., Resident]) -> None:
        resident, midnight = start(), AT // DAY * DAY + DAY
        demo.now = midnight
        for seconds in (-5, 0):
            resident.now = midnight + seconds
            at = resident.scrape()["openai_poll_timestamp_seconds", FOLDERS[0]]
            assert at == midnight + seconds

    def test_a_failed_poll_has_no_old_numbers(
        self, demo: Simulator, start: Callable[..., Resident]
    ) -> None:
        resident = start(Options(format="prometheus", sets=("openai.timeout=5",)))
        assert resident.success() == [1, 1]
        assert resident.stderr.getvalue() == ""
        demo.fault("500")
        resident.now += 50
        assert resident.success() == [0, 0]
        assert {name for name, _ in resident.scrape()} == {"openai_poll_success"}
        assert "HTTP 500" in resident.stderr.getvalue()

    def test_wrong_settings_are_a_failed_poll_and_may_be_fixed(
        self, start: Callable[..., Resident], tmp_path: Path
    ) -> None:
        file = tmp_path / "properties"
        resident = start(Options(format="prometheus", properties=(str(file),)), OPENAI_ADMIN_KEY="")
        assert resident.success() == [0, 0]
        assert "properties from" in resident.stderr.getvalue()
        file.write_text(f"openai.admin.key={ADMIN_KEY}\nopenai.org.name=first\n")
        file.chmod(0o600)
        assert resident.success() == [1, 1]
        assert "all polls succeed again" in resident.stderr.getvalue()

    def test_changed_files_take_effect(
        self, start: Callable[..., Resident], tmp_path: Path
    ) -> None:
        key, file = tmp_path / "key", tmp_path / "properties"
        file.write_text(f"openai.admin.key.file={key}\nopenai.org.name=first\n")
        key.write_text(ADMIN_KEY)
        key.chmod(0o600)
        resident = start(Options(format="prometheus", properties=(str(file),)), OPENAI_ADMIN_KEY="")
        assert 'organization="first"' in resident.text()
        file.write_text(f"openai.admin.key.file={key}\nopenai.org.name=second\n")
        resident.now += 50
        assert 'organization="second"' in resident.text()
        key.write_text(NO_USAGE_KEY)
        resident.now += 50
        assert resident.success() == [0, 0]
        assert "api.usage.read" in resident.stderr.getvalue()

    def test_a_hanging_poll_is_a_failed_one(
        self, start: Callable[..., Resident], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        released = threading.Event()
        monkeypatch.setattr(run_many, "polled", lambda *_: released.wait(20) and ([], []))
        resident = start(Options(format="prometheus", timeout="1"))
        resident.poller._patience = 0.1
        assert resident.success() == [0, 0]
        assert "takes longer than 0.1 s" in resident.stderr.getvalue()
        released.set()

    def test_a_fault_of_the_suite_is_a_failed_poll(
        self, start: Callable[..., Resident], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run_many, "polled", lambda *_: 1 // 0)
        resident = start()
        assert resident.success() == [0, 0]
        assert "ZeroDivisionError" in resident.stderr.getvalue()

    def test_connections_stay_open_between_polls(
        self, start: Callable[..., Resident], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        made: list[object] = []
        real = connection.create_connection

        def counted(*arguments: Any, **options: Any) -> socket.socket:
            made.append(arguments[0])
            return real(*arguments, **options)

        resident = start()
        monkeypatch.setattr(connection, "create_connection", counted)
        resident.poller.page(FOLDERS)
        for _ in range(4):
            resident.now += 50
            resident.poller.page(FOLDERS)
        assert resident.stderr.getvalue() == ""
        assert 0 < len(made) <= len(FOLDERS)


class TestClients:
    def test_slow_ones_do_not_block_others_and_are_cut(
        self, start: Callable[..., Resident], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(metrics_server, "SECONDS", 0.5)
        resident = start()
        slow = [socket.create_connection(resident.address, 5) for _ in range(5)]
        for one in slow:
            one.sendall(b"GET /metr")
        assert resident.text("/-/healthy") == "ok\n"
        began = time.monotonic()
        assert [one.recv(1) for one in slow] == [b""] * 5
        assert time.monotonic() - began < 5
        for one in slow:
            one.close()

    def test_there_are_only_so_many(
        self, start: Callable[..., Resident], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(metrics_server, "MOST_CLIENTS", 3)
        resident = start()
        held = [socket.create_connection(resident.address, 5) for _ in range(3)]
        for one in held:
            one.sendall(b"GET")
        until = time.monotonic() + 5
        while resident.server._free.acquire(blocking=False) and time.monotonic() < until:
            resident.server._free.release()
            time.sleep(0.01)
        assert resident.status("/-/healthy")[0] == 503
        for one in held:
            one.close()
        while resident.status("/-/healthy")[0] != 200 and time.monotonic() < until:
            time.sleep(0.01)
        assert resident.text("/-/healthy") == "ok\n"

    @pytest.mark.parametrize(
        ("sent", "answer"),
        [
            (b"GET /" + b"a" * 9000, b"HTTP/1.0 431"),
            (b"GET /-/healthy HTTP/1.1\r\n" + b"A: b\r\n" * 1400, b"HTTP/1.0 431"),
            (b"secret\r\n\r\n", b"HTTP/1.0 400"),
            (b"GET / HTTP/9.9\r\n\r\n", b"HTTP/1.0 505"),
            (b"\r\n\r\n", b""),
            (b"GET /-/healthy\r\n\r\n", b"HTTP/1.0 200"),
        ],
    )
    def test_odd_requests(self, start: Callable[..., Resident], sent: bytes, answer: bytes) -> None:
        resident = start()
        with socket.create_connection(resident.address, 5) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            received = b"".join(iter(lambda: client.recv(4096), b""))
        assert received[:12] == answer
        assert b"secret" not in received
        assert resident.text("/-/healthy") == "ok\n"


@pytest.mark.parametrize(
    ("address", "split", "loopback"),
    [
        ("9464", ("127.0.0.1", 9464), True),
        (":9464", ("127.0.0.1", 9464), True),
        ("localhost:1", ("localhost", 1), True),
        ("0.0.0.0:9464", ("0.0.0.0", 9464), False),
        ("[::1]:9464", ("::1", 9464), True),
        ("[::]:9464", ("::", 9464), False),
    ],
)
def test_addresses(address: str, split: tuple[str, int], loopback: bool) -> None:
    assert metrics_server.split(address) == split
    assert metrics_server.is_loopback(split[0]) == loopback


@pytest.mark.parametrize("address", ["", "a", "host:", "1:2:x", "host:65536", "host:-1", "h:²"])
def test_wrong_addresses(address: str) -> None:
    with pytest.raises(WrongUsage, match="give HOST:PORT"):
        metrics_server.split(address)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--listen", "0", "--format", "influx"], "--listen serves prometheus, not influx"),
        (["--properties", "-"], "cannot read standard input; name a file"),
        (["--timeout", "0"], "--timeout '0'"),
        (["nothing"], "unknown DataSource"),
        (["--format", "zabbix"], "'zabbix' is not one of"),
    ],
)
def test_wrong_usage(words: list[str], sentence: str) -> None:
    result = CliRunner().invoke(suite, ["serve", *words])
    assert sentence in result.output + str(result.exception)


class TestProcess:
    @contextmanager
    def started(self, environ: dict[str, str], *words: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-m", "lm_openai.start", "serve", *words],
            cwd=ROOT, env={**environ, "HOME": os.environ["HOME"]}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()

    @pytest.fixture
    def environ(self, demo: Simulator, tmp_path: Path) -> dict[str, str]:
        demo.now = time.time()
        return environment(demo.url, tmp_path / "cache")

    def test_a_line_is_a_poll_and_the_end_of_input_the_end(self, environ: dict[str, str]) -> None:
        with self.started(environ, FOLDERS[0], "--format", "prometheus") as process:
            out, err = process.communicate("\n\n", timeout=60)
        assert (process.returncode, err) == (0, "")
        assert out.count("# TYPE openai_poll_success gauge\n") == 2

    def test_influx_is_the_format_of_several_datasources_too(self, environ: dict[str, str]) -> None:
        with self.started(environ, "completion_by_model", "cost_by_project") as process:
            out, err = process.communicate("\n", timeout=60)
        assert (process.returncode, err) == (0, "")
        for folder in ("completion_by_model", "cost_by_project"):
            assert f"openai_{folder}," in out

    def test_a_failed_poll_of_a_line_goes_to_stderr(
        self, demo: Simulator, environ: dict[str, str]
    ) -> None:
        with self.started({**environ, "OPENAI_ADMIN_KEY": "sk-x"}, *FOLDERS) as process:
            out, err = process.communicate("\n\n", timeout=60)
        assert (process.returncode, out) == (0, "")
        assert err.count("a project key was given") >= len(FOLDERS)
        assert "sk-x" not in err

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_it_while_a_request_hangs(
        self, demo: Simulator, environ: dict[str, str], number: signal.Signals
    ) -> None:
        demo.fault("slow", seconds=30)
        with self.started(environ, FOLDERS[0], "--listen", "0") as process:
            assert process.stderr is not None
            url = process.stderr.readline().split()[1]
            with socket.create_connection(("127.0.0.1", int(url.split(":")[2].split("/")[0]))) as c:
                c.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
                assert urlopen(url.replace("/metrics", "/-/healthy")).read() == b"ok\n"
                process.send_signal(number)
                assert process.wait(5) == 0
            assert "Traceback" not in process.stderr.read()

    def test_a_taken_port_is_a_sentence(self, environ: dict[str, str]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            with self.started(environ, FOLDERS[0], "--listen", address) as process:
                _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (
            1, f"--listen {address}: Address already in use; choose another\n"
        )  # fmt: skip
