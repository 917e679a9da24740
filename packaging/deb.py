"""Build dist/lm-openai_VERSION_all.deb, whose libraries come from Debian's own packages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from tempfile import TemporaryDirectory

from shims import ROOT, folders

SHARE = "usr/share/lm-openai"
PLUGINS = "usr/lib/nagios/plugins"
DOC = "usr/share/doc/lm-openai"
DOCUMENTS = {"LICENSE": "copyright", "README.md": "README.md", "CHANGELOG.md": "CHANGELOG.md"}
ENVIRONMENT_PYTHON, DEBIAN_PYTHON = "#!/usr/bin/env python3\n", "#!/usr/bin/python3\n"

COMMAND = """\
#!/usr/bin/python3
import os
import sys

sys.path[0] = os.path.realpath(os.path.join(os.path.realpath(__file__), "../../share/lm-openai"))
from lm_openai.start import suite

suite()
"""

CONTROL = """\
Package: {name}
Version: {version}
Architecture: all
Section: net
Priority: optional
Maintainer: {maintainer}
Depends: {depends}
Description: {description}
"""

# The polling user cannot write to the modules' folder, so installation compiles the modules.
POSTINST = f"#!/bin/sh\nset -e\npy3compile -p lm-openai /{SHARE}\n"
PRERM = "#!/bin/sh\nset -e\npy3clean -p lm-openai\n"


def main(arguments: list[str]) -> int:
    """Build the file named by the only argument, by default the one in dist/; print its path."""
    if len(arguments) > 1 or arguments[:1] == ["--help"]:
        print("usage: deb.py [FILE]", file=sys.stderr)
        return 2
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    default = ROOT / "dist" / f"{setup['metadata']['name']}_{version()}_all.deb"
    target = Path(arguments[0]) if arguments else default
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        lay_out(tree)
        _control(tree / "DEBIAN", setup)
        _set_modes(tree)
        command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(target)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(target)
    return 0


def lay_out(tree: Path) -> None:
    """Write all files that the package installs into an empty folder."""
    unwanted = shutil.ignore_patterns("__pycache__", "testdata")
    for name in ("lm_openai", "modules", "schemas"):
        shutil.copytree(ROOT / name, tree / SHARE / name, ignore=unwanted)
    for folder in folders(ROOT):
        _plugin(tree, folder)
    _write(tree / "usr/bin/lm-openai", COMMAND, 0o755)
    for source, name in DOCUMENTS.items():
        _write(tree / DOC / name, (ROOT / source).read_text(), 0o644)
    (tree / "etc/lm-openai/thresholds.d").mkdir(parents=True)


def version() -> str:
    """Return the suite's version, read without importing it."""
    text = (ROOT / "lm_openai/__init__.py").read_text()
    return text.partition('__version__ = "')[2].partition('"')[0]


def depends(setup: ConfigParser) -> str:
    """Return the dependencies of setup.cfg as Debian packages: python3-requests for `requests`."""
    python = setup["options"]["python_requires"].removeprefix(">=")
    needs = re.findall(r"(?m)^([a-z0-9-]+)>=([\d.]+)$", setup["options"]["install_requires"])
    return ", ".join([f"python3 (>= {python})", *(f"python3-{n} (>= {v})" for n, v in needs)])


def _plugin(tree: Path, folder: str) -> None:
    script = tree / SHARE / "modules" / folder / f"{folder}.py"
    text = script.read_text().replace(ENVIRONMENT_PYTHON, DEBIAN_PYTHON, 1)
    _write(script, text, 0o755)
    link = tree / PLUGINS / script.name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(os.path.relpath(script, link.parent))


def _control(folder: Path, setup: ConfigParser) -> None:
    metadata = setup["metadata"]
    text = CONTROL.format(
        name=metadata["name"],
        maintainer="{author} <{author_email}>".format_map(metadata),
        version=version(),
        depends=depends(setup),
        description=metadata["description"],
    )
    _write(folder / "control", text, 0o644)
    _write(folder / "postinst", POSTINST, 0o755)
    _write(folder / "prerm", PRERM, 0o755)


def _set_modes(tree: Path) -> None:
    """Give everything the same modes, whatever the umask and the modes of the checkout are."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)


def _write(path: Path, text: str, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
