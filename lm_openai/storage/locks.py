"""Locks between processes, as files in a private folder; that of a process that died is free."""

from __future__ import annotations

import fcntl
import os
import time

FIRST_DELAY, LONGEST_DELAY = 0.005, 0.1
"""Seconds between two looks at a lock that somebody else holds."""
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FULL, _FULL_SECONDS = "full.lock", 10
"""Empty file whose time is that of the last write that found the disk full."""


def take(folder: int, name: str) -> tuple[int, bool]:
    """Try to lock a file of a folder; return its descriptor, and True if it is locked now.

    Whoever holds the lock removes the file and then closes the descriptor, see `free`. Raises
    OSError, also while the disk is full: those who wait would only go one by one, since
    nobody stores what they wait for.
    """
    if _is_full(folder):
        raise OSError(0, "the disk was full a moment ago")
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


def decline(folder: int) -> None:
    """Let nobody wait for others for a while, since the disk is full."""
    try:
        descriptor = os.open(_FULL, _FLAGS, 0o600, dir_fd=folder)
    except OSError:
        return  # then no lock can be created either
    try:
        os.utime(descriptor)
    finally:
        os.close(descriptor)


def _is_full(folder: int) -> bool:
    try:
        failed = os.stat(_FULL, dir_fd=folder, follow_symlinks=False).st_mtime
    except OSError:
        return False
    return 0 <= time.time() - failed < _FULL_SECONDS
