#!/usr/bin/env python3
"""What each project spends: today, this month and of its budget."""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import sys

    checkout = os.path.realpath(__file__).rsplit(os.sep, 3)[0]
    if os.path.isdir(os.path.join(checkout, "lm_openai")):
        sys.path[0] = checkout
    from lm_openai.start import main

    main("cost_by_project")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai import budgets, costs

if TYPE_CHECKING:
    from lm_openai.poll import Poll
    from lm_openai.report import Instance, Sample


def discover(poll: Poll) -> Iterator[Instance]:
    """Projects that cost something since last month began, archived ones too."""
    return costs.discover(poll)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Dollars of each project, its share of all and its budget."""
    known = list(instances)
    limits = budgets.of_projects(poll, [instance.id for instance in known])
    for sample in costs.collect(poll, known):
        if sample.start is None:
            budget = costs.budget_figures(sample.values, limits.get(sample.instance.id))
            sample = sample._replace(values={**sample.values, **budget})
        yield sample
