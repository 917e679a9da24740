#!/usr/bin/env python3
"""Whether the API can be asked: the way to it, the key, its scopes and the age of the data."""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import sys

    checkout = os.path.realpath(__file__).rsplit(os.sep, 3)[0]
    if os.path.isdir(os.path.join(checkout, "lm_openai")):
        sys.path[0] = checkout
    from lm_openai.start import main

    main("collection_health")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai import preflight, usage
from lm_openai.errors import ApiFailure
from lm_openai.preflight import FORBIDDEN, Look
from lm_openai.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.poll import Poll
    from lm_openai.report import Values
    from lm_openai.retry import Counters


def discover(poll: Poll) -> Iterator[Instance]:
    """The organization itself; nothing is asked."""
    yield usage.instance(poll, (), ())


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """What the least questions showed; that the API does not answer is an answer here."""
    sought = poll.properties.seconds("openai.lookback") or preflight.NEWEST_SOUGHT
    poll.covered = (poll.now - sought, poll.now)
    with poll.client.counting() as counters:
        look = preflight.look(poll.client, poll.now, sought)
    _say(poll, look)
    values = {**_states(look, counters), **_cost(look, counters), **_ages(poll, look)}
    for instance in instances:
        yield Sample(instance, values)


def _states(look: Look, counters: Counters) -> Values:
    """1 and 0 where it is known; a poll that had to pause until its end knows nothing."""
    known = {
        "api_reachable": preflight.reached(look.answers) if counters.requests else None,
        "key_valid": preflight.valid(look.answers),
        "scope_management": preflight.granted([look.projects]),
        "scope_usage": preflight.granted(look.newest.values()),
        "scope_audit_logs": preflight.granted([look.audit]),
    }
    return {name: int(state) for name, state in known.items() if state is not None}


def _cost(look: Look, counters: Counters) -> Values:
    values: Values = {
        "requests_made": counters.requests,
        "throttled": counters.throttled,
        "retries": counters.retries,
        "partial_failures": len(_unanswered(look)),
    }
    if counters.slowest:
        values["latency_seconds"] = round(counters.slowest, 6)
    return values


def _ages(poll: Poll, look: Look) -> Values:
    for kind, end in look.newest.items():
        if isinstance(end, int):
            poll.ages[kind] = max(0, poll.now - end)
    return {f"{kind}_data_age_seconds": age for kind, age in poll.ages.items()}


def _say(poll: Poll, look: Look) -> None:
    """Each reason once; a missing scope is told by its datapoint and so is no failed part."""
    for found in _alike(_unanswered(look)):
        poll.miss(found[0], f"{len(found)} of {len(look.answers)} questions stayed unanswered")
    for found in _alike(filter(_forbidden, preflight.failures(look.answers))):
        poll.notes.append(str(found[0]))


def _alike(failures: Iterable[ApiFailure]) -> Iterable[list[ApiFailure]]:
    """Failures that differ in the endpoint alone, together."""
    found: dict[tuple[str, str], list[ApiFailure]] = {}
    for failure in failures:
        found.setdefault((failure.kind, failure.detail), []).append(failure)
    return found.values()


def _unanswered(look: Look) -> list[ApiFailure]:
    return [failure for failure in preflight.failures(look.answers) if not _forbidden(failure)]


def _forbidden(failure: ApiFailure) -> bool:
    return failure.kind in FORBIDDEN
