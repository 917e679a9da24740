"""Fixtures of the metrics' tests: one demo organization per file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lm_openai.simulator import Simulator
from tests.support.demo_polls import WEDNESDAY


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    """Yield the demo organization with usage that is not late."""
    with Simulator(at=WEDNESDAY, lag=0) as simulator:
        yield simulator


@pytest.fixture
def reset(demo: Simulator) -> Iterator[None]:
    """Remove faults and recorded requests and reset the clock after the test."""
    yield
    demo.clear()
    demo.now = WEDNESDAY
