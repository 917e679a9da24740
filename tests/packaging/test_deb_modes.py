"""Debian package: the modes of its files, whatever the umask and the modes of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.checkout import copy_checkout
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_files_and_folders_are_readable_by_all_and_writable_by_root(
    umask: int, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    unpack = tool("dpkg-deb")
    checkout = copy_checkout(tmp_path / "checkout")
    for path in (checkout, *checkout.rglob("*")):
        path.chmod(path.stat().st_mode & ~umask | (0o666 & ~umask))
    package = tmp_path / "dist" / "lm-openai.deb"

    command = [sys.executable, str(checkout / "packaging/deb.py"), str(package)]
    subprocess.run(command, check=True, capture_output=True, preexec_fn=lambda: os.umask(umask))

    assert [path.stat().st_mode & 0o777 for path in (package.parent, package)] == [0o755, 0o644]
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
    folders = ("bin", "share/lm-openai/modules", "share/doc/lm-openai/examples")
    assert all(name.startswith(tuple(f"./usr/{one}/" for one in folders)) for name in started)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_a_pyz_is_writable_by_its_owner_alone(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "packaging")
    import pyz

    def install(source: Path, stage: Path) -> None:
        (stage / "bin").mkdir(parents=True)

    monkeypatch.setattr(pyz, "_install", install)
    before = os.umask(umask)
    try:
        pyz.main([str(tmp_path / "dist" / "a.pyz")])
    finally:
        os.umask(before)

    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("dist", "dist/a.pyz")]
    assert modes == [0o755, 0o755]
