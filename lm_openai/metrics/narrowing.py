"""Filters that narrow usage: their dimension is read too, and the rows are folded without it."""

from __future__ import annotations

from lm_openai.collect.page_sizes import expected_groups
from lm_openai.collect.poll import Poll
from lm_openai.collect.usage_queries import PAGE_ROWS, Group, gather
from lm_openai.model.report import NONE, Values
from lm_openai.timespans import WIDTHS, Window

MOST_PROJECTS = 50
"""Maximum number of ids in a request."""


def read_dimensions(poll: Poll, dimensions: Group, allowed: Group) -> Group:
    """Return the dimensions and, after them, those of the filters that the usage kind has."""
    own = [dimension for dimension in poll.filters if dimension in allowed]
    poll.narrowed.update(own)
    return tuple(dict.fromkeys((*dimensions, *own)))


def selected(poll: Poll, read: Group, group: Group) -> bool:
    """Return True if the filters select a group of the dimensions `read`; raises ApiFailure."""
    return all(map(poll.selects, read, group))


def folded(
    poll: Poll, dimensions: Group, read: Group, groups: dict[Group, Values]
) -> dict[Group, Values]:
    """Return the values of the selected groups by the first `dimensions` of those `read`."""
    if not poll.filters:
        return groups
    result: dict[Group, Values] = {}
    for group, values in groups.items():
        if selected(poll, read, group):
            gather(result, group[: len(dimensions)], values)
    return result


def projects(poll: Poll, window: Window, read: Group) -> Group:
    """Return the ids of the projects to request, or () for all.

    All are requested, which other polls can share, unless the response would be larger than a page
    and the filter selects few projects. `read` are the dimensions of the query.
    """
    if "project_id" not in poll.narrowed:
        return ()
    groups = expected_groups(poll.source, read) or 0
    buckets = -(-(window.end - window.start) // WIDTHS[window.width])
    if groups * buckets <= PAGE_ROWS:
        return ()
    known = [project["id"] for project in poll.directory.projects()]
    chosen = tuple(project for project in known if poll.selects("project_id", project))
    alone = len(chosen) <= MOST_PROJECTS and not poll.selects("project_id", NONE)
    return chosen if alone else ()
