"""Stand-in for the LogicMonitor Collector: the real Groovy, and a record of started processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.paths import ROOT

HARNESS = Path(__file__).with_name("logicmonitor_harness.groovy")
MODULES = ROOT / "packaging/logicmonitor"
SECONDS = 600
OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Options of Java that suit a process of seconds."""

RECORDER = """\
import json, os, sys

given = sys.stdin.buffer.read()
with open({log!r}, "a") as log:
    log.write(json.dumps({{"argv": sys.argv[1:], "stdin": given.decode()}}) + "\\n")
reading, writing = os.pipe()
os.write(writing, given)
os.close(writing)
os.dup2(reading, 0)
sys.argv += ["--at", "{at}"]
sys.path[0] = {root!r}
from lm_openai.start import suite

suite()
"""


class Task(NamedTuple):
    """Script of a LogicModule, and the properties of its resource."""

    script: Path
    properties: dict[str, str]


class Result(NamedTuple):
    """Exit status and output of a script."""

    status: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """Lines of standard output."""
        return self.stdout.splitlines()


def evaluated(groovy: str, java: str, folder: Path, tasks: Sequence[Task]) -> list[Result]:
    """Evaluate scripts in one Groovy process; `folder` is an empty one for its files."""
    # Without JAVA_HOME the command groovy finds Debian's default Java only.
    folders = {"HOME": str(folder), "LM_OPENAI_ETC": str(folder)}
    home = str(Path(java).resolve().parents[1])
    given, found = folder / "tasks.json", folder / "results.json"
    listed = [{"script": str(task.script), "properties": task.properties} for task in tasks]
    given.write_text(json.dumps(listed))
    ran = subprocess.run(
        [groovy, str(HARNESS), str(given), str(found)],
        capture_output=True,
        timeout=SECONDS,
        env={**folders, "PATH": os.defpath, "JAVA_HOME": home, "JAVA_OPTS": OPTIONS},
    )
    assert ran.returncode == 0, ran.stderr.decode() + ran.stdout.decode()
    results: list[dict[str, Any]] = json.loads(found.read_text())
    return [Result(**one) for one in results]


def recorder(folder: Path, at: int) -> Path:
    """Write a command that records its arguments and standard input, then polls as of `at`."""
    program = folder / "recorder.py"
    program.write_text(RECORDER.format(log=str(folder / "started.jsonl"), at=at, root=str(ROOT)))
    return command(folder, f'exec "{sys.executable}" "{program}" "$@"')


def command(folder: Path, text: str) -> Path:
    """Write a shell script with the name that the LogicModules accept."""
    folder.mkdir(exist_ok=True)
    path = folder / "lm-openai"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def started(folder: Path) -> list[dict[str, Any]]:
    """Return the argv and the standard input of each process that the recorder started."""
    return [json.loads(line) for line in (folder / "started.jsonl").read_text().splitlines()]
