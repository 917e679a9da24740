"""Build dist/lm-openai_VERSION_all.deb, whose libraries come from Debian's own packages."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from tempfile import TemporaryDirectory

from shims import ROOT, folders

sys.path.insert(0, str(ROOT))
from lm_openai.hosts.jobs import PLUGINS
from lm_openai.hosts.jobs import SCRIPTS as LINKS
from lm_openai.hosts.registry import HOSTS
from lm_openai.paths import SERVICES

SHARE = "usr/share/lm-openai"
DOC = "usr/share/doc/lm-openai"
DOCUMENTS = ("README.md", "CHANGELOG.md", "SECURITY.md")
EXAMPLES = ("systemd", "container", *HOSTS)
"""Folders of packaging/ that are examples of the package."""
CONFFILES = {"etc/nagios-plugins/config/lm-openai.cfg": "nagios/commands.cfg"}
"""Files of the package that an administrator may edit, with their sources below packaging/."""
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
Suggests: {suggests}
Description: {synopsis}
 {contents}.
 .
 Each DataSource is a plugin in {plugins}, which reads OpenAI's
 Admin API once, prints its datapoints and exits.
"""

CHANGES = """\
{name} ({version}) unstable; urgency=medium

  * See CHANGELOG.md.

 -- {maintainer}  Thu, 01 Jan 1970 00:00:00 +0000
"""

COPYRIGHT = """\
Copyright {maintainer}

License: Apache-2.0, see /usr/share/common-licenses/Apache-2.0
"""

SERVICE_USERS = "nagios icinga zabbix telegraf _telegraf prometheus logicmonitor"
"""Users of monitoring agents, in Debian's packages and in those of the vendors."""

# The polling user cannot write to the modules' folder, so installation compiles the modules.
# DPKG_ROOT is not empty if dpkg installs into another root, where no Python can be started.
POSTINST = f"""\
#!/bin/sh
set -e
[ "$1" = configure ] || exit 0
[ -n "$DPKG_ROOT" ] || py3compile -p lm-openai /{SHARE}
for user in {SERVICE_USERS}; do
    folder="$DPKG_ROOT{SERVICES}/$user"
    if id -u "$user" >/dev/null 2>&1 && [ ! -e "$folder" ]; then
        install -d -o "$user" -g "$(id -g "$user")" -m 700 "$folder"
    fi
done
"""
PRERM = """\
#!/bin/sh
set -e
[ -n "$DPKG_ROOT" ] || py3clean -p lm-openai
"""
POSTRM = f"""\
#!/bin/sh
set -e
[ "$1" != purge ] || rm -rf "$DPKG_ROOT{SERVICES}"
"""
SCRIPTS = {"postinst": POSTINST, "prerm": PRERM, "postrm": POSTRM}


def main(arguments: list[str]) -> int:
    """Build the file named by the only argument, by default the one in dist/; print its path."""
    if len(arguments) > 1 or arguments[:1] == ["--help"]:
        print("usage: deb.py [FILE]", file=sys.stderr)
        return 2
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    default = ROOT / "dist" / f"{setup['metadata']['name']}_{version()}_all.deb"
    target = Path(arguments[0]) if arguments else default
    os.umask(0o022)  # without a umask anyone could change the package
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree"
        lay_out(tree)
        _papers(tree / DOC, setup)
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
    for name in DOCUMENTS:
        _write(tree / DOC / name, (ROOT / name).read_text(), 0o644)
    for name in EXAMPLES:
        shutil.copytree(ROOT / "packaging" / name, tree / DOC / "examples" / name)
    for name, source in CONFFILES.items():
        _write(tree / name, (ROOT / "packaging" / source).read_text(), 0o644)
    for folder in ("etc/lm-openai/thresholds.d", SERVICES.lstrip("/")):
        (tree / folder).mkdir(parents=True)


def version() -> str:
    """Return the suite's version, read without importing it."""
    text = (ROOT / "lm_openai/__init__.py").read_text()
    return text.partition('__version__ = "')[2].partition('"')[0]


def depends(setup: ConfigParser) -> str:
    """Return the dependencies of setup.cfg as Debian packages: python3-requests for `requests`."""
    python = setup["options"]["python_requires"].removeprefix(">=")
    return ", ".join([f"python3 (>= {python})", *packages(setup["options"]["install_requires"])])


def packages(requirements: str) -> list[str]:
    """Return requirements as Debian packages with their versions."""
    needs = re.findall(r"(?m)^([a-z0-9-]+)>=([\d.]+)$", requirements)
    return [f"python3-{name} (>= {version})" for name, version in needs]


def _plugin(tree: Path, folder: str) -> None:
    """Make the script executable by Debian's Python and link it into its folders."""
    script = tree / SHARE / "modules" / folder / f"{folder}.py"
    text = script.read_text().replace(ENVIRONMENT_PYTHON, DEBIAN_PYTHON, 1)
    _write(script, text, 0o755)
    for path in (f"{PLUGINS}/check_openai_{folder}", f"{LINKS}/{folder}.py"):
        link = tree / path.lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(script, link.parent))


def _control(folder: Path, setup: ConfigParser) -> None:
    synopsis, _, contents = setup["metadata"]["description"].partition(": ")
    text = CONTROL.format(
        **_identity(setup),
        depends=depends(setup),
        suggests=", ".join(packages(setup["options.extras_require"]["redis"])),
        synopsis=synopsis[0].lower() + synopsis[1:],
        contents=contents[0].upper() + contents[1:],
        plugins=PLUGINS,
    )
    _write(folder / "control", text, 0o644)
    _write(folder / "conffiles", "".join(f"/{name}\n" for name in CONFFILES), 0o644)
    for script, text in SCRIPTS.items():
        _write(folder / script, text, 0o755)


def _identity(setup: ConfigParser) -> dict[str, str]:
    """Return the package's name, version and maintainer."""
    metadata = setup["metadata"]
    maintainer = "{author} <{author_email}>".format_map(metadata)
    return {"name": metadata["name"], "version": version(), "maintainer": maintainer}


def _papers(folder: Path, setup: ConfigParser) -> None:
    """Write the license and the changelog in the forms that Debian wants."""
    identity = _identity(setup)
    _write(folder / "copyright", COPYRIGHT.format(**identity), 0o644)
    changes = CHANGES.format(**identity).encode()
    (folder / "changelog.gz").write_bytes(gzip.compress(changes, mtime=0))


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
