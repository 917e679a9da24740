"""Debian package: the modes of its files, whatever the umask and the modes of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import copy_checkout

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_files_and_folders_are_readable_by_all_and_writable_by_root(
    umask: int, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    unpack = tool("dpkg-deb")
    checkout = copy_checkout(tmp_path / "checkout")
    for path in (checkout, *checkout.rglob("*")):
        path.chmod(path.stat().st_mode & ~umask | (0o666 & ~umask))
    package = tmp_path / "lm-openai.deb"

    command = [sys.executable, str(checkout / "packaging/deb.py"), str(package)]
    subprocess.run(command, check=True, capture_output=True, preexec_fn=lambda: os.umask(umask))

    listing = subprocess.run([unpack, "-c", package], capture_output=True, text=True, check=True)
    files = [line.split(maxsplit=5) for line in listing.stdout.splitlines()]
    assert {(row[0], row[1]) for row in files} == {
        ("drwxr-xr-x", "root/root"),
        ("-rw-r--r--", "root/root"),
        ("-rwxr-xr-x", "root/root"),
        ("lrwxrwxrwx", "root/root"),
    }
    started = {row[5] for row in files if row[0] == "-rwxr-xr-x"}
    assert "./usr/bin/lm-openai" in started
    assert all(
        name.startswith(("./usr/bin/", "./usr/share/lm-openai/modules/")) for name in started
    )
