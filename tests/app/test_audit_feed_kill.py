"""The audit feed under kill -9: it loses no event and repeats at most the last batch."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_openai.simulator import Simulator
from tests.support.audit_feed import (
    AT,
    COMMAND,
    HOUR,
    STOPPED,
    events,
    followed,
    ids,
    process_environment,
    truth,
)
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

SET_PIPE_SIZE = 1031
MOST = 10


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=AT, audit_delay=0) as simulator:
        yield simulator


def test_killed_before_each_line_of_code_the_feed_loses_nothing(
    demo: Simulator, tmp_path: Path
) -> None:
    wanted = ids(truth(demo, AT - 6.2 * HOUR))
    words = (demo.url, tmp_path, AT, "372m", MOST, 47)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.support.killing", *map(str, words)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    points = sorted(tmp_path.iterdir(), key=lambda path: int(path.name))
    assert len(points) > 30, len(points)
    for point in points:
        found = ids(events((point / "printed").read_text()))
        repeated = [identifier for identifier, times in Counter(found).items() if times > 1]
        assert list(dict.fromkeys(found)) == wanted, point.name
        assert len(found) == len(wanted) + len(repeated) <= len(wanted) + MOST, point.name


@pytest.mark.parametrize("lines", [1, 2, 17, 45, 90])
def test_killed_during_a_slow_read_the_feed_loses_nothing(
    demo: Simulator, tmp_path: Path, lines: int
) -> None:
    """The pipe's buffer is one memory page, so that the process waits in the middle of a batch."""
    wanted = ids(truth(demo, AT - 24 * HOUR))
    process = started(demo, tmp_path)
    assert process.stdout is not None
    fcntl.fcntl(process.stdout, SET_PIPE_SIZE, 4096)
    read = [process.stdout.readline() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    read += process.stdout.readlines()
    assert process.wait() == -signal.SIGKILL

    first = ids([json.loads(line) for line in read])
    second = followed(demo.url, tmp_path)
    assert first == wanted[: len(first)]
    assert ids(events(second.stdout)) == wanted


@pytest.mark.parametrize("responses", [1, 3, 5, 9])
def test_killed_during_slow_responses_the_feed_loses_nothing(
    tmp_path: Path, responses: int
) -> None:
    printed = tmp_path / "printed"
    with Simulator(at=AT, audit_delay=0, latency=0.02) as demo:
        wanted = ids(truth(demo, AT - 90 * HOUR))
        demo.clear()
        with printed.open("a") as out:
            process = started(demo, tmp_path / "cursor", since="90h", stdout=out.fileno(), most=40)
        for _ in range(2000):
            if len(demo.requests) >= responses or process.poll() is not None:
                break
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        before = len(ids(events(printed.read_text())))
        second = followed(demo.url, tmp_path / "cursor", since="90h", most=40)

    found = ids(events(printed.read_text() + second.stdout))
    assert list(dict.fromkeys(found)) == wanted
    assert before < len(wanted)
    assert len(found) - len(wanted) <= 40


def started(
    demo: Simulator,
    folder: Path,
    since: str = "24h",
    stdout: int = subprocess.PIPE,
    most: int | None = None,
) -> subprocess.Popen[bytes]:
    """Start the command in a separate process; `most` shrinks its slices."""
    words = [*COMMAND, "--since", since]
    if most is not None:
        code = (
            f"{STOPPED}from lm_openai.app import audit_feed, cli; "
            f"audit_feed.run.__defaults__ = ({most},); cli.main()"
        )
        words[1:3] = ["-c", code]
    env = process_environment(demo.url, folder)
    return subprocess.Popen(words, stdout=stdout, env=env, cwd=os.fspath(ROOT))
