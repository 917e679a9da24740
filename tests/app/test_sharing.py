"""Processes of one host that share the responses of a poll."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_openai import resources
from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.simulator import NO_USAGE_KEY, Simulator
from lm_openai.simulator.server import Request
from tests.support.paths import ROOT
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

AT = 1795005296  # 2026-11-18 12:34:56 UTC
MANY = 20


@pytest.fixture(scope="module")
def started() -> Iterator[Simulator]:
    with Simulator(at=AT, projects=6, models=16) as simulator:
        yield simulator


@pytest.fixture
def demo(started: Simulator) -> Simulator:
    started.clear()
    return started


def polled(folder: str, environ: dict[str, str], now: int = AT) -> str:
    """Poll as a process that starts at `now` and return what it prints."""
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environ, io.StringIO(), out, err, now)
    assert (run(folder, Options(format="json"), around), err.getvalue()) == (0, "")
    return out.getvalue()


def values(text: str) -> object:
    """Return the document without the datapoints that say what this process requested itself."""
    document = json.loads(text)
    for instance in document["instances"]:
        for own in ("requests_made", "latency_seconds"):
            instance["datapoints"].pop(own, None)
    return document


@pytest.mark.parametrize("folder", resources.folders())
def test_a_second_process_prints_the_same_and_sends_no_request(
    demo: Simulator, tmp_path: Path, folder: str
) -> None:
    environ = environment(demo.url, tmp_path)
    first = polled(folder, environ)
    assert demo.requests
    demo.clear()

    second = polled(folder, environ, AT + 49)

    assert (values(second), demo.requests) == (values(first), [])


def test_no_request_is_sent_twice_by_all_datasources_together(
    demo: Simulator, tmp_path: Path
) -> None:
    for second, folder in enumerate(resources.folders()):
        polled(folder, environment(demo.url, tmp_path), AT + second)

    sent = Counter((request.path, str(request.query)) for request in demo.requests)
    assert {request: count for request, count in sent.items() if count > 1} == {}


def test_the_next_poll_requests_the_window_again(demo: Simulator, tmp_path: Path) -> None:
    environ = environment(demo.url, tmp_path)
    times = [
        json.loads(polled("completion_by_model", environ, AT + second))["time"]
        for second in (0, 49, 50)
    ]
    assert times == ["2026-11-18T12:34:56Z"] * 2 + ["2026-11-18T12:35:46Z"]
    windows = Counter(request.query["bucket_width"][0] for request in demo.requests)
    assert windows == {"1m": 2, "1d": 1}


def test_without_a_time_to_live_each_poll_is_its_own(demo: Simulator, tmp_path: Path) -> None:
    environ = {**environment(demo.url, tmp_path), "LM_OPENAI_CACHE_TTL": "0s"}
    for second in (6, 7):
        document = json.loads(polled("images_by_model", environ, AT + second - 6))
        assert document["time"] == f"2026-11-18T12:34:5{second}Z"


def test_another_key_reads_nothing_of_it(demo: Simulator, tmp_path: Path) -> None:
    polled("completion_by_model", environment(demo.url, tmp_path))
    environ = environment(demo.url, tmp_path, NO_USAGE_KEY)
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environ, io.StringIO(), out, err, AT)
    assert run("completion_by_model", Options(format="json"), around) == 1
    assert "api.usage.read" in err.getvalue()


def test_processes_that_start_at_once_make_the_requests_of_one_poll(tmp_path: Path) -> None:
    with Simulator(projects=6, models=16, latency=0.2) as demo:
        polled_once = {(one.path, one.query["bucket_width"][0]) for one in alone(demo, tmp_path)}
        demo.clear()
        environ = environment(demo.url, tmp_path / "shared")
        processes = [started_script(environ) for _ in range(MANY)]
        outputs = {process.communicate(timeout=60)[0] for process in processes}

        assert [process.returncode for process in processes] == [0] * MANY
        assert len(outputs) == 1
        sent = Counter((one.path, one.query["bucket_width"][0]) for one in demo.requests)
        assert sent == dict.fromkeys(polled_once, 1)


def alone(demo: Simulator, folder: Path) -> list[Request]:
    """Return the requests of one poll."""
    assert started_script(environment(demo.url, folder / "alone")).wait(60) == 0
    return [*demo.requests]


def started_script(environ: dict[str, str]) -> subprocess.Popen[str]:
    """Start a poll as an agent does."""
    script = ROOT / "modules/completion_by_model/completion_by_model.py"
    return subprocess.Popen(
        [sys.executable, str(script), "--format", "json"],
        env=environ,
        stdout=subprocess.PIPE,
        text=True,
    )
