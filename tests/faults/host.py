"""Faults of the host: killed processes, full disks, missing and hostile folders."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from lm_openai.simulator import ADMIN_KEY
from lm_openai.timespans import DAY, MINUTE
from tests.faults.rows import fault
from tests.faults.scene import SCRIPT, SUITE, Ran, Running, Scene, failed, require, succeeded
from tests.support.audit_feed import ids, truth

SLOW_WRITES = """
import os, time
for name in ("replace", "fsync"):
    def slow(*words, real=getattr(os, name), **settings):
        time.sleep(0.04)
        return real(*words, **settings)
    setattr(os, name, slow)
"""
"""Makes the moments in which a kill could do harm a hundred times longer."""
FRESH = {"LM_OPENAI_CACHE_TTL": "1s"}
MOST_REPEATED = 1000
AUDIT = {"audit_delay": 0}


@fault("process ended at a random moment by KILL, TERM or HUP, 40 times", True, 120)
def ended(scene: Scene) -> None:
    """The next poll is right, and what they left is removed."""
    environ = {**scene.site(SLOW_WRITES), **FRESH}
    for _ in range(scene.many(40)):
        running = scene.start(environ=environ)
        time.sleep(scene.random.uniform(0.2, 0.8))
        scene.kill(running, scene.random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGHUP]))
    succeeded(scene.poll(environ=FRESH))


@fault("writer of an --output file killed at random moments, 40 times", True, 120)
def output_killed(scene: Scene) -> None:
    """The file is always a whole one, and a later poll removes what was left beside it."""
    folder = scene.folder / "textfiles"
    folder.mkdir(0o700)
    words = (SCRIPT, "--format", "prometheus", "--output", str(folder / "openai.prom"))
    succeeded_file(scene.poll(*words), folder)
    lines = (folder / "openai.prom").read_text().count("\n")
    for _ in range(scene.many(40)):
        running = scene.start(*words, environ=scene.site(SLOW_WRITES))
        before = {path.name for path in folder.iterdir()}
        scene.until(partial(writes, running, folder, before))
        time.sleep(scene.random.uniform(0, 0.05))
        scene.kill(running)
        text = (folder / "openai.prom").read_text()
        require(text.count("\n") == lines and text.endswith("\n"), "a part of a file was read")
    for path in folder.glob(".*"):
        os.utime(path, (time.time() - DAY,) * 2)
    succeeded_file(scene.poll(*words), folder)
    left = [path.name for path in folder.iterdir()]
    require(left == ["openai.prom"], f"left behind: {left}")


def writes(running: Running, folder: Path, before: set[str]) -> bool:
    """Return True if the process writes a new file in the folder, or has ended."""
    return running.ended or {path.name for path in folder.iterdir()} != before


def succeeded_file(ran: Ran, folder: Path) -> None:
    """Require that a poll wrote its file and printed nothing."""
    require((ran.status, ran.stdout) == (0, ""), f"status {ran.status}: {ran.sentence}")
    require("openai_poll_success" in (folder / "openai.prom").read_text(), "no result in the file")


def followed(scene: Scene, **settings: Any) -> Ran:
    """Run the audit feed to its end."""
    return scene.poll(SUITE, "audit", "--format", "json", **settings)


def check_events(scene: Scene, text: str, began: float, most: int = 0) -> None:
    """Require each event of the last 24 hours once, and at most `most` of them repeatedly."""
    printed = ids([json.loads(line) for line in text.splitlines()])
    wanted = set(ids(truth(scene.demo, began - DAY + 2 * MINUTE)))
    known = set(ids(truth(scene.demo, began - DAY - 2 * MINUTE)))
    require(bool(wanted), "the demo organization has no events")
    require(not wanted - set(printed), f"{len(wanted - set(printed))} events are lost")
    require(set(printed) <= known, "events that the API does not have")
    repeated = sum(count - 1 for count in Counter(printed).values())
    require(repeated <= most, f"{repeated} events are printed twice")


@fault("audit feed killed at random moments, 25 times", True, 120, **AUDIT)
def feed_killed(scene: Scene) -> None:
    """No event is lost; a killed run's last batch is printed again."""
    began, printed, kills = time.time(), "", 0
    for _ in range(scene.many(25)):
        running = scene.start(SUITE, "audit", "--format", "json", environ=scene.site(SLOW_WRITES))
        time.sleep(scene.random.uniform(0.2, 0.8))
        kills += scene.kill(running)
        printed += whole_lines(running.output)
    last = followed(scene)
    check_events(scene, printed + last.stdout, began, kills * MOST_REPEATED)
    require(followed(scene).stdout == "", "events are printed again without a crash")


def whole_lines(text: str) -> str:
    """Return the text up to its last line end."""
    return text[: text.rfind("\n") + 1]


@fault("disk of the audit cursor full (a small tmpfs)", True, 60, **AUDIT)
def cursor_disk(scene: Scene) -> None:
    """Nothing is printed whose position cannot be saved; later everything is."""
    with scene.disk(64) as disk:
        began, environ = time.time(), {"LM_OPENAI_CACHE_DIR": str(disk)}
        fill(disk)
        failed(followed(scene, environ=environ), "the cursor cannot be saved in ")
        (disk / "ballast").unlink()
        done = followed(scene, environ=environ)
        check_events(scene, done.stdout, began)
        require(followed(scene, environ=environ).stdout == "", "events are printed again")


@fault("disk of the log full to which the audit feed prints", True, 60, **AUDIT)
def log_disk(scene: Scene) -> None:
    """The cursor stays before what could not be written."""
    with scene.disk(32) as disk:
        began, log = time.time(), disk / "events.log"
        (disk / "ballast").write_bytes(bytes(24 * 1024))
        with log.open("ab") as out:
            ran = followed(scene, stdout=out)
        require(ran.status == 1 and "No space left on device" in ran.stderr, ran.sentence)
        first = whole_lines(log.read_text())
    check_events(scene, first + followed(scene).stdout, began, MOST_REPEATED)


def fill(disk: Path) -> None:
    """Leave no space on a small file system."""
    with open(disk / "ballast", "wb", buffering=0) as ballast:
        try:
            while True:
                ballast.write(bytes(4096))
        except OSError:
            return


@fault("disk of an --output file full, then read-only", True, 60)
def output_disk(scene: Scene) -> None:
    """The old file stays as it was, with one sentence and no part of a new one."""
    import subprocess

    with scene.disk(64) as disk:
        path = disk / "report.json"
        words = (SCRIPT, "--output", str(path))
        path.write_text("old")
        fill(disk)
        failed(scene.poll(*words), f"--output {path} cannot be written: No space left on device")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        failed(scene.poll(*words), f"--output {path}", status=2)
        require(path.read_text() == "old", "the old file is gone")
        require(len([*disk.iterdir()]) == 2, "an unfinished file is left")


@fault("cursor and cache on a read-only disk from the start", False, 60, **AUDIT)
def all_read_only(scene: Scene) -> None:
    """A poll works without a cache and says so; the audit feed refuses to lose its position."""
    import subprocess

    with scene.disk(64) as disk:
        environ = {"LM_OPENAI_CACHE_DIR": str(disk / "cache")}
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        done = scene.poll(environ=environ)
        succeeded(done)
        require(any("Read-only file system" in note for note in done.document["notes"]), "no note")
        failed(followed(scene, environ=environ), "Read-only file system")


def opened(mode: int, path: Path) -> None:
    """Create a folder with that mode, whatever the umask."""
    path.mkdir()
    path.chmod(mode)


def foreign(path: Path) -> None:
    """Create a folder of another user."""
    path.mkdir(0o700)
    os.chown(path, 12345, 12345)


def strange_folders(scene: Scene) -> dict[str, Callable[[Path], object]]:
    """Return functions that each create a folder in another hostile way."""
    other = scene.folder / "other"
    other.mkdir(0o700)
    return {
        "a folder that all can write": partial(opened, 0o777),
        "a folder that its group can write": partial(opened, 0o770),
        "a link to a private folder": lambda path: path.symlink_to(other),
        "a link to nothing": lambda path: path.symlink_to(scene.folder / "nothing"),
        "a link to itself": lambda path: path.symlink_to(path),
        "a file": Path.touch,
        "a FIFO": os.mkfifo,
        **({"a folder of another user": foreign} if os.geteuid() == 0 else {}),
    }


@fault("hostile permissions, owners, links, files and FIFOs in place of the cache", False, 60)
def hostile_cache(scene: Scene) -> None:
    """Nothing is read or written there, the numbers are right and a note says why."""
    for name, make in strange_folders(scene).items():
        make(scene.cache)
        done = scene.poll()
        succeeded(done)
        require(str(scene.cache) in "".join(done.document["notes"]), f"no note on {name}")
        failed(followed(scene), str(scene.cache))
        inside = scene.cache.is_dir() and [*scene.cache.iterdir()]
        require(not inside, f"{name} has files now: {inside}")
        unlink = shutil.rmtree if scene.cache.is_dir() and not scene.cache.is_symlink() else None
        (unlink or Path.unlink)(scene.cache)
    require(not [*(scene.folder / "other").iterdir()], "files were written through the link")


@fault("missing folders: the current one was deleted, HOME, cache and site do not exist", True, 60)
def missing_folders(scene: Scene) -> None:
    """The files that exist suffice, whatever folder the agent was started in."""
    nowhere = str(scene.folder / "a" / "b" / "c")
    gone = scene.folder / "gone"
    variables = ("HOME", "LM_OPENAI_CACHE_DIR", "LM_OPENAI_ETC", "XDG_CACHE_HOME")
    for variable in variables:
        succeeded(scene.poll(environ={variable: nowhere}))
    for script in (SCRIPT, SUITE):
        gone.mkdir()
        words = ("audit", "--format", "json") if script == SUITE else ()
        settings = {"cwd": gone, "preexec_fn": lambda: os.rmdir(gone)}
        ran = scene.poll(script, *words, **settings)
        require(ran.status == 0 and ran.stdout != "", f"status {ran.status}: {ran.sentence}")
        if script == SCRIPT:
            require(not ran.document["notes"], f"notes: {ran.document['notes']}")
        bare = {
            "PATH": "/usr/bin",
            "OPENAI_ADMIN_KEY": ADMIN_KEY,
            "OPENAI_BASE_URL": scene.demo.url,
        }
        if script == SCRIPT:
            succeeded(scene.poll(env=bare))
