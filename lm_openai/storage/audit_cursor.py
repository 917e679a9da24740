"""Position of an audit feed, kept on disk so that no crash can lose it."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

from lm_openai.errors import Failure
from lm_openai.files import Refused
from lm_openai.redaction import strike
from lm_openai.storage.private_folder import PrivateFolder

WHOLE = 10**9
_LARGEST = 16 * 1024 * 1024
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
        self._folder = PrivateFolder(folder)
        self._identity = identity
        self.path = os.path.join(folder, identity + _SUFFIX)
        self._lock: BinaryIO | None = None

    def __enter__(self) -> CursorFile:
        import fcntl  # Windows lacks it, where no feed has a folder

        try:
            self._folder.descriptor(create=True)
            self._lock = open(self._folder.open(self._identity + _LOCK), "wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except Refused as reason:
            raise Failure(
                f"{self._folder.path} cannot hold the audit cursor: {reason.strerror}; or set "
                f"openai.cache.dir to a private folder of this user"
            ) from None
        except BlockingIOError:
            raise Failure(
                f"another audit feed of this organization is running ({self._lock_path()} is "
                f"locked); wait until it ends, or set a different openai.cache.dir for each feed"
            ) from None
        except OSError as reason:
            raise _unwritable(self._folder.path, reason) from None
        return self

    def __exit__(self, *problem: object) -> None:
        if self._lock is not None:
            self._lock.close()

    def load(self) -> Cursor | None:
        """Return the current cursor, or None before the first commit; raises Damaged, Failure."""
        try:
            return _cursor(json.loads(self._folder.read(self._identity + _SUFFIX, _LARGEST)))
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
        encoded = strike(json.dumps(cursor._asdict(), separators=(",", ":"))).encode()
        try:
            with open(self._folder.open(self._identity + _NEXT, os.O_TRUNC), "wb") as file:
                file.write(encoded)
                file.flush()
                os.fsync(file.fileno())
        except OSError as reason:
            raise _unwritable(self._folder.path, reason) from None

    def commit(self) -> None:
        """Replace the current cursor with the prepared one; raises Failure."""
        if not self.moves:
            return
        try:
            self._folder.rename(self._identity + _NEXT, self._identity + _SUFFIX)
        except OSError as reason:
            raise _unwritable(self._folder.path, reason) from None
        with suppress(OSError):
            os.fsync(self._folder.descriptor())

    def _lock_path(self) -> str:
        return self.path.removesuffix(_SUFFIX) + _LOCK


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
