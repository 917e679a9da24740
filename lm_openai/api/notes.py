"""Notes on the API that the processes of a host share: pauses after HTTP 429, and outages."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any, NamedTuple, Protocol

from lm_openai.api.endpoints import family
from lm_openai.api.transport import NotConnected
from lm_openai.errors import ApiFailure

TRY_EVERY = 60
"""Seconds between two tries while a note stands; one process of the host makes each of them."""
LONGEST_PAUSE = 300.0
ENOUGH_MEMBERS = 3
"""Endpoints of a family, or families of the API, that are down before the whole counts as down."""
_ANSWERED_EVERY = 10
_TOLERANCE = 2.0
"""Seconds that the same moment may differ between hosts, which read the time over a network."""
_API = "*"

Notebook = dict[str, dict[str, Any]]


class Store(Protocol):
    """Place of the notes; several processes may read and change it."""

    def read(self) -> Notebook:
        """Return all notes; empty if there are none."""

    def change(self, edit: Callable[[Notebook], None]) -> None:
        """Let `edit` change the notes while no other process and no other thread does."""


class Memory:
    """Store of one process, for a client that shares no cache."""

    def __init__(self) -> None:
        self._notes: Notebook = {}
        self._lock = Lock()

    def read(self) -> Notebook:
        """Return a copy of all notes."""
        with self._lock:
            return {name: dict(notes) for name, notes in self._notes.items()}

    def change(self, edit: Callable[[Notebook], None]) -> None:
        """Let `edit` change the notes while no other thread does."""
        with self._lock:
            edit(self._notes)


class Pause(NamedTuple):
    """Pause of a family of endpoints until `until`; times are Unix seconds.

    `asked` is the Retry-After in seconds that led to it, or None. `times` is the number of pauses
    since the last success, `noted` the time of the last 429 response.
    """

    until: float = 0.0
    asked: float | None = None
    times: int = 0
    noted: float = 0.0


class Down(NamedTuple):
    """Endpoint that is down since `since`, with its last failure; times are Unix seconds.

    `began` is when the request that failed last was first sent, `tried` when it failed.
    """

    since: float
    began: float
    tried: float
    kind: str
    detail: str


class Outage(NamedTuple):
    """Outage that stands for an endpoint; `key` is the endpoint, its family or the whole API."""

    key: str
    down: Down

    def failure(self, endpoint: str) -> ApiFailure:
        """Return the failure of a request that is not sent because of this outage."""
        from datetime import datetime, timezone

        subject = {_API: "API", endpoint: "endpoint"}.get(self.key, self.key)
        since = datetime.fromtimestamp(self.down.since, timezone.utc)
        detail = (
            f"{self.down.detail}; {subject} down since {since:%Y-%m-%d %H:%M} UTC, tried again "
            f"every {TRY_EVERY} s"
        )
        return ApiFailure(self.down.kind, endpoint, detail)


class Notes:
    """Pauses and outages; `now` returns Unix seconds. Safe to use from threads.

    An endpoint is down after a request failed for good because the API was not there: no
    connection, no response, HTTP 5xx. A family of endpoints, or the API, is down as a whole if
    ENOUGH_MEMBERS of it are and none of it has answered since those requests began.
    """

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self.now, self._store = now, store
        self._answered: dict[str, float] = {}

    def pause(self, endpoint: str) -> Pause:
        """Return the last pause of the endpoint's family, which may be over."""
        kept = self._store.read().get("pauses", {}).get(family(endpoint), ())
        pause = Pause(*kept)
        return pause._replace(until=min(pause.until, self.now() + LONGEST_PAUSE))

    def throttled(self, endpoint: str, seconds: float, asked: float | None) -> None:
        """Note a 429 response: no request for `seconds`, at most LONGEST_PAUSE.

        A longer pause stays in force. `asked` is the Retry-After in seconds, or None.
        """
        now, name = self.now(), family(endpoint)

        def edit(notes: Notebook) -> None:
            pauses = notes.setdefault("pauses", {})
            last = Pause(*pauses.get(name, ()))
            latest = Pause(now + min(seconds, LONGEST_PAUSE), asked, last.times + 1, now)
            pauses[name] = last._replace(noted=now) if last.until > latest.until else latest

        self._store.change(edit)

    def outage(self, endpoint: str) -> Outage | None:
        """Return the outage that stands for this endpoint, the widest one, or None."""
        return self._outage(self._store.read(), endpoint)

    def failed(self, endpoint: str, failure: ApiFailure, began: float) -> None:
        """Note that a request, first sent at `began`, failed because the API was not there.

        Without a connection the whole API is down, whatever the endpoint.
        """
        unconnected = isinstance(failure, NotConnected) or failure.kind == "tls"
        key, now = _API if unconnected else endpoint, self.now()

        def edit(notes: Notebook) -> None:
            notes["answered"] = self._last_answers(notes)
            down = notes.setdefault("down", {})
            since = Down(*down[key]).since if key in down else now
            down[key] = Down(since, began, now, failure.kind, failure.detail)

        self._store.change(edit)

    def answered(self, endpoint: str, sent: float) -> None:
        """Note an answer other than a 429 to a request sent at `sent`; remove what it disproves.

        It ends the family's pause only if that was noted before the request was sent.
        """
        now, name = self.now(), family(endpoint)
        self._answered[name] = now
        notes = self._store.read()
        if not notes:
            return
        pause = Pause(*notes.get("pauses", {}).get(name, ()))
        ends = pause.times > 0 and pause.noted < sent
        stale = now - notes.get("answered", {}).get(name, 0.0) >= _ANSWERED_EVERY
        if ends or (notes.get("down") and (stale or self._outage(notes, endpoint))):
            self._store.change(lambda notes: self._remove(notes, endpoint, ends))

    def claim(self, key: str, tried: float) -> bool:
        """Return True if a try is due, and take it for the caller; the last one was at `tried`."""
        now, taken = self.now(), False

        def edit(notes: Notebook) -> None:
            nonlocal taken
            claimed = notes.setdefault("claimed", {})
            # A time in the future was noted before the clock was set back, or on another host.
            taken = not -_TOLERANCE <= now - max(tried, claimed.get(key, 0.0)) < TRY_EVERY
            if taken:
                claimed[key] = now

        self._store.change(edit)
        return taken

    def clear(self) -> None:
        """Remove all notes, so that every request is sent."""
        self._store.change(lambda notes: notes.clear())

    def _remove(self, notes: Notebook, endpoint: str, ends_pause: bool) -> None:
        down, pauses = notes.get("down", {}), notes.get("pauses", {})
        for key in (endpoint, _API):
            down.pop(key, None)
        if ends_pause:
            pauses.pop(family(endpoint), None)
        notes["answered"] = self._last_answers(notes)
        if not down and not pauses:
            notes.clear()

    def _outage(self, notes: Notebook, endpoint: str) -> Outage | None:
        down = {key: Down(*entry) for key, entry in notes.get("down", {}).items()}
        if not down:
            return None
        answers = self._last_answers(notes)
        newest, name = max(answers.values(), default=0.0), family(endpoint)
        silent = {key: entry for key, entry in down.items() if entry.began > newest}
        if _API in down or len({family(key) for key in silent}) >= ENOUGH_MEMBERS:
            return Outage(_API, _merged([down[_API]] if _API in down else [*silent.values()]))
        members = [
            entry
            for key, entry in down.items()
            if family(key) == name and entry.began > answers.get(name, 0.0)
        ]
        if len(members) >= ENOUGH_MEMBERS:
            return Outage(name, _merged(members))
        return Outage(endpoint, down[endpoint]) if endpoint in down else None

    def _last_answers(self, notes: Notebook) -> dict[str, float]:
        """Return the time of each family's last answer to any process, as far as it is known."""
        noted = notes.get("answered", {})
        own = dict(self._answered)
        return {name: max(noted.get(name, 0.0), own.get(name, 0.0)) for name in {*noted, *own}}


def _merged(members: list[Down]) -> Down:
    """Return the newest failure of several endpoints, down since the first of them is."""
    newest = max(members, key=lambda entry: entry.tried)
    return newest._replace(since=min(entry.since for entry in members))
