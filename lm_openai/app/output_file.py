"""File of --output: replaced as a whole, and only in a folder where no other user can write."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lm_openai import files
from lm_openai.errors import Failure, WrongUsage
from lm_openai.paths import POSIX
from lm_openai.timespans import HOUR

_PREFIX, _SUFFIX = ".lm-openai-", ".unfinished"


def check(path: str) -> None:
    """Raise WrongUsage if `replace` would refuse the file, or could not write in its folder."""
    with _safe_folder(path):
        effective = os.access in os.supports_effective_ids
        if not os.access(_folder(path), os.W_OK | os.X_OK, effective_ids=effective):
            raise WrongUsage(
                f"--output {path}: this process cannot write in the folder {_folder(path)}; change "
                f"the folder's owner, or name another folder"
            )


def holds(path: str, text: str) -> bool:
    """Return True if the file is what `replace` would write."""
    try:
        with open(path, "rb") as file:
            return file.read() == _encoded(text)
    except OSError:
        return False


def replace(path: str, text: str, mode: int) -> None:
    """Replace the file by one with this text and `mode` less the umask; readers never see a part.

    Raises WrongUsage for a file that is refused, and Failure if it cannot be written; then the old
    file stays.
    """
    with _safe_folder(path) as folder:
        try:
            _replace(folder, os.path.basename(path), _encoded(text), mode)
        except OSError as reason:
            raise Failure(
                f"--output {path} cannot be written: {reason.strerror}; free space in the folder "
                f"{_folder(path)}, or name another file"
            ) from None


def _encoded(text: str) -> bytes:
    return text.encode(errors="backslashreplace")


@contextmanager
def _safe_folder(path: str) -> Iterator[int]:
    """Open the file's folder for the `with` block; raises WrongUsage for an unsafe folder or file.

    What the block does with the descriptor happens in the folder that was checked.
    """
    if not POSIX:
        raise WrongUsage(f"--output {path}: not on Windows; redirect the standard output instead")
    try:
        folder = os.open(_folder(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as reason:
        raise WrongUsage(
            f"--output {path}: the folder {_folder(path)} cannot be opened: {reason.strerror}; "
            f"create it, or name another one"
        ) from None
    try:
        _refuse_folder(path, os.fstat(folder))
        _refuse_file(path, folder)
        yield folder
    finally:
        os.close(folder)


def _folder(path: str) -> str:
    return os.path.dirname(path) or "."


def _refuse_folder(path: str, status: os.stat_result) -> None:
    writers = files.writers(status)
    if writers:
        raise WrongUsage(
            f"--output {path}: {writers} can write in the folder {_folder(path)} and could replace "
            f"the file; name a file in a folder that only this user can write"
        )
    problem = files.distrust_way(_folder(path))
    if problem:
        raise WrongUsage(f"--output {path}: {problem}, or name another folder")


def _refuse_file(path: str, folder: int) -> None:
    """Raise WrongUsage if the path names no file, or something that is not a regular file."""
    name = os.path.basename(path)
    if name in ("", "-", ".", ".."):
        raise WrongUsage(
            f"--output {path!r} names no file; name one, or leave --output out to print on stdout"
        )
    with suppress(FileNotFoundError):
        found = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISREG(found):
            raise WrongUsage(
                f"--output {path} is {files.KINDS.get(stat.S_IFMT(found), 'no file')}, not a "
                f"regular file; remove it, or name another file"
            )


def _replace(folder: int, name: str, encoded: bytes, mode: int) -> None:
    """Write a temporary file, whose name no collector reads, and rename it."""
    _remove_unfinished(folder)
    unfinished = f"{_PREFIX}{os.urandom(6).hex()}{_SUFFIX}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(unfinished, flags, mode, dir_fd=folder)
    try:
        with open(descriptor, "wb") as file:
            file.write(encoded)
        os.replace(unfinished, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished, dir_fd=folder)
        raise


def _remove_unfinished(folder: int) -> None:
    """Delete the temporary files of processes that were killed; no run writes for an hour."""
    oldest = time.time() - HOUR
    with suppress(OSError), os.scandir(folder) as files_in:
        for file in files_in:
            if file.name.startswith(_PREFIX) and file.name.endswith(_SUFFIX):
                with suppress(OSError):
                    if file.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(file.name, dir_fd=folder)
