#!/usr/bin/env python3
"""Usage of all kinds by consumer, its change and its share of a token budget."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("usage_by_consumer")

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.api.endpoints import TOTALS, kinds_with
from lm_openai.metrics import usage, usage_by_consumer
from lm_openai.model.report import Instance, Missing, Sample, Values

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll
    from lm_openai.collect.usage_queries import Group

SHARE = "tokens_budget_percent"
OTHER = Instance("other", "other", {})
BY_PROJECT = ("project_id",)


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield the largest consumers of the window by tokens, then the rest as `other`."""
    found = _consumption(poll)
    for instance, _ in found.listed:
        yield instance
    if found.rest is not None:
        yield OTHER


def dormant(poll: Poll, words: Sequence[str]) -> Iterator[Instance]:
    """Yield the consumers in `other`, those of the last 35 days, and all that a list has."""
    dimensions = _dimensions(poll)
    if dimensions:
        for group in _consumption(poll).rest or ():
            yield usage.instance(poll, dimensions, group)
        yield from usage.used_lately(poll, usage.MODEL_KINDS, dimensions, ())


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield each consumer's usage, its change and the share of its project's budget."""
    found = _consumption(poll)
    budgets = poll.properties.token_budgets() if "project_id" in _dimensions(poll) else {}
    shares, failure = usage_by_consumer.budget_shares(poll, budgets) if budgets else ({}, None)
    known = {instance.id: group for instance, group in found.listed}
    for instance in instances:
        if instance.id == OTHER.id:
            continue
        group = known.get(instance.id) or tuple(instance.dimensions.values())
        share = shares.get(instance.dimensions.get("project_id", ""))
        missing = _missing(poll, found)
        budget: Values = {}
        if share is not None and failure:
            missing[SHARE] = Missing(str(failure), at_least=share)
        elif share is not None:
            budget = {SHARE: share}
        yield _sample(found, instance, {group}, budget)._replace(missing=missing)
    if found.rest is not None:
        yield _sample(found, OTHER, found.rest, {})


class Consumption(NamedTuple):
    """Usage of the listed consumers and of the rest.

    `listed` are the instances with their groups; `rest` are the groups of `other`, None if a usage
    kind is missing; `use` is the usage of all groups; `usual` is the mean of tokens by group in the
    same window of the 7 days before, None if unknown.
    """

    listed: list[tuple[Instance, Group]]
    rest: set[Group] | None
    use: usage_by_consumer.Use
    usual: dict[Group, Decimal] | None


def _consumption(poll: Poll) -> Consumption:
    return poll.once("consumption", lambda: _read_consumption(poll))


def _read_consumption(poll: Poll) -> Consumption:
    dimensions = _dimensions(poll)
    use = _use(poll, dimensions)
    for kind, failure in use.failures.items():
        poll.report_failure(failure, f"totals that include {kind} are left out")
    if poll.window.width == "1m":
        poll.ages |= {kind: max(0, poll.now - edge) for kind, edge in use.edges.items()}
    usual = (
        None
        if use.lacks("tokens")
        else usage_by_consumer.usual(poll, poll.window, dimensions, use.edges)
    )
    everyone = use.groups | (usual or {}).keys() | _budgeted(poll, dimensions)
    listed = _listed(poll, dimensions, everyone, use)
    whole = dimensions and not use.failures
    rest = everyone - {group for _, group in listed} if whole else None
    return Consumption(listed, rest, use, usual)


def _use(poll: Poll, dimensions: Group) -> usage_by_consumer.Use:
    """Return the usage of the window; names and the days before are requested beside it."""
    queries = usage_by_consumer.queries(poll.window, dimensions)
    used = partial(poll.once, "use", partial(usage_by_consumer.use, poll, queries))
    poll.read_ahead([used, *usage_by_consumer.reads_before(poll, dimensions)], dimensions)
    return used()


def _listed(
    poll: Poll, dimensions: Group, everyone: set[Group], use: usage_by_consumer.Use
) -> list[tuple[Instance, Group]]:
    """Return the first `openai.top` printed consumers and every project that has a budget.

    A consumer whose id is `other` counts in the `other` instance.
    """
    ranked = sorted(everyone, key=lambda group: (-use.tokens(group), -_requests(use, group), group))
    entries = ((usage.instance(poll, dimensions, group), group) for group in ranked)
    shown = [entry for entry in entries if poll.shows(entry[0]) and entry[0].id != OTHER.id]
    budgeted = _budgeted(poll, dimensions)
    top = poll.properties.count("openai.top")
    return [entry for rank, entry in enumerate(shown) if rank < top or entry[1] in budgeted]


def _requests(use: usage_by_consumer.Use, group: Group) -> int:
    return int(use.values([group]).get("requests", 0))


def _budgeted(poll: Poll, dimensions: Group) -> set[Group]:
    if dimensions != BY_PROJECT:
        return set()
    return {(project,) for project in poll.properties.token_budgets()}


def _sample(found: Consumption, instance: Instance, groups: set[Group], budget: Values) -> Sample:
    values = found.use.values(groups)
    change: Values = {}
    if found.usual is not None:
        usual = sum((found.usual.get(group, Decimal(0)) for group in groups), Decimal(0))
        change = usage_by_consumer.change(int(values["tokens"]), usual)
    used = any(values.values()) or any(budget.values())
    idle = not found.use.failures and not used
    return Sample(instance, {**values, **change, **budget}, idle=idle)


def _missing(poll: Poll, found: Consumption) -> dict[str, Missing]:
    """Return the totals and the change that failed requests leave out."""
    lost = {}
    for name in TOTALS:
        failed = sorted(found.use.failures.keys() & kinds_with(name))
        if failed:
            lost[name] = Missing(str(found.use.failures[failed[0]]))
    if found.usual is None and poll.failures:
        lost["change_percent"] = Missing(poll.failures[0])
    return lost


def _dimensions(poll: Poll) -> Group:
    return usage.grouping(poll, "usage by consumer", usage_by_consumer.DIMENSIONS)
