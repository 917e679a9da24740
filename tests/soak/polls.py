"""Polls of the soak: what a monitoring system runs, by `--at`, at the times that it would."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from heapq import heapify, heapreplace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

from lm_openai.app import session
from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.hosts.jobs import Job, jobs
from lm_openai.simulator import Simulator, parse_fault
from tests.soak import scenario
from tests.soak.scenario import Span
from tests.support.surroundings import environment

SHORT, PATIENT = 2, 30
"""Seconds of a poll in the outage, and otherwise, which no poll needs even on a busy machine."""


def polled() -> list[Job]:
    """Return the jobs that judge something, except those that the scenario leaves out."""
    return [job for job in jobs() if job.alerts and job.definition.folder not in scenario.LEFT_OUT]


def due(span: Span) -> Iterator[tuple[int, Job]]:
    """Yield the time and the job of each poll in a part of the days, in order."""
    shipped = polled()
    queue = [(span.start + job.offset, number) for number, job in enumerate(shipped)]
    heapify(queue)
    while queue[0][0] < span.end:
        moment, number = queue[0]
        heapreplace(queue, (moment + shipped[number].interval, number))
        yield moment, shipped[number]


class Poller:
    """Polls of a simulator that has the scenario; `home` is a private folder."""

    def __init__(self, simulator: Simulator, home: Path) -> None:
        self.simulator, self.home = simulator, home
        self._faults: tuple[str, ...] = ()

    def poll(self, job: Job, now: int, form: str) -> str:
        """Return what the job's script prints at this time."""
        self._advance(now)
        out = io.StringIO()
        environ = environment(self.simulator.url, self.home)
        around = Surroundings(environ, io.StringIO(), out, io.StringIO(), now)
        seconds = SHORT if scenario.in_outage(now) else PATIENT
        sets = ("openai.org.name=acme", f"openai.timeout={seconds}")
        # The notes on pauses and outages have the host's time, which here is the simulated one. It
        # goes on during the poll, or a pause would not end.
        began = time.monotonic()
        simulated = SimpleNamespace(
            **{**vars(time), "time": lambda: now + time.monotonic() - began}
        )
        with patch.object(session, "time", simulated):
            run(job.definition.folder, Options(format=form, sets=sets), around)
        return out.getvalue()

    def _advance(self, now: int) -> None:
        """Set the simulator's clock, and its faults of responses if they differ from before."""
        self.simulator.now = now
        wanted = scenario.faults(now)
        if wanted != self._faults:
            self._faults = wanted
            self.simulator.clear()
            scenario.prepare(self.simulator)
            for text in wanted:
                self.simulator.inject(parse_fault(text))
