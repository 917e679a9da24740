"""Polls of an agent's user without a home folder: the folder of its service user, or a note."""

from __future__ import annotations

import grp  # noqa: F401  # the child process may not read the Python that runs the tests
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from lm_openai import paths
from lm_openai.app import audit_feed, doctor, runner
from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support.demo_polls import WEDNESDAY
from tests.support.users import User, as_user

pytestmark = pytest.mark.slow

AGENT = User(23456, 23456)
NAME = "23456"
"""Name of the folder of a user that has no name."""


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Empty folder of root for the folders of service users."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        monkeypatch.setattr(paths, "SERVICES", name)
        yield Path(name)


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY) as demo:
        yield demo


@pytest.fixture(autouse=True, scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import what runs need, since the child process may not read the Python of the tests."""
    folder = str(tmp_path_factory.mktemp("cache"))
    with Simulator(at=WEDNESDAY) as demo:
        poll(around(demo, XDG_CACHE_HOME=folder))
        feed(around(demo, XDG_CACHE_HOME=folder))
        examine(around(demo, XDG_CACHE_HOME=folder))


def around(demo: Simulator, **more: str) -> Surroundings:
    environ = {"OPENAI_ADMIN_KEY": ADMIN_KEY, "OPENAI_BASE_URL": demo.url, **more}
    return Surroundings(environ, io.StringIO(), io.StringIO(), io.StringIO(), WEDNESDAY)


def poll(around: Surroundings) -> int:
    return runner.run("organization", Options(format="json"), around)


def feed(around: Surroundings) -> int:
    return audit_feed.run("json", "24h", Options(), around)


def examine(around: Surroundings) -> str:
    """Return what the doctor says about the cache."""
    found = {each.subject: each for each in doctor.findings(Session(Options(), around))}
    return f"{found['cache'].verdict} {found['cache'].text}"


def as_agent(demo: Simulator, work: Callable[[Surroundings], int]) -> Sequence[Any]:
    """Return status, stdout and stderr of a run of the agent's user."""

    def run() -> Sequence[Any]:
        surroundings = around(demo)
        status = work(surroundings)
        return [status, surroundings.stdout.getvalue(), surroundings.stderr.getvalue()]  # type: ignore[attr-defined]

    return as_user(AGENT, run)  # type: ignore[no-any-return]


def polled(demo: Simulator) -> dict[str, Any]:
    status, stdout, stderr = as_agent(demo, poll)
    assert (status, stderr) == (0, "")
    document: dict[str, Any] = json.loads(stdout)
    return document


def test_responses_and_the_audit_cursor_are_kept_in_the_service_users_folder(
    demo: Simulator, services: Path
) -> None:
    (services / NAME).mkdir(mode=0o700)
    os.chown(services / NAME, *AGENT)
    first = polled(demo)
    sent = len(demo.requests)
    second = polled(demo)
    events, repeated = as_agent(demo, feed), as_agent(demo, feed)

    assert first["notes"] == second["notes"] == []
    assert len(demo.requests) - sent < sent
    assert events[0] == 0
    assert events[1] != ""
    assert repeated == [0, "", ""]
    kept = [*(services / NAME).iterdir()]
    assert {path.suffix for path in kept} >= {".answer", ".cursor"}
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o600}


def test_without_any_folder_the_note_has_the_command_that_makes_it(
    demo: Simulator, services: Path
) -> None:
    command = f"install -d -o {NAME} -m 700 {services}/{NAME}"
    (note,) = polled(demo)["notes"]
    status, stdout, stderr = as_agent(demo, feed)
    os.system(command)

    assert command in note
    assert (status, stdout) == (1, "")
    assert stderr.startswith("there is no folder for the audit cursor: ")
    assert command in stderr
    assert polled(demo)["notes"] == []
    assert as_agent(demo, feed)[0] == 0


def test_the_doctor_names_the_folder_or_the_command(demo: Simulator, services: Path) -> None:
    def cache() -> str:
        return examine(around(demo))

    assert f"install -d -o {NAME} -m 700" in as_user(AGENT, cache)
    (services / NAME).mkdir(mode=0o700)
    os.chown(services / NAME, *AGENT)
    assert as_user(AGENT, cache) == f"ok responses are shared through {services}/{NAME}"


def test_a_service_folder_that_is_not_the_users_own_is_refused_with_the_reason(
    demo: Simulator, services: Path
) -> None:
    (services / NAME).mkdir(mode=0o755)
    os.chown(services / NAME, AGENT.uid + 1, -1)

    assert f"{services}/{NAME}: owned by another user" in polled(demo)["notes"][0]
    assert "owned by another user" in as_agent(demo, feed)[2]
