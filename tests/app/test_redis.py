"""Processes of three hosts, each with a cache folder of its own, with and without their Redis."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from lm_openai.app import doctor
from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Session, Surroundings
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support.paths import ROOT
from tests.support.redis_server import PASSWORD, RedisServer
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

SCRIPT = ROOT / "modules/completion_by_model/completion_by_model.py"


@pytest.fixture
def server(tool: Callable[[str], str], tmp_path: Path) -> Iterator[RedisServer]:
    started = RedisServer(tool("redis-server"), tmp_path / "redis")
    yield started
    started.kill()


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(projects=6, models=16, latency=0.1) as simulator:
        yield simulator


@pytest.fixture
def environ(
    demo: Simulator, server: RedisServer, tmp_path: Path
) -> Callable[[str], dict[str, str]]:
    """Function that returns the environment of a host of that name."""
    demo.clear()
    return lambda name: {
        **environment(demo.url, tmp_path / name),
        "LM_OPENAI_CACHE_URL": server.url,
        "LM_OPENAI_CACHE_PASS": PASSWORD,
    }


def started(environ: dict[str, str]) -> subprocess.Popen[str]:
    words = [sys.executable, str(SCRIPT), "--format", "json"]
    return subprocess.Popen(words, env=environ, stdout=subprocess.PIPE, text=True)


def sent(demo: Simulator) -> Counter[tuple[str, str]]:
    return Counter((one.path, str(one.query.get("bucket_width"))) for one in demo.requests)


def test_three_hosts_at_once_make_one_poll_and_a_killed_one_costs_another(
    demo: Simulator, environ: Callable[[str], dict[str, str]], server: RedisServer
) -> None:
    alone = {**environ("alone"), "LM_OPENAI_CACHE_URL": ""}
    assert started(alone).wait(60) == 0
    once = sent(demo)
    demo.clear()

    processes = [started(environ(name)) for name in "abc" * 3]
    outputs = {process.communicate(timeout=60)[0] for process in processes}

    assert [process.returncode for process in processes] == [0] * 9
    assert (len(outputs), sent(demo)) == (1, once)

    server.kill()
    server.start()
    demo.clear()
    victim = started({**environ("x"), "OPENAI_BASE_URL": demo.url})
    while not demo.requests and victim.poll() is None:
        pass
    victim.kill()
    victim.wait(10)
    others = [started(environ(name)) for name in "yz"]
    assert [process.wait(60) for process in others] == [0, 0]
    assert sum(sent(demo).values()) <= 2 * sum(once.values())


def polled(environ: dict[str, str], **options: Any) -> tuple[int, str, str]:
    """Poll in this process; return the status and what it prints."""
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings.real(polls=False)._replace(environ=environ, stdout=out, stderr=err)
    status = run("completion_by_model", Options(**{"format": "json", **options}), around)
    return status, out.getvalue(), err.getvalue()


def test_a_host_without_its_redis_works_alone_and_says_so(
    demo: Simulator, environ: Callable[[str], dict[str, str]], server: RedisServer
) -> None:
    wrong = {**environ("a"), "LM_OPENAI_CACHE_PASS": "wrong-password-5"}
    status, printed, stderr = polled(wrong, verbose=True)
    assert (status, json.loads(printed)["instances"] != []) == (0, True)
    assert f"Redis at 127.0.0.1:{server.port} refused the access; check openai.cache.pass" in stderr
    assert "wrong-password-5" not in printed + stderr
    server.kill()
    status, printed, stderr = polled(environ("b"), verbose=True)
    assert (status, "no connection to Redis" in stderr) == (0, True)


def test_a_poll_of_another_time_does_not_touch_redis(
    environ: Callable[[str], dict[str, str]], server: RedisServer
) -> None:
    server.kill()
    status, _, stderr = polled(environ("a"), verbose=True, at="2026-11-18T12:00:00Z")
    assert (status, "Redis" in stderr) == (0, False)


def test_without_the_package_one_sentence(
    environ: Callable[[str], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert polled(environ("a")) == (
        2,
        "",
        "openai.cache.url needs the Python package redis: install lm-openai[redis], or "
        "python3-redis on Debian, or remove the property\n",
    )


def test_the_doctor_checks_it(
    environ: Callable[[str], dict[str, str]], server: RedisServer
) -> None:
    def verdict() -> tuple[str, str]:
        around = Surroundings.real(polls=False)._replace(environ=environ("a"))
        findings = doctor.findings(Session(Options(), around, fresh=True))
        return next((one.verdict, one.text) for one in findings if one.subject == "redis")

    assert verdict() == (doctor.GOOD, f"responses are shared through 127.0.0.1:{server.port}")
    server.kill()
    assert verdict()[0] == doctor.BAD


def test_tls_is_verified(
    tool: Callable[[str], str],
    demo: Simulator,
    environ: Callable[[str], dict[str, str]],
    tmp_path: Path,
) -> None:
    authority, folder = trustme.CA(), tmp_path / "tls"
    folder.mkdir()
    certificate = authority.issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(folder / "server.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    secured = RedisServer(tool("redis-server"), folder, tls=folder)
    try:
        url = secured.url.replace("redis:", "rediss:")
        notes = []
        for name, host, ca in (("a", "localhost", True), ("b", "localhost", False),
                               ("c", "127.0.0.1", True)):  # fmt: skip
            given = {**environ(name), "LM_OPENAI_CACHE_URL": url.replace("127.0.0.1", host)}
            given |= {"LM_OPENAI_CA_FILE": str(folder / "ca.pem")} if ca else {}
            status, _, errors = polled(given, verbose=True)
            assert status == 0
            notes.append([line for line in errors.splitlines() if "Redis" in line])
        assert notes[0] == []
        assert "certificate verify failed" in notes[1][0]
        assert "certificate" in notes[2][0]
    finally:
        secured.kill()


def test_no_key_is_in_redis(environ: Callable[[str], dict[str, str]], server: RedisServer) -> None:
    import redis

    assert polled(environ("a"))[0] == 0
    inside = redis.Redis(port=server.port, password=PASSWORD)
    kept = [key + inside.get(key) for key in inside.scan_iter()]
    assert kept
    assert not any(ADMIN_KEY.encode() in entry for entry in kept)
