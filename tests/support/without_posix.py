"""Program that runs the suite command on an interpreter without what Windows lacks."""

from __future__ import annotations

import os
import select
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

MODULES = ("fcntl", "grp", "pwd", "resource", "termios")
ATTRIBUTES: dict[ModuleType, tuple[str, ...]] = {
    os: (
        *("chown", "fchmod", "fchown", "fork", "pread", "pwrite"),
        *("getegid", "geteuid", "getgid", "getgroups", "getuid"),
        *("O_CLOEXEC", "O_DIRECTORY", "O_NOCTTY", "O_NOFOLLOW", "O_NONBLOCK"),
    ),
    select: ("poll",),
    signal: ("SIGALRM", "SIGHUP", "SIGPIPE", "getitimer", "setitimer"),
}


def main() -> None:
    """Remove what Windows lacks, then run the suite command."""
    gone: dict[str, Any] = dict.fromkeys(MODULES)
    sys.modules.update(gone)
    for module, names in ATTRIBUTES.items():
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from lm_openai.start import suite

    suite()


if __name__ == "__main__":
    main()
