"""The check of promtool, with which Prometheus' users lint their metrics."""

from __future__ import annotations

import subprocess
from collections.abc import Callable


def lint(tool: Callable[[str], str], text: str) -> None:
    """Fail unless promtool accepts a file without a warning; `tool` finds its path."""
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"],
        input=text.encode(),
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")
