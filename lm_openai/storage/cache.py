"""Cache of API responses that processes share, as files in a private folder."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from lm_openai.errors import ApiFailure
from lm_openai.files import Refused
from lm_openai.redaction import strike
from lm_openai.storage.private_folder import PrivateFolder
from lm_openai.timespans import DAY

T = TypeVar("T")
FAILED_SECONDS = 60
_SUFFIX, _UNFINISHED, _LOCK = ".answer", ".unfinished", ".lock"
_PRUNED_AFTER = DAY
_SCANNED_AT_ONCE, _PRUNED_AT_ONCE = 2000, 200
_NOT_CACHED = ("deadline", "throttled", "down", "unreachable", "tls")
"""Failures that end with the notes on the API, or that only concern the caller's deadline."""
_KEPT_IN_MEMORY = 4096
_LARGEST = 256 * 1024 * 1024
_TOLERANCE = 120
"""Seconds that an entry may be newer than `now`: a run's time stands still while others write."""

_NOTES, _NOTES_TO_LIVE = "notes on the API", 3600


class Entry(NamedTuple):
    """Content of one file: a value, or the failure that occurred instead.

    `made` is in Unix seconds, `ttl` in seconds.
    """

    made: float
    ttl: float
    value: Any = None
    failure: tuple[str, str, str, str] | None = None


class Cache:
    """Values by name, for one identity, in files that processes and threads share.

    Values are JSON values; `now` returns Unix seconds. Without a folder, or if the folder is not
    private or not writable, values are kept in memory until the process ends. `trouble` is the
    problem with the folder, in words for people; empty if there is no problem. Without `prunes`
    the files of others stay, which may belong to polls of another time (`--at`).
    """

    def __init__(
        self, folder: str | None, identity: str, now: Callable[[], float], prunes: bool = True
    ) -> None:
        self.folder = (folder or "").rstrip(os.sep)
        self._private = PrivateFolder(self.folder)
        self.identity, self.now = identity, now
        self.trouble = ""
        self._lock = threading.Lock()
        self._fetch_locks: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()
        self._pruned = not prunes
        self._unwritten: MutableMapping[str, Entry] | None = None

    def get(self, name: str) -> Any | None:
        """Return the value as JSON restores it; None if it is missing, expired or a failure."""
        entry = self._entry(name)
        return entry.value if entry else None

    def put(self, name: str, value: Any, ttl: float) -> None:
        """Store a JSON value for `ttl` seconds."""
        self._keep(name, Entry(self.now(), ttl, value))

    def forget(self, name: str) -> None:
        """Remove the entry of that name, if there is one."""
        with self._lock:
            if self._unwritten:
                self._unwritten.pop(name, None)
        with suppress(OSError):
            if self._trusted():
                self._private.remove(self._file(name))

    def remember(self, name: str, ttl: float, fetch: Callable[[], T]) -> T:
        """Return the cached value, or call `fetch` and cache its result for `ttl` seconds.

        One thread at a time fetches a name. An ApiFailure is cached for FAILED_SECONDS and
        raised again, so that a request which the API refuses is not repeated by every script. A
        failure in _NOT_CACHED is no answer of the API to this request and is not cached.
        """
        with self._fetch_lock(name):
            entry = self._entry(name)
            if entry and entry.failure:
                raise ApiFailure(*entry.failure)
            if entry:
                value: T = entry.value
                return value
            return self._fetched(name, ttl, fetch)

    @contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Run the `with` block while no other process and no other thread runs it for `name`."""
        with self._fetch_lock(name), ExitStack() as stack:
            if self._trusted(create=True):
                import fcntl

                with suppress(OSError):
                    lock = self._file(name).removesuffix(_SUFFIX) + _LOCK
                    file = stack.enter_context(open(self._private.open(lock), "wb"))
                    fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _fetched(self, name: str, ttl: float, fetch: Callable[[], T]) -> T:
        try:
            value = fetch()
        except ApiFailure as failure:
            if failure.kind not in _NOT_CACHED:
                cached = (failure.kind, failure.endpoint, failure.detail, failure.scope)
                self._keep(name, Entry(self.now(), FAILED_SECONDS, failure=cached))
            raise
        self.put(name, value, ttl)
        return value

    def _fetch_lock(self, name: str) -> threading.RLock:
        with self._lock:
            return self._fetch_locks.setdefault(name, threading.RLock())

    def _entry(self, name: str) -> Entry | None:
        """Return an entry that has not expired, or None.

        An entry more than _TOLERANCE seconds in the future counts as expired: it was written before
        the clock was set back.
        """
        entry = self._found(name)
        return entry if entry and -_TOLERANCE <= self.now() - entry.made < entry.ttl else None

    def _found(self, name: str) -> Entry | None:
        """Return the stored entry, or None; a damaged file is removed."""
        with self._lock:
            unwritten = self._unwritten.get(name) if self._unwritten else None
        if unwritten or not self._trusted():
            return unwritten
        try:
            return _read(self._private.read(self._file(name), _LARGEST))
        except OSError:
            return None
        except (ValueError, TypeError, LookupError, RecursionError):
            self.forget(name)
            return None

    def _keep(self, name: str, entry: Entry) -> None:
        encoded = strike(json.dumps(entry._asdict(), separators=(",", ":"))).encode()
        if entry.ttl <= 0:
            return
        if not self._trusted(create=True):
            self._keep_in_memory(name, _read(encoded))
            return
        try:
            self._private.write(self._file(name), encoded, entry.made + entry.ttl)
        except OSError as reason:
            self.trouble = f"{self.folder}: {reason.strerror}"
            self._keep_in_memory(name, _read(encoded))
        self._prune()

    def _keep_in_memory(self, name: str, entry: Entry) -> None:
        """Keep in memory what no file can hold, so that a run still requests it only once."""
        from cachetools import TLRUCache

        with self._lock:
            if self._unwritten is None:
                self._unwritten = TLRUCache(
                    _KEPT_IN_MEMORY, ttu=lambda _, entry, __: entry.made + entry.ttl, timer=self.now
                )
            self._unwritten[name] = entry

    def _file(self, name: str) -> str:
        digest = blake2b(f"{self.identity}\0{name}".encode(), digest_size=16).hexdigest()
        return digest + _SUFFIX

    def _trusted(self, create: bool = False) -> bool:
        """Return True if the folder exists and nobody else can change it.

        A folder that is not private, or that `create` cannot create, sets `trouble`.
        """
        if not self.folder:
            return False
        try:
            self._private.descriptor(create)
        except OSError as reason:
            if create or isinstance(reason, Refused):
                self.trouble = f"{self.folder}: {reason.strerror}"
            return False
        return True

    def _prune(self) -> None:
        """Delete files that expired a day ago, once per process and a limited number at a time."""
        if self._pruned or not self.folder:
            return
        self._pruned = True
        latest = self.now() - _PRUNED_AFTER
        with suppress(OSError), os.scandir(self._private.descriptor()) as files:
            old = (file.name for file in islice(files, _SCANNED_AT_ONCE) if _expired(file, latest))
            for name in islice(old, _PRUNED_AT_ONCE):
                with suppress(OSError):
                    self._private.remove(name)


class SharedNotes:
    """Notes on the API (see api.notes.Store) in a cache, for all processes of this host.

    The time of the cache must be the real time. Notes that nothing changes for an hour are gone.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def read(self) -> dict[str, Any]:
        """Return all notes; empty if there are none."""
        notes = self._cache.get(_NOTES)
        return notes if isinstance(notes, dict) else {}

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Let `edit` change the notes while no other process and no other thread does."""
        with self._cache.exclusive(_NOTES):
            notes = self.read()
            edit(notes)
            if notes:
                self._cache.put(_NOTES, notes, _NOTES_TO_LIVE)
            else:
                self._cache.forget(_NOTES)


def identity(organization: str, url: str, key: str | None = None) -> str:
    """Return a digest of organization, URL and, if given, key, to keep their entries apart."""
    parts = (organization, url) if key is None else (organization, url, key)
    return blake2b("\0".join(parts).encode(), digest_size=16, person=b"lm-openai").hexdigest()


def _read(encoded: bytes) -> Entry:
    """Parse the entry in a file.

    Raises ValueError, TypeError or LookupError if the file is foreign or damaged.
    """
    entry = Entry(**json.loads(encoded))
    if not isinstance(entry.made, (int, float)) or not isinstance(entry.ttl, (int, float)):
        raise TypeError
    if entry.failure:
        ApiFailure(*entry.failure)
    return entry


def _expired(file: os.DirEntry[str], latest: float) -> bool:
    if not file.name.endswith((_SUFFIX, _UNFINISHED)):
        return False
    with suppress(OSError):
        return file.stat(follow_symlinks=False).st_mtime < latest
    return False
