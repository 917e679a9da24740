"""`./run faults`: break things around the real scripts and print what they survived.

`program.py [--bounded] [--slack SECONDS] [WORD]...` tries the faults whose name contains one of the
words, by default all; with `--bounded` those for CI, with fewer processes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.faults import host, hosts, resident, sharing, upstream
from tests.faults.rows import FAULTS, Fault
from tests.faults.scene import Broken, Scene, Untried

AT_ONCE = 2
BOUNDED_SCALE = 0.15
SLACK = 0.5
"""Seconds by which a run may exceed openai.timeout, beside the start of Python."""
PARTS = (sharing, host, hosts, resident, upstream)
"""Modules that declare the faults."""


class Result(NamedTuple):
    """Outcome of a fault: its processes, the killed ones, and why it was not survived, or ""."""

    fault: Fault
    processes: int
    killed: int
    seconds: float
    over: float
    problem: str
    untried: str


def main(words: Sequence[str]) -> int:
    """Print the table; return 1 if a fault was not survived, 2 if no name has one of the words."""
    parser = argparse.ArgumentParser(description=__doc__, prog="./run faults")
    parser.add_argument("--bounded", action="store_true")
    parser.add_argument("--slack", type=float, default=SLACK)
    parser.add_argument("words", nargs="*")
    given = parser.parse_args(words)
    chosen = [fault for fault in FAULTS if _wanted(fault, given.words, given.bounded)]
    if not chosen:
        print("no fault has this in its name", file=sys.stderr)
        return 2
    results = []
    for result in tried(chosen, BOUNDED_SCALE if given.bounded else 1, given.slack):
        results.append(result)
        print(_line(result), flush=True)
    print(_summary(results))
    if given.bounded:
        print(f"Rows that name a number of processes started {BOUNDED_SCALE:.0%} of it.")
    return 1 if any(result.problem for result in results) else 0


def tried(faults: Iterable[Fault], scale: float, slack: float) -> Iterator[Result]:
    """Try the faults, AT_ONCE at a time, and yield their results in the order of the table."""
    _isolate()
    with tempfile.TemporaryDirectory(prefix="lm-openai-faults-") as folder:
        attempt = partial(_tried, folder=Path(folder), scale=scale, slack=slack + _start())
        with ThreadPoolExecutor(AT_ONCE) as pool:
            yield from pool.map(attempt, faults)


def _tried(fault: Fault, folder: Path, scale: float, slack: float) -> Result:
    began, problem, untried = time.monotonic(), "", ""
    place = folder / str(FAULTS.index(fault))
    scene = Scene(place, scale, slack, fault.seconds, fault.settings)
    try:
        with scene:
            fault.work(scene)
            scene.close()
    except Broken as reason:
        problem = str(reason)
    except Untried as reason:
        untried = str(reason)
    except Exception:
        problem = traceback.format_exc()
    shutil.rmtree(place, ignore_errors=True)
    over = max((run.seconds - run.timeout for run in scene.ran), default=0)
    seconds, killed = time.monotonic() - began, len(scene.killed)
    return Result(fault, scene.processes, killed, seconds, over, problem, untried)


def _wanted(fault: Fault, words: Sequence[str], bounded: bool) -> bool:
    named = not words or any(word in fault.name for word in words)
    return named and (fault.bounded or not bounded)


def _isolate() -> None:
    """Delete variables that may name a key, a host or a CA."""
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "LM_OPENAI_", "PYTHON", "XDG_", "SSL_CERT_")):
            del os.environ[name]


def _start() -> float:
    """Return the seconds of three starts of Python; on a busy machine one may take as long."""
    began = time.monotonic()
    for _ in range(3):
        subprocess.run([sys.executable, "-c", "import lm_openai.app.session"], check=True)
    return time.monotonic() - began


def _line(result: Result) -> str:
    outcome = "NOT SURVIVED" if result.problem else "not tried" if result.untried else "survived"
    row = f"{result.fault.name:74} {result.processes:4} {result.seconds:6.1f} s  {outcome}"
    reason = result.problem or result.untried
    return f"{row}\n    {reason}" if reason else row


def _summary(results: Sequence[Result]) -> str:
    done = [result for result in results if not result.untried]
    survived = sum(not result.problem for result in done)
    processes = sum(result.processes for result in done)
    killed = sum(result.killed for result in done)
    over = max((result.over for result in done), default=0)
    late = f"{over:.1f} s after its limit" if over > 0 else "within its limit"
    return (
        f"{len(done)} faults tried, {survived} survived; {processes} processes, {killed} killed; "
        f"the latest run ended {late}, start included"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
