"""Buckets of usage in pages of a size that fits the expected number of rows."""

from __future__ import annotations

from collections.abc import Iterable

from lm_openai.collect.directory import SECONDS_TO_LIVE, listed_projects
from lm_openai.collect.source import Source
from lm_openai.collect.usage_queries import Group, UsageBucket, UsageQuery
from lm_openai.errors import ApiFailure

CALLERS = {"project_id", "user_id", "api_key_id"}
GROUPS_A_PROJECT = 8
"""Estimate for page sizes only, used if there are more dimensions than the project."""


def buckets(
    source: Source, query: UsageQuery, groups: int = 0, a_project: int = GROUPS_A_PROJECT
) -> Iterable[UsageBucket]:
    """Return the buckets of a query, oldest first; raises ApiFailure.

    `groups` is the expected number of rows per bucket. If it is 0, it is estimated from the number
    of projects, with `a_project` rows for each, unless the shared response answers the query.
    """

    def expected() -> int | None:
        return groups or expected_groups(source, query.dimensions, a_project)

    return source.queries.buckets(query, expected)


def expected_groups(
    source: Source, dimensions: Group, a_project: int = GROUPS_A_PROJECT
) -> int | None:
    """Estimate the groups per bucket from the number of projects.

    None if the dimensions do not depend on projects or the projects cannot be read.
    """
    if not CALLERS & set(dimensions):
        return None
    try:
        projects = len(source.shared(SECONDS_TO_LIVE, listed_projects))
    except ApiFailure:
        return None
    return projects * (1 if dimensions == ("project_id",) else a_project)
