#!/usr/bin/env python3
"""Health of data collection: API access, the admin key, its scopes and the age of the data."""

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
    """Yield the organization, the only instance; sends no request."""
    yield usage.instance(poll, (), ())


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the results of the probes; an API that does not respond is a result, not a failure."""
    searched = poll.properties.seconds("openai.lookback") or api_probes.NEWEST_SOUGHT
    poll.covered = (poll.now - searched, poll.now)
    with poll.client.counting() as counters:
        probes = api_probes.probe(poll.client, poll.now, searched)
    _report(poll, probes)
    values = {**_states(probes, counters), **_cost(probes, counters), **_ages(poll, probes)}
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
        "scope_management": api_probes.granted([probes.projects]),
        "scope_usage": api_probes.granted(probes.newest.values()),
        "scope_audit_logs": api_probes.granted([probes.audit]),
    }
    return {name: int(state) for name, state in known.items() if state is not None}


def _cost(probes: Probes, counters: Counters) -> Values:
    values: Values = {
        "requests_made": counters.requests,
        "throttled": counters.throttled,
        "retries": counters.retries,
        "partial_failures": len(_failed(probes)),
    }
    if counters.slowest:
        values["latency_seconds"] = round(counters.slowest, 6)
    return values


def _ages(poll: Poll, probes: Probes) -> Values:
    for kind, end in probes.newest.items():
        if isinstance(end, int):
            poll.ages[kind] = max(0, poll.now - end)
    return {f"{kind}_data_age_seconds": age for kind, age in poll.ages.items()}


def _report(poll: Poll, probes: Probes) -> None:
    """Report each cause once; a missing scope has its own datapoint, so it is only a note."""
    for alike in _grouped(_failed(probes)):
        poll.report_failure(
            alike[0],
            f"{len(alike)} of {len(probes.answers)} endpoints could not be read",
            hides_instances=False,
        )
    for alike in _grouped(filter(_forbidden, api_probes.failures(probes.answers))):
        poll.notes.append(str(alike[0]))


def _grouped(failures: Iterable[ApiFailure]) -> Iterable[list[ApiFailure]]:
    """Group the failures that differ only in the endpoint."""
    groups: dict[tuple[str, str], list[ApiFailure]] = {}
    for failure in failures:
        groups.setdefault((failure.kind, failure.detail), []).append(failure)
    return groups.values()


def _failed(probes: Probes) -> list[ApiFailure]:
    return [failure for failure in api_probes.failures(probes.answers) if not _forbidden(failure)]


def _forbidden(failure: ApiFailure) -> bool:
    return failure.kind in FORBIDDEN
