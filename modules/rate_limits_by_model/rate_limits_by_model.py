#!/usr/bin/env python3
"""How near all projects together come to the limits that they share."""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import sys

    checkout = os.path.realpath(__file__).rsplit(os.sep, 3)[0]
    if os.path.isdir(os.path.join(checkout, "lm_openai")):
        sys.path[0] = checkout
    from lm_openai.start import main

    main("rate_limits_by_model")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai import rate_limits, roll_up
from lm_openai.errors import ApiFailure
from lm_openai.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.poll import Poll


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
    poll.covered = rate_limits.covered(poll, found)
    for instance in instances:
        one = pools[instance.id]
        values = roll_up.values(poll, one, found, complete)
        yield Sample(instance, values, idle=rate_limits.idle(roll_up.used(one, found), found))


def _pools(poll: Poll) -> dict[str, roll_up.Shared]:
    return poll.once("pools", lambda: roll_up.shared(_limits(poll), _groups(poll)))


def _limits(poll: Poll) -> roll_up.Limits:
    return poll.once("limits", lambda: _asked(poll))


def _asked(poll: Poll) -> roll_up.Limits:
    """The limits of every active project, whichever of them are shown elsewhere."""
    limits = rate_limits.limits(poll)
    failures = [answer for answer in limits.values() if isinstance(answer, ApiFailure)]
    if failures:
        silent = f"{len(failures)} of {len(limits)} projects"
        poll.miss(failures[0], f"ceilings and sums of limits are left out for want of {silent}")
    return limits


def _groups(poll: Poll) -> set[rate_limits.Key]:
    return rate_limits.groups(poll, _uses(poll), "used, peak sums and utilization")


def _uses(poll: Poll) -> dict[str, rate_limits.Use | ApiFailure]:
    return poll.once("uses", lambda: rate_limits.uses(poll))
