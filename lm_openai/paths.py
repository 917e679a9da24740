"""Folders of threshold files, of the cache and of DataSources, and the check for a private one.

The first stage of a script imports this module, so it imports almost nothing itself.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

SERVICES = "/var/lib/lm-openai"
"""Folder of root with a private folder for each service user, by name."""
POSIX = hasattr(os, "geteuid")
"""False on Windows, where files have neither owner nor mode and processes cannot lock them."""


def is_datasource(root: str, name: str) -> bool:
    """Return True if the package's folder `root` has a DataSource in its folder of that name."""
    return os.path.isfile(os.path.join(root, "modules", name, f"{name}.json"))


def threshold_folders(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders of a site's threshold files: the host's, then the user's, if any."""
    host = environ.get("LM_OPENAI_ETC") or "/etc/lm-openai"
    home = environ.get("HOME")
    user = environ.get("XDG_CONFIG_HOME") or (home and os.path.join(home, ".config"))
    folders = [host, os.path.join(user, "lm-openai")] if user else [host]
    return tuple(os.path.join(folder, "thresholds.d") for folder in folders)


def cache_folder(chosen: str, environ: Mapping[str, str]) -> str:
    """Return the folder of the cache, or "" if there is none.

    Windows has none. It is `chosen` (openai.cache.dir), else that in XDG_CACHE_HOME, else the
    service user's, else that in a writable HOME. A service user's own comes before HOME, which an
    agent may set for some of its processes only. A temporary folder would let other users take the
    name.
    """
    if not POSIX:
        return ""
    if chosen:
        return chosen
    shared = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):
        return os.path.join(shared, "lm-openai")
    if os.path.isdir(SERVICES) and os.path.lexists(service_folder()):
        return service_folder()
    home = environ.get("HOME", "")
    if os.path.isabs(home) and _writable(home):
        return os.path.join(home, ".cache", "lm-openai")
    return ""


def service_folder() -> str:
    """Return the path that this user's folder in SERVICES has, if it exists."""
    return os.path.join(SERVICES, user_name(os.geteuid()))


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if there is no name."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def privacy_problem(status: os.stat_result) -> str:
    """Return the reason that a folder is not private; empty if nobody else can write in it.

    `status` is the result of `os.lstat`, which does not follow a symbolic link.
    """
    if not stat.S_ISDIR(status.st_mode):
        return "not a folder (a symbolic link is refused too)"
    if status.st_uid != os.geteuid():
        return "owned by another user"
    if stat.S_IMODE(status.st_mode) & 0o022:
        return "group or others can write in it; run chmod 700 on it"
    return ""


def folder_missing() -> str:
    """Return the reason that there is no cache folder, with the ways to get one."""
    if not POSIX:
        return "on Windows processes share no folder"
    from shlex import quote

    user, folder = user_name(os.geteuid()), service_folder()
    return (
        f"user {user} has no writable HOME and there is no {folder}; run as root: "
        f"install -d -o {quote(user)} -m 700 {quote(folder)}; or set openai.cache.dir to a private "
        f"folder of this user"
    )


def _writable(home: str) -> bool:
    inner = os.path.join(home, ".cache")
    return os.access(inner if os.path.isdir(inner) else home, os.W_OK | os.X_OK)
