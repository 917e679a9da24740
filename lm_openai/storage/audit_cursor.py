"""Position of an audit feed, kept on disk so that no crash can lose it."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

from lm_openai.errors import Failure
from lm_openai.storage.private_folder import privacy_problem

WHOLE = 10**9
_SUFFIX, _NEXT, _LOCK = ".cursor", ".cursor.next", ".cursor.lock"


class Cursor(NamedTuple):
    """Position of an audit feed: all events before `start` (Unix seconds) were printed.

    `printed` maps the ids of events from `start` on that were printed to their times in Unix
    seconds. `width` is the longest time slice in seconds.
    """

    start: int
    printed: dict[str, int]
    width: int = WHOLE


class Damaged(Exception):
    """The cursor file does not hold a valid cursor."""


class CursorFile:
    """Cursor of one feed in a private folder, locked during the `with` block.

    `prepare` writes the next cursor to disk and `commit` makes it current, so that a full disk is
    found before anything is printed; without `moves`, both do nothing. Raises Failure for a folder
    that cannot be used and if another feed holds the lock.
    """

    def __init__(self, folder: str, identity: str, moves: bool = True) -> None:
        self.moves = moves
        self._folder = folder
        self.path = os.path.join(folder, identity + _SUFFIX)
        self._next = os.path.join(folder, identity + _NEXT)
        self._lock_path = os.path.join(folder, identity + _LOCK)
        self._lock: BinaryIO | None = None

    def __enter__(self) -> CursorFile:
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            problem = privacy_problem(os.lstat(self._folder))
            if problem:
                raise Failure(f"{self._folder} cannot hold the audit cursor: {problem}")
            self._lock = open(_open_private(self._lock_path), "wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(
                f"another audit feed of this organization is running ({self._lock_path} is "
                f"locked); wait until it ends, or set a different openai.cache.dir for each feed"
            ) from None
        except OSError as reason:
            raise _unwritable(self._folder, reason) from None
        return self

    def __exit__(self, *problem: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def load(self) -> Cursor | None:
        """Return the current cursor, or None before the first commit; raises Damaged, Failure."""
        try:
            with open(self.path, "rb") as file:
                return _cursor(json.loads(file.read()))
        except FileNotFoundError:
            return None
        except OSError as reason:
            raise Failure(
                f"{self.path} cannot be read ({reason.strerror}); make it readable"
            ) from None
        except (ValueError, TypeError, LookupError, RecursionError):
            raise Damaged from None

    def prepare(self, cursor: Cursor) -> None:
        """Write the next cursor to disk; the current one stays valid. Raises Failure."""
        if not self.moves:
            return
        encoded = json.dumps(cursor._asdict(), separators=(",", ":")).encode()
        try:
            with open(_open_private(self._next, os.O_TRUNC), "wb") as file:
                file.write(encoded)
                file.flush()
                os.fsync(file.fileno())
        except OSError as reason:
            raise _unwritable(self._folder, reason) from None

    def commit(self) -> None:
        """Replace the current cursor with the prepared one; raises Failure."""
        if not self.moves:
            return
        try:
            os.replace(self._next, self.path)
        except OSError as reason:
            raise _unwritable(self._folder, reason) from None
        with suppress(OSError):
            folder = os.open(self._folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)


def _open_private(path: str, flags: int = 0) -> int:
    flags |= os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, 0o600)


def _unwritable(folder: str, reason: OSError) -> Failure:
    return Failure(
        f"the cursor cannot be saved in {folder} ({reason.strerror}), so nothing more is printed; "
        f"free space or allow writing there, or set openai.cache.dir"
    )


def _cursor(parsed: dict[str, Any]) -> Cursor:
    """Return the cursor in parsed JSON; raises TypeError if it is not a complete cursor."""
    cursor = Cursor(**parsed)
    if type(cursor.printed) is not dict:
        raise TypeError
    numbers = (cursor.start, cursor.width, *cursor.printed.values())
    if cursor.width < 1 or not all(type(number) is int for number in numbers):
        raise TypeError
    return cursor
