"""Folder of this user that nobody else can change, held by descriptor while it is used."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lm_openai import files
from lm_openai.paths import privacy_problem

_PRIVATE_FILE = os.O_WRONLY | os.O_CREAT | files.flags("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC")


class PrivateFolder:
    """Folder for files that only this user writes; safe to use from threads.

    What its methods do happens in the folder that was checked, also if its path leads elsewhere
    meanwhile. They raise OSError, files.Refused for a folder that is not private or that another
    user could replace.
    """

    def __init__(self, path: str) -> None:
        self.path = path.rstrip(os.sep)
        self._lock = threading.Lock()
        self._held: int | None = None

    def __del__(self) -> None:
        self._release()

    def descriptor(self, create: bool = False) -> int:
        """Return the folder's descriptor, which belongs to this object.

        A folder that was removed meanwhile is looked up again, and created if `create` is set.
        """
        with self._lock:
            status = os.fstat(self._held) if self._held is not None else None
            if self._held is None or status is None or not status.st_nlink:
                self._release()
                self._held = _opened(self.path, create)
                status = os.fstat(self._held)
            files.refuse(privacy_problem(status))
            return self._held

    def open(self, name: str, flags: int = 0) -> int:
        """Return a new descriptor of a file to write, which is created if it is missing."""
        return os.open(name, flags | _PRIVATE_FILE, 0o600, dir_fd=self.descriptor())

    def read(self, name: str, largest: int) -> bytes:
        """Return the content of a file."""
        return files.read_in(self.descriptor(), name, largest)

    def write(self, name: str, data: bytes, until: float) -> None:
        """Replace a file as a whole; its modification time becomes `until` (Unix seconds)."""
        folder = self.descriptor()
        unfinished = f"{name}.{os.urandom(6).hex()}.unfinished"
        try:
            with open(self.open(unfinished, os.O_EXCL), "wb") as file:
                file.write(data)
                file.flush()
                os.utime(file.fileno(), (until, until))
            os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as reason:
            with suppress(OSError):
                self.remove(unfinished)
            if reason.errno in (errno.ENOSPC, errno.EDQUOT):
                from lm_openai.storage import locks

                locks.decline(folder)
            raise

    def rename(self, name: str, new: str) -> None:
        """Rename a file, which replaces the one with the new name."""
        folder = self.descriptor()
        os.replace(name, new, src_dir_fd=folder, dst_dir_fd=folder)

    def remove(self, name: str) -> None:
        """Delete a file."""
        os.unlink(name, dir_fd=self.descriptor())

    @contextmanager
    def locked(self, name: str, seconds: float) -> Iterator[None]:
        """Run the `with` block while nobody else, also no other thread, holds the lock `name`.

        The lock of a process that died is free. Its file is removed afterwards. Raises TimeoutError
        if somebody else holds it for `seconds`.
        """
        descriptor = self._acquired(name, time.monotonic() + seconds)
        try:
            yield
        finally:
            with suppress(OSError):
                self.remove(name)
            os.close(descriptor)

    def _acquired(self, name: str, until: float) -> int:
        from lm_openai.storage import locks

        delay = locks.FIRST_DELAY
        while True:
            descriptor, taken = locks.take(self.descriptor(), name)
            if taken:
                return descriptor
            os.close(descriptor)
            if time.monotonic() >= until:
                raise TimeoutError
            time.sleep(delay)
            delay = min(delay * 2, locks.LONGEST_DELAY)

    def _release(self) -> None:
        if self._held is not None:
            os.close(self._held)
            self._held = None


def _opened(path: str, create: bool) -> int:
    """Open a private folder; raises OSError."""
    if create:
        files.refuse(files.distrust_way(os.path.dirname(path)))
        files.make_folders(path)
    files.refuse(privacy_problem(os.lstat(path)))
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        files.refuse(files.distrust_way(os.path.dirname(path)))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
