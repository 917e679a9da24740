#!/usr/bin/env python3
"""What each line of the bill costs: today, this month and as a share of all."""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import sys

    checkout = os.path.realpath(__file__).rsplit(os.sep, 3)[0]
    if os.path.isdir(os.path.join(checkout, "lm_openai")):
        sys.path[0] = checkout
    from lm_openai.start import main

    main("cost_by_line_item")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai import costs

if TYPE_CHECKING:
    from lm_openai.poll import Poll
    from lm_openai.report import Instance, Sample


def discover(poll: Poll) -> Iterator[Instance]:
    """Line items that cost or were credited something since last month began."""
    return costs.discover(poll)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Dollars of each line item, and its share of all."""
    return costs.collect(poll, instances)
