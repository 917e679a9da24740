"""Rate limit pools of the whole organization: limits and use of all projects joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.errors import ApiFailure
from lm_openai.metrics import headroom
from lm_openai.metrics.headroom import PLACES, Tally
from lm_openai.metrics.headroom_use import COUNTED, Key, Use
from lm_openai.metrics.limit_pools import Pool, Pools, family
from lm_openai.model.report import Missing, Values

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll

Limits = Mapping[str, Pools | ApiFailure]
Found = Mapping[str, Use]
NO_LIMITS = Pool("", {})


class Shared(NamedTuple):
    """One pool of the organization, by project id.

    `parts` are the project's pools that belong to it: several if the project has a different limit
    for some rows. `keys` are the (project id, model) groups that used it.
    """

    parts: dict[str, list[Pool]]
    keys: dict[str, set[Key]]

    @property
    def limits(self) -> dict[str, list[int]]:
        """Largest limit of each project, by short name.

        A short name is missing if some project has no such limit for one of its parts.
        """
        result = {}
        for short in COUNTED:
            limits = [[part.limits.get(short) for part in parts] for parts in self.parts.values()]
            if limits and not any(None in own for own in limits):
                result[short] = [max(limit for limit in own if limit is not None) for own in limits]
        return result

    @property
    def pool(self) -> Pool:
        """Pool with the largest limits of any project.

        The organization's own limits, which the API does not report, are at least as large.
        """
        ceilings = {short: max(each) for short, each in self.limits.items()}
        names = [part.name for parts in self.parts.values() for part in parts]
        return Pool(names[0] if names else "", ceilings, known=bool(names))


def shared(limits: Limits, groups: Iterable[Key]) -> dict[str, Shared]:
    """Return the pools of the organization by name, with the groups that used them.

    Use for which its own project has no row belongs to a pool with the literal name of the model.
    If the limits of a project could not be read, only the pools that exist whatever they are.
    """
    known = {project: outcome for project, outcome in limits.items() if isinstance(outcome, Pools)}
    rows = joined(known.values())
    result = {name: Shared({}, {}) for name in rows.values()}
    for project, pools in known.items():
        for pool in pools.all:
            result[rows[pool.name]].parts.setdefault(project, []).append(pool)
    for project, model in groups:
        own = known[project].pool_for(model) if project in known else None
        name = rows[own.name] if own and own.known else model
        members = result.setdefault(name, Shared({}, {})).keys
        members.setdefault(project, set()).add((project, model))
    if len(known) == len(limits):
        return result
    return {name: one for name, one in result.items() if one.parts and family(name) == name}


def joined(projects: Iterable[Pools]) -> dict[str, str]:
    """Return the name of each limit row's pool in the organization: the pool's shortest row.

    Rows are one pool if they are one pool in any project, because a project with a different limit
    for a row splits the pool only for itself.
    """
    parent: dict[str, str] = {}

    def name(row: str) -> str:
        while parent.setdefault(row, row) != row:
            row = parent[row]
        return row

    pairs = {(pool.name, row) for pools in projects for row, pool in pools.by_row.items()}
    for pair in pairs:
        shorter, longer = sorted(map(name, pair), key=_shortest)
        parent[longer] = shorter
    return {row: name(row) for row in parent}


def values(poll: Poll, one: Shared, found: Found, complete: bool) -> Values:
    """Return the datapoints of one pool; empty unless the limits of all projects are `complete`.

    The limits of a project also decide which of its models use the pool.
    """
    if not complete:
        return {}
    own_values = headroom.values(poll, one.pool, used(one, found))
    known: Values = {_renamed(name): value for name, value in own_values.items()}
    known |= {f"{short}_limit_sum": sum(each) for short, each in one.limits.items()}
    tallies = (headroom.tally(found, keys) for keys in one.keys.values())
    peaks = [headroom.values(poll, NO_LIMITS, own) for own in tallies]
    for name in (f"{short}_used" for short in PLACES):
        if name in known:
            known[name.replace("used", "peak_sum")] = sum(own.get(name, 0) for own in peaks)
    return known


def missing_values(poll: Poll, one: Shared, found: Found, complete: bool) -> dict[str, Missing]:
    """Return the datapoints that failed kinds, or a project's unread limits, leave out."""
    if not complete:
        unread = Missing("the limits of a project could not be read")
        return {datapoint.name: unread for datapoint in poll.definition.datapoints}
    lost = headroom.missing_values(poll, one.pool, used(one, found))
    peaks = {
        name.replace("used", "peak_sum"): Missing(lost[name].reason)
        for name in (f"{short}_used" for short in PLACES)
        if name in lost
    }
    return peaks | {_renamed(name): missing for name, missing in lost.items()}


def used(one: Shared, found: Found) -> Tally:
    """Add up the use of all projects, minute by minute."""
    return headroom.tally(found, (key for keys in one.keys.values() for key in keys))


def _renamed(name: str) -> str:
    """Return the datapoint's name in the roll-up, where a project's limit is called a ceiling."""
    if name.endswith("_limit"):
        return name.removesuffix("limit") + "ceiling"
    if name.endswith("_utilization"):
        return name.removesuffix("utilization") + "ceiling_utilization"
    return name


def _shortest(name: str) -> tuple[int, str]:
    return len(name), name
