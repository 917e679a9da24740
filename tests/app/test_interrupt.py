"""Ctrl-C ends every command at once and quietly, with status 130."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_openai.simulator import ADMIN_KEY, Fault, Simulator
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

SUITE = ("-m", "lm_openai.start")
COMMANDS = {
    "a script": ("modules/completion_by_model/completion_by_model.py",),
    "a script with parallel requests": ("modules/rate_limits/rate_limits.py",),
    "a script through click": ("modules/rate_limits/rate_limits.py", "-vv"),
    "a script for Nagios": ("modules/rate_limits/rate_limits.py", "--format", "nagios"),
    "all": (*SUITE, "collect", "all"),
    "doctor": (*SUITE, "doctor"),
    "audit": (*SUITE, "audit"),
    "age": (*SUITE, "age"),
}

EARLY = """
import signal
from lm_openai.start import suite
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, {})
suite()
"""


@pytest.fixture(scope="module")
def slow() -> Iterator[Simulator]:
    """Organization whose every response takes longer than the test waits."""
    with Simulator(faults=[Fault("slow", seconds=40)]) as simulator:
        yield simulator


def interrupted(words: tuple[str, ...], home: Path, url: str, after: float) -> tuple[int, str, str]:
    """Start a command, send SIGINT `after` seconds later, return status, stdout and stderr."""
    environ = {"HOME": str(home), "OPENAI_ADMIN_KEY": ADMIN_KEY, "OPENAI_BASE_URL": url}
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=environ,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=_heeds_interrupts,
    )
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, out, err


def _heeds_interrupts() -> None:
    """Undo what a shell does to its background jobs, which ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_interrupt_is_quiet(name: str, slow: Simulator, tmp_path: Path) -> None:
    status, out, err = interrupted(COMMANDS[name], tmp_path, slow.url, 3)

    assert status == 130
    assert "Traceback" not in err + out
    assert "KeyboardInterrupt" not in err + out
    assert name in ("age", "doctor") or (out, err.strip()) == ("", "")


def test_an_interrupt_while_the_suite_is_imported_is_quiet(tmp_path: Path) -> None:
    for seconds in (0.002, 0.01, 0.03, 0.08):
        ran = subprocess.run(
            [sys.executable, "-c", EARLY.format(seconds), "list"],
            cwd=ROOT,
            env={"HOME": str(tmp_path)},
            text=True,
            capture_output=True,
        )
        assert (ran.returncode, ran.stderr.strip()) in ((130, ""), (0, "")), seconds
