"""Files that contain a secret: which are refused, and that the command in the error works."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_openai.config import exposure
from lm_openai.config.properties import load
from lm_openai.errors import WrongUsage
from tests.support.users import User, as_user

KEY = "sk-admin-Zm9vYmFy"
AGENTS = ("nagios", "zabbix", "icinga")
ROOT_USER = User(0, 0)
OTHER = User(23456, 23456)


def agent(name: str) -> User:
    """Return the ids of an agent's user; without that user on this machine, ids of no user."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return User(12345 + AGENTS.index(name), 54321 + AGENTS.index(name))
    return User(entry.pw_uid, entry.pw_gid)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Folder that every user can enter; pytest's own are closed to all but one."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "with space"
        path.mkdir()
        path.chmod(0o755)
        path.parent.chmod(0o755)
        yield path


def key_file(path: Path) -> str:
    """Return the key in a file of its own, or the error."""
    return outcome({"LM_OPENAI_ADMIN_KEY_FILE": str(path)}, [])


def properties_file(path: Path) -> str:
    """Return the key in a --properties file, or the error."""
    return outcome({}, [str(path)])


def outcome(environ: dict[str, str], files: list[str]) -> str:
    try:
        return load(environ, files).admin_key()
    except WrongUsage as refused:
        return str(refused)


Read = Callable[[Path], str]
WAYS: dict[Read, str] = {key_file: KEY, properties_file: f"openai.admin.key={KEY}\n"}


@pytest.fixture(params=WAYS, ids=lambda way: way.__name__)
def read(request: pytest.FixtureRequest) -> Read:
    """Function that reads the key from a file, as the key alone or as a property."""
    way: Read = request.param
    return way


def written(path: Path, read: Read, mode: int, owner: User = ROOT_USER) -> Path:
    path.write_text(WAYS[read])
    path.chmod(mode)
    if os.geteuid() == 0:
        os.chown(path, *owner)
    return path


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("mode", [0o640, 0o440])
def test_a_file_of_root_is_read_by_the_agents_group(
    name: str, mode: int, read: Read, folder: Path
) -> None:
    path = written(folder / "key", read, mode, User(0, agent(name).gid))

    assert as_user(agent(name), lambda: read(path)) == KEY


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read(mode: int, read: Read, folder: Path) -> None:
    assert read(written(folder / "key", read, mode, User(os.geteuid(), os.getegid()))) == KEY


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o666])
def test_a_file_that_everybody_can_access_is_refused_with_its_name_and_user(
    mode: int, read: Read, folder: Path
) -> None:
    sentence = read(written(folder / "key", read, mode))

    assert f"{folder / 'key'}" in sentence
    assert "can be accessed by every user of this host" in sentence
    assert f"this process runs as user {pwd.getpwuid(os.geteuid()).pw_name}; run: " in sentence
    shared = sentence.endswith(", or set openai.admin.key.file.shared=true")
    assert shared == (mode & 0o002 == 0), "the property does not let others change the file"
    assert KEY not in sentence


CASES = {
    "root's, for everybody": (0o644, lambda user: User(0, 0)),
    "root's, for everybody, with the agent's group": (0o644, lambda user: User(0, user.gid)),
    "root's, for root only": (0o600, lambda user: User(0, 0)),
    "root's, for root only, with the agent's group": (0o600, lambda user: User(0, user.gid)),
    "the agent's, for everybody": (0o644, lambda user: user),
    "the agent's, for its group": (0o640, lambda user: user),
    "the agent's, for nobody": (0o000, lambda user: user),
    "a stranger's, for everybody": (0o644, lambda user: OTHER),
    "a stranger's, for the agent's group": (0o640, lambda user: User(OTHER.uid, user.gid)),
    "a stranger's, for the stranger only": (0o600, lambda user: OTHER),
}


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("case", CASES)
def test_the_command_in_the_error_lets_the_agent_read_the_key_and_no_stranger(
    case: str, name: str, read: Read, folder: Path
) -> None:
    mode, owner = CASES[case]
    user = agent(name)
    path = written(folder / "key", read, mode, owner(user))

    sentence = as_user(user, lambda: read(path))
    command = re.search(r"; run( as root)?: (.*?)(?:, or set|$)", sentence)
    assert command, sentence
    runner = ROOT_USER if command[1] else user
    assert as_user(runner, lambda: subprocess.run(command[2], shell=True).returncode) == 0

    assert as_user(user, lambda: read(path)) == KEY
    assert "Permission denied" in as_user(User(34567, 34567), lambda: read(path))


def test_the_command_for_root_keeps_the_group_that_reads_the_file(read: Read, folder: Path) -> None:
    user = agent("nagios")
    path = written(folder / "key", read, 0o644, User(0, user.gid))

    sentence = as_user(ROOT_USER, lambda: read(path))
    subprocess.run(sentence.partition("run: ")[2].partition(", or set")[0], shell=True, check=True)

    assert as_user(user, lambda: read(path)) == KEY


def test_a_closed_folder_is_named_because_no_mode_of_the_file_helps(
    read: Read, folder: Path
) -> None:
    path = written(folder / "key", read, 0o640, User(0, 0))
    folder.chmod(0o700)

    sentence = as_user(agent("nagios"), lambda: read(path))

    assert f"who cannot enter {folder}: move the file" in sentence


@pytest.mark.parametrize(
    "line",
    [
        "openai.proxy.pass=hush",
        "openai.cache.pass=hush",
        "openai.proxy.url=http://me:hush@proxy.example:3128",
        "openai.api.url=https://hush@gateway.example/v1",
    ],
)
def test_every_secret_in_a_properties_file_counts(line: str, tmp_path: Path) -> None:
    path = tmp_path / "acme"
    path.write_text(f"openai.top=3\n{line}\n")
    path.chmod(0o644)

    with pytest.raises(WrongUsage) as caught:
        load({}, [str(path)])

    name = line.partition("=")[0]
    assert f"{path}, which contains {name}, can be accessed by every user" in str(caught.value)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "openai.top=3\n",
        "openai.admin.key=\n",
        "openai.admin.key=##openai.admin.key##\n",
        "openai.admin.key.file=/etc/openai.key\n",
        "other.password=hush\n",
        "openai.proxy.url=http://proxy.example:3128\n",
    ],
)
def test_a_properties_file_without_a_secret_may_be_read_by_everybody(
    text: str, tmp_path: Path
) -> None:
    path = tmp_path / "acme"
    path.write_text(text)
    path.chmod(0o644)

    load({}, [str(path)])


@pytest.mark.parametrize("where", ["in the file", "--set", "environment"])
def test_shared_accepts_a_file_that_everybody_can_read(where: str, tmp_path: Path) -> None:
    path = tmp_path / "acme"
    line = "openai.admin.key.file.shared=true"
    path.write_text(f"openai.admin.key={KEY}\n" + (line if where == "in the file" else ""))
    path.chmod(0o644)
    environ = {"LM_OPENAI_ADMIN_KEY_FILE_SHARED": "true"} if where == "environment" else {}

    assert load(environ, [str(path)], [line] if where == "--set" else []).admin_key() == KEY


def test_a_file_on_a_secrets_mount_may_be_read_by_everybody(
    read: Read, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(folder / "key", read, 0o644)
    assert read(path) != KEY
    monkeypatch.setattr(exposure, "_SECRETS", (f"{os.path.realpath(folder)}/",))
    if os.geteuid() == 0:
        assert read(path) == KEY


def test_secrets_mounts_are_separate_file_systems_in_memory() -> None:
    mounts = (
        "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        "30 21 0:25 / /run rw,nosuid shared:2 - tmpfs tmpfs rw\n"
        "31 21 0:26 / /dev/shm rw - tmpfs tmpfs rw\n"
        "77 21 0:90 / /etc/openai ro,relatime master:3 shared:9 - tmpfs tmpfs rw,size=64k\n"
        "78 21 0:91 / /run/credentials/x.service ro - ramfs none rw\n"
    )
    found = [
        device
        for device in ("8:1", "0:25", "0:26", "0:90", "0:91", "9:9")
        if exposure.secrets_mount(mounts, device)
    ]
    assert found == ["0:90", "0:91"]


@pytest.mark.parametrize(("owner", "trusted"), [(0, True), (1000, False)])
def test_below_run_secrets_only_files_of_root_are_trusted(owner: int, trusted: bool) -> None:
    fields: Any = (0o100444, 1, 1, 1, owner, owner, 20, 0, 0, 0)
    status = os.stat_result(fields)
    assert exposure.on_secrets_mount("/run/secrets/openai", status) is trusted
    assert exposure.on_secrets_mount("/run/secretsfoo/openai", status) is False
