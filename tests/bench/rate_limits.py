"""Row 14: what `rate_limits` costs while the limits are cached and its usage is requested."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator

from tests.bench.measure import KEY, PYTHON, Row, clean, milliseconds, paired, run, script

PROJECTS = 50
UNSHARED = ("--set", "openai.cache.ttl=0s")


def rows(rounds: int) -> Iterator[Row]:
    """Compare it with completion_by_model, both of the demo organization."""
    command = [PYTHON, "-m", "lm_openai.start", "simulate", "--scale", f"projects={PROJECTS}"]
    with (
        tempfile.TemporaryDirectory() as home,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo,
    ):
        assert demo.stdout is not None
        try:
            url = demo.stdout.readline().strip().partition("=")[2]
            environ = clean(home, OPENAI_BASE_URL=url, OPENAI_ADMIN_KEY=KEY)
            pair = paired(
                lambda: run(script("rate_limits", *UNSHARED), environ).cpu,
                lambda: run(script("completion_by_model", *UNSHARED), environ).cpu,
                rounds,
            )
        finally:
            demo.terminate()
    what = f"rate_limits, {PROJECTS} projects, limits cached, CPU"
    base = f"completion_by_model: {milliseconds(pair.base)}"
    yield Row("14", what, base, milliseconds(pair.figure), pair.ratio, 1.5)
