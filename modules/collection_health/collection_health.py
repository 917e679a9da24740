#!/usr/bin/env python3
"""Health of data collection: API access, the admin key, its scopes and the age of the data."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("collection_health")

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from lm_openai.errors import ApiFailure
from lm_openai.metrics import api_probes, bill, usage
from lm_openai.metrics.api_probes import FORBIDDEN, Probes
from lm_openai.metrics.budgets import some
from lm_openai.model.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.api.retry import Counters
    from lm_openai.collect.poll import Poll
    from lm_openai.model.report import Values


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield the organization, the only instance; sends no request."""
    yield usage.instance(poll, (), ())


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the results of the probes; an API that does not respond is a result, not a failure."""
    searched = poll.properties.seconds("openai.lookback") or api_probes.NEWEST_SOUGHT
    poll.covered = (poll.now - searched, poll.now)
    with poll.client.counting() as counters:
        probes = api_probes.probe(poll.client, poll.now, searched)
    failed = [*_failed(probes, poll.now)]
    _report(poll, probes, failed)
    values = {**_states(probes, counters), **_cost(failed, counters), **_ages(poll, probes)}
    for instance in instances:
        yield Sample(instance, values)


def _states(probes: Probes, counters: Counters) -> Values:
    """Return 1 or 0 for each known state; unknown states are left out.

    After a poll that had to pause until its end every state is unknown. A response that another
    process received, and an outage that it noted, are known without a request.
    """
    answers = probes.answers
    # A pause that another process noted is no response.
    heard = [one for one in answers if counters.requests or getattr(one, "kind", "") != "throttled"]
    seen = counters.requests or api_probes.reached(heard) or api_probes.down(answers)
    known = {
        "api_reachable": api_probes.reached(heard) if seen else None,
        "key_valid": api_probes.valid(answers),
        **{_state(scope): api_probes.granted(found) for scope, found in probes.scopes.items()},
    }
    return {name: int(state) for name, state in known.items() if state is not None}


def _state(scope: str) -> str:
    """Return the datapoint of a scope: `scope_usage` for `api.usage.read`."""
    return f"scope_{scope.split('.')[1]}"


def _cost(failed: Sequence[ApiFailure], counters: Counters) -> Values:
    values: Values = {
        "requests_made": counters.requests,
        "throttled": counters.throttled,
        "retries": counters.retries,
        "partial_failures": len(failed),
    }
    if counters.slowest:
        values["latency_seconds"] = round(counters.slowest, 6)
    return values


def _ages(poll: Poll, probes: Probes) -> Values:
    for kind, end in probes.newest.items():
        if isinstance(end, int):
            poll.ages[kind] = max(0, poll.now - end)
    return {f"{kind}_data_age_seconds": age for kind, age in poll.ages.items()}


def _report(poll: Poll, probes: Probes, failed: Sequence[ApiFailure]) -> None:
    """Report each cause once; a missing scope has its own datapoint, so it is only a note."""
    total = len(probes.answers)
    for alike in _grouped(failed):
        names = [*dict.fromkeys(failure.endpoint for failure in alike)]
        listed = f" ({some(names)})" if len(names) > 1 and len(alike) < total else ""
        poll.report_failure(
            alike[0],
            f"{len(alike)} of {total} endpoints{listed} could not be read",
            hides_instances=False,
        )
    for found in probes.scopes.values():
        if _lacks_scope(found):
            poll.notes.append(str(next(filter(_forbidden, api_probes.failures(found)))))


def _grouped(failures: Iterable[ApiFailure]) -> Iterable[list[ApiFailure]]:
    """Group the failures that differ only in the endpoint."""
    groups: dict[tuple[str, str], list[ApiFailure]] = {}
    for failure in failures:
        groups.setdefault((failure.kind, failure.detail), []).append(failure)
    return groups.values()


def _failed(probes: Probes, now: int) -> Iterator[ApiFailure]:
    """Yield the failures but for missing scopes, which have their own datapoints.

    The bill fails too if it lacks a day that a threshold needs.
    """
    for found in probes.scopes.values():
        hidden = _lacks_scope(found)
        yield from (one for one in api_probes.failures(found) if not (hidden and _forbidden(one)))
    if not isinstance(probes.costs, ApiFailure):
        judged = (hole for hole in probes.costs if hole.end > bill.judged_from(now))
        yield from (hole.failure for hole in islice(judged, 1))


def _lacks_scope(found: Iterable[Any]) -> bool:
    return api_probes.granted(found) is False


def _forbidden(failure: ApiFailure) -> bool:
    return failure.kind in FORBIDDEN
