"""Names that an organization knows: groups of the last 7 days, limit rows and lists of ids."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TypeVar

from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.api.records import RateLimit
from lm_openai.collect import project_limits
from lm_openai.collect.directory import NAMED, Directory
from lm_openai.collect.page_sizes import buckets
from lm_openai.collect.project_limits import Limits
from lm_openai.collect.source import Source
from lm_openai.collect.usage_queries import SEEN_DAYS, Group, UsageQuery, days_until
from lm_openai.errors import ApiFailure
from lm_openai.timespans import DAY, HOUR

DORMANT_DAYS = 35
"""Days in which an instance was used to be requested by its id."""
PROJECTS_WITH_MODELS = 5
"""Number of projects whose limit rows are read for models; most projects list the same ones."""
BY_MODEL = ("model",)
T = TypeVar("T")


def seen_groups(
    source: Source,
    kind: str,
    day: int,
    dimensions: Group,
    projects: Group = (),
    days: int = SEEN_DAYS,
) -> list[Group]:
    """Return the groups with a row in the days before the UTC day `day` or since it began.

    `projects` are the ids of the projects to read; empty means all.
    """
    query = UsageQuery(kind, days_until(source.now, days), dimensions, projects)
    read = buckets(source, query)
    return sorted({group for bucket in read for group in bucket.groups})


def dormant_groups(source: Source, kinds: Iterable[str], dimensions: Group) -> set[Group]:
    """Return the groups with use of some kind in the last 35 days; raises ApiFailure."""
    day = source.now // DAY
    outcomes = source.client.together(
        partial(source.shared, HOUR, seen_groups, kind, day, dimensions, days=DORMANT_DAYS)
        for kind in kinds
    )
    return {tuple(group) for outcome in outcomes for group in _read(outcome)}


def names(source: Source, directory: Directory, dimension: str) -> dict[str, str] | None:
    """Return the known names by id (a model's is empty); None if the dimension has no list.

    Raises ApiFailure if they could not be read completely.
    """
    if dimension == "model":
        projects = tuple(directory.active()[:PROJECTS_WITH_MODELS])
        return dict.fromkeys(source.once(models, projects), "")
    return directory.names(dimension) if dimension in NAMED else None


def models(source: Source, projects: Group) -> list[str]:
    """Return the models in the usage of the last 7 days and in the limits of the projects.

    Raises ApiFailure if one of them could not be read.
    """
    kinds = [name for name, kind in USAGE_KINDS.items() if "model" in kind.dimensions]
    day = source.now // DAY
    seen = source.client.together(
        partial(source.shared, HOUR, seen_groups, kind, day, BY_MODEL) for kind in kinds
    )
    found: set[str] = set()
    for groups in seen:
        found.update(group[0] for group in _read(groups))
    for limits in project_limits.read(source, projects).values():
        found.update(row.model for row in _read(_rows(limits)))
    return sorted(found)


def _rows(limits: Limits | ApiFailure) -> list[RateLimit] | ApiFailure:
    return limits if isinstance(limits, ApiFailure) else limits.rows


def _read(outcome: list[T] | ApiFailure) -> list[T]:
    """Return what was read; nothing for a kind or project that the API does not know any more."""
    if not isinstance(outcome, ApiFailure):
        return outcome
    if outcome.kind in ("not_found", "archived"):
        return []
    raise outcome
