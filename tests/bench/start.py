"""Benchmark of starting and polling, as ratios to an empty Python process.

Each case is run in turn with an empty process, and the median of the ratios is printed, so that a
busy machine does not change the result. The API runs in a separate process.
`start.py [ROUNDS]`; the default is 15.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PASS = (sys.executable, "-c", "pass")


def main(words: Sequence[str]) -> int:
    """Print one line per case; always return 0, since a measurement cannot fail."""
    rounds = int(words[0]) if words else 15
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "lm_openai.app.cli", "simulate"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as demo:
            try:
                environ = {**settings(demo), "HOME": home, "PATH": os.environ["PATH"]}
                for name, case in cases().items():
                    print(f"{name:44}{ratio(case, environ, rounds):8.2f} x an empty process")
            finally:
                demo.terminate()
    return 0


def settings(demo: subprocess.Popen[str]) -> dict[str, str]:
    """Return the settings that the demo organization prints when it is ready."""
    assert demo.stdout is not None
    lines = [demo.stdout.readline().strip() for _ in range(2)]
    return dict(line.split("=", 1) for line in lines)


def cases() -> dict[str, Sequence[str]]:
    """Return the command lines to measure, by name."""

    def script(folder: str, *options: str) -> Sequence[str]:
        return (sys.executable, str(ROOT / "modules" / folder / f"{folder}.py"), *options)

    return {
        "import requests": (sys.executable, "-c", "import requests"),
        "--version": script("completion_by_model", "--version"),
        "wrong usage": script("completion_by_model", "--critcal"),
        "completion_by_model, names and week cached": script("completion_by_model"),
        "cost_by_organization, 2 requests": script("cost_by_organization"),
        "rate_limits, limits cached": script("rate_limits", "--format", "nagios"),
    }


def ratio(case: Sequence[str], environ: Mapping[str, str], rounds: int) -> float:
    """Return the median ratio over interleaved pairs, after one start that fills the caches."""
    seconds(case, environ)
    return statistics.median(seconds(case, environ) / seconds(PASS, environ) for _ in range(rounds))


def seconds(command: Sequence[str], environ: Mapping[str, str]) -> float:
    """Return the wall time of one process."""
    begun = time.perf_counter()
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
