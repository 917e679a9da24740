"""Cache of API responses that processes share, as files in a private folder."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar
from weakref import WeakValueDictionary

from lm_openai import __version__
from lm_openai.api.bodies import struck
from lm_openai.errors import ApiFailure
from lm_openai.files import Refused
from lm_openai.redaction import strike
from lm_openai.storage import ready
from lm_openai.storage.private_folder import PrivateFolder
from lm_openai.timespans import DAY

T = TypeVar("T")
FAILED_SECONDS = 60
BRIEF_SECONDS = 3.0
"""Seconds to wait for a lock that is held for a millisecond; later its holder counts as stopped."""
_SUFFIX, _UNFINISHED, _LOCK = ".answer", ".unfinished", ".lock"
_BODY, _PRUNED_SOON = ".body", 300
_LARGE = (_BODY, ready.SUFFIX)
_PRUNED_AFTER = DAY
_SCANNED_AT_ONCE, _PRUNED_AT_ONCE = 5000, 1000
_MOST_LARGE = 512 * 1024 * 1024
"""Bytes of all responses and ready answers; beyond that those that expire first are deleted."""
NOT_CACHED = ("deadline", "throttled", "down", "unreachable", "tls")
"""Failures that end with the notes on the API, or that only concern the caller's deadline."""
_KEPT_IN_MEMORY = 4096
_LARGEST = 256 * 1024 * 1024
_TOLERANCE = 120
"""Seconds that an entry may be newer than `now`: a run's time stands still while others write."""

NOTES, NOTES_TO_LIVE = "notes on the API", 3600


class Entry(NamedTuple):
    """Content of one file: a value, or the failure that occurred instead.

    `made` is in Unix seconds, `ttl` in seconds. `body` is text in UTF-8 that belongs to the value.
    """

    made: float
    ttl: float
    value: Any = None
    failure: tuple[str, str, str, str] | None = None
    body: bytes = b""

    def fresh(self, now: float) -> bool:
        """Return True if the entry has not expired at `now`.

        One more than _TOLERANCE seconds in the future has: it was written before the clock was set
        back.
        """
        return -_TOLERANCE <= now - self.made < self.ttl


class OtherHosts(Protocol):
    """Place of the entries that other hosts share; names are those of Cache.owned."""

    def find(self, name: bytes, now: float) -> Entry | None:
        """Return the entry that is fresh at `now`, or None."""

    def offer(self, name: bytes, entry: Entry) -> None:
        """Store an entry, unless a fresh one is there."""


class Cache:
    """Values by name, for one identity, in files that processes and threads share.

    Values are JSON values; `now` returns Unix seconds. Without a folder, or if the folder is not
    private or not writable, values are kept in memory until the process ends. `trouble` is the
    problem with the folder, in words for people; empty if there is no problem. Without `prunes`
    the files of others stay, which may belong to polls of another time (`--at`). What `remember`
    does not find it takes from `hosts`, if given, before it is fetched.
    """

    def __init__(
        self,
        folder: str | None,
        identity: str,
        now: Callable[[], float],
        prunes: bool = True,
        hosts: OtherHosts | None = None,
    ) -> None:
        self.folder = (folder or "").rstrip(os.sep)
        self._private = PrivateFolder(self.folder)
        self.identity, self.now, self._hosts = identity, now, hosts
        self.trouble = ""
        self._patience = BRIEF_SECONDS
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

    def response(self, name: str) -> Entry | None:
        """Return a stored response: its `value` and `body`; None if it is missing or expired.

        Raises the ApiFailure that was stored instead of it.
        """
        entry = self._entry(name, _BODY)
        if entry and entry.failure:
            raise ApiFailure(*entry.failure)
        return entry

    def put_response(self, name: str, entry: Entry) -> None:
        """Store a response; in memory, where no file can hold it, it is not."""
        self._keep(name, entry, _BODY)

    def put_failure(self, name: str, ttl: float, failure: ApiFailure) -> None:
        """Store, for `ttl` seconds, the failure that occurred instead of a response."""
        self._keep(name, Entry(self.now(), ttl, failure=_parts(failure)), _BODY)

    def forget(self, name: str) -> None:
        """Remove the entry of that name, if there is one."""
        with self._lock:
            if self._unwritten:
                self._unwritten.pop(name, None)
        self._remove(name, _SUFFIX)

    def remember(self, name: str, ttl: float, fetch: Callable[[], T]) -> T:
        """Return the cached value, or call `fetch` and cache its result for `ttl` seconds.

        One thread at a time fetches a name. An ApiFailure is cached for FAILED_SECONDS and
        raised again, so that a request which the API refuses is not repeated by every script. A
        failure in NOT_CACHED is no answer of the API to this request and is not cached.
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
    def briefly(self, name: str) -> Iterator[None]:
        """Run the `with` block, which takes a millisecond, as `exclusive` does.

        A process that was stopped meanwhile is not waited for: the block runs beside it then.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self.exclusive(name, self._patience))
            except TimeoutError:
                # It will not go on soon, so the next block waits no longer.
                self._patience = 0.0
            yield

    @contextmanager
    def exclusive(self, name: str, seconds: float) -> Iterator[None]:
        """Run the `with` block while no other process and no other thread runs it for `name`.

        Raises TimeoutError if others do for `seconds`.
        """
        until = time.monotonic() + seconds
        with _acquired(self._fetch_lock(name), seconds), ExitStack() as stack:
            if self._trusted(create=True):
                lock = self._file(name, _LOCK)
                try:
                    left = until - time.monotonic()
                    stack.enter_context(self._private.locked(lock, left))
                except TimeoutError:
                    raise
                except OSError as reason:
                    self.trouble = f"{self.folder}: {reason.strerror}"
            yield

    def owned(self, name: str) -> bytes:
        """Return the name with its owner, which nobody knows who does not know the key."""
        return f"{self.identity}\0{name}".encode()

    def _fetched(self, name: str, ttl: float, fetch: Callable[[], T]) -> T:
        found = self._hosts.find(self.owned(name), self.now()) if self._hosts else None
        if found:
            self._keep(name, found)
            known: T = found.value
            return known
        try:
            value = fetch()
        except ApiFailure as failure:
            if failure.kind not in NOT_CACHED:
                self._keep(name, Entry(self.now(), FAILED_SECONDS, failure=_parts(failure)))
            raise
        self.put(name, value, ttl)
        if self._hosts:
            self._hosts.offer(self.owned(name), Entry(self.now(), ttl, value))
        return value

    def _fetch_lock(self, name: str) -> threading.RLock:
        with self._lock:
            return self._fetch_locks.setdefault(name, threading.RLock())

    def _entry(self, name: str, suffix: str = _SUFFIX) -> Entry | None:
        """Return an entry that has not expired, or None."""
        entry = self._found(name, suffix)
        return entry if entry and entry.fresh(self.now()) else None

    def _found(self, name: str, suffix: str) -> Entry | None:
        """Return the stored entry, or None; a damaged file is removed."""
        with self._lock:
            unwritten = self._unwritten.get(name) if self._unwritten else None
        if unwritten or not self._trusted():
            return unwritten
        try:
            sealed = self._private.read(self._file(name, suffix), _LARGEST)
            return read(unsealed(self.owned(name), sealed))
        except OSError:
            return None
        except (ValueError, TypeError, LookupError, RecursionError):
            self._remove(name, suffix)
            return None

    def _keep(self, name: str, entry: Entry, suffix: str = _SUFFIX) -> None:
        encoded = written(entry)
        if entry.ttl <= 0:
            return
        if not self._trusted(create=True):
            self._keep_in_memory(name, encoded)
            return
        try:
            sealed = seal(self.owned(name), encoded)
            self._private.write(self._file(name, suffix), sealed, entry.made + entry.ttl)
        except OSError as reason:
            self.trouble = f"{self.folder}: {reason.strerror}"
            self._keep_in_memory(name, encoded)
        self._prune()

    def _keep_in_memory(self, name: str, encoded: bytes) -> None:
        """Keep in memory what no file can hold, so that a run still requests it only once.

        A response is not kept: a run parses it once, and its body may be large.
        """
        from cachetools import TLRUCache

        entry = read(encoded)
        if entry.body:
            return
        with self._lock:
            if self._unwritten is None:
                self._unwritten = TLRUCache(
                    _KEPT_IN_MEMORY, ttu=lambda _, entry, __: entry.made + entry.ttl, timer=self.now
                )
            self._unwritten[name] = entry

    def _file(self, name: str, suffix: str = _SUFFIX) -> str:
        return blake2b(self.owned(name), digest_size=16).hexdigest() + suffix

    def _remove(self, name: str, suffix: str) -> None:
        with suppress(OSError):
            if self._trusted():
                self._private.remove(self._file(name, suffix))

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
        """Delete old files, once per process and a limited number at a time.

        They are entries that expired a day ago, responses and ready answers that expired a while
        ago, and, beyond _MOST_LARGE, those that expire next.
        """
        if self._pruned or not self.folder:
            return
        self._pruned = True
        found: list[tuple[float, int, str]] = []
        with suppress(OSError), os.scandir(self._private.descriptor()) as files:
            found = [*_stamps(islice(files, _SCANNED_AT_ONCE))]
        # With `--at` in the future, files that are being written would look old.
        now = min(self.now(), time.time())
        for name in islice(_old(found, now), _PRUNED_AT_ONCE):
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
        notes = self._cache.get(NOTES)
        return notes if isinstance(notes, dict) else {}

    def change(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Let `edit` change the notes while no other process and no other thread does."""
        with self._cache.briefly(NOTES):
            notes = self.read()
            edit(notes)
            if notes:
                self._cache.put(NOTES, notes, NOTES_TO_LIVE)
            else:
                self._cache.forget(NOTES)


@contextmanager
def _acquired(lock: threading.RLock, seconds: float) -> Iterator[None]:
    """Hold a lock during the `with` block; raises TimeoutError if it is not free in time."""
    if not lock.acquire(timeout=max(0.0, seconds)):
        raise TimeoutError
    try:
        yield
    finally:
        lock.release()


def identity(organization: str, url: str, key: str | None = None) -> str:
    """Return a digest of organization, URL and, if given, key, to keep their entries apart."""
    parts = (organization, url) if key is None else (organization, url, key)
    return blake2b("\0".join(parts).encode(), digest_size=16, person=b"lm-openai").hexdigest()


def seal(name: bytes, content: bytes) -> bytes:
    """Return content that `unsealed` accepts under this name alone, and only unchanged.

    Another version does not accept it, since its values may have another form.
    """
    return _digest(name, content) + b"\n" + content


def unsealed(name: bytes, sealed: bytes) -> bytes:
    """Return sealed content; raises ValueError if it was changed or sealed for another name."""
    digest, _, content = sealed.partition(b"\n")
    if digest != _digest(name, content):
        raise ValueError
    return content


def _digest(name: bytes, content: bytes) -> bytes:
    owner = name + b"\0" + __version__.encode()
    key = blake2b(owner, digest_size=32, person=b"lm-openai seal").digest()
    return blake2b(content, digest_size=16, key=key).hexdigest().encode()


def _parts(failure: ApiFailure) -> tuple[str, str, str, str]:
    return failure.kind, failure.endpoint, failure.detail, failure.scope


def written(entry: Entry) -> bytes:
    """Return the stored form of an entry: one line of JSON, then the body, without secrets."""
    fields = entry._asdict()
    body = fields.pop("body")
    line = strike(json.dumps(fields, separators=(",", ":"))).encode()
    return line + b"\n" + struck(body) if body else line


def read(encoded: bytes) -> Entry:
    """Parse a stored entry.

    Raises ValueError, TypeError or LookupError if it is foreign or damaged.
    """
    line, _, body = encoded.partition(b"\n")
    entry = Entry(**json.loads(line), body=body)
    if not isinstance(entry.made, (int, float)) or not isinstance(entry.ttl, (int, float)):
        raise TypeError
    if entry.failure:
        ApiFailure(*entry.failure)
    return entry


def _stamps(files: Iterable[os.DirEntry[str]]) -> Iterator[tuple[float, int, str]]:
    """Yield the expiry in Unix seconds, the size and the name of each file of a cache."""
    for file in files:
        if file.name.endswith((_SUFFIX, *_LARGE, _UNFINISHED, _LOCK)):
            with suppress(OSError):
                status = file.stat(follow_symlinks=False)
                yield status.st_mtime, status.st_size, file.name


def _old(files: Iterable[tuple[float, int, str]], now: float) -> Iterator[str]:
    """Yield the names of the files to delete, see Cache._prune."""
    large = 0
    for expiry, size, name in sorted(files, reverse=True):
        is_large = name.endswith(_LARGE)
        large += size if is_large else 0
        kept = _PRUNED_SOON if is_large else _PRUNED_AFTER
        if expiry < now - kept or (is_large and large > _MOST_LARGE):
            yield name
