"""Faults of the folder in which processes share responses."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from lm_openai.simulator import NO_USAGE_KEY, Simulator
from tests.faults.rows import fault
from tests.faults.scene import SCRIPT, Ran, Running, Scene, failed, require, succeeded

SLOW = {"latency": 0.3}
WAITING = "another process requests it and has no response yet"


def requested(scene: Scene) -> Counter[tuple[str, str]]:
    """Return how often each question was sent, apart from its window and page."""
    return Counter(
        (one.path, one.query.get("bucket_width", [""])[0]) for one in list(scene.demo.requests)
    )


def crowd(scene: Scene, number: int, script: str = SCRIPT, **settings: Any) -> list[Running]:
    """Start many processes at once."""
    return [scene.start(script, **settings) for _ in range(scene.many(number))]


@contextmanager
def repeatedly(work: Callable[[], object], pause: float = 0.05) -> Iterator[None]:
    """Call `work` again and again during the `with` block."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(pause):
            with suppress(OSError):
                work()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def noted(run: Ran, words: str) -> None:
    """Require a note with these words in the report."""
    require(any(words in note for note in run.document["notes"]), f"no note '{words}'")


@fault("200 processes at once, a third killed at random moments", True, 180, **SLOW)
def third_killed(scene: Scene) -> None:
    """The others print the same poll, and each killed holder costs one request per question."""
    running = crowd(scene, 200)
    victims = scene.random.sample(running, len(running) // 3)
    killed = 0
    for victim in victims:
        time.sleep(scene.random.uniform(0, 0.1))
        killed += scene.kill(victim)
    others = scene.finish(*(one for one in running if one not in victims))
    succeeded(*others)
    polls = {run.document["time"] for run in others}
    most = max(requested(scene).values())
    require(most <= len(polls) + killed, f"{most} requests in {len(polls)} polls, {killed} killed")


@fault("holder of a request killed while others wait", True, 60, **SLOW)
def holder_killed(scene: Scene) -> None:
    """The next one asks once more, and nobody reports a failure."""
    scene.demo.fault("slow", seconds=20, times=1)
    holder = scene.start()
    scene.until(lambda: scene.demo.requests)
    others = crowd(scene, 12)
    time.sleep(1)
    scene.kill(holder)
    succeeded(*scene.finish(*others))
    more = [times for times in requested(scene).values() if times > 1]
    require(more == [2], f"requests sent more than once: {more}")


@fault("holder of a request stopped (SIGSTOP) while others wait", True, 60)
def holder_stopped(scene: Scene) -> None:
    """The others end in time and name what they waited for; the holder goes on later."""
    scene.demo.fault("slow", seconds=2, times=1)
    holder = scene.start()
    scene.until(lambda: scene.demo.requests)
    holder.process.send_signal(signal.SIGSTOP)
    for run in scene.finish(*[scene.start(timeout=4) for _ in range(3)]):
        failed(run, WAITING)
    holder.process.send_signal(signal.SIGCONT)
    succeeded(*scene.finish(holder))
    succeeded(scene.poll())


@fault("process stopped while it holds the lock of the poll's time", True, 60)
def time_held(scene: Scene) -> None:
    """Every process needs this lock, which is held for a millisecond: nobody waits long."""
    with scene.holding("time of the poll"):
        succeeded(*scene.finish(*[scene.start(timeout=10) for _ in range(3)]))
    succeeded(scene.poll())


@fault("process stopped while it holds the lock of the notes on the API", True, 60)
def notes_held(scene: Scene) -> None:
    """A pause after HTTP 429 is noted there; without the lock the poll goes on."""
    scene.demo.fault("429", times=2)
    with scene.holding("notes on the API"):
        succeeded(scene.poll(timeout=12))
    succeeded(scene.poll(environ={"LM_OPENAI_CACHE_TTL": "1s"}))


def _canary(scene: Scene) -> Path:
    path = scene.folder / "canary"
    path.write_text("untouched")
    return path


def _damages(scene: Scene) -> Iterator[Callable[[Path], object]]:
    """Yield functions that each damage one file in another way."""
    canary = _canary(scene)
    yield lambda path: path.write_bytes(b"")
    yield lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    yield lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")
    yield lambda path: path.write_bytes(os.urandom(2000))
    yield lambda path: os.truncate(path, 2**30)
    makers: list[Callable[[Path], object]] = [
        lambda path: path.symlink_to(canary),
        os.mkfifo,
        Path.mkdir,
    ]
    yield from (partial(_exchange, make=make) for make in makers)


def _exchange(path: Path, make: Callable[[Path], object]) -> None:
    """Put something else in the place of a file."""
    path.unlink()
    make(path)


@fault("stored responses damaged, truncated, huge, links, FIFOs and folders", False, 90)
def damaged(scene: Scene) -> None:
    """Each is requested again, and no link is followed."""
    for damage in _damages(scene):
        succeeded(scene.poll())
        for path in [*scene.cache.iterdir()]:
            damage(path)
        succeeded(*scene.finish(*[scene.start() for _ in range(3)]))
        require((scene.folder / "canary").read_text() == "untouched", "a link was followed")
        shutil.rmtree(scene.cache)


@fault("stored responses damaged while 50 processes read them", True, 90)
def damaged_meanwhile(scene: Scene) -> None:
    """Whatever a process reads, it prints right numbers."""

    def damage() -> None:
        for path in [*scene.cache.glob("*.body"), *scene.cache.glob("*.answer")]:
            os.truncate(path, scene.random.randrange(1 + path.stat().st_size))

    with repeatedly(damage, 0.02):
        succeeded(*scene.finish(*crowd(scene, 50)))


@fault("locks of dead processes, and links, FIFOs and folders in place of locks", True, 60)
def strange_locks(scene: Scene) -> None:
    """A lock that nobody holds is free; one that cannot be a lock is named and not needed."""
    canary, path = _canary(scene), scene.lock("time of the poll")
    makers: list[Callable[[Path], object]] = [
        lambda path: path.write_bytes(b"1234"),
        lambda path: path.symlink_to(canary),
        os.mkfifo,
        Path.mkdir,
    ]
    for make in makers:
        scene.cache.mkdir(0o700)
        make(path)
        succeeded(scene.poll(), scene.poll())
        shutil.rmtree(scene.cache)
    require(canary.read_text() == "untouched", "a link was followed")


@fault("cache folder removed again and again while 50 processes run", True, 90)
def vanishing(scene: Scene) -> None:
    """Some share nothing then, and all print right numbers."""
    with repeatedly(lambda: shutil.rmtree(scene.cache)):
        succeeded(*scene.finish(*crowd(scene, 50)))


@fault("cache folder replaced by a link to another folder while 50 processes run", False, 90)
def replaced(scene: Scene) -> None:
    """Nothing is written where the link points."""
    other = scene.folder / "other"
    other.mkdir(0o700)

    def swap() -> None:
        shutil.rmtree(scene.cache, ignore_errors=True)
        with suppress(OSError):
            scene.cache.unlink()
        scene.cache.symlink_to(other)
        time.sleep(0.1)
        scene.cache.unlink()

    with repeatedly(swap):
        succeeded(*scene.finish(*crowd(scene, 50)))
    require(not [*other.iterdir()], "files were written through the link")


@fault("disk of the cache full while 50 processes run (a small tmpfs)", True, 90, **SLOW)
def disk_full(scene: Scene) -> None:
    """They share what fits, say so, and print right numbers."""
    with scene.disk(256) as disk:
        environ = {"LM_OPENAI_CACHE_DIR": str(disk / "cache")}
        running = crowd(scene, 50, environ=environ)
        time.sleep(0.3)
        with suppress(OSError), open(disk / "ballast", "wb") as ballast:
            while True:
                ballast.write(bytes(4096))
                ballast.flush()
        succeeded(*scene.finish(*running))
        shutil.rmtree(disk / "cache", ignore_errors=True)
        last = scene.poll(environ=environ)
        succeeded(last)
        noted(last, "No space left on device")
        (disk / "ballast").unlink()
        succeeded(scene.poll(environ=environ))


@fault("disk of the cache becomes read-only while 50 processes run (tmpfs)", True, 90, **SLOW)
def read_only(scene: Scene) -> None:
    """As with a full disk; with `remount` the descriptors that are open stay."""
    import subprocess

    with scene.disk(4096) as disk:
        environ = {"LM_OPENAI_CACHE_DIR": str(disk / "cache")}
        running = crowd(scene, 50, environ=environ)
        time.sleep(0.5)
        scene.until(
            lambda: (
                not subprocess.run(
                    ["mount", "-o", "remount,ro", str(disk)], capture_output=True
                ).returncode
            )
        )
        succeeded(*scene.finish(*running))
        last = scene.poll(environ={**environ, "LM_OPENAI_CACHE_TTL": "1s"})
        succeeded(last)
        noted(last, "Read-only file system")


@fault("every file limited to 0, 1 or 200 bytes (RLIMIT_FSIZE)", True, 60)
def file_size(scene: Scene) -> None:
    """No response can be stored; the output goes to a pipe, which has no such limit."""
    import resource
    import subprocess

    for most in (0, 1, 200):
        limited = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
        pipe = subprocess.PIPE
        running = scene.start(preexec_fn=limited, stdout=pipe, stderr=pipe)
        out, err = (stream.read().decode() for stream in running.pipes)
        scene.finish(running)
        ran = scene.ran[-1] = scene.ran[-1]._replace(stdout=out, stderr=err)
        succeeded(ran)
        noted(ran, "File too large")


@fault("two organizations in one folder, 20 processes each", True, 60, **SLOW)
def two_organizations(scene: Scene) -> None:
    """Each process prints the numbers of its own organization."""
    with Simulator(seed=2, at=scene.demo.now, projects=5, models=9) as other:
        own = {"OPENAI_BASE_URL": other.url, "LM_OPENAI_ORG_NAME": "other"}
        scene.organizations["other"] = own
        pairs = [(scene.start(), scene.start(environ=own)) for _ in range(scene.many(20))]
        for first, second in pairs:
            runs = scene.finish(first, second)
            succeeded(*runs)
            names = [run.document["organization"] for run in runs]
            require(names == ["default", "other"], f"organizations {names}")
        scene.close()
        scene.ran.clear()


@fault("key rotated while 40 processes share, the new one without the scope", True, 60, **SLOW)
def rotated_key(scene: Scene) -> None:
    """The new key never prints what only the old one may read."""
    succeeded(scene.poll())
    new = {"OPENAI_ADMIN_KEY": NO_USAGE_KEY}
    wrong = {"OPENAI_ADMIN_KEY": "sk-admin-revoked-0123456789"}
    started = [
        (scene.start(), scene.start(environ=new), scene.start(environ=wrong))
        for _ in range(scene.many(13))
    ]
    for runs in (scene.finish(*three) for three in started):
        succeeded(runs[0])
        failed(runs[1], "it needs api.usage.read")
        failed(runs[2], "the admin key is wrong or was revoked")


def clock(scene: Scene, seconds: float) -> dict[str, str]:
    """Return an environment whose processes have a clock that is ahead by that many seconds."""
    code = f"import time\nreal = time.time\ntime.time = lambda: real() + {seconds}\n"
    return scene.site(code)


@fault("clock set back by a minute, then ahead by four, while 40 processes share", True, 60)
def different_clocks(scene: Scene) -> None:
    """Each prints the numbers of the time that it names, which is near its own."""
    number = scene.many(40)
    offsets = [0] * (number // 3) + [-60] * (number // 3) + [180] * (number // 3)
    began = time.time()
    running = [scene.start(environ=clock(scene, offset)) for offset in offsets]
    for offset, run in zip(offsets, scene.finish(*running)):
        succeeded(run)
        away = run.document["unix_time"] - began - offset
        require(-51 <= away <= 60, f"time of the poll {away:.0f} s from the process's own")


@fault("clock set back or ahead by hours and days between polls", True, 60)
def clock_jumps(scene: Scene) -> None:
    """A wrong clock is named, and what it stored is not used afterwards."""
    for hours in (-1, 1, -30, 30):
        wrong = scene.poll(environ=clock(scene, hours * 3600))
        failed(wrong, "this machine's clock is ")
        succeeded(scene.poll())


@fault("clock set back by a minute in the middle of a poll, others share", False, 60, **SLOW)
def clock_in_poll(scene: Scene) -> None:
    """The process keeps the time with which it began."""
    code = (
        "import itertools, time\nreal, calls = time.time, itertools.count()\n"
        "time.time = lambda: real() - 60 * (next(calls) > {})\n"
    )
    running = [scene.start(environ=scene.site(code.format(n))) for n in range(scene.many(20))]
    succeeded(*scene.finish(*running))


@fault("connection refused while 30 processes start", False, 60)
def refused_for_all(scene: Scene) -> None:
    """All report it at once or from the note, and none waits for its limit of 40 s."""
    scene.demo.stop()
    for run in scene.finish(*crowd(scene, 30, timeout=8)):
        failed(run, "no connection to the API (Connection refused")
    scene.demo.start()
    shutil.rmtree(scene.cache, ignore_errors=True)
    succeeded(scene.poll())
