"""Reading the admin key from a file that nobody else can read."""

from __future__ import annotations

import os
import stat

from lm_openai.config.value_types import TYPES
from lm_openai.errors import WrongUsage

_SECRETS = ("/run/secrets/", "/var/run/secrets/")
_IN_MEMORY = ("tmpfs", "ramfs")
_LARGEST = 4096


def read(path: str, *, shared: bool) -> str:
    """The key in the file, blanks and newline around it stripped; raises WrongUsage.

    A file that group or others can read is refused, unless `shared` or on a secrets mount: owned by
    root, and below /run/secrets or on a file system in memory of its own.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(_LARGEST + 1)
    except OSError as reason:
        raise _refused(path, f"cannot be read: {reason.strerror}") from None
    if not (shared or _private(status) or on_secrets_mount(os.path.realpath(path), status)):
        cure = "chmod 600 it, or set openai.admin.key.file.shared=true"
        raise _refused(path, f"can be read by group or others: {cure}")
    return _key(path, text)


def on_secrets_mount(path: str, status: os.stat_result) -> bool:
    """Whether root put the file, whose real path this is, where a container finds its secrets."""
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
    """Whether /proc/self/mountinfo shows `device` ("major:minor") as a file system in memory.

    /run itself, and places where everybody may write, are no secrets mounts.
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
        raise _refused(path, f"must hold {form.allowed}") from None
    return key


def _private(status: os.stat_result) -> bool:
    return not stat.S_IMODE(status.st_mode) & 0o077


def _refused(path: str, why: str) -> WrongUsage:
    return WrongUsage(f"openai.admin.key.file: {path} {why}")
