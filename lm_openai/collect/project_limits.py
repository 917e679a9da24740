"""Limit rows of projects, kept for a day and read again when they are older than an hour."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple

from lm_openai.api.records import RateLimit, rate_limit
from lm_openai.collect.source import Source
from lm_openai.errors import ApiFailure
from lm_openai.timespans import DAY, HOUR

FRESH_SECONDS, KEPT_SECONDS = HOUR, DAY
"""Age of limit rows from which they are read again, and from which they are not used any more."""
TOGETHER = 50
"""Projects whose rows one poll reads all at once."""
MOST_AT_ONCE = 200
"""Projects whose rows one poll reads if there are more, those with the oldest rows first."""
PASSING = ("down", "unreachable", "throttled", "deadline", "not_json", "tls", "proxy")
"""Kinds of failure that say nothing about the project, so that older rows stay in use."""


class Limits(NamedTuple):
    """Limit rows of one project and the time at which they were read, in Unix seconds."""

    read_at: int
    rows: list[RateLimit]


def read(source: Source, projects: Sequence[str]) -> dict[str, Limits | ApiFailure]:
    """Return the limits of each project; requests run in parallel.

    An ApiFailure takes the place of a project without rows: it is the failure of its request, or
    of kind "postponed" if its turn comes in a later poll.
    """
    known = {project: _stored(source, project) for project in projects}
    due = [*_due(known, source.now)]
    outcomes = source.client.together(partial(_requested, source, project) for project in due)
    read_now = dict(zip(due, outcomes))
    return {project: _chosen(kept, read_now.get(project)) for project, kept in known.items()}


def _due(known: dict[str, Limits | None], now: int) -> Iterator[str]:
    """Yield the projects to read in this poll."""
    ages = {project: now - kept.read_at if kept else DAY for project, kept in known.items()}
    old = [project for project, age in ages.items() if age >= FRESH_SECONDS]
    if len(known) <= TOGETHER:
        yield from old
    else:
        yield from sorted(old, key=lambda project: -ages[project])[:MOST_AT_ONCE]


def _chosen(kept: Limits | None, read_now: Limits | ApiFailure | None) -> Limits | ApiFailure:
    """Return what was read now, or what is kept instead; a failure if there is neither."""
    if isinstance(read_now, ApiFailure):
        return kept if kept and read_now.kind in PASSING else read_now
    return read_now or kept or ApiFailure("postponed", "rate_limits")


def _stored(source: Source, project: str) -> Limits | None:
    stored = source.cache.get(_name(project))
    if stored is None:
        return None
    read_at, rows, refused = stored
    source.client.refuse(refused)
    return Limits(read_at, [RateLimit(*row) for row in rows])


def _requested(source: Source, project: str) -> Limits:
    """Read the rows of one project and keep them; raises ApiFailure."""
    with source.client.refusals() as refused:
        rows = [rate_limit(row) for row in source.client.list("rate_limits", project_id=project)]
    source.cache.put(_name(project), (source.now, rows, refused), KEPT_SECONDS)
    source.client.refuse(refused)
    return Limits(source.now, rows)


def _name(project: str) -> str:
    return f"limits of {project}"
