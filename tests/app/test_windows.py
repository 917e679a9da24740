"""The suite command on an interpreter without what Windows lacks: no shared folder, no locks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support import without_posix
from tests.support.demo_polls import WEDNESDAY, polled
from tests.support.replay import Outcome

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY, projects=3, models=3) as demo:
        yield demo


def ran(demo: Simulator, home: Path, *words: str, properties: str = "-") -> Outcome:
    """Run the suite command with its properties on standard input, or in a file."""
    text = f"openai.admin.key={ADMIN_KEY}\nopenai.api.url={demo.url}\nopenai.org.name=acme\n"
    if properties != "-":
        Path(properties).write_text(text)
    done = subprocess.run(
        [sys.executable, without_posix.__file__, *words, "--properties", properties],
        input=text.encode(),
        capture_output=True,
        timeout=60,
        env={"HOME": str(home), "LM_OPENAI_ETC": str(home / "etc")},
    )
    return Outcome(done.stdout.decode(), done.stderr.decode(), done.returncode)


@pytest.mark.parametrize("discover", [False, True])
def test_a_logicmodule_has_the_output_of_every_other_system(
    demo: Simulator, tmp_path: Path, discover: bool
) -> None:
    words = ["collect", "rate_limits", "--format", "logicmonitor", "--at", str(WEDNESDAY)]
    words += ["--discover"] if discover else []
    found = ran(demo, tmp_path, *words)
    expected = polled("rate_limits", demo, tmp_path, "logicmonitor", discover=discover)
    assert found == (expected.stdout, "", 0)
    assert found.stdout


def test_nothing_is_shared_between_processes(demo: Simulator, tmp_path: Path) -> None:
    words = ("collect", "organization", "--at", str(WEDNESDAY), "-v")
    found = ran(demo, tmp_path, *words)
    assert found.status == 0
    assert "is shared with other scripts: on Windows processes share no folder\n" in found.stderr
    assert not [*tmp_path.iterdir()]


def test_a_file_of_properties_has_no_mode_to_check(demo: Simulator, tmp_path: Path) -> None:
    file = tmp_path / "properties"
    file.touch(0o666)
    file.chmod(0o666)
    words = ("collect", "organization", "--at", str(WEDNESDAY))
    assert ran(demo, tmp_path, *words, properties=str(file)).status == 0
    assert "note  files" in ran(demo, tmp_path, "doctor", properties=str(file)).stdout


def test_what_needs_a_safe_folder_says_so(demo: Simulator, tmp_path: Path) -> None:
    feed = ran(demo, tmp_path, "audit", "--format", "json")
    target = str(tmp_path / "x.json")
    replaced = ran(demo, tmp_path, "collect", "organization", "--output", target)
    assert (feed.status, replaced.status) == (1, 2)
    assert feed.stderr.endswith("cursor: on Windows processes share no folder\n")
    assert replaced.stderr.endswith("not on Windows; redirect the standard output instead\n")
