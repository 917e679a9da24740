"""Responses of the API that the processes of a host share, each requested by one of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lm_openai.api.endpoints import endpoint_name, family
from lm_openai.api.responses import StalePage
from lm_openai.api.transport import HttpResponse
from lm_openai.errors import ApiFailure
from lm_openai.storage.cache import FAILED_SECONDS, NOT_CACHED, Cache, Entry
from lm_openai.storage.ready import serves

if TYPE_CHECKING:
    from lm_openai.storage.redis_hosts import Hosts

LARGEST = 12 * 1024 * 1024
"""Bytes of a response that is shared: storing copies it, and a page of usage has about 10 MB."""
BILL_SECONDS = 300
"""Seconds for which a part of the bill is shared; the API adds to it hours late."""
_BEGAN = "time of the poll"


class SharedResponses:
    """Responses of one poll (see api.sharing.Responses), in a cache, for `seconds`.

    The first process that needs a response requests it; the others wait for it. With `hosts` that
    is the first process of all hosts.
    """

    def __init__(self, cache: Cache, seconds: float, hosts: Hosts | None = None) -> None:
        self._cache, self._seconds, self._hosts = cache, seconds, hosts

    def response(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        fetch: Callable[[], HttpResponse],
        left: Callable[[], float],
    ) -> HttpResponse:
        """Return the shared response, or what `fetch` returns, which is shared then."""
        name = f"GET {path} {sorted(query)}"
        found = self._found(name)
        if found is not None:
            return found
        try:
            with self._cache.exclusive(name, left()):
                return self._found(name) or self._of_hosts(name, path, fetch, left)
        except TimeoutError:
            reason = "another process requests it and has no response yet"
            raise ApiFailure("deadline", endpoint_name(path), reason) from None

    def _found(self, name: str) -> HttpResponse | None:
        entry = self._cache.response(name)
        return _response(entry) if entry else None

    def _of_hosts(
        self,
        name: str,
        path: str,
        fetch: Callable[[], HttpResponse],
        left: Callable[[], float],
    ) -> HttpResponse:
        """Return the response that another host shares, or what `fetch` returns."""
        if self._hosts is None:
            return self._fetched(name, path, fetch, lambda entry: None)
        with self._hosts.turn(self._cache.owned(name), self._cache.now(), left) as turn:
            if turn.found is None or not isinstance(turn.found.value, dict):
                return self._fetched(name, path, fetch, turn.keep)
            self._cache.put_response(name, turn.found)
            return _response(turn.found)

    def _fetched(
        self,
        name: str,
        path: str,
        fetch: Callable[[], HttpResponse],
        keep: Callable[[Entry], None],
    ) -> HttpResponse:
        seconds = max(self._seconds, BILL_SECONDS) if self._is_bill(path) else self._seconds
        try:
            response = fetch()
        except StalePage:
            raise
        except ApiFailure as failure:
            if failure.kind not in NOT_CACHED:
                self._cache.put_failure(name, min(self._seconds, FAILED_SECONDS), failure)
            raise
        date = {"date": response.headers["date"]} if "date" in response.headers else {}
        entry = Entry(self._cache.now(), seconds, date, body=response.body)
        if len(response.body) <= LARGEST:
            self._cache.put_response(name, entry)
        keep(entry)
        return response

    def _is_bill(self, path: str) -> bool:
        return family(endpoint_name(path)) == "costs"


def poll_time(cache: Cache, now: int, seconds: float, hosts: Hosts | None = None) -> int:
    """Return the time of the poll, in Unix seconds, that the processes of this host share at `now`.

    It is that of the first one in the last `seconds` and on the same UTC day, with `hosts` that of
    all hosts. All of them request the same spans of time then, and so the same responses. `cache`
    has to be in real time. A process that was stopped while it sets the time is not waited for.
    """
    found = _stored_time(cache, now, seconds)
    if found is not None:
        return found
    with cache.briefly(_BEGAN):
        found = _stored_time(cache, now, seconds)
        if found is not None:
            return found
        if hosts is not None:
            now, seconds = hosts.poll_time(cache.owned(_BEGAN), now, seconds)
        cache.put(_BEGAN, now, seconds)
        return now


def _stored_time(cache: Cache, now: int, seconds: float) -> int | None:
    """Return the stored time of a poll that serves a process that starts at `now`, or None."""
    began = cache.get(_BEGAN)
    return began if type(began) is int and serves(began, now, seconds) else None


def _response(entry: Entry) -> HttpResponse:
    return HttpResponse(200, entry.value, entry.body)
