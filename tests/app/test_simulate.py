"""lm-openai simulate: the demo organization as a process, with its settings."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from lm_openai.simulator import ADMIN_KEY
from tests.support.paths import ROOT

NOON = 1795003200  # 2026-11-18 12:00:00 UTC


@contextmanager
def simulated(*words: str) -> Iterator[str]:
    """Run the command with the clock stopped at noon, return its base URL, end it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lm_openai.start", "simulate", "--at", str(NOON), *words],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout
        yield process.stdout.readline().strip().removeprefix("OPENAI_BASE_URL=")
    finally:
        process.terminate()
        process.communicate(timeout=20)


def newest(url: str) -> int:
    """Return the age of the newest minute with completions, in seconds."""
    found = requests.get(
        f"{url}/organization/usage/completions",
        {"start_time": str(NOON - 7200), "bucket_width": "1m", "limit": "1440"},
        headers={"Authorization": f"Bearer {ADMIN_KEY}"},
        timeout=20,
    )
    ends = [one["end_time"] for one in json.loads(found.text)["data"] if one["results"]]
    return NOON - int(max(ends))


@pytest.mark.parametrize("lag", [0, 1800])
def test_usage_arrives_as_late_as_the_lag_says(lag: int) -> None:
    with simulated("--lag", str(lag)) as url:
        assert newest(url) == lag
