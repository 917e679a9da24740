"""What starting and polling cost, as ratios to an empty Python process of the same run.

Pairs are interleaved and the medians of their ratios printed, so that a busy machine does not
decide; the API runs in a process of its own. `bench.py [ROUNDS]`, 15 without.
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
    """Print one line per case; 0 always, since what is measured is no verdict."""
    rounds = int(words[0]) if words else 15
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "lm_openai.app.cli", "simulate"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as demo:
            try:
                environ = {**told(demo), "HOME": home, "PATH": os.environ["PATH"]}
                for name, case in cases().items():
                    print(f"{name:44}{ratio(case, environ, rounds):8.2f} x an empty process")
            finally:
                demo.terminate()
    return 0


def told(demo: subprocess.Popen[str]) -> dict[str, str]:
    """The settings that the demo organization prints when it is ready."""
    assert demo.stdout is not None
    lines = [demo.stdout.readline().strip() for _ in range(2)]
    return dict(line.split("=", 1) for line in lines)


def cases() -> dict[str, Sequence[str]]:
    """What is started, by name."""

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
    """The median over interleaved pairs, after one start that warms the caches."""
    seconds(case, environ)
    return statistics.median(seconds(case, environ) / seconds(PASS, environ) for _ in range(rounds))


def seconds(command: Sequence[str], environ: Mapping[str, str]) -> float:
    """Wall time of one process."""
    begun = time.perf_counter()
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
