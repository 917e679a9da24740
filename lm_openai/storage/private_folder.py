"""Privacy of a folder: only its owner may write in it."""

from __future__ import annotations

import os
import stat


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
