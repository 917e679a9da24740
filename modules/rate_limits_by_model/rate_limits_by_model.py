#!/usr/bin/env python3
"""Rate limits that all projects share and how much of them they use together."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("rate_limits_by_model")

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from lm_openai.collect.known_names import dormant_groups
from lm_openai.errors import ApiFailure
from lm_openai.metrics import headroom, headroom_rollup, headroom_use, usage
from lm_openai.metrics.headroom_use import Key, Use
from lm_openai.model.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield pools used in the last 7 days and pools blocked in every project.

    With openai.limits.unused yield all pools.
    """
    poll.read_ahead([partial(_uses, poll), partial(_limits, poll)], ())
    show_all = poll.properties.flag("openai.limits.unused")
    for name, shared in sorted(_pools(poll).items()):
        if shared.keys or shared.pool.blocked or show_all:
            yield Instance(name, name, {"model": name})


def dormant(poll: Poll, words: Sequence[str]) -> Iterator[Instance]:
    """Yield all pools with a limit row, and those used in the last 35 days."""
    groups = dormant_groups(poll.source, usage.MODEL_KINDS, headroom_use.BY_POOL)
    pools, keys = _pools(poll), ((project, model) for project, model in groups)
    for name in headroom_rollup.shared(_limits(poll), keys):
        pools.setdefault(name, headroom_rollup.Shared({}, {}))
    for name in sorted(pools):
        yield Instance(name, name, {"model": name})


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the ceilings, sums and peaks of each pool."""
    uses, pools = _uses(poll), _pools(poll)
    complete = not any(isinstance(limits, ApiFailure) for limits in _limits(poll).values())
    poll.covered = headroom_use.covered(poll, uses)
    for instance in instances:
        shared = pools[instance.id]
        values = headroom_rollup.values(poll, shared, uses, complete)
        missing = headroom_rollup.missing_values(poll, shared, uses, complete)
        idle = complete and headroom.idle(headroom_rollup.used(shared, uses))
        yield Sample(instance, values, idle=idle, missing=missing)


def _pools(poll: Poll) -> dict[str, headroom_rollup.Shared]:
    return poll.once("pools", lambda: headroom_rollup.shared(_limits(poll), _groups(poll)))


def _limits(poll: Poll) -> headroom_rollup.Limits:
    return poll.once("limits", lambda: _read_limits(poll))


def _read_limits(poll: Poll) -> headroom_rollup.Limits:
    """Return the limits of every active project; include and exclude filters do not apply."""
    limits = headroom_use.limits(poll)
    failures = [found for found in limits.values() if isinstance(found, ApiFailure)]
    if failures:
        unread = f"the limits of {len(failures)} of {len(limits)} projects could not be read"
        poll.report_failure(failures[0], f"all values are left out, since {unread}")
    return limits


def _groups(poll: Poll) -> set[Key]:
    return headroom_use.groups(poll, _uses(poll), "used, peak sums and utilization")


def _uses(poll: Poll) -> dict[str, Use]:
    return poll.once("uses", lambda: headroom_use.uses(poll))
