#!/usr/bin/env python3
"""Rate limits of each project's pools and how much of them is used."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("rate_limits")

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.collect.known_names import dormant_groups
from lm_openai.errors import ApiFailure
from lm_openai.metrics import headroom, headroom_use, usage
from lm_openai.metrics.headroom_use import Key, Use
from lm_openai.metrics.limit_pools import Pool, Pools
from lm_openai.model.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll

Read = tuple[dict[str, Use], dict[str, Pools | ApiFailure]]


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield pools used in the last 7 days and blocked pools.

    With openai.limits.unused yield all pools.
    """
    show_all = poll.properties.flag("openai.limits.unused")
    for (project, _), member in sorted(_members(poll).items()):
        if member.keys or member.pool.blocked or show_all:
            yield _instance(poll, project, member.pool)


def dormant(poll: Poll, words: Sequence[str]) -> Iterator[Instance]:
    """Yield all pools with a limit row, and those used in the last 35 days."""
    members, (_, limits) = _members(poll), _read(poll)
    by = headroom_use.BY_POOL
    for project, model in dormant_groups(poll.source, usage.MODEL_KINDS, by):
        pools = limits.get(project, headroom_use.NO_POOLS)
        if not isinstance(pools, ApiFailure) and poll.prints(project):
            pool = pools.pool_for(model)
            members.setdefault((project, pool.name), Member(pool, set()))
    for (project, _), member in sorted(members.items()):
        yield _instance(poll, project, member.pool)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the limits, peaks and day totals of each pool."""
    uses = _uses(poll)
    members = _members(poll)
    poll.covered = headroom_use.covered(poll, uses)
    for instance in instances:
        member = members[instance.dimensions["project_id"], instance.dimensions["model"]]
        used = headroom.tally(uses, member.keys)
        values = headroom.values(poll, member.pool, used)
        missing = headroom.missing_values(poll, member.pool, used)
        yield Sample(instance, values, idle=headroom.idle(used), missing=missing)


class Member(NamedTuple):
    """One project's pool and the (project, model) groups whose use counts against it."""

    pool: Pool
    keys: set[Key]


def _members(poll: Poll) -> dict[Key, Member]:
    return poll.once("members", lambda: _joined(poll))


def _joined(poll: Poll) -> dict[Key, Member]:
    """Join limits with use; a project whose limits could not be read is left out and reported."""
    uses, limits = _read(poll)
    members: dict[Key, Member] = {}
    _report(poll, limits)
    for project, pools in limits.items():
        for pool in () if isinstance(pools, ApiFailure) else pools.all:
            members[project, pool.name] = Member(pool, set())
    for project, model in headroom_use.groups(poll, uses, "used and utilization"):
        pools = limits.get(project, headroom_use.NO_POOLS)
        if not isinstance(pools, ApiFailure) and poll.prints(project):
            pool = pools.pool_for(model)
            members.setdefault((project, pool.name), Member(pool, set())).keys.add((project, model))
    return members


def _report(poll: Poll, limits: Mapping[str, Pools | ApiFailure]) -> None:
    """Report each project without limits; those whose turn comes later together."""
    failed = {key: found for key, found in limits.items() if isinstance(found, ApiFailure)}
    later = [failure for failure in failed.values() if failure.kind == "postponed"]
    if later:
        poll.report_failure(later[0], f"{len(later)} of {len(limits)} projects are left out")
    for project, failure in failed.items():
        if failure.kind != "postponed":
            name = poll.directory.label("project_id", project)
            poll.report_failure(failure, f"{name} is left out")


def _read(poll: Poll) -> Read:
    return poll.once("read", lambda: _request(poll))


def _request(poll: Poll) -> Read:
    """Return the use by kind and the limits by project; raises ApiFailure if one is unknown.

    They are read at the same time: neither takes all the time of a poll, and limits are cached.
    """
    poll.read_ahead([partial(_uses, poll), partial(_limits, poll)], ())
    poll.directory.projects()
    return _uses(poll), _limits(poll)


def _limits(poll: Poll) -> dict[str, Pools | ApiFailure]:
    return poll.once("limits", lambda: headroom_use.limits(poll, poll.prints))


def _uses(poll: Poll) -> dict[str, Use]:
    return poll.once("uses", lambda: headroom_use.uses(poll))


def _instance(poll: Poll, project: str, pool: Pool) -> Instance:
    name = poll.directory.name("project_id", project)
    return Instance(
        f"{project}/{pool.name}",
        f"{name or project} / {pool.name}",
        {"project_id": project, "model": pool.name},
        {"project_name": name} if name else {},
    )
