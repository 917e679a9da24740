"""DataSource scripts, started as separate processes as a monitoring host does."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.paths import ROOT
from tests.support.replay import Outcome

SECONDS = 60


def started(
    folder: str,
    words: tuple[str, ...],
    home: Path,
    environ: Mapping[str, str] = {},
    stdin: str = "",
) -> Outcome:
    """Run a DataSource's script and return its outcome.

    `home` is the folder for everything that the script may read or write.
    """
    script = ROOT / "modules" / folder / f"{folder}.py"
    ran = subprocess.run(
        [sys.executable, script, *words],
        input=stdin.encode(),
        capture_output=True,
        timeout=SECONDS,
        env={"HOME": str(home), "LM_OPENAI_ETC": str(home / "etc"), **environ},
    )
    return Outcome(ran.stdout.decode(), ran.stderr.decode(), ran.returncode)
