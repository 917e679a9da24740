"""Trust in files: whatever another user could change is not used, and the error has the cure."""

from __future__ import annotations

import grp
import json
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from lm_openai import files
from lm_openai.api.tls import tls_context
from lm_openai.app import output_file
from lm_openai.config import json_files
from lm_openai.config.properties import load
from lm_openai.config.site_files import read_site
from lm_openai.errors import Failure, WrongUsage
from lm_openai.storage.audit_cursor import CursorFile
from lm_openai.storage.cache import Cache
from tests.conftest import missing

KEY = "sk-admin-Zm9vYmFy"
OTHER = 23456
SHARED = "openai.admin.key.file.shared=true"


@pytest.fixture
def top() -> Iterator[Path]:
    """Folder that root or this user owns, below the temporary folder that all users share."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def attempt(work: Callable[[], object]) -> str:
    """Return why something is refused, or ""."""
    try:
        work()
    except (Failure, OSError) as refused:
        return str(refused)
    return ""


def properties(path: Path) -> str:
    path.write_text("openai.api.url=https://gateway.example/v1\n")
    return attempt(lambda: load({}, [str(path)]))


def properties_with_a_key(path: Path) -> str:
    path.write_text(f"openai.admin.key={KEY}\n{SHARED}\n")
    return attempt(lambda: load({}, [str(path)]))


def key_file(path: Path) -> str:
    path.write_text(KEY)
    environ = {"LM_OPENAI_ADMIN_KEY_FILE": str(path), "LM_OPENAI_ADMIN_KEY_FILE_SHARED": "true"}
    return attempt(lambda: load(environ).admin_key())


def thresholds(path: Path) -> str:
    path.write_text("{}")
    return attempt(lambda: json_files.read(str(path)))


def site_thresholds(path: Path) -> str:
    path.rename(path.with_suffix(".json"))
    path = path.with_suffix(".json")
    path.write_text(json.dumps({"datasource": "a", "thresholds": []}))
    found = read_site([str(path.parent)], lambda name: "")
    assert bool(found.entries) != bool(found.faults)
    return "".join(found.faults)


def ca_file(path: Path) -> str:
    path.write_text("no certificate")
    reason = attempt(lambda: tls_context(str(path), {}))
    return "" if reason.endswith("; set it to a PEM file") else reason


def cache(path: Path) -> str:
    folder = path.with_name("cache")
    stored = Cache(str(folder), "a", lambda: 1_700_000_000.0)
    stored.put("a", 1, 60)
    assert stored.get("a") == 1
    assert bool(stored.trouble) != folder.exists()
    return stored.trouble


def cursor(path: Path) -> str:
    def use() -> None:
        with CursorFile(str(path.with_name("cache")), "a"):
            assert path.with_name("cache").exists()

    return attempt(use)


def output(path: Path) -> str:
    return attempt(lambda: output_file.replace(str(path), "text", 0o640))


READ = (
    properties,
    properties_with_a_key,
    key_file,
    thresholds,
    site_thresholds,
    ca_file,
)
WRITTEN = (cache, cursor, output)


class Weakness(NamedTuple):
    """Mode and owner of one element of `top/above/folder/file`; None stays as it is."""

    element: str
    mode: int | None
    owner: int | None
    sentence: str


WEAKNESSES = {
    "file for all": Weakness("file", 0o666, None, "every user of this host can change it"),
    "another's file": Weakness("file", 0o644, OTHER, f"another user ({OTHER}), can change it"),
    "folder for all": Weakness("folder", 0o777, None, "every user of this host can"),
    "another's folder": Weakness("folder", None, OTHER, f"its owner, another user ({OTHER}), can"),
    "folder above for all": Weakness(
        "above", 0o777, None, "every user of this host can change the folder {}"
    ),
    "another's folder above": Weakness(
        "above", None, OTHER, f"its owner, another user ({OTHER}), can change the folder {{}}"
    ),
}
CASES = [
    (name, use)
    for name, weakness in WEAKNESSES.items()
    for use in (READ if weakness.element == "file" else READ + WRITTEN)
]


def weakened(top: Path, weakness: Weakness) -> tuple[Path, Path]:
    """Make a file and weaken one element of its path; return the path and the weak element."""
    path = top / "above" / "folder" / "file"
    path.parent.mkdir(parents=True)
    path.touch()
    path.chmod(0o644)
    weak = next(each for each in (path, *path.parents) if each.name == weakness.element)
    if weakness.mode is not None:
        weak.chmod(weakness.mode)
    if weakness.owner is not None:
        if os.geteuid() != 0:
            missing("only root can give a file to another user")
        os.chown(weak, weakness.owner, -1)
    return path, weak


@pytest.mark.parametrize(("name", "use"), CASES)
def test_what_another_user_could_change_is_refused_until_the_given_command_has_run(
    name: str, use: Callable[[Path], str], top: Path
) -> None:
    weakness = WEAKNESSES[name]
    path, weak = weakened(top, weakness)
    sentence = use(path)

    assert weakness.sentence.format(weak) in sentence
    assert str(weak) in sentence
    assert KEY not in sentence
    if "; run: " in sentence:
        command = sentence.partition("; run: ")[2].partition(", or")[0].partition(";")[0]
        subprocess.run(command.partition(")")[0], shell=True, check=True)
        path.touch()
        assert use(path) == ""


@pytest.mark.parametrize("use", READ + WRITTEN)
def test_a_sticky_folder_above_is_accepted_as_the_temporary_folder_is(
    use: Callable[[Path], str], top: Path
) -> None:
    path, _ = weakened(top, Weakness("above", 0o1777, None, ""))

    assert use(path) == ""


def test_a_link_of_another_user_on_the_way_is_refused(top: Path) -> None:
    path, _ = weakened(top, Weakness("file", 0o644, None, ""))
    link = top / "link"
    link.symlink_to("above")
    assert thresholds(link / "folder" / "file") == ""
    if os.geteuid() != 0:
        missing("only root can give a link to another user")
    os.chown(link, OTHER, -1, follow_symlinks=False)

    assert f"can change the symbolic link {link}" in thresholds(link / "folder" / "file")
    assert thresholds(path) == ""


def test_the_folder_of_a_links_target_counts(top: Path) -> None:
    _, folder = weakened(top, Weakness("folder", 0o777, None, ""))
    (top / "link").symlink_to("above/folder/file")

    assert f"can change the folder {folder}" in thresholds(top / "link")


@pytest.mark.parametrize(
    ("mode", "owner", "group", "writers"),
    [
        (0o755, 1000, "ada", ""),
        (0o755, 0, "root", ""),
        (0o775, 0, "staff", ""),  # root:staff, as an administrator sets it up
        (0o775, 1000, "staff", "its whole group"),
        (0o775, 1000, "ada", ""),  # the private group of a user
        (0o775, 1000, "shared", "its whole group"),
        (0o755, 1001, "ada", "its owner, another user (1001),"),
        (0o1777, 0, "root", "every user of this host"),
        (0o666, 1000, "ada", "every user of this host"),
    ],
)
def test_who_else_can_change_a_file_or_folder(
    mode: int, owner: int, group: str, writers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def user(uid: int) -> object:
        if uid != 1000:
            raise KeyError
        return pwd.struct_passwd(("ada", "x", 1000, 1000, "", "/home/ada", "/bin/sh"))

    members = ["ada", "bob"] if group == "shared" else []
    name = "ada" if group == "shared" else group
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(pwd, "getpwuid", user)
    monkeypatch.setattr(grp, "getgrgid", lambda gid: grp.struct_group((name, "x", gid, members)))
    status = os.stat_result((stat.S_IFDIR | mode, 1, 1, 2, owner, 1000, 0, 0, 0, 0))

    assert files.writers(status) == writers


def test_a_cache_writes_where_it_was_checked_although_its_path_leads_elsewhere(
    top: Path,
) -> None:
    stored = Cache(str(top / "cache"), "a", lambda: 1_700_000_000.0)
    stored.put("a", 1, 60)
    (top / "cache").rename(top / "moved")
    (top / "cache").mkdir()
    stored.put("b", 2, 60)

    assert stored.get("b") == 2
    assert os.listdir(top / "cache") == []
    assert len(os.listdir(top / "moved")) == 2


def test_without_a_umask_the_folders_above_the_cache_are_not_for_all(top: Path) -> None:
    before = os.umask(0)
    try:
        cache(top / "a" / "b" / "file")
    finally:
        os.umask(before)

    modes = [stat.S_IMODE((top / name).stat().st_mode) for name in ("a", "a/b", "a/b/cache")]
    assert modes == [0o755, 0o755, 0o700]


def test_a_secret_for_all_to_change_is_refused_also_if_it_may_be_read(top: Path) -> None:
    path = top / "acme"
    path.write_text(f"openai.admin.key={KEY}\n")
    path.chmod(0o666)
    with pytest.raises(WrongUsage, match="every user of this host can change it"):
        load({}, [str(path)], [SHARED])
    path.chmod(0o644)

    assert load({}, [str(path)], [SHARED]).admin_key() == KEY


def test_a_current_folder_that_was_deleted_is_needed_for_no_absolute_path(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = top / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert files.distrust_folder(str(top)) == ""
