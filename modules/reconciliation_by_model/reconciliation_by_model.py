#!/usr/bin/env python3
"""Billed quantities compared with the quantities that the usage API counted."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("reconciliation_by_model")

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lm_openai.collect.known_names import DORMANT_DAYS
from lm_openai.metrics import reconciliation
from lm_openai.metrics.bill import in_currency
from lm_openai.metrics.reconciliation import Pair, Reconciliation
from lm_openai.metrics.usage import ORGANIZATION
from lm_openai.model.aggregation import dollar_percent
from lm_openai.model.report import Instance, Sample, Values
from lm_openai.timespans import DAY

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll

LEAST_COMPARED = 1000
"""Least weekly count for a difference: below it one request at midnight is a large percentage."""


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield the organization, then each model's quantities that were billed or used."""
    organization = Instance(ORGANIZATION, poll.properties.organization, {})
    yield in_currency(poll, organization, _reconciliation(poll).currency)
    for model, kind in _reconciliation(poll).pairs:
        yield _instance(model, kind)


def dormant(poll: Poll, words: Sequence[str]) -> Iterator[Instance]:
    """Yield what was used in the last 35 days before those that are compared."""
    start, end = reconciliation.window(poll.now)
    for model, kind in reconciliation.used(poll, end - DORMANT_DAYS * DAY, start):
        yield _instance(model, kind)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield both quantities of each pair, and for the organization what could not be matched."""
    poll.covered = reconciliation.window(poll.now)
    found = _reconciliation(poll)
    for instance in instances:
        if instance.id == ORGANIZATION:
            yield Sample(instance, _unmatched(found))
        else:
            key = instance.dimensions["model"], instance.dimensions["token_kind"]
            pair = found.pairs.get(key, Pair(None, None))
            yield Sample(instance, _compared(pair), idle=key not in found.pairs)


def _instance(model: str, kind: str) -> Instance:
    label = kind.replace("_", " ")
    dimensions = {"model": model, "token_kind": kind}
    return Instance(f"{model}/{kind}", f"{model} / {label}", dimensions)


def _reconciliation(poll: Poll) -> Reconciliation:
    return poll.once("reconciliation", lambda: reconciliation.reconcile(poll))


def _compared(pair: Pair) -> Values:
    values: Values = {}
    if pair.billed is not None:
        values["billed_quantity"] = round(pair.billed)
    if pair.used is not None:
        values["used_quantity"] = pair.used
    difference = pair.difference_percent
    if difference is not None and (pair.used or 0) >= LEAST_COMPARED:
        values["difference_percent"] = difference
    return values


def _unmatched(found: Reconciliation) -> Values:
    values: Values = {
        "unmatched_amount": found.unmatched,
        "unmatched_items": found.unmatched_items,
        "unbilled_kinds": found.unbilled,
    }
    share = dollar_percent(found.unmatched, found.charged)
    return values if share is None else {**values, "unmatched_cost_percent": share}
