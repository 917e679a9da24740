#!/usr/bin/env python3
"""Share of each project's requests that went to approved models."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("model_mix_by_project")

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lm_openai.config.properties import matches
from lm_openai.metrics import usage, usage_by_consumer
from lm_openai.model.report import Instance, Sample, Values

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll
    from lm_openai.collect.usage_queries import Group

CALLERS = ("project_id", "user_id", "api_key_id")
APPROVED = "openai.models.approved"


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield every group with requests to models in the last 7 days."""
    for group in sorted(_mix(poll)):
        yield usage.instance(poll, _dimensions(poll), group)


def dormant(poll: Poll, words: Sequence[str]) -> Iterator[Instance]:
    """Yield the groups with requests in the last 35 days, and all that a list has."""
    allowed = usage_by_consumer.DIMENSIONS
    return usage.used_lately(poll, usage.MODEL_KINDS, _dimensions(poll), allowed)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the requests of the last 7 days and the number that went to approved models."""
    if not poll.properties.is_set(APPROVED):
        poll.notes.append(f"{APPROVED} is not set, so the approved share is unknown")
    dimensions = _dimensions(poll)
    mix = _mix(poll)
    for group, models in mix.items():
        yield Sample(usage.instance(poll, dimensions, group), _values(poll, models))
    for instance in instances:
        if tuple(instance.dimensions.values()) not in mix:
            yield Sample(instance, _values(poll, {}), idle=True)


def _mix(poll: Poll) -> dict[Group, dict[str, int]]:
    """Return the requests by group and model."""
    requested_at, requests = poll.once(
        "mix", lambda: usage_by_consumer.week_by_model(poll, _dimensions(poll))
    )
    poll.covered = (usage.week(poll).start, requested_at)
    poll.seen["model"] = {model for models in requests.values() for model in models}
    return requests


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
