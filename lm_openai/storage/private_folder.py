"""What outlives a process: answers that several scripts share, in a private folder."""

from __future__ import annotations

import os
import stat


def distrusted(status: os.stat_result) -> str:
    """Why a folder is not private; empty when nobody else can have written in it."""
    if not stat.S_ISDIR(status.st_mode):
        return "not a folder (a link is refused too)"
    if status.st_uid != os.geteuid():
        return "owned by another user"
    if stat.S_IMODE(status.st_mode) & 0o022:
        return "group or others can write in it; chmod 700 it"
    return ""
