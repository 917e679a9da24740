#!/usr/bin/env python3
"""Whether the API can be asked: the way to it, the key, its scopes and the age of the data."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("collection_health")

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from lm_openai.errors import ApiFailure
from lm_openai.metrics import api_probes, usage
from lm_openai.metrics.api_probes import FORBIDDEN, Probes
from lm_openai.model.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.api.retry import Counters
    from lm_openai.collect.poll import Poll
    from lm_openai.model.report import Values


def discover(poll: Poll) -> Iterator[Instance]:
    """The organization itself; nothing is asked."""
    yield usage.instance(poll, (), ())


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """What the least questions showed; that the API does not answer is an answer here."""
    sought = poll.properties.seconds("openai.lookback") or api_probes.NEWEST_SOUGHT
    poll.covered = (poll.now - sought, poll.now)
    with poll.client.counting() as counters:
        look = api_probes.probe(poll.client, poll.now, sought)
    _say(poll, look)
    values = {**_states(look, counters), **_cost(look, counters), **_ages(poll, look)}
    for instance in instances:
        yield Sample(instance, values)


def _states(look: Probes, counters: Counters) -> Values:
    """1 and 0 where it is known; a poll that had to pause until its end knows nothing."""
    known = {
        "api_reachable": api_probes.reached(look.answers) if counters.requests else None,
        "key_valid": api_probes.valid(look.answers),
        "scope_management": api_probes.granted([look.projects]),
        "scope_usage": api_probes.granted(look.newest.values()),
        "scope_audit_logs": api_probes.granted([look.audit]),
    }
    return {name: int(state) for name, state in known.items() if state is not None}


def _cost(look: Probes, counters: Counters) -> Values:
    values: Values = {
        "requests_made": counters.requests,
        "throttled": counters.throttled,
        "retries": counters.retries,
        "partial_failures": len(_unanswered(look)),
    }
    if counters.slowest:
        values["latency_seconds"] = round(counters.slowest, 6)
    return values


def _ages(poll: Poll, look: Probes) -> Values:
    for kind, end in look.newest.items():
        if isinstance(end, int):
            poll.ages[kind] = max(0, poll.now - end)
    return {f"{kind}_data_age_seconds": age for kind, age in poll.ages.items()}


def _say(poll: Poll, look: Probes) -> None:
    """Each reason once; a missing scope is told by its datapoint and so is no failed part."""
    for found in _alike(_unanswered(look)):
        poll.report_failure(
            found[0], f"{len(found)} of {len(look.answers)} questions stayed unanswered"
        )
    for found in _alike(filter(_forbidden, api_probes.failures(look.answers))):
        poll.notes.append(str(found[0]))


def _alike(failures: Iterable[ApiFailure]) -> Iterable[list[ApiFailure]]:
    """Failures that differ in the endpoint alone, together."""
    found: dict[tuple[str, str], list[ApiFailure]] = {}
    for failure in failures:
        found.setdefault((failure.kind, failure.detail), []).append(failure)
    return found.values()


def _unanswered(look: Probes) -> list[ApiFailure]:
    return [failure for failure in api_probes.failures(look.answers) if not _forbidden(failure)]


def _forbidden(failure: ApiFailure) -> bool:
    return failure.kind in FORBIDDEN
