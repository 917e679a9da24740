"""./run makes the environment once, says what is missing, and names every verb."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.support.paths import ROOT

# A python3 that makes environments out of itself and writes down what it was asked.
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
    """A folder with blanks in its name that holds ./run, setup.cfg and a stand-in for python3."""

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
        """What ./run does from another folder, `environ` added to its environment."""
        self.calls.write_text("")
        surroundings = {"PATH": self.path, "CALLS": str(self.calls), **environ}
        command = ["/bin/sh", str(self.folder / "run"), *words]
        return subprocess.run(command, env=surroundings, cwd="/", capture_output=True, text=True)

    def asked(self, word: str) -> list[str]:
        """The calls of the last run in which a word occurs."""
        return [call for call in self.calls.read_text().splitlines() if word in call]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_start_makes_the_environment_and_the_second_reuses_it(
    checkout: Checkout,
) -> None:
    first = checkout.run("demo")
    made, installed = checkout.asked("-m venv"), checkout.asked("-m pip")
    second = checkout.run("demo")

    assert (first.returncode, second.returncode) == (0, 0)
    assert made == ["-m venv --clear .venv"]
    assert installed[0].endswith("--editable .")
    assert checkout.asked("-m") == ["-m lm_openai.app.cli demo"]


def test_a_changed_setup_cfg_makes_the_environment_again(checkout: Checkout) -> None:
    checkout.run("demo")
    with (checkout.folder / "setup.cfg").open("a") as setup:
        setup.write("# changed\n")
    checkout.run("demo")

    assert checkout.asked("-m venv")
    assert checkout.asked("-m pip")


def test_a_checkout_that_moved_makes_the_environment_again(checkout: Checkout) -> None:
    checkout.run("demo")
    checkout.folder = checkout.folder.rename(checkout.folder.with_name("moved"))
    checkout.run("demo")

    assert checkout.asked("-m venv")


def test_an_environment_whose_python_is_gone_is_made_again(checkout: Checkout) -> None:
    checkout.run("demo")
    (checkout.folder / ".venv/bin/python").unlink()
    checkout.run("demo")

    assert checkout.asked("-m venv")


def test_an_interrupted_installation_is_not_taken_for_a_finished_one(checkout: Checkout) -> None:
    checkout.run("demo", NO_INDEX="1")
    checkout.run("demo")

    assert checkout.asked("-m pip")


def test_the_tests_add_to_the_environment_of_the_demo_and_serve_it_too(checkout: Checkout) -> None:
    checkout.run("demo")
    checkout.run("test")
    made, installed = checkout.asked("-m venv"), checkout.asked("-m pip")
    checkout.run("demo")

    assert made == []
    assert installed[0].endswith("--editable .[test]")
    assert checkout.asked("-m") == ["-m lm_openai.app.cli demo"]


def test_the_status_of_the_tests_is_the_status_of_the_run(checkout: Checkout) -> None:
    assert checkout.run("test", RED="1").returncode == 1
    assert checkout.run("test", "-k", "two words").returncode == 0
    assert checkout.asked("pytest")[0].endswith("-k two words")


def test_lint_fails_when_any_of_its_parts_does(checkout: Checkout) -> None:
    checkout.run("test")
    linter = checkout.folder / ".venv/bin/python"
    linter.write_text('#!/bin/sh\ncase "$*" in *"ruff check"*) exit 1 ;; esac\n')

    assert checkout.run("lint").returncode == 1


def test_the_oldest_versions_are_exactly_the_floors_of_setup_cfg(checkout: Checkout) -> None:
    done = checkout.run("floors")
    installed = checkout.asked("-m pip")[0].partition("--editable .[test] ")[2]
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")

    assert done.returncode == 0
    assert installed.replace("==", ">=").split() == setup["options"]["install_requires"].split()


@pytest.mark.parametrize(
    ("problem", "cure"),
    [
        ({"NO_VENV": "1"}, "apt install python3-venv"),
        ({"TOO_OLD": "1"}, "Python 3.10 or newer"),
        ({"NO_INDEX": "1"}, "PIP_INDEX_URL"),
    ],
)
def test_what_is_missing_is_one_sentence_with_the_cure(
    checkout: Checkout, problem: dict[str, str], cure: str
) -> None:
    done = checkout.run("demo", **problem)

    assert done.returncode == 1
    assert cure in done.stderr.splitlines()[-1]
    assert not checkout.asked("demo")


def test_a_python_can_be_named(checkout: Checkout) -> None:
    named = checkout.folder / "another python"
    (checkout.folder.parent / "bin/python3").rename(named)

    assert checkout.run("demo", PYTHON=str(named)).returncode == 0


def test_what_the_caller_exported_for_its_own_python_does_not_reach_ours(
    checkout: Checkout,
) -> None:
    checkout.run("test")
    checker = checkout.folder / ".venv/bin/python"
    checker.write_text('#!/bin/sh\necho "${PYTHONPATH-} ${PYTHONHOME-}"\n')
    done = checkout.run("python", PYTHONPATH="/elsewhere", PYTHONHOME="/elsewhere")

    assert done.stdout.strip() == ""


def test_help_names_every_verb() -> None:
    script = (ROOT / "run").read_text()
    branches = re.findall(r"(?m)^([a-z][a-z |-]*)\)$", script)
    verbs = {verb for branch in branches for verb in re.findall(r"(?<![-\w])[a-z]+", branch)}
    listed = set(re.findall(r"(?m)^  ([a-z]+)  ", script))

    assert verbs - {"h"} == listed


def test_a_wrong_verb_is_refused_by_name(checkout: Checkout) -> None:
    done = checkout.run("tset")

    assert done.returncode == 2
    assert "no verb tset" in done.stderr
    assert done.stdout == ""
