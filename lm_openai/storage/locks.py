"""Locks between processes, as files in a private folder; that of a process that died is free."""

from __future__ import annotations

import fcntl
import os

FIRST_DELAY, LONGEST_DELAY = 0.005, 0.1
"""Seconds between two looks at a lock that somebody else holds."""
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def take(folder: int, name: str) -> tuple[int, bool]:
    """Try to lock a file of a folder; return its descriptor, and True if it is locked now.

    Whoever holds the lock removes the file and then closes the descriptor, see `free`. Raises
    OSError.
    """
    while True:
        descriptor = os.open(name, _FLAGS, 0o600, dir_fd=folder)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its last holder may have removed the file since it was opened.
            if os.fstat(descriptor).st_nlink:
                return descriptor, True
        except BlockingIOError:
            return descriptor, False
        except OSError:
            os.close(descriptor)
            raise
        os.close(descriptor)


def free(folder: int, name: str, descriptor: int) -> None:
    """Remove and free a lock that this process holds; raises OSError."""
    try:
        os.unlink(name, dir_fd=folder)
    finally:
        os.close(descriptor)
