"""./run builds the environment once, reports what is missing, and lists every command."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# A python3 that copies itself into new environments and logs its arguments.
STAND_IN = """\
#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
*version_info*) exit "${TOO_OLD:-0}" ;;
*ensurepip*) exit "${NO_VENV:-0}" ;;
*"-m venv --clear"*) rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
*"-m pip"*) exit "${NO_INDEX:-0}" ;;
*"-m pytest"*) exit "${RED:-0}" ;;
esac
"""


class Checkout:
    """Folder with spaces in its name that holds ./run and setup.cfg, and a stub for python3."""

    def __init__(self, place: Path) -> None:
        self.folder = place / "a check out"
        self.calls = place / "calls"
        self.folder.mkdir()
        for name in ("run", "setup.cfg"):
            shutil.copy(ROOT / name, self.folder)
        (place / "bin").mkdir()
        (place / "bin/python3").write_text(STAND_IN)
        (place / "bin/python3").chmod(0o755)
        self.path = f"{place}/bin:{os.environ['PATH']}"

    def run(self, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
        """Start ./run from another folder, with `environ` added to its environment."""
        self.calls.write_text("")
        surroundings = {"PATH": self.path, "CALLS": str(self.calls), **environ}
        command = ["/bin/sh", str(self.folder / "run"), *words]
        return subprocess.run(command, env=surroundings, cwd="/", capture_output=True, text=True)

    def logged(self, word: str) -> list[str]:
        """Return the python3 calls of the last run that contain a word."""
        return [call for call in self.calls.read_text().splitlines() if word in call]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_run_builds_the_environment_and_the_second_reuses_it(
    checkout: Checkout,
) -> None:
    first = checkout.run("demo")
    made, installed = checkout.logged("-m venv"), checkout.logged("-m pip")
    second = checkout.run("demo")

    assert (first.returncode, second.returncode) == (0, 0)
    assert made == ["-m venv --clear .venv"]
    assert installed[0].endswith("--editable .")
    assert checkout.logged("-m") == ["-m lm_openai.start demo"]


def test_a_changed_setup_cfg_builds_the_environment_again(checkout: Checkout) -> None:
    checkout.run("demo")
    with (checkout.folder / "setup.cfg").open("a") as setup:
        setup.write("# changed\n")
    checkout.run("demo")

    assert checkout.logged("-m venv")
    assert checkout.logged("-m pip")


def test_a_moved_checkout_builds_the_environment_again(checkout: Checkout) -> None:
    checkout.run("demo")
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    checkout.run("demo")

    assert checkout.logged("-m venv")


def test_an_environment_without_its_python_is_built_again(checkout: Checkout) -> None:
    checkout.run("demo")
    (checkout.folder / ".venv/bin/python").unlink()
    checkout.run("demo")

    assert checkout.logged("-m venv")


def test_a_failed_installation_is_tried_again(checkout: Checkout) -> None:
    checkout.run("demo", NO_INDEX="1")
    checkout.run("demo")

    assert checkout.logged("-m pip")


def test_demo_and_test_share_one_environment(checkout: Checkout) -> None:
    checkout.run("demo")
    checkout.run("test")
    made, installed = checkout.logged("-m venv"), checkout.logged("-m pip")
    checkout.run("demo")

    assert made == []
    assert installed[0].endswith("--editable .[test]")
    assert checkout.logged("-m") == ["-m lm_openai.start demo"]


def test_the_exit_status_of_pytest_is_passed_on(checkout: Checkout) -> None:
    assert checkout.run("test", RED="1").returncode == 1
    assert checkout.run("test", "-k", "two words").returncode == 0
    assert checkout.logged("pytest")[0].endswith("-k two words")


def test_lint_fails_if_one_of_its_checks_fails(checkout: Checkout) -> None:
    checkout.run("test")
    linter = checkout.folder / ".venv/bin/python"
    linter.write_text('#!/bin/sh\ncase "$*" in *"ruff check"*) exit 1 ;; esac\n')

    assert checkout.run("lint").returncode == 1


def test_floors_installs_exactly_the_minimum_versions_of_setup_cfg(checkout: Checkout) -> None:
    done = checkout.run("floors")
    installed = checkout.logged("-m pip")[0].partition("--editable .[test] ")[2]
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")

    assert done.returncode == 0
    wanted = dict.fromkeys(setup["options"]["install_requires"].split())
    wanted |= dict.fromkeys(setup["options.extras_require"]["redis"].split())
    assert [*dict.fromkeys(installed.replace("==", ">=").split())] == [*wanted]


@pytest.mark.parametrize(
    ("problem", "fix"),
    [
        ({"NO_VENV": "1"}, "apt install python3-venv"),
        ({"TOO_OLD": "1"}, "Python 3.10 or newer"),
        ({"NO_INDEX": "1"}, "PIP_INDEX_URL"),
    ],
)
def test_a_missing_requirement_is_reported_with_its_fix(
    checkout: Checkout, problem: dict[str, str], fix: str
) -> None:
    done = checkout.run("demo", **problem)

    assert done.returncode == 1
    assert fix in done.stderr.splitlines()[-1]
    assert not checkout.logged("demo")


def test_another_python_can_be_selected(checkout: Checkout) -> None:
    other = checkout.folder / "another python"
    (checkout.folder.parent / "bin/python3").rename(other)

    assert checkout.run("demo", PYTHON=str(other)).returncode == 0


def test_python_variables_of_the_caller_are_removed(
    checkout: Checkout,
) -> None:
    checkout.run("test")
    checker = checkout.folder / ".venv/bin/python"
    checker.write_text('#!/bin/sh\necho "${PYTHONPATH-} ${PYTHONHOME-}"\n')
    done = checkout.run("python", PYTHONPATH="/elsewhere", PYTHONHOME="/elsewhere")

    assert done.stdout.strip() == ""


def test_help_lists_every_command() -> None:
    script = (ROOT / "run").read_text()
    branches = re.findall(r"(?m)^([a-z][a-z |-]*)\)$", script)
    commands = {name for branch in branches for name in re.findall(r"(?<![-\w])[a-z]+", branch)}
    listed = set(re.findall(r"(?m)^  ([a-z]+)  ", script))

    assert commands - {"h"} == listed


def test_an_unknown_command_is_refused_by_name(checkout: Checkout) -> None:
    done = checkout.run("tset")

    assert done.returncode == 2
    assert "unknown command tset" in done.stderr
    assert done.stdout == ""
