"""Entries that several hosts share through Redis: one host requests each, the others wait for it.

All times are those of Redis, so that the clocks of the hosts do not matter. Everything is sealed
(see cache.seal): what anybody else wrote there is ignored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b, sha1
from threading import Lock, Thread
from typing import Any, NamedTuple

from lm_openai.storage.cache import Entry, read, seal, unsealed, written
from lm_openai.storage.redis_link import Gone, Link
from lm_openai.timespans import DAY

LEASE, RENEWED_EVERY = 10.0, 3.0
"""Seconds that a lease lasts, and after which its holder renews it."""
LARGEST = 4 * 1024 * 1024
"""Bytes of an entry in Redis; a larger response is requested by each host."""
_FENCED = 3600
"""Seconds for which Redis knows the number of a lease; no poll takes as long."""
_KEPT = 60
"""Seconds that an entry stays in Redis longer than it is fresh, for polls that began before."""
_FIRST_DELAY, _LONGEST_DELAY = 0.02, 0.25
_TRIES = 5
UNSHARED = "not shared"
"""Value of the entry of a response that is too large: each host requests it."""

# A key of another type, or with a value that is too large, is foreign and is deleted.
_READ = f"""
local function text(key)
  local type = redis.call('TYPE', key).ok
  if type == 'string' and redis.call('STRLEN', key) <= {LARGEST} then
    return redis.call('GET', key)
  end
  if type ~= 'none' then redis.call('DEL', key) end
  return false
end
local function wanted(key, ignored)
  local value = text(key)
  return value and (ignored == '' or redis.sha1hex(value) ~= ignored) and value
end
"""
# The number of a lease is its owner's token, and fences it: numbers only grow, and they go on with
# the time after Redis lost them. A lease that does not expire, or not soon, is foreign.
_TAKE = (
    _READ
    + """
local found = wanted(KEYS[1], ARGV[1])
if found then return {found, false} end
local rest = redis.call('PTTL', KEYS[2])
if text(KEYS[2]) and rest >= 0 and rest <= tonumber(ARGV[2]) then return {false, false} end
local last = tonumber(text(KEYS[3]) or '') or 0
if not (last >= 0 and last < 2 ^ 52) then last = 0 end
local time = redis.call('TIME')
local number = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
redis.call('SET', KEYS[2], number, 'PX', ARGV[2])
redis.call('SET', KEYS[3], number, 'EX', ARGV[3])
return {false, number}
"""
)
_RENEW = _READ + "return text(KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"
_RELEASE = _READ + "return text(KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"
_STORE = (
    _READ
    + """
if text(KEYS[3]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""
)
_OFFER = (
    _READ
    + """
local found = wanted(KEYS[1], ARGV[1])
if not found then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return found
"""
)
_FIND = _READ + "return text(KEYS[1])"
_REPLACE = (
    _READ
    + """
local found = text(KEYS[1])
if (found and redis.sha1hex(found) or '') ~= ARGV[1] then return 0 end
if ARGV[2] == '' then redis.call('DEL', KEYS[1])
else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return 1
"""
)


class Turn(NamedTuple):
    """Outcome of a wait for other hosts: the entry that one of them stored, or None.

    `keep` shares the entry of the caller, who requests it then.
    """

    found: Entry | None
    keep: Callable[[Entry], None]


class Found(NamedTuple):
    """Stored value: its entry, or None if it is foreign or expired, and its mark in Redis."""

    entry: Entry | None
    mark: str


class Hosts:
    """Entries of one identity in Redis. `sleep` waits some seconds. Safe to use from threads.

    Names are those that `cache.Cache.owned` returns: nobody knows them who does not know the key.
    While Redis is gone, nothing is found and nothing is kept.
    """

    def __init__(self, link: Link, sleep: Callable[[float], None] = time.sleep) -> None:
        self.link = link
        self._sleep, self._patient = sleep, True
        self._lock, self._leases = Lock(), dict[str, str]()
        self._renewer: Thread | None = None

    @property
    def trouble(self) -> str:
        """Reason that Redis is not used, as a sentence; empty if there is none."""
        return self.link.trouble

    def poll_time(self, name: bytes, now: int, seconds: float) -> tuple[int, float]:
        """Return the shared time of the poll, and the seconds for which it is shared.

        It is the time of Redis at which a host first asked for it, in the last `seconds` and on
        the same UTC day. Without Redis it is `now`.
        """
        try:
            own = int(self.link.now())
            entry = self._offered(
                name, Entry(own, seconds, own), lambda found: _same_day(found, own)
            )
        except Gone:
            return now, seconds
        return int(entry.value), entry.made + entry.ttl - own

    def find(self, name: bytes, now: float) -> Entry | None:
        """Return the entry that is fresh at `now`, or None."""
        with suppress(Gone):
            return _found(name, self.link.run(_FIND, _keys(name)[:1]), now).entry
        return None

    def offer(self, name: bytes, entry: Entry) -> None:
        """Store an entry, unless a fresh one is there."""
        with suppress(Gone):
            self._offered(name, entry, lambda found: True)

    @contextmanager
    def turn(self, name: bytes, now: float, left: Callable[[], float]) -> Iterator[Turn]:
        """Run the `with` block with the entry of another host, or as the only host.

        `now` is the time of the poll, `left` returns the seconds that the caller has. It waits for
        another host for half of them, and then for none in this run: a host whose own network
        fails may hold its lease for long, and must not make the polls of others fail.
        """
        found, number = self._taken(name, now, left)
        if number is None:
            yield Turn(found, lambda entry: None)
            return
        try:
            yield Turn(None, lambda entry: self._store(name, number, entry))
        finally:
            self._release(name, number)

    def notes(self, name: bytes) -> tuple[dict[str, Any], str]:
        """Return a dictionary that hosts edit, and its mark for `replace`; raises Gone."""
        found = _found(name, self.link.run(_FIND, _keys(name)[:1]), self.link.now())
        value = found.entry.value if found.entry else None
        return value if isinstance(value, dict) else {}, found.mark

    def replace(self, name: bytes, mark: str, notes: dict[str, Any], seconds: float) -> bool:
        """Replace what has that mark for `seconds`; return False if it has changed meanwhile.

        Raises Gone.
        """
        entry = Entry(self.link.now(), seconds, notes)
        content = seal(name, written(entry)) if notes else ""
        milliseconds = int(seconds * 1000)
        return bool(self.link.run(_REPLACE, _keys(name)[:1], mark, content, milliseconds))

    def _taken(
        self, name: bytes, now: float, left: Callable[[], float]
    ) -> tuple[Entry | None, str | None]:
        """Return the entry of another host, or the number of the own lease; both None without."""
        keys, mark, delay = _keys(name), "", _FIRST_DELAY
        until = left() / 2
        with suppress(Gone):
            while True:
                content, number = self.link.run(_TAKE, keys, mark, int(LEASE * 1000), _FENCED)
                if number is not None:
                    return None, self._hold(keys[1], number.decode())
                if content is not None:
                    entry, mark = _found(name, content, now)
                    if entry is not None:
                        return entry, None
                if not self._patient or left() <= until:
                    self._patient = False
                    break
                self._sleep(delay)
                delay = min(delay * 1.5, _LONGEST_DELAY)
        return None, None

    def _hold(self, key: str, number: str) -> str:
        """Let a thread renew the lease until it is released."""
        with self._lock:
            self._leases[key] = number
            if self._renewer is None:
                self._renewer = Thread(target=self._renew, daemon=True)
                self._renewer.start()
        return number

    def _renew(self) -> None:
        """Renew the leases in turn; end when there is none."""
        while True:
            time.sleep(RENEWED_EVERY)
            with self._lock:
                leases = dict(self._leases)
                if not leases:
                    self._renewer = None
                    return
            with suppress(Gone):
                for key, number in leases.items():
                    self.link.run(_RENEW, [key], number, int(LEASE * 1000))

    def _store(self, name: bytes, number: str, entry: Entry) -> None:
        """Share an entry; a lease that another host has taken over meanwhile shares nothing."""
        milliseconds = int((entry.ttl + _KEPT) * 1000)
        with suppress(Gone):
            self.link.run(_STORE, _keys(name), number, _content(name, entry), milliseconds)

    def _release(self, name: bytes, number: str) -> None:
        key = _keys(name)[1]
        with self._lock:
            self._leases.pop(key, None)
        with suppress(Gone):
            self.link.run(_RELEASE, [key], number)

    def _offered(self, name: bytes, own: Entry, fits: Callable[[Entry], bool]) -> Entry:
        """Return the fresh entry that fits and is there, else `own`, stored; raises Gone."""
        mark, content = "", seal(name, written(own))
        if len(content) > LARGEST:
            return own
        milliseconds = int((own.ttl + _KEPT) * 1000)
        for _ in range(_TRIES):
            stored = self.link.run(_OFFER, _keys(name)[:1], mark, content, milliseconds)
            if stored is None:
                return own
            entry, mark = _found(name, stored, own.made)
            if entry is not None and fits(entry):
                return entry
        return own


def _keys(name: bytes) -> list[str]:
    """Return the keys of the entry, the lease and the fence, on one node of a cluster."""
    tag = f"lm-openai:{{{blake2b(name, digest_size=16, person=b'lm-openai redis').hexdigest()}}}"
    return [f"{tag}:entry", f"{tag}:lease", f"{tag}:fence"]


def _found(name: bytes, content: bytes | None, now: float) -> Found:
    """Return the entry in a stored value, if the value is sealed and fresh at `now`."""
    if content is None:
        return Found(None, "")
    mark = sha1(content, usedforsecurity=False).hexdigest()
    try:
        entry = read(unsealed(name, content))
    except (ValueError, TypeError, LookupError, RecursionError):
        return Found(None, mark)
    return Found(entry if entry.fresh(now) else None, mark)


def _content(name: bytes, entry: Entry) -> bytes:
    """Return a sealed entry; of one that is too large only the fact that nobody shares it."""
    content = seal(name, written(entry))
    if len(content) <= LARGEST:
        return content
    return seal(name, written(Entry(entry.made, entry.ttl, UNSHARED)))


def _same_day(found: Entry, now: int) -> bool:
    return type(found.value) is int and found.value // DAY == now // DAY
