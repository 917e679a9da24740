"""Watchdog of a process: it ends the run when its time is over, whatever the run waits for."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from lm_openai.errors import Failure
from lm_openai.redaction import sentence

if TYPE_CHECKING:
    from threading import Event, Lock, Timer

GRACE = 0.2
"""Seconds to print a failure, and to end after the result was printed."""
FAILED = 1
_SWITCH = 0.0001
"""Seconds after which Python lets another thread run, while the failure is printed."""


class Watchdog:
    """Limit of a process's time, of which `spent` seconds are over when this object is made.

    `exit` ends the process at once, although some of its threads hang, as `os._exit` does.
    """

    def __init__(self, exit: Callable[[int], object] = os._exit, spent: float = 0.0) -> None:
        self._exit = exit
        self._began = time.monotonic() - spent
        self._timer: Timer | None = None
        self._printing: Lock
        self._printed: Event
        self._report: Callable[[Failure], object] = _to_stderr
        self._status = FAILED
        self._claimed = False

    def guard(self, report: Callable[[Failure], object], status: int) -> None:
        """Let `report` print the failure, and end the process with `status`, when time is over."""
        self._report, self._status = report, status

    def arm(self, seconds: float) -> None:
        """Set the limit, which replaces an earlier one."""
        from threading import Event, Lock

        if self._timer is None:
            self._printing, self._printed = Lock(), Event()
        rest = self._began + seconds - time.monotonic()
        self._start(rest, partial(self._expire, seconds))

    def claim(self) -> None:
        """Wait for the right to print the result or failure; never return if time is over."""
        if self._timer is not None and not self._claimed:
            self._printing.acquire()
            self._claimed = True

    def finish(self, status: int) -> None:
        """End the process with this status if other threads keep it from ending by itself."""
        if self._timer is None:
            return
        import threading

        self._printed.set()
        self._timer.cancel()
        if threading.active_count() > 1:
            try:
                self._start(GRACE, partial(self._exit, status))
            except RuntimeError:  # no further thread, so nothing could end those that hang
                self._exit(status)

    def _start(self, seconds: float, work: Callable[[], object]) -> None:
        from threading import Timer

        if self._timer is not None:
            self._timer.cancel()
        self._timer = Timer(max(0.0, seconds), work)
        self._timer.daemon = True
        self._timer.start()

    def _expire(self, seconds: float) -> None:
        """Print the failure, unless the result is being printed, and end the process."""
        from threading import Thread

        report = self._report
        reason = "something hangs, such as name resolution, the network or a proxy"
        if not self._printing.acquire(blocking=False):
            if self._printed.wait(GRACE):
                return
            report, reason = _to_stderr, "the reader of the output does not read it"
        failure = Failure(
            f"the run was ended after {seconds:g} s, the limit of openai.timeout: {reason}; raise "
            f"the limit only if a poll needs longer"
        )
        # A computation that hangs would delay each step of the other threads.
        sys.setswitchinterval(_SWITCH)
        # Printing may hang too, and must not keep the process from ending.
        printer = Thread(target=report, args=(failure,), daemon=True)
        printer.start()
        printer.join(GRACE)
        self._exit(self._status)


def _to_stderr(failure: Failure) -> None:
    os.write(2, f"{sentence(str(failure))}\n".encode())
