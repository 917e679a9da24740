"""Files and folders that other programs share: bounded reads, and who else could change them.

A path is trusted if only root and this user can change the file and each folder and symbolic link
on the way to it, as sshd requires of a user's files (StrictModes).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple, NoReturn

from lm_openai.paths import POSIX, user_name

LARGEST = 1024 * 1024
LONGEST_WAIT = 20.0
"""Seconds until the writer of an inherited pipe must have closed it."""
KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}
_STEP_BYTES = 64 * 1024
_MOST_LINKS = 40


class Refused(OSError):
    """A file or folder that this process will not use; `strerror` is the reason with its cure."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason)


class Content(NamedTuple):
    """Content of a file, and its status when it was open."""

    data: bytes
    status: os.stat_result


class Step(NamedTuple):
    """A folder, symbolic link or file on the way to a path; `status` is its own (lstat)."""

    path: str
    status: os.stat_result


_looked: dict[str, os.stat_result | None] = {}


def flags(*names: str) -> int:
    """Return these flags of os.open without those that this system lacks."""
    return sum(getattr(os, name, 0) for name in names)


def look(path: str) -> None:
    """Note the status of a path, see `looked`."""
    try:
        _looked[path] = os.stat(path)
    except OSError:
        _looked[path] = None


def looked() -> Mapping[str, os.stat_result | None]:
    """Return the status of each file and folder that this process read or did not find (None)."""
    return _looked


def read(path: str, largest: int = LARGEST, trusted: bool = True) -> Content:
    """Return the content of a regular file, or of a stream that this process inherited.

    Such a stream (`/dev/stdin`, `/dev/fd/N`) may also be a pipe. Raises OSError: Refused for
    anything else, for more than `largest` bytes, and for a file that another user could change,
    unless `trusted` is False; then the caller calls `distrust`.
    """
    _looked[path] = None
    names = ("O_NONBLOCK", "O_NOCTTY", "O_CLOEXEC", "O_BINARY")
    descriptor = os.open(path, os.O_RDONLY | flags(*names))
    try:
        status = _looked[path] = os.fstat(descriptor)
        _require(status, path)
        if trusted:
            refuse(distrust(path, status))
        return Content(stream(descriptor, largest), status)
    finally:
        os.close(descriptor)


def check(path: str, largest: int = LARGEST) -> None:
    """Raise OSError if `read` would refuse the file; for a library that opens it by its path."""
    read(path, largest)


def read_in(folder: int, name: str, largest: int) -> bytes:
    """Return the content of a regular file in a folder that is held by descriptor.

    Raises OSError, Refused for anything that is not a regular file.
    """
    safe = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, safe, dir_fd=folder)
    try:
        _require(os.fstat(descriptor), name)
        return stream(descriptor, largest)
    finally:
        os.close(descriptor)


def stream(descriptor: int, largest: int = LARGEST) -> bytes:
    """Return all that an open file or pipe has; raises OSError, Refused for too much or too late.

    The writer of a pipe has LONGEST_WAIT seconds to close it.
    """
    status = os.fstat(descriptor)
    waits = POSIX and not stat.S_ISREG(status.st_mode)
    wait = _waiting(descriptor) if waits else None
    data = bytearray()
    while max(len(data), status.st_size) <= largest:
        if wait is not None:
            next(wait)
        piece = os.read(descriptor, min(_STEP_BYTES, largest + 1 - len(data)))
        if not piece:
            return bytes(data)
        data += piece
    raise Refused(f"it is larger than {largest} bytes, so it is not what belongs here")


def refuse(problem: str) -> None:
    """Raise Refused for a problem that is not empty."""
    if problem:
        raise Refused(problem)


def distrust(path: str, status: os.stat_result) -> str:
    """Return who else could change a file or what its path means, and the fix; "" if nobody.

    `status` is that of the open file. A stream that was inherited has no path of its own.
    """
    if _inherited(path):
        regular = stat.S_ISREG(status.st_mode)
        return _problem("it", Step(path, status)) if regular else ""
    return _problem("it", Step(path, status)) or distrust_way(path)


def distrust_folder(path: str) -> str:
    """Return who else could write in a folder or change the way to it, and the fix; "" if nobody.

    The sticky bit does not help: another user may have created a name before this one.
    """
    return _problem(f"the folder {path}", Step(path, os.stat(path))) or distrust_way(path)


def distrust_way(path: str) -> str:
    """Return who else could change a folder or link on the way to a path; "" if nobody.

    The last element counts if it is a symbolic link. The way ends where nothing exists.
    """
    for step in _steps(path) if POSIX else ():
        mode = step.status.st_mode
        if stat.S_ISLNK(mode):
            # A link's mode has no meaning.
            if step.status.st_uid not in (0, os.geteuid()):
                return _problem(f"the symbolic link {step.path}", step)
        elif stat.S_ISDIR(mode) and not (mode & stat.S_ISVTX and _is_ours(step.status)):
            problem = _problem(f"the folder {step.path}", step)
            if problem:
                return problem
    return ""


def writers(status: os.stat_result) -> str:
    """Return who can change a file or folder besides this user and root; "" if nobody or unknown.

    The group of what root owns is accepted, since an administrator chose it, and so is the private
    group that many systems give to each user.
    """
    if not POSIX:
        return ""
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        return "every user of this host"
    if not _is_ours(status):
        return f"its owner, another user ({user_name(status.st_uid)}),"
    if mode & stat.S_IWGRP and status.st_uid != 0 and not _private_group(status):
        return "its whole group"
    return ""


def make_folders(path: str) -> None:
    """Create a folder for this user alone, and those above it; whatever the umask, safe ones."""
    missing = []
    place = path
    while place and not os.path.lexists(place):
        missing.append(place)
        place = os.path.dirname(place)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, 0o700 if folder == path else 0o755)
        except FileExistsError:
            continue


def _require(status: os.stat_result, path: str) -> None:
    """Raise Refused for anything but a regular file and an inherited stream."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR or (kind != stat.S_IFREG and not _inherited(path)):
        raise Refused(f"it is {KINDS.get(kind, 'no file')}, not a regular file; name a file")


def _inherited(path: str) -> bool:
    return re.fullmatch(r"/dev/stdin|/(dev|proc/self)/fd/\d+", path) is not None


def _waiting(descriptor: int) -> Iterator[None]:
    """Yield whenever the stream can be read; raises Refused when the time is over."""
    import select
    import time

    until = time.monotonic() + LONGEST_WAIT
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    while poll.poll(max(0.0, until - time.monotonic()) * 1000):
        yield
    _too_late()


def _too_late() -> NoReturn:
    raise Refused(
        f"it did not end within {LONGEST_WAIT:g} s; let the program that writes it close it, or "
        f"name a file"
    )


def _steps(path: str) -> Iterator[Step]:
    """Yield each folder and link on the way to a path, and the last element."""
    # The current folder of an agent may have been deleted.
    whole = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    names = whole.split("/")[::-1]
    place, links = "/", 0
    yield Step(place, os.lstat(place))
    while names:
        name = names.pop()
        if name in ("", ".", ".."):
            place = os.path.dirname(place) if name == ".." else place
            continue
        following = os.path.join(place, name)
        try:
            step = Step(following, os.lstat(following))
        except (FileNotFoundError, NotADirectoryError):
            return
        yield step
        if not stat.S_ISLNK(step.status.st_mode):
            place = following
            continue
        links += 1
        if links > _MOST_LINKS:
            return
        target = os.readlink(following)
        names += target.split("/")[::-1]
        place = "/" if target.startswith("/") else place


def _problem(subject: str, step: Step) -> str:
    """Return who else can change something, with the command that ends this; "" if nobody can."""
    who = writers(step.status)
    if not who:
        return ""
    from shlex import quote

    user = os.geteuid()
    target = quote(os.path.abspath(step.path))
    chown = "" if _is_ours(step.status) else f"chown {quote(user_name(user))} {target}"
    chmod = f"chmod go-w {target}" if step.status.st_mode & 0o022 else ""
    as_root = "" if user == 0 or (user == step.status.st_uid) else " as root"
    commands = " && ".join(filter(None, (chown, chmod)))
    return (
        f"{who} can change {subject}; this process runs as user {user_name(user)}; "
        f"run{as_root}: {commands}"
    )


def _is_ours(status: os.stat_result) -> bool:
    return status.st_uid in (0, os.geteuid())


def _private_group(status: os.stat_result) -> bool:
    """Return True if the group has its owner's name and no other member."""
    import grp

    try:
        group = grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    owner = user_name(status.st_uid)
    return group.gr_name == owner and set(group.gr_mem) <= {owner}
