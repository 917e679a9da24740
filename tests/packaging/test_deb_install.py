"""Debian package: folders of the service users, from installation to purge."""

from __future__ import annotations

import os
import pwd
import re
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lm_openai import paths, resources
from lm_openai.hosts.nagios import SERVICES, TEMPLATES
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.conftest import missing
from tests.hosts.nagios_site import DEBIAN, OBJECTS
from tests.hosts.plugin_hosts import nagios_settings
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

AGENT = "nagios"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory, tool: Callable[[str], str]) -> Path:
    tool("dpkg-deb")
    path = tmp_path_factory.mktemp("package") / "lm-openai_0_all.deb"
    build = [sys.executable, str(ROOT / "packaging/deb.py"), str(path)]
    subprocess.run(build, check=True, capture_output=True)
    return path


@pytest.fixture
def dpkg(tool: Callable[[str], str], tmp_path: Path) -> Callable[..., None]:
    """Function that runs dpkg on an empty root folder; its scripts run with umask 077."""
    program = tool("dpkg")
    if os.geteuid() != 0:
        missing("only root can install a package")
    for folder in ("info", "updates"):
        (tmp_path / "var/lib/dpkg" / folder).mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").touch()

    def run(*words: object) -> None:
        root = [f"--root={tmp_path}", "--force-script-chrootless", "--force-depends"]
        command = [program, *root, *map(str, words)]
        ran = subprocess.run(
            command, capture_output=True, text=True, preexec_fn=lambda: os.umask(0o077)
        )
        assert ran.returncode == 0, ran.stderr

    return run


def test_service_users_get_private_folders_that_only_purge_removes(
    package: Path, dpkg: Callable[..., None], tmp_path: Path
) -> None:
    try:
        agent = pwd.getpwnam(AGENT)
    except KeyError:
        missing(f"this host has no user {AGENT}")
    services = tmp_path / paths.SERVICES.lstrip("/")

    dpkg("--install", package)
    made = {path.name: path.stat() for path in (services, *services.iterdir())}
    (services / AGENT / "a.cursor").touch()
    dpkg("--install", package)
    dpkg("--remove", "lm-openai")

    assert _described(made["lm-openai"]) == (0, 0, 0o755)
    assert _described(made[AGENT]) == (agent.pw_uid, agent.pw_gid, 0o700)
    assert all(pwd.getpwnam(name) for name in made if name != "lm-openai")
    assert (services / AGENT / "a.cursor").exists()
    dpkg("--purge", "lm-openai")
    assert not services.exists()


def test_the_installed_commands_start_the_installed_plugins(
    package: Path, dpkg: Callable[..., None], tmp_path: Path
) -> None:
    """The interpreter is the environment's, which has the libraries."""
    dpkg("--install", package)
    (config,) = (tmp_path / "etc/nagios-plugins/config").iterdir()
    words = re.findall(r"command_line +(/usr/lib\S+)(.*)", config.read_text())
    assert len(words) == len(resources.folders())
    properties = tmp_path / "properties"
    with Simulator(projects=2, models=2) as demo:
        properties.write_text(f"openai.admin.key={ADMIN_KEY}\nopenai.api.url={demo.url}\n")
        properties.chmod(0o600)
        for program, options in words:
            line = options.replace("$_HOSTOPENAI_PROPERTIES$", str(properties))
            ran = subprocess.run(
                [sys.executable, f"{tmp_path}{program}", *line.replace("$ARG1$", "").split()],
                capture_output=True,
                text=True,
                env={"HOME": str(tmp_path), "LM_OPENAI_CACHE_DIR": str(tmp_path / "cache")},
            )
            assert re.match(r"OPENAI .* (OK|WARNING|CRITICAL) - ", ran.stdout), (program, ran)


def test_an_edited_command_file_survives_an_update_and_only_purge_removes_it(
    package: Path, dpkg: Callable[..., None], tmp_path: Path
) -> None:
    config = tmp_path / "etc/nagios-plugins/config/lm-openai.cfg"
    dpkg("--install", package)
    config.write_text("# edited\n")
    dpkg("--install", package)
    dpkg("--remove", "lm-openai")
    assert config.read_text() == "# edited\n"
    dpkg("--purge", "lm-openai")
    assert not config.exists()


def test_nagios_accepts_the_installed_commands_with_the_examples(
    package: Path, dpkg: Callable[..., None], tool: Callable[[str], str], tmp_path: Path
) -> None:
    program = tool("nagios4")
    dpkg("--install", package)
    examples = tmp_path / "usr/share/doc/lm-openai/examples/nagios"
    further = [f"cfg_dir={tmp_path}/etc/nagios-plugins/config"]
    further += [f"cfg_file={examples / name}" for name in (TEMPLATES, SERVICES)]
    settings = nagios_settings(tmp_path / "nagios", OBJECTS, [*DEBIAN, *further])
    ran = subprocess.run([program, "-v", settings], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_lintian_finds_no_error(package: Path, tool: Callable[[str], str]) -> None:
    command = [tool("lintian"), "--allow-root", "--fail-on", "error", str(package)]
    ran = subprocess.run(command, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout


def _described(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)
