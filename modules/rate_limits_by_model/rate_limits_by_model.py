#!/usr/bin/env python3
"""How near all projects together come to the limits that they share."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("rate_limits_by_model")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai.errors import ApiFailure
from lm_openai.metrics import headroom, headroom_rollup
from lm_openai.model.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll


def discover(poll: Poll) -> Iterator[Instance]:
    """Pools that any project used in the last 7 days, those blocked everywhere, or all that are."""
    everything = poll.properties.flag("openai.limits.unused")
    for name, one in sorted(_pools(poll).items()):
        if one.keys or one.pool.blocked or everything:
            yield Instance(name, name, {"model": name})


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Ceilings, sums and peaks of each pool."""
    found, pools = _uses(poll), _pools(poll)
    complete = not any(isinstance(answer, ApiFailure) for answer in _limits(poll).values())
    poll.covered = headroom.covered(poll, found)
    for instance in instances:
        one = pools[instance.id]
        values = headroom_rollup.values(poll, one, found, complete)
        yield Sample(instance, values, idle=headroom.idle(headroom_rollup.used(one, found), found))


def _pools(poll: Poll) -> dict[str, headroom_rollup.Shared]:
    return poll.once("pools", lambda: headroom_rollup.shared(_limits(poll), _groups(poll)))


def _limits(poll: Poll) -> headroom_rollup.Limits:
    return poll.once("limits", lambda: _asked(poll))


def _asked(poll: Poll) -> headroom_rollup.Limits:
    """The limits of every active project, whichever of them are shown elsewhere."""
    limits = headroom.limits(poll)
    failures = [answer for answer in limits.values() if isinstance(answer, ApiFailure)]
    if failures:
        silent = f"{len(failures)} of {len(limits)} projects"
        poll.report_failure(
            failures[0], f"ceilings and sums of limits are left out for want of {silent}"
        )
    return limits


def _groups(poll: Poll) -> set[headroom.Key]:
    return headroom.groups(poll, _uses(poll), "used, peak sums and utilization")


def _uses(poll: Poll) -> dict[str, headroom.Use | ApiFailure]:
    return poll.once("uses", lambda: headroom.uses(poll))
