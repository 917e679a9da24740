"""How one pool stands for the whole organization: the limits and the use of all projects in one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.errors import ApiFailure
from lm_openai.metrics import headroom
from lm_openai.metrics.headroom import (
    COUNTED,
    PLACES,
    Key,
    Tally,
    Use,
)
from lm_openai.metrics.limit_pools import Pool, Pools
from lm_openai.model.report import Values

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll

Limits = Mapping[str, Pools | ApiFailure]
Found = dict[str, Use | ApiFailure]
NO_LIMITS = Pool("", {})


class Shared(NamedTuple):
    """What all projects make of one pool, by project.

    `parts` are the pools of its rows, several where a project has its own limit for some of them;
    `keys` are the (project, model) groups that used it.
    """

    parts: dict[str, list[Pool]]
    keys: dict[str, set[Key]]

    @property
    def limits(self) -> dict[str, list[int]]:
        """Each project's largest limit, by short name; what some project has no limit of is out."""
        found = {}
        for short in COUNTED:
            told = [[part.limits.get(short) for part in parts] for parts in self.parts.values()]
            if told and not any(None in own for own in told):
                found[short] = [max(limit for limit in own if limit is not None) for own in told]
        return found

    @property
    def pool(self) -> Pool:
        """The organization's own pool as far as it is known: no project is given more than it."""
        ceilings = {short: max(each) for short, each in self.limits.items()}
        names = [part.name for parts in self.parts.values() for part in parts]
        return Pool(names[0] if names else "", ceilings, known=bool(names))


def shared(limits: Limits, groups: Iterable[Key]) -> dict[str, Shared]:
    """All pools of the organization by name, with the groups that used them.

    A model that its own project has no row for counts where another project has one.
    """
    told = {project: answer for project, answer in limits.items() if isinstance(answer, Pools)}
    rows = joined(told.values())
    found = {name: Shared({}, {}) for name in rows.values()}
    for project, answer in told.items():
        for pool in answer.all:
            found[rows[pool.name]].parts.setdefault(project, []).append(pool)
    elsewhere: dict[str, str] = {}
    for project, model in groups:
        own = told[project].pool_for(model) if project in told else None
        if own and own.known:
            name = rows[own.name]
        else:
            name = elsewhere.get(model) or rows.get(_anywhere(told.values(), model), model)
            elsewhere[model] = name
        members = found.setdefault(name, Shared({}, {})).keys
        members.setdefault(project, set()).add((project, model))
    return found


def joined(projects: Iterable[Pools]) -> dict[str, str]:
    """The name of each limit row's pool in the organization: its shortest row.

    Rows are one pool where any project has them as one, since a project that is given its own
    limit for a row splits the pool for itself alone.
    """
    nearer: dict[str, str] = {}

    def name(row: str) -> str:
        while nearer.setdefault(row, row) != row:
            row = nearer[row]
        return row

    pairs = {(pool.name, row) for found in projects for row, pool in found.by_row.items()}
    for pair in pairs:
        shorter, longer = sorted(map(name, pair), key=_shortest)
        nearer[longer] = shorter
    return {row: name(row) for row in nearer}


def values(poll: Poll, one: Shared, found: Found, complete: bool) -> Values:
    """The datapoints of one pool; without `complete` limits what hangs on them is left out."""
    pool = one.pool if complete else one.pool._replace(limits={})
    told = headroom.values(poll, pool, used(one, found), found)
    known: Values = {_renamed(name): value for name, value in told.items()}
    if complete:
        known |= {f"{short}_limit_sum": sum(each) for short, each in one.limits.items()}
    else:
        del known["limit_known"]
    tallies = (headroom.tally(found, keys) for keys in one.keys.values())
    peaks = [headroom.values(poll, NO_LIMITS, own, found) for own in tallies]
    for name in (f"{short}_used" for short in PLACES):
        if name in known:
            known[name.replace("used", "peak_sum")] = sum(own.get(name, 0) for own in peaks)
    return known


def used(one: Shared, found: Found) -> Tally:
    """What all projects used of it together, minute by minute."""
    return headroom.tally(found, (key for keys in one.keys.values() for key in keys))


def _renamed(name: str) -> str:
    """A project's limit is a ceiling here, and so is what is held against it."""
    if name.endswith("_limit"):
        return name.removesuffix("limit") + "ceiling"
    if name.endswith("_utilization"):
        return name.removesuffix("utilization") + "ceiling_utilization"
    return name


def _anywhere(projects: Iterable[Pools], model: str) -> str:
    """The pool that some project counts a model's use against; the model itself when none does."""
    for found in projects:
        pool = found.pool_for(model)
        if pool.known:
            return pool.name
    return model


def _shortest(name: str) -> tuple[int, str]:
    return len(name), name
