"""Incidents of the demo organization: pools that are hot, and what is gone from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lm_openai.simulator.rhythm import FOREVER, Leaf


class Heat(NamedTuple):
    """Pool whose own traffic is silent, while `leaf` uses a fixed share of its limit.

    `models` are the names of the pool's models in usage; `start` and `end` are Unix seconds.
    """

    leaf: Leaf
    models: frozenset[str]
    start: int
    end: int


class Gone(NamedTuple):
    """Project, or with `models` those of its limit rows, that is gone from `start` on."""

    project: str
    models: frozenset[str]
    start: int

    @property
    def whole(self) -> bool:
        """True if the whole project is gone."""
        return not self.models


class Incidents(NamedTuple):
    """All incidents; `idle` are the spans, in Unix seconds, in which nobody uses anything."""

    heats: tuple[Heat, ...] = ()
    gone: tuple[Gone, ...] = ()
    idle: tuple[tuple[int, int], ...] = ()


NO_INCIDENTS = Incidents()


def changed(leaves: Sequence[Leaf], kind: str, incidents: Incidents) -> Sequence[Leaf]:
    """Return the sources of a kind's usage with the incidents; a later heat replaces an earlier."""
    heats, gone, idle = incidents
    for heat in heats:
        project, span = heat.leaf.dimensions["project_id"], (heat.start, heat.end)
        leaves = [_silenced(leaf, project, heat.models, span) for leaf in leaves]
        if heat.leaf.kind == kind:
            leaves.append(heat.leaf)
    for one in gone:
        span = (one.start, FOREVER)
        leaves = [_silenced(leaf, one.project, one.models, span, batches=True) for leaf in leaves]
    if idle:
        leaves = [leaf._replace(silent=(*leaf.silent, *idle)) for leaf in leaves]
    return leaves


def gone_models(gone: Iterable[Gone], project: str, now: int) -> frozenset[str]:
    """Return the models whose limit rows are gone from a project at `now`."""
    found = (one.models for one in gone if one.project == project and one.start <= now)
    return frozenset().union(*found)


def _silenced(
    leaf: Leaf,
    project: object,
    models: frozenset[str],
    span: tuple[int, int],
    batches: bool = False,
) -> Leaf:
    """Return a leaf that is silent in the span if it is the project's and one of the models.

    No models are all of them. Batches do not count against limits by the minute.
    """
    dimensions = leaf.dimensions
    named = not models or dimensions["model"] in models
    if dimensions["project_id"] == project and named and (batches or not dimensions["batch"]):
        return leaf._replace(silent=(*leaf.silent, span))
    return leaf
