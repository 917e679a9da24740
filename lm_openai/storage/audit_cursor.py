"""How far an audit feed has come, kept on disk so that no crash can lose it."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

from lm_openai.errors import Failure
from lm_openai.storage.private_folder import distrusted

WHOLE = 10**9
_SUFFIX, _NEXT, _LOCK = ".cursor", ".cursor.next", ".cursor.lock"


class Cursor(NamedTuple):
    """Everything before `start` (Unix seconds) was printed for good; `printed` are the ids of what
    was printed from there on, with their times; `width` is how many seconds a slice may span."""

    start: int
    printed: dict[str, int]
    width: int = WHOLE


class Damaged(Exception):
    """A cursor file that does not hold a cursor."""


class CursorFile:
    """The cursor of one feed in a private folder, locked while the `with` block lasts.

    `prepare` puts the next cursor on the disk and `commit` makes it the one in force, so that a
    full disk shows before anything is printed. Raises Failure for a folder that cannot be used.
    """

    def __init__(self, folder: str, identity: str) -> None:
        self._folder = folder
        self.path = os.path.join(folder, identity + _SUFFIX)
        self._next = os.path.join(folder, identity + _NEXT)
        self._lock_path = os.path.join(folder, identity + _LOCK)
        self._lock: BinaryIO | None = None

    def __enter__(self) -> CursorFile:
        try:
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            problem = distrusted(os.lstat(self._folder))
            if problem:
                raise Failure(f"no cursor can be kept in {self._folder}: {problem}")
            self._lock = open(_opened(self._lock_path), "wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(
                f"another audit feed of this organization is at work ({self._lock_path} is "
                f"locked): let it end, or give each feed an openai.cache.dir of its own"
            ) from None
        except OSError as reason:
            raise _refused(self._folder, reason) from None
        return self

    def __exit__(self, *problem: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def load(self) -> Cursor | None:
        """The cursor in force, None when there is none yet; raises Damaged."""
        try:
            with open(self.path, "rb") as file:
                return _cursor(json.loads(file.read()))
        except FileNotFoundError:
            return None
        except OSError as reason:
            raise Failure(f"{self.path} cannot be read ({reason.strerror})") from None
        except (ValueError, TypeError, LookupError, RecursionError):
            raise Damaged from None

    def prepare(self, cursor: Cursor) -> None:
        """Put the next cursor on the disk; nothing is in force yet."""
        written = json.dumps(cursor._asdict(), separators=(",", ":")).encode()
        try:
            with open(_opened(self._next, os.O_TRUNC), "wb") as file:
                file.write(written)
                file.flush()
                os.fsync(file.fileno())
        except OSError as reason:
            raise _refused(self._folder, reason) from None

    def commit(self) -> None:
        """Let the prepared cursor take the place of the one in force."""
        try:
            os.replace(self._next, self.path)
        except OSError as reason:
            raise _refused(self._folder, reason) from None
        with suppress(OSError):
            folder = os.open(self._folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)


def _opened(path: str, more: int = 0) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | more
    return os.open(path, flags, 0o600)


def _refused(folder: str, reason: OSError) -> Failure:
    return Failure(
        f"the cursor cannot be kept in {folder} ({reason.strerror}), so nothing more is printed; "
        f"make room there, or set openai.cache.dir"
    )


def _cursor(found: dict[str, Any]) -> Cursor:
    """ValueError, TypeError or LookupError for what is not a whole cursor."""
    cursor = Cursor(**found)
    if type(cursor.printed) is not dict:
        raise TypeError
    numbers = (cursor.start, cursor.width, *cursor.printed.values())
    if cursor.width < 1 or not all(type(number) is int for number in numbers):
        raise TypeError
    return cursor
