#!/usr/bin/env python3
"""How much of each project's work goes to the models that the site wants used."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("model_mix_by_project")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai.config.properties import matches
from lm_openai.metrics import usage, usage_by_consumer
from lm_openai.model.report import Instance, Sample, Values

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll
    from lm_openai.collect.usage_queries import Group, UsageQuery

CALLERS = ("project_id", "user_id", "api_key_id")
APPROVED = "openai.models.approved"


def discover(poll: Poll) -> Iterator[Instance]:
    """Whoever asked a model in the last 7 days."""
    for group in sorted(_mix(poll)):
        yield usage.instance(poll, _dimensions(poll), group)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Requests of the last 7 days, and how many of them went to approved models."""
    if not poll.properties.is_set(APPROVED):
        poll.notes.append(f"without {APPROVED} no model is approved or not")
    dimensions = _dimensions(poll)
    for group, models in _mix(poll).items():
        yield Sample(usage.instance(poll, dimensions, group), _values(poll, models))


def expects(poll: Poll) -> Iterator[UsageQuery]:
    """The week of every kind."""
    yield from usage_by_consumer.queries(usage.week(poll), (*_dimensions(poll), "model"))


def _mix(poll: Poll) -> dict[Group, dict[str, int]]:
    """Requests by group and model."""
    asked_at, found = poll.once(
        "mix", lambda: usage_by_consumer.week_by_model(poll, _dimensions(poll))
    )
    poll.covered = (usage.week(poll).start, asked_at)
    return found


def _values(poll: Poll, models: dict[str, int]) -> Values:
    values: Values = {"requests": sum(models.values())}
    if poll.properties.is_set(APPROVED):
        globs = poll.properties.globs(APPROVED)
        values["requests_approved"] = sum(
            requests for model, requests in models.items() if matches(globs, model)
        )
    return values


def _dimensions(poll: Poll) -> Group:
    return usage.grouping(poll, "model mix", CALLERS)
