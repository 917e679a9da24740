#!/usr/bin/env python3
"""Dollars by user, for organizations whose costs can be grouped by user."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("cost_by_user")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai.errors import ApiFailure
from lm_openai.metrics import costs

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll
    from lm_openai.model.report import Instance, Sample


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield the users with cost since the start of last month.

    Raises ApiFailure if the organization's costs cannot be grouped by user.
    """
    try:
        yield from costs.discover(poll)
    except ApiFailure as failure:
        if failure.kind != "refused" or "user_id" not in costs.dimensions_of(poll):
            raise
        raise ApiFailure("ungrouped", "costs by user", failure.detail) from None


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the dollars of each user and the share of the organization's cost."""
    return costs.collect(poll, instances)
