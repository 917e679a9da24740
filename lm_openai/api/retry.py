"""Sending and retrying a request: the deadline, pauses and the number of parallel requests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Condition, Lock
from typing import Protocol

from lm_openai.api.endpoints import endpoint_name
from lm_openai.api.records import Record
from lm_openai.api.responses import (
    ALWAYS,
    NEVER,
    ONCE,
    Rejection,
    classify,
    unix_seconds,
)
from lm_openai.api.transport import HttpResponse, Transport
from lm_openai.errors import ApiFailure

FIRST_DELAY, LONGEST_DELAY = 0.5, 16.0
JITTER = 0.25

Clock = Callable[[], float]


class SharedPauses(Protocol):
    """Pause that several processes share; none of them sends a request before its end."""

    def until(self) -> float:
        """Return the seconds until requests are allowed again; 0 or less if they are."""

    def pause(self, seconds: float) -> None:
        """Share a pause: the API allows no request for that many seconds."""


class Counters:
    """Counts of a poll: requests, the retries among them, 429 responses, the slowest response.

    `slowest` is in seconds; `server_date` is the newest Date header in Unix seconds, or None.
    """

    def __init__(self) -> None:
        self.requests = self.retries = self.throttled = 0
        self.slowest = 0.0
        self.server_date: int | None = None
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
            self._note_date(unix_seconds(response.headers.get("date", "")))

    def add(self, part: Counters) -> None:
        """Add counters that were kept apart."""
        with self._lock:
            self.requests += part.requests
            self.retries += part.retries
            self.throttled += part.throttled
            self.slowest = max(self.slowest, part.slowest)
            self._note_date(part.server_date)

    def _note_date(self, seen: int | None) -> None:
        if seen is not None:
            self.server_date = max(seen, self.server_date or seen)


class Pace:
    """Parallelism and pauses of one poll; a 429 halves the parallelism and starts a pause."""

    def __init__(
        self,
        seconds: float,
        concurrency: int,
        clock: Clock,
        sleep: Callable[[float], None],
        jitter: Clock,
        pauses: SharedPauses | None,
    ) -> None:
        self.clock, self._sleep, self._jitter, self._pauses = clock, sleep, jitter, pauses
        self._deadline = clock() + seconds
        self._allowed, self._busy = concurrency, 0
        self._resumes, self._throttled_at = clock(), float("-inf")
        self._throttles = 0
        self._changed = Condition()

    def left(self) -> float:
        """Return the seconds until the deadline."""
        return self._deadline - self.clock()

    @contextmanager
    def turn(self, endpoint: str) -> Iterator[None]:
        """Run the `with` block as one of the parallel requests, after any pause.

        Raises ApiFailure, `throttled` or `deadline`, if the poll ends before the request can start.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._busy < self._allowed)
            self._busy += 1
        try:
            self._wait_for_pauses(endpoint)
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify()

    def throttle(self, retry_after: float | None, sent: float) -> None:
        """Apply a 429 response to a request that was sent at `sent`.

        If it was sent before the last 429, only its `retry_after` (seconds) counts, as a pause.
        """
        with self._changed:
            fresh = sent > self._throttled_at
            if not fresh and retry_after is None:
                return
            delay = self._delay(self._throttles) if retry_after is None else retry_after
            if fresh:
                self._throttles += 1
                self._allowed = max(1, self._allowed // 2)
                self._throttled_at = self.clock()
            self._resumes = max(self._resumes, self.clock() + delay)
        if self._pauses:
            self._pauses.pause(delay)

    def back_off(self, rejection: Rejection, attempt: int) -> None:
        """Wait before a retry, or raise the failure if the deadline comes first."""
        delay = self._delay(attempt) if rejection.wait is None else rejection.wait
        if delay >= self.left():
            raise rejection.failure
        self._sleep(delay)

    def _wait_for_pauses(self, endpoint: str) -> None:
        while (pause := self._pause()) > 0:
            if pause >= self.left():
                detail = f"no request for another {pause:.0f} s, longer than this poll may run"
                raise ApiFailure("throttled", endpoint, detail)
            self._sleep(pause)
        if self.left() <= 0:
            raise ApiFailure("deadline", endpoint, "the request was not sent")

    def _pause(self) -> float:
        others = self._pauses.until() if self._pauses else 0.0
        return max(self._resumes - self.clock(), others)

    def _delay(self, attempt: int) -> float:
        longest = min(FIRST_DELAY * 2.0**attempt, LONGEST_DELAY)
        return longest * (1 - JITTER * self._jitter())


class Requester:
    """Sender of requests, each retried until it succeeds, fails for good or runs out of time."""

    def __init__(self, transport: Transport, pace: Pace) -> None:
        self._transport, self._pace = transport, pace
        self.counters = Counters()

    def request(self, path: str, query: Sequence[tuple[str, str]], exact: bool = False) -> Record:
        """Send a GET and return the record in its response; raises ApiFailure."""
        endpoint = endpoint_name(path)
        for attempt in itertools.count():
            with self._pace.turn(endpoint):
                sent = self._pace.clock()
                response = self._send(path, query, attempt > 0)
            outcome = (
                response
                if isinstance(response, Rejection)
                else self._read(response, endpoint, exact)
            )
            if not isinstance(outcome, Rejection):
                return outcome
            if outcome.retry == NEVER or (outcome.retry == ONCE and attempt):
                raise outcome.failure
            if outcome.failure.kind == "throttled":
                self._pace.throttle(outcome.wait, sent)
            else:
                self._pace.back_off(outcome, attempt)
        raise AssertionError("count() does not end")

    def _read(self, response: HttpResponse, endpoint: str, exact: bool) -> Record | Rejection:
        return classify(response, endpoint, self._transport.connection.key, exact)

    def _send(
        self, path: str, query: Sequence[tuple[str, str]], is_retry: bool
    ) -> HttpResponse | Rejection:
        self.counters.sent(is_retry)
        sent = self._pace.clock()
        try:
            response = self._transport.get(path, query, self._pace.left())
        except ApiFailure as failure:
            return Rejection(failure, ALWAYS if failure.kind == "unreachable" else NEVER)
        self.counters.received(response, self._pace.clock() - sent)
        return response
