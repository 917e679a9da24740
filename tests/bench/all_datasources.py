"""Row 15: requests of all DataSources, each a process of its own, and of one process for all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence

from lm_openai import resources
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.bench.measure import PYTHON, Row, clean, run, script

SUITE = (PYTHON, "-m", "lm_openai.start", "collect", "all")


def rows(rounds: int) -> Iterator[Row]:
    """Count the requests to the demo organization, each time with a cold cache."""
    with Simulator() as demo:
        together = _requests(demo, [SUITE])
        apart = _requests(demo, [script(folder) for folder in resources.folders()])
    what = "all DataSources, each a process, on one cold cache: requests"
    yield Row("15", what, f"collect all: {together}", f"{apart}", apart / together, 1)


def _requests(demo: Simulator, commands: Sequence[Sequence[str]]) -> int:
    with tempfile.TemporaryDirectory() as home:
        kept = {"LM_OPENAI_CACHE_TTL": "300s"}
        environ = clean(home, OPENAI_BASE_URL=demo.url, OPENAI_ADMIN_KEY=ADMIN_KEY, **kept)
        demo.clear()
        for command in commands:
            run(command, environ)
        return len(demo.requests)
