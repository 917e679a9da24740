"""Sending and retrying a request: the deadline, pauses and the number of parallel requests."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import ceil
from threading import Condition, Lock
from typing import NamedTuple

from lm_openai.api.endpoints import endpoint_name, family
from lm_openai.api.notes import LONGEST_PAUSE, Notes
from lm_openai.api.records import Record
from lm_openai.api.responses import (
    ALWAYS,
    NEVER,
    ONCE,
    Parse,
    Rejection,
    classify,
    parsed,
    server_time,
)
from lm_openai.api.sharing import Responses
from lm_openai.api.transport import HttpResponse, Transport
from lm_openai.errors import ApiFailure

FIRST_DELAY, LONGEST_DELAY = 0.5, 16.0
JITTER = 0.25
LONG_ENOUGH = 5.0
"""Seconds without a response after which a single failure shows an outage."""
SILENT = ("throttled", "down", "not_json")
"""Kinds of rejection that do not show that the API handles requests."""

Clock = Callable[[], float]


class Counters:
    """Counts of a poll: requests, the retries among them, 429 responses, the slowest response.

    `slowest` is in seconds; `server_date` is the newest time of the API in any response, in
    Unix seconds, or None; `own_date` leaves out responses that another client received earlier.
    """

    def __init__(self) -> None:
        self.requests = self.retries = self.throttled = 0
        self.slowest = 0.0
        self.server_date: int | None = None
        self.own_date: int | None = None
        self._lock = Lock()

    def sent(self, is_retry: bool) -> None:
        """Count one request."""
        with self._lock:
            self.requests += 1
            self.retries += is_retry

    def received(self, response: HttpResponse, seconds: float) -> None:
        """Count one response and the seconds that it took."""
        with self._lock:
            self.throttled += response.status == 429
            self.slowest = max(self.slowest, seconds)
            # A gateway dates its own error pages.
            if response.status < 500:
                self.own_date = _newest(self.own_date, server_time(response.headers))
                self.server_date = _newest(self.server_date, self.own_date)

    def note_date(self, response: HttpResponse) -> None:
        """Note the Date header of a response that another client received."""
        with self._lock:
            self.server_date = _newest(self.server_date, server_time(response.headers))

    def add(self, part: Counters) -> None:
        """Add counters that were kept apart."""
        with self._lock:
            self.requests += part.requests
            self.retries += part.retries
            self.throttled += part.throttled
            self.slowest = max(self.slowest, part.slowest)
            self.server_date = _newest(self.server_date, part.server_date)
            self.own_date = _newest(self.own_date, part.own_date)


def _newest(*dates: int | None) -> int | None:
    return max((date for date in dates if date is not None), default=None)


class Lane:
    """Parallelism of one family of endpoints: additive increase, multiplicative decrease.

    `throttled_at` is the time of the last 429 that halved it, on the poll's clock.
    """

    def __init__(self, concurrency: int) -> None:
        self.most, self.allowed, self.busy = concurrency, float(concurrency), 0
        self.throttled_at = float("-inf")

    def succeeded(self, sent: float) -> None:
        """Allow one more parallel request after each round of successes since the last 429."""
        if sent > self.throttled_at:
            self.allowed = min(self.most, self.allowed + 1 / self.allowed)

    def throttled(self, sent: float, now: float) -> bool:
        """Halve the parallelism after a 429; return False if its request began before the last."""
        if sent <= self.throttled_at:
            return False
        self.allowed, self.throttled_at = max(1.0, self.allowed / 2), now
        return True


class Hindrance(NamedTuple):
    """Reason not to send a request: `key` names the note, `tried` is the time of the last try."""

    key: str
    tried: float
    failure: ApiFailure


class Pace:
    """Deadline, parallelism and pauses of one poll, each family of endpoints apart."""

    def __init__(
        self,
        seconds: float,
        concurrency: int,
        clock: Clock,
        sleep: Callable[[float], None],
        jitter: Clock,
        notes: Notes,
        kept: Callable[[], float],
    ) -> None:
        self.clock, self.sleep, self.notes = clock, sleep, notes
        self._jitter, self._deadline, self._kept = jitter, clock() + seconds, kept
        self._lanes: defaultdict[str, Lane] = defaultdict(lambda: Lane(concurrency))
        self._tries: defaultdict[str, Lock] = defaultdict(Lock)
        self._changed = Condition()

    def left(self) -> float:
        """Return the seconds until the requests of the poll have to end."""
        return self._deadline - self._kept() - self.clock()

    @contextmanager
    def turn(self, endpoint: str, rejection: Rejection | None = None) -> Iterator[bool]:
        """Run the `with` block as one of the parallel requests, after any pause that fits.

        Yields True if it is the one try while a note stands, which is not retried. Raises
        ApiFailure if the poll ends first, that of the last attempt's `rejection` if there was one,
        or if a note stands and no try is due.
        """
        with self._slot(endpoint):
            if rejection and self.left() <= 0:
                raise rejection.failure
            hindrance = self._hindrance(endpoint)
            if hindrance is None:
                yield False
                return
            with self._changed:
                lock = self._tries[hindrance.key]
            # The others wait for the one try: if it succeeds, they go on.
            with lock:
                hindrance = self._hindrance(endpoint)
                if hindrance and not self.notes.claim(hindrance.key, hindrance.tried):
                    raise hindrance.failure
                yield hindrance is not None

    def answered(self, endpoint: str, sent: float, noted: float) -> None:
        """Record an answer other than a 429; its request was sent at `sent`.

        `noted` is the same moment on the clock of the notes.
        """
        with self._changed:
            self._lanes[family(endpoint)].succeeded(sent)
            self._changed.notify_all()
        self.notes.answered(endpoint, noted)

    def throttled(self, endpoint: str, sent: float, retry_after: float | None) -> None:
        """Record a 429 response to a request that was sent at `sent`.

        If it was sent before the last 429, only its `retry_after` (seconds) counts, as a pause.
        """
        with self._changed:
            fresh = self._lanes[family(endpoint)].throttled(sent, self.clock())
        # It ends no pause, but an outage: the API is there.
        self.notes.answered(endpoint, sent=0.0)
        if fresh or retry_after is not None:
            delay = self._delay(self.notes.pause(endpoint).times, LONGEST_PAUSE)
            self.notes.throttled(endpoint, retry_after or delay, retry_after)

    def delay(self, rejection: Rejection, attempt: int) -> float:
        """Return the seconds to wait before a retry."""
        return self._delay(attempt, LONGEST_DELAY) if rejection.wait is None else rejection.wait

    @contextmanager
    def _slot(self, endpoint: str) -> Iterator[None]:
        with self._changed:
            lane = self._lanes[family(endpoint)]
            self._changed.wait_for(lambda: lane.busy < int(lane.allowed))
            lane.busy += 1
        try:
            yield
        finally:
            with self._changed:
                lane.busy -= 1
                self._changed.notify_all()

    def _hindrance(self, endpoint: str) -> Hindrance | None:
        """Wait for a pause that ends before the deadline; return what else stands in the way."""
        while True:
            if self.left() <= 0:
                raise ApiFailure("deadline", endpoint, "the request was not sent")
            outage = self.notes.outage(endpoint)
            if outage:
                return Hindrance(outage.key, outage.down.tried, outage.failure(endpoint))
            pause = self.notes.pause(endpoint)
            seconds = pause.until - self.notes.now()
            if seconds <= 0:
                return None
            if seconds >= self.left():
                key = f"pause {family(endpoint)}"
                return Hindrance(key, pause.noted, _paused(endpoint, seconds, pause.asked))
            self.sleep(seconds)

    def _delay(self, count: int, longest: float) -> float:
        # A larger power of 2 overflows; it is longer than any pause by far.
        return min(FIRST_DELAY * 2.0 ** min(count, 64), longest) * (1 - JITTER * self._jitter())


class Answer(NamedTuple):
    """Response of the API and the record in it."""

    response: HttpResponse
    record: Record


class Requester:
    """Sender of requests, each retried until it succeeds, fails for good or runs out of time."""

    def __init__(self, transport: Transport, pace: Pace, shared: Responses | None = None) -> None:
        self._transport, self._pace, self._shared = transport, pace, shared
        self.counters = Counters()

    def request(self, path: str, query: Sequence[tuple[str, str]], parse: Parse = parsed) -> Record:
        """Return the record that `parse` reads in the response to a GET, which may be shared.

        Raises ApiFailure.
        """
        own: list[Record] = []

        def fetch() -> HttpResponse:
            answer = self._requested(path, query, parse)
            own.append(answer.record)
            return answer.response

        if self._shared is None:
            fetch()
            return own[0]
        response = self._shared.response(path, query, fetch, self._pace.left)
        if own:
            return own[0]
        self.counters.note_date(response)
        outcome = self._classified(response, endpoint_name(path), parse)
        if isinstance(outcome, Rejection):
            raise outcome.failure
        return outcome

    def _requested(self, path: str, query: Sequence[tuple[str, str]], parse: Parse) -> Answer:
        """Send a GET until it succeeds, fails for good or runs out of time."""
        endpoint, began = endpoint_name(path), self._pace.notes.now()
        rejection: Rejection | None = None
        for attempt in itertools.count():
            with self._pace.turn(endpoint, rejection) as only_try:
                outcome = self._sent(path, query, attempt > 0, parse)
                if not isinstance(outcome, Rejection):
                    return outcome
                rejection = _telling(rejection, outcome)
                delay = self._retry_delay(rejection, attempt, only_try)
                if delay is None:
                    if rejection.outage and (only_try or self._lasts(rejection, attempt, began)):
                        self._pace.notes.failed(endpoint, rejection.failure, began)
                    # The old traceback keeps the response in memory, in a cycle with this frame.
                    raise rejection.failure.with_traceback(None)
            if delay:
                self._pace.sleep(delay)
        raise AssertionError("count() does not end")

    def _retry_delay(self, rejection: Rejection, attempt: int, only_try: bool) -> float | None:
        """Return the seconds until the next attempt, or None if there is none.

        After a 429 the next attempt waits for the pause that was noted, or reports it.
        """
        if rejection.failure.kind == "throttled":
            return 0.0
        if only_try or rejection.retry == NEVER or (rejection.retry == ONCE and attempt):
            return None
        delay = self._pace.delay(rejection, attempt)
        return delay if delay < self._pace.left() else None

    def _lasts(self, rejection: Rejection, attempt: int, began: float) -> bool:
        """Return True if the outage is more than one short failure just before the deadline."""
        return (
            rejection.retry == NEVER or attempt > 0 or self._pace.notes.now() - began >= LONG_ENOUGH
        )

    def _sent(
        self, path: str, query: Sequence[tuple[str, str]], is_retry: bool, parse: Parse
    ) -> Answer | Rejection:
        """Send a request once and record what its outcome says about the API."""
        endpoint, pace = endpoint_name(path), self._pace
        self._transport.open()  # before the time is read: loading the libraries is no slow response
        self.counters.sent(is_retry)
        sent, noted = pace.clock(), pace.notes.now()
        try:
            response = self._transport.get(path, query, pace.left())
        except ApiFailure as failure:
            return _unreceived(failure, pace.clock() - sent)
        self.counters.received(response, pace.clock() - sent)
        outcome = self._classified(response, endpoint, parse)
        if not isinstance(outcome, Rejection) or outcome.failure.kind not in SILENT:
            pace.answered(endpoint, sent, noted)
        elif outcome.failure.kind == "throttled":
            pace.throttled(endpoint, sent, outcome.wait)
        return outcome if isinstance(outcome, Rejection) else Answer(response, outcome)

    def _classified(
        self, response: HttpResponse, endpoint: str, parse: Parse
    ) -> Record | Rejection:
        return classify(response, endpoint, self._transport.connection.key, parse)


def _unreceived(failure: ApiFailure, seconds: float) -> Rejection:
    """Return the rejection of a request that got no response within `seconds`."""
    if failure.kind == "unreachable":
        return Rejection(failure, ALWAYS, outage=True)
    hangs = failure.kind == "deadline" and seconds >= LONG_ENOUGH
    return Rejection(failure, NEVER, outage=hangs or failure.kind == "tls")


def _telling(before: Rejection | None, last: Rejection) -> Rejection:
    """Return the last rejection, or the one before if the last only had too little time left."""
    short = last.failure.kind == "deadline" and not last.outage
    return before._replace(retry=NEVER) if before and short else last


def _paused(endpoint: str, seconds: float, asked: float | None) -> ApiFailure:
    detail = f"no request for another {ceil(seconds)} s, longer than this poll may run"
    if asked is not None:
        detail += f"; the API asked for a pause of {asked:.0f} s"
    return ApiFailure("throttled", endpoint, detail)
