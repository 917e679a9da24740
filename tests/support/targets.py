"""Things that a path may name instead of a regular file."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path


def fifo(path: Path) -> None:
    """Make a FIFO without a writer, whose reader would wait for ever."""
    os.mkfifo(path)


def endless(path: Path) -> None:
    """Make a link to a device without an end."""
    path.symlink_to("/dev/zero")


def listening(path: Path) -> None:
    """Make a socket."""
    here = os.getcwd()
    os.chdir(path.parent)  # the path of a socket may be at most 108 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def huge(path: Path) -> None:
    """Make a file of 1 TiB, all of it a hole."""
    with open(path, "wb") as file:
        file.truncate(2**40)


TARGETS: dict[str, tuple[Callable[[Path], None], str]] = {
    "FIFO": (fifo, "it is a FIFO, not a regular file; name a file"),
    "device": (endless, "it is a device, not a regular file; name a file"),
    "socket": (listening, ""),
    "folder": (Path.mkdir, "it is a folder, not a regular file; name a file"),
    "huge file": (huge, "it is larger than "),
}
"""Function that makes each, and what the error says; empty if the system's own words do."""
