"""Admin key in a file: which files are private enough, and what they may contain."""

from __future__ import annotations

import os
import stat

from lm_openai.config.value_types import TYPES
from lm_openai.errors import WrongUsage

_SECRETS = ("/run/secrets/", "/var/run/secrets/")
_IN_MEMORY = ("tmpfs", "ramfs")
_LARGEST = 4096


def read(path: str, *, shared: bool) -> str:
    """Return the key in the file without surrounding white space; raises WrongUsage.

    A file that group or others can access is refused, unless `shared` is set or the file is on a
    secrets mount: owned by root, and below /run/secrets or on a separate file system in memory.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(_LARGEST + 1)
    except OSError as reason:
        raise _refused(path, f"cannot be read: {reason.strerror}") from None
    if not (shared or _private(status) or on_secrets_mount(os.path.realpath(path), status)):
        fix = "run chmod 600 on it, or set openai.admin.key.file.shared=true"
        raise _refused(path, f"can be read by group or others; {fix}")
    return _key(path, text)


def on_secrets_mount(path: str, status: os.stat_result) -> bool:
    """Return True if root owns the file and it is where a container finds its secrets.

    `path` is the file's real path.
    """
    if status.st_uid != 0:
        return False
    if path.startswith(_SECRETS):
        return True
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as file:
            mounts = file.read()
    except OSError:
        return False
    device = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    return secrets_mount(mounts, device)


def secrets_mount(mounts: str, device: str) -> bool:
    """Return True if `device` ("major:minor") is a file system in memory that can hold secrets.

    `mounts` is the text of /proc/self/mountinfo. The root file system, /run itself and folders
    that every user can write to are not secrets mounts.
    """
    for line in mounts.splitlines():
        fields, _, source = line.partition(" - ")
        _number, _parent, found, _root, place = fields.split()[:5]
        if found == device and source.split(" ")[0] in _IN_MEMORY:
            return place not in ("/", "/run", "/var/run", "/tmp", "/var/tmp", "/dev/shm")
    return False


def _key(path: str, text: bytes) -> str:
    form = TYPES["key"]
    try:
        key: str = form.parse(text.decode("ascii").strip() if len(text) <= _LARGEST else "")
    except ValueError:
        raise _refused(path, f"must contain {form.allowed}") from None
    return key


def _private(status: os.stat_result) -> bool:
    return not stat.S_IMODE(status.st_mode) & 0o077


def _refused(path: str, reason: str) -> WrongUsage:
    return WrongUsage(f"openai.admin.key.file: {path} {reason}")
