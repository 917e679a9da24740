"""--output: a file that is replaced as a whole, and only where no other user can interfere."""

from __future__ import annotations

import io
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lm_openai.app import output_file, run_many, runner
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.errors import Failure
from lm_openai.output.registry import FORMATS
from tests.support.replay import Outcome, Record, answering
from tests.support.surroundings import environment
from tests.support.targets import listening

pytestmark = pytest.mark.slow

FOLDER = "images_by_model"
USAGE = "/organization/usage/images"
OLD = "the output of an earlier poll\n"
SUCCESS = (
    "# HELP openai_poll_success 1 if the last poll succeeded completely, "
    "0 if some data is missing\n"
    "# TYPE openai_poll_success gauge\n"
    'openai_poll_success{{datasource="{folder}",organization="acme"}} {value}\n'
)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def polled(
    target: Path | str | None,
    tmp_path: Path,
    form: str = "json",
    failing: str = "",
    folders: tuple[str, ...] = (FOLDER,),
    key: str = "sk-admin-recorded",
    discover: bool = False,
) -> Outcome:
    """Poll the record of the first folder with --output; None prints on stdout."""
    record = Record.of(folders[0])
    sets = tuple(f"{name}={value}" for name, value in record.properties.items())
    output = None if target is None else str(target)
    options = Options(format=form, sets=sets, output=output, discover=discover)
    out, err = io.StringIO(), io.StringIO()
    with answering(record, failing) as url:
        environ = environment(url, tmp_path / "cache", key)
        around = Surroundings(environ, io.StringIO(), out, err, record.at)
        if len(folders) == 1:
            status = runner.run(folders[0], options, around)
        else:
            status = run_many.run(folders, options, around)
    return Outcome(out.getvalue(), err.getvalue(), status)


@pytest.mark.usefixtures("umask")
@pytest.mark.parametrize("form", FORMATS)
def test_the_file_holds_what_stdout_would_and_nothing_else_is_left(
    form: str, tmp_path: Path
) -> None:
    printed = polled(None, tmp_path, form)
    folder = tmp_path / "output"
    folder.mkdir()
    target = folder / "images.prom"
    target.write_text(OLD)
    target.chmod(0o600)
    outcome = polled(target, tmp_path, form)

    assert target.read_text() == printed.stdout != ""
    assert outcome == printed._replace(stdout="")
    assert os.listdir(folder) == ["images.prom"]
    # 0644 for Prometheus, whose exporter is another user; others 0640; less a umask of 022
    assert stat.S_IMODE(target.stat().st_mode) == (0o644 if form == "prometheus" else 0o640)


def test_the_umask_takes_away_from_the_mode(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        output_file.replace(str(tmp_path / "new"), "text", 0o644)
    finally:
        os.umask(before)

    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o600


def link(path: Path) -> None:
    path.with_name("other").write_text(OLD)
    path.symlink_to("other")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (link, "a symbolic link"),
        (lambda path: path.symlink_to("absent"), "a symbolic link"),
        (os.mkfifo, "a FIFO"),
        (Path.mkdir, "a folder"),
        (listening, "a socket"),
    ],
    ids=["link", "broken link", "FIFO", "folder", "socket"],
)
def test_a_target_that_is_not_a_regular_file_is_refused_before_any_request(
    make: Callable[[Path], None], kind: str, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    make(target)
    before = target.lstat()
    outcome = polled(target, tmp_path, "prometheus")

    assert outcome == Outcome(
        "",
        f"--output {target} is {kind}, not a regular file; remove it, or name another file\n",
        2,
    )
    assert target.lstat() == before
    assert not (tmp_path / "other").exists() or (tmp_path / "other").read_text() == OLD
    assert not (tmp_path / "cache").exists()  # no response was cached: there was no request


def test_a_device_is_refused() -> None:
    with pytest.raises(Failure, match="--output /dev/null is a device, not a regular file; "):
        output_file.check("/dev/null")


@pytest.mark.parametrize("path", ["", "-", "folder/", "."])
def test_a_path_without_a_file_name_is_refused(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    outcome = polled(path, tmp_path)

    assert outcome.status == 2
    assert outcome.stderr.startswith(f"--output {path!r} names no file; name one, or leave")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    outcome = polled(tmp_path / "absent" / "file", tmp_path)

    assert outcome.status == 2
    assert outcome.stderr == (
        f"--output {tmp_path}/absent/file: the folder {tmp_path}/absent cannot be opened: "
        f"No such file or directory; create it, or name another one\n"
    )


@pytest.mark.parametrize("mode", [0o777, 0o1777])
def test_a_folder_that_every_user_can_write_is_refused_also_if_it_is_sticky(
    mode: int, tmp_path: Path
) -> None:
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    outcome = polled(folder / "file", tmp_path)

    assert outcome.status == 2
    assert outcome.stderr == (
        f"--output {folder}/file: every user of this host can write in the folder {folder} and "
        f"could replace the file; name a file in a folder that only this user can write\n"
    )
    assert os.listdir(folder) == []


def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "output"
    folder.mkdir()
    target = folder / "file"
    target.write_text(OLD)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(
        Failure, match="cannot be written: No space left on device; free space in the folder "
    ):
        output_file.replace(str(target), "new", 0o640)

    assert os.listdir(folder) == ["file"]
    assert target.read_text() == OLD


@pytest.mark.parametrize("form", FORMATS)
def test_a_failed_poll_leaves_the_old_file_except_in_prometheus(form: str, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text(OLD)
    printed = polled(None, tmp_path, form, failing=USAGE)
    outcome = polled(target, tmp_path, form, failing=USAGE)

    assert outcome == printed
    assert outcome.status == (3 if form == "nagios" else 1)
    failed = SUCCESS.format(folder=FOLDER, value=0)
    assert target.read_text() == (failed if form == "prometheus" else OLD)


def test_a_poll_without_a_key_reports_the_failure_under_the_same_labels(tmp_path: Path) -> None:
    target = tmp_path / "file"
    outcome = polled(target, tmp_path, "prometheus", key="")

    assert outcome.status == 2
    assert outcome.stderr.startswith("no admin key: ")
    assert target.read_text() == SUCCESS.format(folder=FOLDER, value=0)


def test_a_failed_discovery_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text(OLD)

    assert polled(target, tmp_path, "prometheus", failing=USAGE, discover=True).status == 1
    assert target.read_text() == OLD


def test_several_datasources_share_one_file_and_each_reports_its_success(tmp_path: Path) -> None:
    target = tmp_path / "file"
    folders = (FOLDER, "embeddings_by_model")
    assert polled(target, tmp_path, "prometheus", folders=folders).status == 0
    working = target.read_text()
    assert polled(target, tmp_path, "prometheus", USAGE, folders).status == 0
    partial = target.read_text()
    assert polled(target, tmp_path, "prometheus", key="", folders=folders).status == 2

    success = 'openai_poll_success{{datasource="{}",organization="acme"}} {}\n'
    for text, values in ((working, (1, 1)), (partial, (0, 1)), (target.read_text(), (0, 0))):
        for folder, value in zip(folders, values):
            assert success.format(folder, value) in text


def test_what_a_killed_run_left_is_removed_an_hour_later(tmp_path: Path) -> None:
    names = {".lm-openai-0a.unfinished": 3700, ".lm-openai-0b.unfinished": 60, ".other": 9999}
    for name, age in names.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)

    output_file.replace(str(tmp_path / "file"), "text", 0o644)

    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"file", ".lm-openai-0b.unfinished", ".other"}
