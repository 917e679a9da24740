"""Build dist/lm-openai.pyz: the suite and its dependencies in one file for every Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path
from tempfile import TemporaryDirectory

from shims import ROOT, folders

# Not part of the build: environments, tests and the output of earlier builds.
UNWANTED = (".*", "__pycache__", "*.egg-info", "build", "dist", "testdata", "tests")

# One file for all machines: only pure Python wheels, for the oldest supported Python.
PURE = ("--only-binary=:all:", "--platform=any", "--implementation=py", "--abi=none")
OLDEST = "--python-version=3.10"

# jsonschema 4.18 and later need rpds, which is compiled.
LAST_PURE = ("jsonschema<4.18",)

START = """\
import sys

if sys.version_info < (3, 10):
    sys.exit("lm-openai needs Python 3.10 or newer, this is " + sys.version.split()[0])

if sys.argv[1:] and sys.argv[1] in {folders!r}:
    from lm_openai.start import main

    main(sys.argv.pop(1))

from lm_openai.start import suite

suite()
"""


def main(arguments: list[str]) -> int:
    """Build the file named by the only argument, by default dist/lm-openai.pyz; print its path."""
    if len(arguments) > 1 or arguments[:1] == ["--help"]:
        print("usage: pyz.py [FILE]", file=sys.stderr)
        return 2
    target = Path(arguments[0]) if arguments else ROOT / "dist" / "lm-openai.pyz"
    os.umask(0o022)  # without a umask anyone could change the package
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        build(Path(scratch), target)
    print(target)
    return 0


def build(scratch: Path, target: Path) -> None:
    """Install the suite into an empty folder and zip it; raises ValueError for compiled modules."""
    source, stage = scratch / "source", scratch / "stage"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*UNWANTED))
    _install(source, stage)
    shutil.rmtree(stage / "bin")
    compiled = [path.name for path in stage.rglob("*") if path.suffix in {".so", ".pyd"}]
    if compiled:
        raise ValueError(f"compiled modules: {', '.join(compiled)}; pin pure Python versions")
    (stage / "__main__.py").write_text(START.format(folders=tuple(folders(ROOT))))
    zipapp.create_archive(stage, target, interpreter="/usr/bin/env python3", compressed=True)
    target.chmod(0o755)


def _install(source: Path, stage: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    where = ["--no-compile", "--target", str(stage)]
    subprocess.run([*pip, *where, *PURE, OLDEST, *LAST_PURE, str(source)], check=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
