"""Run the audit feed repeatedly; kill each run with SIGKILL some lines of code later.

`killing.py URL FOLDER AT SINCE MOST STEP`: FOLDER/<point>/printed holds the output of the killed
run and of the next one. The series ends with the first run that finishes before its point.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from lm_openai import timespans
from lm_openai.api import client, transport
from lm_openai.app import audit_feed
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.config import properties, value_types
from tests.support.audit_feed import process_environment

WATCHED = ("audit_feed.py", "audit_cursor.py", "audit_events.py", "audit_formats.py")
LOADED = (client, properties, timespans, transport, value_types)


def main(url: str, folder: str, at: str, since: str, most: str, step: str) -> None:
    """Fork a process for each run, so that modules are imported only once."""
    import requests  # noqa: F401

    for point in count(1, int(step)):
        scratch = Path(folder) / str(point)
        scratch.mkdir()
        run = partial(follow, url, scratch, int(at), since, int(most))
        killed, next_run = spawn(run, point), spawn(run, 0)
        if next_run != 0:
            sys.exit(f"after point {point} the next run ended with wait status {next_run}")
        if killed == 0:
            return
        if killed != signal.SIGKILL:
            sys.exit(f"at point {point} the run ended with wait status {killed}")


def spawn(work: Callable[[], int], point: int) -> int:
    """Call `work` in a child that is killed at that point (0: never); return its wait status."""
    child = os.fork()
    if child == 0:
        if point:
            sys.settrace(killer(point))
        os._exit(work())
    return os.waitpid(child, 0)[1]


def follow(url: str, scratch: Path, at: int, since: str, most: int) -> int:
    """Run the feed once and append its output to a file, as a log pipeline does."""
    with open(scratch / "printed", "a") as out:
        around = Surroundings(
            process_environment(url, scratch / "cursor"), sys.stdin, out, sys.stderr, at
        )
        return audit_feed.run("json", since, Options(), around, most)


def killer(point: int) -> Callable[[FrameType, str, Any], Any]:
    """Return a tracer that kills the process before the feed's executed line number `point`."""
    lines = count(1)

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line" and next(lines) == point:
            os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, event: str, argument: Any) -> Any:
        return line if os.path.basename(frame.f_code.co_filename) in WATCHED else None

    return call


if __name__ == "__main__":
    main(*sys.argv[1:])
