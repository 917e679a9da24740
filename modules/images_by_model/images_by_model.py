#!/usr/bin/env python3
"""Which models made how many images."""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import sys

    checkout = os.path.realpath(__file__).rsplit(os.sep, 3)[0]
    if os.path.isdir(os.path.join(checkout, "lm_openai")):
        sys.path[0] = checkout
    from lm_openai.start import main

    main("images_by_model")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai import usage

if TYPE_CHECKING:
    from lm_openai.poll import Poll
    from lm_openai.report import Instance, Sample

KIND = "images"


def discover(poll: Poll) -> Iterator[Instance]:
    """What made images in the last 7 days."""
    return usage.discover(poll, KIND)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Images and requests of each bucket."""
    return usage.collect(poll, KIND, instances)
