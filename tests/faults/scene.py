"""Scene of one fault: real scripts as processes, a demo organization, and what holds for each run.

A fault's function starts processes, breaks something and states what it expects. What holds after
every fault is checked here, see `Scene.close`.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.model.report import STATES
from lm_openai.simulator import ADMIN_KEY, Simulator
from lm_openai.storage.cache import Cache, identity
from lm_openai.timespans import DAY
from tests.support.paths import ROOT
from tests.support.redis_server import PASSWORD
from tests.support.replay import Outcome
from tests.support.surroundings import environment

SCRIPT = "completion_by_model"
OWN = ("requests_made", "latency_seconds")
"""Datapoints about the process itself, which no other poll repeats."""
BUGS = ("Traceback", "fault in lm-openai", "Exception in thread")
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
SUITE = "lm-openai"


class Broken(Exception):
    """A promise is broken; the text says which one."""


class Untried(Exception):
    """This machine cannot cause the fault; the text is the reason."""


class Ran(NamedTuple):
    """Process that ended: its output, exit status (negative: signal) and duration in seconds."""

    script: str
    words: tuple[str, ...]
    stdout: str
    stderr: str
    status: int
    seconds: float
    timeout: float

    @property
    def document(self) -> dict[str, Any]:
        """The report that it printed as JSON."""
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    @property
    def sentence(self) -> str:
        """The end of what it printed, for messages."""
        return (self.stderr or self.stdout)[-300:].strip()


class Running:
    """Process of a script; its output goes to files, so that nobody has to read it."""

    def __init__(
        self, script: str, words: Sequence[str], timeout: float, place: Path, settings: Any
    ) -> None:
        self.script, self.words, self._timeout, self._place = script, tuple(words), timeout, place
        program = ["-m", "lm_openai.start"] if script == SUITE else [_path(script)]
        with open(f"{place}.stdout", "wb") as out, open(f"{place}.stderr", "wb") as err:
            self._began = time.monotonic()
            self.process = subprocess.Popen(
                [sys.executable, *program, *words],
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **{"stdout": out, "stderr": err, "cwd": ROOT, **settings},
            )
        self._ended = self._began
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()

    def _wait(self) -> None:
        self.process.wait()
        self._ended = time.monotonic()

    @property
    def ended(self) -> bool:
        """True if it has ended."""
        return not self._waiter.is_alive()

    @property
    def pipes(self) -> list[IO[bytes]]:
        """Its stdout and stderr, as far as they are pipes."""
        return [stream for stream in (self.process.stdout, self.process.stderr) if stream]

    @property
    def output(self) -> str:
        """Text that it has printed on stdout so far."""
        return Path(f"{self._place}.stdout").read_text("utf-8", "surrogateescape")

    @property
    def errors(self) -> str:
        """Text that it has printed on stderr so far."""
        return Path(f"{self._place}.stderr").read_text("utf-8", "surrogateescape")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End the process with a signal, at once by default."""
        self.process.send_signal(number)
        self._waiter.join()

    def ran(self, seconds: float) -> Ran:
        """Wait for its end; raises Broken if it takes longer than that."""
        self._waiter.join(max(0.0, seconds))
        if self._waiter.is_alive():
            self.kill()
            raise Broken(f"{self.script} {' '.join(self.words)} did not end")
        return Ran(
            self.script,
            self.words,
            self.output,
            self.errors,
            self.process.returncode,
            self._ended - self._began,
            self._timeout,
        )


class Scene:
    """Place of one fault: folders, the demo organization `demo` and a calm twin for the truth.

    `scale` is the part (0 to 1) of the processes that a fault starts; `slack` the seconds by which
    a run may exceed its limit; `seconds` the time that the fault may take.
    """

    def __init__(
        self, folder: Path, scale: float, slack: float, seconds: float, settings: Mapping[str, Any]
    ) -> None:
        self.folder, self.scale, self.slack = folder, scale, slack
        self._until = time.monotonic() + seconds
        self.random = random.Random(folder.name)
        settings = {"at": int(time.time()), "projects": 6, "models": 12, **settings}
        self.demo = Simulator(**settings)
        self.calm = Simulator(**{**settings, "latency": 0.0})
        self.cache = folder / "cache"
        self.organizations: dict[str, Mapping[str, str]] = {"default": {}}
        self.ran: list[Ran] = []
        self.killed: list[Running] = []
        self._started: list[Running] = []
        self._truths: dict[tuple[Any, ...], str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Scene:
        for name in ("out", "truth"):
            (self.folder / name).mkdir(parents=True)
        self.demo.start()
        self.calm.start()
        return self

    def __exit__(self, *problem: object) -> None:
        for running in self._started:
            with suppress(OSError):
                running.process.kill()
        self.demo.stop()
        self.calm.stop()

    @property
    def processes(self) -> int:
        """Number of processes that were started."""
        return len(self._started)

    def many(self, number: int) -> int:
        """Return the number of processes to start in place of `number`."""
        return max(6, int(number * self.scale))

    def left(self) -> float:
        """Return the seconds that the fault may still take."""
        return self._until - time.monotonic()

    def start(
        self,
        script: str = SCRIPT,
        *words: str,
        environ: Mapping[str, str] = {},
        timeout: float = 40,
        **settings: Any,
    ) -> Running:
        """Start a script, by default one that prints JSON; `settings` are those of Popen."""
        given = {**environment(self.demo.url, self.cache), "HOME": str(self.folder), **environ}
        if script != SUITE:
            words = (*words, "--timeout", f"{timeout:g}")
        if script != SUITE and "--format" not in words:
            words = (*words, "--format", "json")
        place = self.folder / "out" / f"{len(self._started)}"
        running = Running(script, words, timeout, place, {"env": given, **settings})
        self._started.append(running)
        return running

    def finish(self, *started: Running) -> list[Ran]:
        """Wait for processes that nobody killed, in their order."""
        found = [running.ran(self.left()) for running in started]
        self.ran += found
        return found

    def poll(self, script: str = SCRIPT, *words: str, **settings: Any) -> Ran:
        """Run one script to its end."""
        return self.finish(self.start(script, *words, **settings))[0]

    def kill(self, running: Running, number: int = signal.SIGKILL) -> bool:
        """End a process by a signal; return False if it ended before, which counts as a run."""
        running.kill(number)
        if running.process.returncode >= 0:
            self.finish(running)
            return False
        self.killed.append(running)
        return True

    def truth(self, script: str, at: int, environ: Mapping[str, str] = {}) -> dict[str, Any]:
        """Return the report of an undisturbed poll at that time (Unix seconds)."""
        found: dict[str, Any] = json.loads(self.printed(script, at, "json", environ))
        return found

    def printed(self, script: str, at: int, form: str, environ: Mapping[str, str] = {}) -> str:
        """Return what an undisturbed poll at that time (Unix seconds) prints in a format."""
        key = (script, at, form, *environ.items())
        with self._lock:
            if key not in self._truths:
                folder = self.folder / "truth" / str(len(self._truths))
                calm = environment(self.calm.url, folder)
                given = {**calm, "LM_OPENAI_CACHE_TTL": "0s", **environ}
                polled = _in_process(script, given, at, form)
                require(polled.status == 0, f"the undisturbed poll failed: {polled.stderr}")
                self._truths[key] = polled.stdout
            return self._truths[key]

    def until(self, happened: Callable[[], Any]) -> None:
        """Wait until something has happened; raises Broken if it does not."""
        until = min(self.left(), 30) + time.monotonic()
        while not happened():
            require(time.monotonic() < until, "the fault could not be caused in time")
            time.sleep(0.005)

    @contextmanager
    def holding(self, name: str) -> Iterator[None]:
        """Hold the lock of an entry during the `with` block, as a stopped process does."""
        self.cache.mkdir(0o700)
        path = self.lock(name)
        with open(path, "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
            with suppress(FileNotFoundError):
                path.unlink()

    def lock(self, name: str) -> Path:
        """Return the path of the lock in the cache folder for an entry of that name."""
        owner = identity("default", self.demo.url, ADMIN_KEY)
        return self.cache / Cache(str(self.cache), owner, time.time)._file(name, ".lock")

    def site(self, code: str) -> dict[str, str]:
        """Return an environment in which each Python process runs `code` first."""
        folder = self.folder / f"site{self.random.random()}"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        return {"PYTHONPATH": str(folder)}

    @contextmanager
    def disk(self, kilobytes: int) -> Iterator[Path]:
        """Mount a small file system for the `with` block; raises Untried."""
        folder = self.folder / "disk"
        folder.mkdir(mode=0o700)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=700", "none", str(folder)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
            raise Untried("only root can mount a file system")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)

    def close(self) -> None:
        """Check what holds after each fault; raises Broken for the first thing that does not."""
        for ran in self.ran:
            self._check(ran)
        for running in self._started:
            with suppress(ProcessLookupError):
                os.killpg(running.process.pid, 0)
                raise Broken(f"a process of {running.script} is left")
        self._check_secrets()
        _check_left_files(self.folder, swept=self._sweep)

    def collect(self, problems: list[str], case: str, ran: Ran) -> None:
        """Check a run now and append what it breaks to the problems, with the case."""
        try:
            self._check(ran)
        except Broken as reason:
            problems.append(f"{case}: {reason}")
        self.ran.remove(ran)

    def _check(self, ran: Ran) -> None:
        _check_end(ran, self.slack)
        self._check_numbers(ran)

    def end(self, ran: Ran) -> None:
        """Check only the end of a run, whose numbers no undisturbed poll can have."""
        _check_end(ran, self.slack)
        self.ran.remove(ran)

    def _check_numbers(self, ran: Ran) -> None:
        """Compare a report with the undisturbed one; a part of it is right, and no state better."""
        if ran.status:
            require(ran.stdout == "" or "json" not in ran.words, "a failure with an output")
        if ran.script == SUITE or "json" not in ran.words or ran.status < 0 or not ran.stdout:
            return
        found = ran.document
        environ = self.organizations[found["organization"]]
        truth = _rows(self.truth(ran.script, found["unix_time"], environ))
        rows = _rows(found)
        if not found["partial_failures"]:
            same = rows == _without(truth, _lacking(found))
            require(same, f"{ran.script}: other numbers than without the fault")
        for name, (state, points) in rows.items():
            require(name in truth, f"{name} does not exist without the fault")
            known, right = truth[name]
            better = state != "unknown" and STATES.index(state) < STATES.index(known)
            require(not better, f"{name} is {state} and would be {known} without the fault")
            if points.items() - right.items():
                raise Broken(f"{name}: {points.items() - right.items()} is not {right}")
        if truth.keys() - rows.keys():
            require(bool(found["partial_failures"]), "an instance is missing, without a word")

    def _check_secrets(self) -> None:
        for path in self.folder.rglob("*"):
            if path.is_file() and path.stat().st_size < 2**26 and "site" not in path.parts[-2]:
                content = path.read_bytes()
                for secret in (ADMIN_KEY, PASSWORD):
                    require(secret.encode() not in content, f"a secret is in {path.name}")

    def _sweep(self) -> None:
        """Poll a day later: what killed processes left has to be gone then."""
        if not self.killed:
            return
        old = time.time() - 2 * DAY
        for path in self.folder.rglob("*"):
            if path.name.endswith((".unfinished", ".lock")):
                os.utime(path, (old, old), follow_symlinks=False)
        self.demo.clear()
        _check_end(self.poll(environ={"LM_OPENAI_CACHE_TTL": "1s"}), self.slack)


def require(condition: bool, text: str) -> None:
    """Raise Broken with this text unless the condition holds."""
    if not condition:
        raise Broken(text)


def succeeded(*runs: Ran) -> None:
    """Require that each run printed a report; its numbers are checked for every fault."""
    for ran in runs:
        require(ran.status == 0 and ran.stdout != "", f"status {ran.status}: {ran.sentence}")


def failed(ran: Ran, *words: str, status: int = 1) -> None:
    """Require one sentence with one of the words and no number."""
    shown = f"status {ran.status}: {ran.sentence}"
    require((ran.status, ran.stdout) == (status, ""), f"no failure, {shown}")
    require(ran.stderr.count("\n") == 1, f"not one sentence: {ran.stderr}")
    require(any(word in ran.stderr for word in words), f"not '{words[0]}' but {shown}")


def _path(script: str) -> str:
    return str(ROOT / "modules" / script / f"{script}.py")


def _in_process(script: str, environ: Mapping[str, str], at: int, form: str) -> Outcome:
    import io

    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environ, io.StringIO(), out, err, at)
    status = run(script, Options(format=form, at=str(at), timeout="300"), around)
    return Outcome(out.getvalue(), err.getvalue(), status)


def _rows(document: Mapping[str, Any]) -> dict[str, tuple[str, dict[str, float]]]:
    """Return state and datapoints by id."""
    return {
        row["id"]: (
            row["state"],
            {name: value for name, value in row["datapoints"].items() if name not in OWN},
        )
        for row in document["instances"]
    }


def _lacking(document: Mapping[str, Any]) -> dict[str, set[str]]:
    """Return the datapoints that a report names as missing, by id."""
    rows = document["instances"]
    return {row["id"]: set(row["missing"]) for row in rows if row.get("missing")}


def _without(truth: Mapping[str, Any], lacking: Mapping[str, set[str]]) -> dict[str, Any]:
    """Return rows without what they may lack, in the state unknown if they lack something."""
    return {
        name: (
            "unknown" if name in lacking else state,
            {key: value for key, value in points.items() if key not in lacking.get(name, ())},
        )
        for name, (state, points) in truth.items()
    }


def _check_end(ran: Ran, slack: float) -> None:
    said = f"{ran.script}: status {ran.status}: {ran.sentence}"
    require(ran.status in (0, 1, 2, 3), said)
    for word in BUGS:
        require(word not in ran.stderr + ran.stdout, said)
    control = CONTROL.search(ran.stderr + ran.stdout)
    require(control is None, f"{ran.script} prints control characters: {control!r}")
    over = ran.seconds - ran.timeout
    require(over <= slack, f"{ran.script} took {over:.1f} s longer than {ran.timeout:g} s")


def _check_left_files(folder: Path, swept: Callable[[], None]) -> None:
    """Require that no lock is held, and that no lock or unfinished file stays for long."""
    for path in folder.rglob("*.lock"):
        if not path.is_file() or path.is_symlink():
            continue
        with open(path, "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Broken(f"{path.name} is held") from None
    swept()
    left = [path.name for path in folder.rglob("*") if path.name.endswith(".unfinished")]
    # The lock of the audit cursor and the mark of a full disk stay.
    locks = (path.name for path in folder.rglob("*.lock"))
    left += [name for name in locks if not name.endswith((".cursor.lock", "full.lock"))]
    require(not left, f"left behind: {left[:3]}")
