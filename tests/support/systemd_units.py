"""Unit files of systemd: their settings, and what systemd itself says about them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path


def settings(path: Path) -> dict[str, list[str]]:
    """Return the settings of a unit file by name."""
    found: dict[str, list[str]] = {}
    for line in filter(re.compile(r"\w+=").match, path.read_text().splitlines()):
        name, _, value = line.partition("=")
        found.setdefault(name, []).append(value)
    return found


def verify(
    tool: Callable[[str], str],
    folder: Path,
    files: Iterable[Path],
    program: str,
    units: Iterable[str],
) -> None:
    """Let systemd read units, whose files are copied to `folder`; fails for any complaint.

    `program` is the path in the files of a program that this machine lacks.
    """
    for path in files:
        text = path.read_text().replace(program, tool("true"))
        (folder / path.name).write_text(text)
    words = [tool("systemd-analyze"), "verify", *(str(folder / unit) for unit in units)]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
