"""What outlives a process: answers that several scripts share, in a private folder."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from hashlib import blake2b
from itertools import islice
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

from lm_openai.errors import ApiFailure
from lm_openai.storage.private_folder import distrusted

T = TypeVar("T")
FAILED_SECONDS = 60
_SUFFIX, _UNFINISHED = ".answer", ".unfinished"
_PRUNED_AFTER = 86400
_LOOKED_AT, _PRUNED_AT_ONCE = 2000, 200
_NOT_REMEMBERED = ("deadline",)
_KEPT_HERE = 4096
_SPREAD = 120
"""Seconds that an answer may lie ahead: a run's time stands still while others make theirs."""


_PAUSE, _PAUSE_SPARE = "pause", 60


class Entry(NamedTuple):
    """What one file holds: an answer, or the failure that stood in its place."""

    made: float
    ttl: float
    value: Any = None
    failure: tuple[str, str, str, str] | None = None


class Cache:
    """Answers by name, for one identity, as files that processes and threads share.

    Values are whatever JSON carries; `now` gives Unix seconds. Without a folder, or with one that
    cannot be trusted or written, answers live as long as the process; `trouble` tells people why.
    """

    def __init__(self, folder: str | None, identity: str, now: Callable[[], float]) -> None:
        self.folder = (folder or "").rstrip(os.sep)
        self.identity, self.now = identity, now
        self.trouble = ""
        self._lock = threading.Lock()
        self._making: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()
        self._pruned = False
        self._unwritten: MutableMapping[str, Entry] | None = None

    def get(self, name: str) -> Any | None:
        """The value as JSON gives it back, or None when there is none, or a failure."""
        entry = self._entry(name)
        return entry.value if entry else None

    def put(self, name: str, value: Any, ttl: float) -> None:
        """Keep a JSON value for `ttl` seconds."""
        self._keep(name, Entry(self.now(), ttl, value))

    def forget(self, name: str) -> None:
        """Drop what is kept under the name."""
        with self._lock:
            if self._unwritten:
                self._unwritten.pop(name, None)
        with suppress(OSError):
            if self._trusted():
                os.unlink(self._path(name))

    def remember(
        self, name: str, ttl: float, make: Callable[[], T], failed_ttl: float = FAILED_SECONDS
    ) -> T:
        """The kept answer, else `make`'s, kept for `ttl` seconds; one thread makes it.

        An ApiFailure is kept for `failed_ttl` seconds and raised again, so that many scripts do
        not queue up behind a dead API; running out of time is the asker's own and is not kept.
        """
        with self._maker(name):
            entry = self._entry(name)
            if entry and entry.failure:
                raise ApiFailure(*entry.failure)
            if entry:
                value: T = entry.value
                return value
            return self._made(name, ttl, make, failed_ttl)

    def _made(self, name: str, ttl: float, make: Callable[[], T], failed_ttl: float) -> T:
        try:
            value = make()
        except ApiFailure as failure:
            if failure.kind not in _NOT_REMEMBERED:
                told = (failure.kind, failure.endpoint, failure.detail, failure.scope)
                self._keep(name, Entry(self.now(), failed_ttl, failure=told))
            raise
        self.put(name, value, ttl)
        return value

    def _maker(self, name: str) -> threading.RLock:
        with self._lock:
            return self._making.setdefault(name, threading.RLock())

    def _entry(self, name: str) -> Entry | None:
        """What is kept and still fresh; a clock set back makes it stale, a damaged file goes."""
        entry = self._found(name)
        return entry if entry and -_SPREAD <= self.now() - entry.made < entry.ttl else None

    def _found(self, name: str) -> Entry | None:
        with self._lock:
            unwritten = self._unwritten.get(name) if self._unwritten else None
        if unwritten or not self._trusted():
            return unwritten
        try:
            with open(self._path(name), "rb") as file:
                return _read(file.read())
        except OSError:
            return None
        except (ValueError, TypeError, LookupError, RecursionError):
            self.forget(name)
            return None

    def _keep(self, name: str, entry: Entry) -> None:
        written = json.dumps(entry._asdict(), separators=(",", ":")).encode()
        if entry.ttl <= 0:
            return
        if not self._trusted(create=True):
            self._keep_here(name, _read(written))
            return
        try:
            _replace(self._path(name), written, entry.made + entry.ttl)
        except OSError as reason:
            self.trouble = f"{self.folder}: {reason.strerror}"
            self._keep_here(name, _read(written))
        self._prune()

    def _keep_here(self, name: str, entry: Entry) -> None:
        """Keep in memory what no file could take, so that one run asks for it once all the same."""
        from cachetools import TLRUCache

        with self._lock:
            if self._unwritten is None:
                self._unwritten = TLRUCache(
                    _KEPT_HERE, ttu=lambda _, entry, __: entry.made + entry.ttl, timer=self.now
                )
            self._unwritten[name] = entry

    def _path(self, name: str) -> str:
        digest = blake2b(f"{self.identity}\0{name}".encode(), digest_size=16).hexdigest()
        return os.path.join(self.folder, digest + _SUFFIX)

    def _trusted(self, create: bool = False) -> bool:
        """Whether the folder is there and nobody else can have written in it."""
        if not self.folder:
            return False
        try:
            if create:
                os.makedirs(self.folder, mode=0o700, exist_ok=True)
            problem = distrusted(os.lstat(self.folder))
        except OSError as reason:
            problem = f"{reason.strerror}"
            if not create:
                return False
        if problem:
            self.trouble = f"{self.folder}: {problem}"
        return not problem

    def _prune(self) -> None:
        """Once per process, drop files that ended a day ago; a full folder takes several turns."""
        if self._pruned or not self.folder:
            return
        self._pruned = True
        latest = self.now() - _PRUNED_AFTER
        with suppress(OSError), os.scandir(self.folder) as files:
            old = (file.path for file in islice(files, _LOOKED_AT) if _ended(file, latest))
            for path in islice(old, _PRUNED_AT_ONCE):
                with suppress(OSError):
                    os.unlink(path)


class Pauses:
    """How long no process of this host should ask, since the API throttled one of them.

    `clock` gives Unix seconds; without a usable cache folder each process learns it by itself.
    """

    def __init__(self, cache: Cache, clock: Callable[[], float]) -> None:
        self._cache, self._clock = cache, clock

    def until(self) -> float:
        """Seconds from now until asking is fine again; 0 or less when it is."""
        return float(self._cache.get(_PAUSE) or 0) - self._clock()

    def pause(self, seconds: float) -> None:
        """Tell the others, never to start earlier than somebody told before."""
        if seconds > self.until():
            self._cache.put(_PAUSE, self._clock() + seconds, seconds + _PAUSE_SPARE)


def identity(organization: str, url: str, key: str | None = None) -> str:
    """Whose answers they are, as a digest: one organization's at one URL, read with one key."""
    parts = (organization, url) if key is None else (organization, url, key)
    return blake2b("\0".join(parts).encode(), digest_size=16, person=b"lm-openai").hexdigest()


def _read(written: bytes) -> Entry:
    """The entry in a file; ValueError or TypeError when it is not one of ours or was damaged."""
    entry = Entry(**json.loads(written))
    if not isinstance(entry.made, (int, float)) or not isinstance(entry.ttl, (int, float)):
        raise TypeError
    if entry.failure:
        ApiFailure(*entry.failure)
    return entry


def _replace(path: str, written: bytes, until: float) -> None:
    """Write beside, then rename; the file's own time is when the entry ends."""
    unfinished = f"{path}.{os.urandom(6).hex()}{_UNFINISHED}"
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(written)
        os.utime(unfinished, (until, until))
        os.replace(unfinished, path)
    except OSError:
        with suppress(OSError):
            os.unlink(unfinished)
        raise


def _ended(file: os.DirEntry[str], latest: float) -> bool:
    if not file.name.endswith((_SUFFIX, _UNFINISHED)):
        return False
    with suppress(OSError):
        return file.stat(follow_symlinks=False).st_mtime < latest
    return False
