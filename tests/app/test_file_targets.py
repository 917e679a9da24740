"""No file that people write can hang a run: whatever its path names, one sentence and the end."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.paths import ROOT
from tests.support.targets import TARGETS

FOLDER = "images_by_model"
SECONDS = 20
KEY = "sk-admin-Zm9vYmFy"
CLOSED = "http://127.0.0.1:9/v1"
"""Address of an API that nothing serves: a run that accepts the file ends with another error."""


class Way(NamedTuple):
    """A kind of file: words and environment that name it, `{}` for its path, and its subject."""

    words: Sequence[str]
    environ: dict[str, str]
    subject: str


POLL = ("-m", f"lm_openai.modules.{FOLDER}.{FOLDER}")
SHOW = ("-m", "lm_openai.app.cli", "thresholds", FOLDER)
WAYS = {
    "properties": Way((*POLL, "--properties", "{}"), {}, "properties from {} cannot be read: "),
    "thresholds": Way((*POLL, "--thresholds", "{}"), {}, "{}: cannot be read ("),
    "site thresholds": Way(SHOW, {}, "{}: cannot be read ("),
    "key file": Way(
        POLL,
        {"LM_OPENAI_ADMIN_KEY_FILE": "{}", "OPENAI_ADMIN_KEY": ""},
        "openai.admin.key.file: {} cannot be read: ",
    ),
    "CA file": Way(POLL, {"LM_OPENAI_CA_FILE": "{}"}, "openai.ca.file: {} cannot be used: "),
    "CA file in the environment": Way(
        POLL, {"SSL_CERT_FILE": "{}"}, "SSL_CERT_FILE: {} cannot be used: "
    ),
}


def started(
    way: Way, path: str, home: Path, stdin: int = subprocess.DEVNULL
) -> subprocess.CompletedProcess[str]:
    """Run a kind of file's command in a separate process; TimeoutExpired if it hangs."""
    named = {name: text.format(path) for name, text in way.environ.items()}
    return subprocess.run(
        [sys.executable, *(word.format(path) for word in way.words)],
        cwd=ROOT,
        env={
            "HOME": str(home),
            "LM_OPENAI_ETC": str(home / "etc"),
            "OPENAI_ADMIN_KEY": KEY,
            "OPENAI_BASE_URL": CLOSED,
            **named,
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
        stdin=stdin,
    )


CASES = [
    (kind, target)
    for kind in WAYS
    for target in TARGETS
    if target != "folder" or not kind.startswith("CA file")  # a folder of certificates is fine
]


@pytest.mark.parametrize(("kind", "target"), CASES)
def test_whatever_a_path_names_is_refused_at_once_with_one_sentence(
    kind: str, target: str, tmp_path: Path
) -> None:
    way = WAYS[kind]
    make, reason = TARGETS[target]
    path = tmp_path / "etc" / "thresholds.d" / "target.json"
    path.parent.mkdir(parents=True)
    if kind != "site thresholds":
        path = tmp_path / "target"
    make(path)
    ran = started(way, str(path), tmp_path)
    printed = ran.stdout + ran.stderr if kind == "site thresholds" else ran.stderr

    lines = [line for line in printed.splitlines() if str(path) in line]
    assert len(lines) == 1, printed
    assert way.subject.format(path) + reason in lines[0]
    assert "Traceback" not in printed
    assert (ran.returncode, ran.stdout) == (2, "") or kind == "site thresholds"


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_properties_come_through_a_pipe(name: str, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"openai.admin.key=sk-x\nopenai.tpo=3\n")
    os.close(writing)
    ran = started(WAYS["properties"], name, tmp_path, stdin=reading)
    os.close(reading)

    assert "openai.tpo (from " in ran.stderr
    assert "did you mean openai.top?" in ran.stderr


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_an_endless_standard_input_is_refused(name: str, tmp_path: Path) -> None:
    with open("/dev/zero", "rb") as zeros:
        ran = started(WAYS["properties"], name, tmp_path, stdin=zeros.fileno())

    assert ran.returncode == 2
    assert "cannot be read: it is larger than 1048576 bytes" in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_a_pipe_that_nobody_closes_is_refused_when_the_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lm_openai import files

    monkeypatch.setattr(files, "LONGEST_WAIT", 0.05)
    reading, writing = os.pipe()
    refused: list[str] = []

    def read() -> None:
        try:
            files.stream(reading)
        except files.Refused as reason:
            refused.append(str(reason.strerror))

    os.write(writing, b"openai.top=3\n")
    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(SECONDS)
    os.close(writing)
    os.close(reading)

    assert refused == [
        "it did not end within 0.05 s; let the program that writes it close it, or name a file"
    ]


STORED = {
    "cursor": "from lm_openai.storage.audit_cursor import CursorFile\n"
    "from lm_openai.errors import Failure\n"
    "try:\n"
    "    with CursorFile(sys.argv[1], 'a') as cursors: cursors.load()\n"
    "except Failure as failure: print(failure)\n",
    "cached response": "from lm_openai.storage.cache import Cache\n"
    "cache = Cache(sys.argv[1], 'a', lambda: 1700000000.0)\n"
    "os.rename(sys.argv[1] + '/a.cursor', sys.argv[1] + '/' + cache._file('a'))\n"
    "print(cache.remember('a', 60, lambda: 'fetched'))\n",
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", STORED)
def test_whatever_a_stored_file_became_no_run_hangs(kind: str, target: str, tmp_path: Path) -> None:
    make, reason = TARGETS[target]
    path = tmp_path / "a.cursor"
    make(path)
    if target == "device":
        reason = "Too many levels of symbolic links"
    ran = subprocess.run(
        [sys.executable, "-c", f"import os, sys\n{STORED[kind]}", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )

    assert ran.stderr == ""
    if kind == "cursor":
        assert f"{path} cannot be read ({reason}" in ran.stdout
    else:
        assert ran.stdout == "fetched\n"
