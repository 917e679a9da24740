#!/usr/bin/env python3
"""Dollars by project: today, this month and the share of its budget."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("cost_by_project")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai.metrics import budgets, costs
from lm_openai.metrics.costs import discover, dormant, series

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll
    from lm_openai.model.report import Instance, Sample

__all__ = ["collect", "discover", "dormant", "series"]


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the dollars of each project, its share of the organization's cost and its budget.

    Only projects have budgets, so the groups of openai.group.by have none.
    """
    if costs.dimensions_of(poll) != poll.definition.dimensions:
        yield from costs.collect(poll, instances)
        return
    known = list(instances)
    currency = costs.billed(poll).currency
    monthly = budgets.project_budgets(poll, [instance.id for instance in known], currency)
    yield from costs.collect(poll, known, monthly)
