"""Files with properties or a key: who else can access them, and the command that fixes it."""

from __future__ import annotations

import os
import stat

from lm_openai import files
from lm_openai.config.registry import KEY_SHARED
from lm_openai.errors import WrongUsage
from lm_openai.paths import POSIX, user_name

_SECRETS = ("/run/secrets/", "/var/run/secrets/")
_IN_MEMORY = ("tmpfs", "ramfs")
_OTHERS = stat.S_IROTH | stat.S_IWOTH
_GROUP = stat.S_IRGRP | stat.S_IWGRP


def refuse(subject: str, path: str, status: os.stat_result, *, secret: bool) -> None:
    """Raise WrongUsage if another user could change a file, or read it although it has a secret.

    Its group may read a secret if root owns the file (root:nagios 0640). Files on a secrets mount
    may be read by everybody. `subject` begins the sentence and names the file.
    """
    readers = _readers(status) if secret and POSIX else ""
    problem = files.distrust(path, status)
    if not (readers or problem) or on_secrets_mount(os.path.realpath(path), status):
        return
    if readers:
        other_cure = "" if problem else f", or set {KEY_SHARED}=true"
        sentence = f"{subject} can be accessed by {readers}; {_fix(path, status)}{other_cure}"
        raise WrongUsage(sentence)
    raise WrongUsage(f"{subject} is refused: {problem}")


def unreadable(subject: str, path: str, reason: OSError) -> WrongUsage:
    """Return the error for a file that this process cannot open, with the fix if there is one."""
    sentence = f"{subject} cannot be read: {reason.strerror}"
    if not isinstance(reason, PermissionError) or not POSIX:
        return WrongUsage(sentence)
    closed = _closed_folder(os.path.abspath(path))
    if closed:
        return WrongUsage(
            f"{sentence}; this process runs as user {user_name(os.geteuid())}, who cannot "
            f"enter {closed}: move the file to a folder that this user can enter"
        )
    return WrongUsage(f"{sentence}; {_fix(path, os.stat(path))}")


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


def _readers(status: os.stat_result) -> str:
    """Return who can access the file although only its owner should; "" if nobody can."""
    mode = stat.S_IMODE(status.st_mode)
    if mode & _OTHERS:
        return "every user of this host"
    return "its whole group" if mode & _GROUP and status.st_uid != 0 else ""


def _fix(path: str, status: os.stat_result) -> str:
    """Return the user and the command after which it can read the file and strangers cannot.

    A service user fixes its own file. A file of root stays readable for its group. Any other file
    becomes root's, readable for this process's group.
    """
    from shlex import quote

    target = quote(os.path.abspath(path))
    user, owner = os.geteuid(), status.st_uid
    groups = {os.getegid(), *os.getgroups()}
    if owner and user in (0, owner):
        command = f"chmod 600 {target}"
    elif owner == 0 and (user == 0 or status.st_gid in groups):
        command = f"chmod 640 {target}"
    else:
        command = f"chown root:{_group()} {target} && chmod 640 {target}"
    as_root = "" if user in (0, owner) else " as root"
    return f"this process runs as user {user_name(os.geteuid())}; run{as_root}: {command}"


def _group() -> str:
    import grp

    try:
        return grp.getgrgid(os.getegid()).gr_name
    except KeyError:
        return str(os.getegid())


def _closed_folder(path: str) -> str:
    """Return the first folder on the way to the file that this process cannot enter, or ""."""
    place = "/"
    for name in os.path.dirname(path).split("/"):
        place = os.path.join(place, name)
        if not os.access(place, os.X_OK, effective_ids=os.access in os.supports_effective_ids):
            return place
    return ""
