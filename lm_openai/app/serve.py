"""Resident mode: one process that polls again and again, for a line or for a scrape."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from threading import Event, Lock, Thread
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from cachetools import TLRUCache, TTLCache

from lm_openai.app import run_many, runner
from lm_openai.app.options import Options
from lm_openai.app.session import SHARED, Session, Surroundings, check
from lm_openai.errors import Failure, WrongUsage
from lm_openai.output import registry
from lm_openai.redaction import one_line, redact, strike
from lm_openai.timespans import DAY

if TYPE_CHECKING:
    from lm_openai.api.transport import Connection, Transport
    from lm_openai.model.report import Gap, Report

PATIENCE = 60.0
"""Seconds that a line or a scrape waits for a poll if there is no --timeout."""
LONGEST_LINE = 4096
_MOST_PAGES = 64
_TRANSPORTS, _TRANSPORT_SECONDS = 4, 3600


class Page(NamedTuple):
    """Text of one poll; it is the answer until `until` (Unix seconds)."""

    text: str
    until: float


class Transports:
    """HTTP sessions that polls share, so that connections and the TLS context stay open.

    A changed CA file, and the system's CAs after an hour, lead to a new one.
    """

    def __init__(self) -> None:
        self._kept: TTLCache[object, Transport] = TTLCache(_TRANSPORTS, _TRANSPORT_SECONDS)
        self._lock = Lock()

    def __call__(self, connection: Connection) -> Transport:
        """Return the transport of a connection; raises WrongUsage."""
        from lm_openai.api.transport import Transport

        key = connection, _stamp(connection.ca_file)
        with self._lock:
            found = self._kept.get(key)
            if found is None:
                found = self._kept[key] = Transport(connection)
        return found


class Poller:
    """Polls of one process: at most one at a time and one in openai.cache.ttl.

    `now` returns Unix seconds. Each poll reads properties, key file and thresholds again.
    """

    def __init__(
        self, options: Options, around: Surroundings, now: Callable[[], float] = time.time
    ) -> None:
        self._options, self._now = options, now
        self._around = around._replace(transport=Transports())
        self._patience = float(options.timeout or PATIENCE)
        self._lock = Lock()
        self._flights: dict[tuple[str, ...], Future[str]] = {}
        self._pages: TLRUCache[tuple[str, ...], Page] = TLRUCache(
            _MOST_PAGES, ttu=lambda _, page, __: page.until, timer=now
        )
        self._printed: dict[tuple[str, ...], list[str]] = {}

    def page(self, folders: tuple[str, ...]) -> str:
        """Return DataSources in the format; a failed poll is no text, or says so.

        Callers at the same time share one poll, which a thread makes: nothing else ends the wait
        for one that hangs.
        """
        with self._lock:
            page = self._pages.get(folders)
            if page:
                return page.text
            flight = self._flights.get(folders)
            if flight is None:
                flight = self._flights[folders] = Future()
                Thread(target=self._fly, args=(folders, flight), daemon=True).start()
        try:
            return flight.result(self._patience)
        except NotInTime:
            late = Failure(f"the poll takes longer than {self._patience:g} s")
            return self._text(folders, [], [*runner.gaps(folders, late, ())])

    def _fly(self, folders: tuple[str, ...], flight: Future[str]) -> None:
        try:
            page = self._polled(folders)
        except Exception as error:
            failure = runner.unexpected(error, self._options, self._around)
            page = Page(self._text(folders, [], [*runner.gaps(folders, failure, ())]), 0)
        with self._lock:
            del self._flights[folders]
            if page.until > self._now():
                self._pages[folders] = page
        flight.set_result(page.text)

    def _polled(self, folders: tuple[str, ...]) -> Page:
        opened: list[Session] = []
        try:
            opened.append(Session(self._options, self._around._replace(now=int(self._now()))))
            reports, gaps = run_many.polled(folders, opened[0])
            began = opened[0].now
        except Failure as failure:
            return Page(self._text(folders, [], [*runner.gaps(folders, failure, opened)]), 0)
        midnight = (began // DAY + 1) * DAY
        until = min(began + opened[0].properties.seconds(SHARED), midnight)
        return Page(self._text(folders, reports, gaps), until)

    def _text(
        self, folders: tuple[str, ...], reports: Sequence[Report], gaps: Sequence[Gap]
    ) -> str:
        """Return a page without secrets; print failures on stderr, unless they are as before."""
        failures = run_many.failures(reports, gaps)
        if failures != self._printed.get(folders, []):
            for sentence in failures or ["all polls succeed again\n"]:
                self._around.stderr.write(f"{one_line(redact(sentence.rstrip()))}\n")
            self._around.stderr.flush()
        self._printed[folders] = failures
        form = registry.named(self._options.format)
        prints = reports or form.errors_on_stdout or form.failed_file
        return strike(form.writer().write_all(reports, gaps)) if prints else ""


def lines(folders: Sequence[str], options: Options, around: Surroundings) -> int:
    """Print a page for each line on standard input, until it ends; raises Unwritable."""
    poller, wanted = Poller(options, around), tuple(folders)
    while around.stdin.readable() and around.stdin.readline(LONGEST_LINE):
        runner.put(poller.page(wanted), around.stdout)
    return runner.DONE


def listen(folders: Sequence[str], options: Options, around: Surroundings, address: str) -> int:
    """Serve metrics over HTTP until the process is stopped; raises Failure and WrongUsage."""
    from lm_openai.app.metrics_server import Server, is_loopback, split

    host, port = split(address)
    if not is_loopback(host):
        around.stderr.write(
            f"{host} is not a loopback address: whoever reaches it reads usage, costs and names, "
            f"without a password and without TLS\n"
        )
    try:
        server = Server((host, port), Poller(options, around).page, tuple(folders))
    except OSError as reason:
        raise Failure(f"--listen {address}: {reason.strerror}; choose another") from None
    around.stderr.write(f"serving {server.url}/metrics\n")
    around.stderr.flush()
    Thread(target=server.serve_forever, daemon=True).start()
    Event().wait()
    raise AssertionError("nothing sets the event")


def checked(options: Options) -> Options:
    """Return valid options; raises WrongUsage for a --timeout or --properties that cannot be."""
    check(options)
    if "-" in options.properties:
        raise WrongUsage("--properties -: a second poll cannot read standard input; name a file")
    return options


def stopped(work: Callable[[], int], exit: Callable[[int], NoReturn] = os._exit) -> int:
    """Return what `work` returns; SIGTERM and SIGINT end the process at once, with status 0.

    A thread waits for them: a handler runs in the main thread, which a signal to another thread
    does not wake. An exit would wait for the threads of running requests.
    """
    signals = (signal.SIGTERM, signal.SIGINT)
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def stop() -> NoReturn:
        signal.sigwait(signals)
        exit(runner.DONE)

    Thread(target=stop, daemon=True).start()
    return work()


def _stamp(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:
        return ()
    return status.st_mtime_ns, status.st_size, status.st_ino
