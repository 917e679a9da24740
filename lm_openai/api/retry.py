"""When a question is endpoint, and endpoint again: the deadline, pauses and how many at a time."""

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
    """What several processes share: how long none of them should ask."""

    def until(self) -> float:
        """Seconds from now until asking is fine again; 0 or less when it is."""

    def pause(self, seconds: float) -> None:
        """Tell the others that the API wants no request for that long."""


class Counters:
    """What a poll cost: requests sent, how many were retries, how many 429s, the slowest answer.

    `slowest` is in seconds; `server_date` is the newest Date header in Unix seconds, or None.
    """

    def __init__(self) -> None:
        self.requests = self.retries = self.throttled = 0
        self.slowest = 0.0
        self.server_date: int | None = None
        self._lock = Lock()

    def sent(self, again: bool) -> None:
        """Count one request."""
        with self._lock:
            self.requests += 1
            self.retries += again

    def answered(self, answer: HttpResponse, seconds: float) -> None:
        """Count one answer."""
        with self._lock:
            self.throttled += answer.status == 429
            self.slowest = max(self.slowest, seconds)
            self.server_date = unix_seconds(answer.headers.get("date", "")) or self.server_date

    def add(self, part: Counters) -> None:
        """Take in what was counted apart."""
        with self._lock:
            self.requests += part.requests
            self.retries += part.retries
            self.throttled += part.throttled
            self.slowest = max(self.slowest, part.slowest)
            self.server_date = part.server_date or self.server_date


class Pace:
    """How many requests run at once, and when none may; a 429 halves the one, starts the other."""

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
        """Seconds until the deadline."""
        return self._deadline - self.clock()

    @contextmanager
    def turn(self, endpoint: str) -> Iterator[None]:
        """A place among the requests that run now, once no pause holds; raises ApiFailure."""
        with self._changed:
            self._changed.wait_for(lambda: self._busy < self._allowed)
            self._busy += 1
        try:
            self._rest(endpoint)
            yield
        finally:
            with self._changed:
                self._busy -= 1
                self._changed.notify()

    def throttle(self, wish: float | None, sent: float) -> None:
        """Heed a 429 to a request sent at `sent`; one sent before the last 429 adds nothing."""
        with self._changed:
            fresh = sent > self._throttled_at
            if not fresh and wish is None:
                return
            delay = self._delay(self._throttles) if wish is None else wish
            if fresh:
                self._throttles += 1
                self._allowed = max(1, self._allowed // 2)
                self._throttled_at = self.clock()
            self._resumes = max(self._resumes, self.clock() + delay)
        if self._pauses:
            self._pauses.pause(delay)

    def back_off(self, verdict: Rejection, attempt: int) -> None:
        """Wait before asking again, or raise the failure when the deadline comes first."""
        delay = self._delay(attempt) if verdict.wait is None else verdict.wait
        if delay >= self.left():
            raise verdict.failure
        self._sleep(delay)

    def _rest(self, endpoint: str) -> None:
        while (rest := self._pause()) > 0:
            if rest >= self.left():
                detail = f"no request for another {rest:.0f} s, longer than this poll may take"
                raise ApiFailure("throttled", endpoint, detail)
            self._sleep(rest)
        if self.left() <= 0:
            raise ApiFailure("deadline", endpoint, "the request was not sent")

    def _pause(self) -> float:
        others = self._pauses.until() if self._pauses else 0.0
        return max(self._resumes - self.clock(), others)

    def _delay(self, attempt: int) -> float:
        longest = min(FIRST_DELAY * 2.0**attempt, LONGEST_DELAY)
        return longest * (1 - JITTER * self._jitter())


class Requester:
    """Asks one question until it is answered, refused for good, or the time is over."""

    def __init__(self, transport: Transport, pace: Pace) -> None:
        self._transport, self._pace = transport, pace
        self.counters = Counters()

    def request(self, path: str, query: Sequence[tuple[str, str]], exact: bool = False) -> Record:
        """The record answered; raises ApiFailure."""
        endpoint = endpoint_name(path)
        for attempt in itertools.count():
            with self._pace.turn(endpoint):
                sent = self._pace.clock()
                answer = self._send(path, query, attempt > 0)
            outcome = (
                answer if isinstance(answer, Rejection) else self._read(answer, endpoint, exact)
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

    def _read(self, answer: HttpResponse, endpoint: str, exact: bool) -> Record | Rejection:
        return classify(answer, endpoint, self._transport.connection.key, exact)

    def _send(
        self, path: str, query: Sequence[tuple[str, str]], again: bool
    ) -> HttpResponse | Rejection:
        self.counters.sent(again)
        sent = self._pace.clock()
        try:
            answer = self._transport.get(path, query, self._pace.left())
        except ApiFailure as failure:
            return Rejection(failure, ALWAYS if failure.kind == "unreachable" else NEVER)
        self.counters.answered(answer, self._pace.clock() - sent)
        return answer
