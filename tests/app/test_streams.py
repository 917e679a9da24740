"""A closed, full or broken stdout gives one sentence and an exit status, never a traceback."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support.paths import ROOT
from tests.support.replay import Outcome

SCRIPT = [sys.executable, str(ROOT / "modules/images_by_model/images_by_model.py")]
COMMAND = [sys.executable, "-m", "lm_openai.app.cli"]
AT = 1_790_000_000
FULL = ">/dev/full"
CLOSED = "stdout is closed, so nothing can be printed\n"
NO_SPACE = "the output cannot be written: No space left on device\n"


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=AT, projects=2, models=4) as simulator:
        yield simulator


def shell(words: list[str], redirection: str, demo: Simulator, home: Path) -> Outcome:
    """Run a command in a shell with a redirection."""
    environ = {"HOME": str(home), "OPENAI_ADMIN_KEY": ADMIN_KEY, "OPENAI_BASE_URL": demo.url}
    ran = subprocess.run(
        ["/bin/sh", "-c", f"{shlex.join(words)} {redirection}"],
        env={"PATH": "/usr/bin:/bin", **environ},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return Outcome(ran.stdout, ran.stderr, ran.returncode)


@pytest.mark.parametrize(("form", "status"), [("json", 1), ("nagios", 3), ("zabbix", 1)])
def test_a_script_with_a_closed_stdout_reports_it_and_sends_no_request(
    form: str, status: int, demo: Simulator, tmp_path: Path
) -> None:
    outcome = shell([*SCRIPT, "--format", form], ">&-", demo, tmp_path)

    assert outcome == Outcome("", CLOSED, status)
    assert demo.requests == []


def test_a_failure_that_cannot_be_printed_on_stdout_goes_to_stderr(
    demo: Simulator, tmp_path: Path
) -> None:
    words = [*SCRIPT, "--format", "nagios", "--set", "openai.window=2y"]
    outcome = shell(words, FULL, demo, tmp_path)

    assert outcome.status == 3
    assert outcome.stderr.startswith("openai.window (from --set): '2y' is invalid; ")
    assert outcome.stderr.endswith(f"; {NO_SPACE}")


def test_with_a_closed_stderr_the_exit_status_reports_the_failure(
    demo: Simulator, tmp_path: Path
) -> None:
    words = [*SCRIPT, "--set", "openai.window=2y"]

    assert shell(words, "2>&-", demo, tmp_path) == Outcome("", "", 2)


def test_a_closed_stdin_is_read_as_an_empty_file_of_properties(
    demo: Simulator, tmp_path: Path
) -> None:
    words = [*SCRIPT, "--at", str(AT), "--properties", "-"]

    assert shell(words, "<&-", demo, tmp_path).status == 0


@pytest.mark.parametrize(
    "words",
    [
        ("list",),
        ("thresholds", "rate_limits"),
        ("collect", "images_by_model", "embeddings_by_model", "--at", str(AT)),
        ("collect", "images_by_model", "embeddings_by_model", "--at", str(AT), "--format=nagios"),
        ("demo",),
    ],
    ids=" ".join,
)
def test_a_full_stdout_of_the_suite_command_is_one_sentence(
    words: tuple[str, ...], demo: Simulator, tmp_path: Path
) -> None:
    outcome = shell([*COMMAND, *words], FULL, demo, tmp_path)

    assert outcome.stderr == NO_SPACE
    assert outcome.status == (3 if "--format=nagios" in words else 1)


def test_half_a_surrogate_in_a_message_ends_no_run() -> None:
    code = "from lm_openai.app.session import Surroundings as S; S.real().stderr.write(chr(55357))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=60)

    assert (ran.returncode, ran.stderr) == (0, rb"\ud83d")
