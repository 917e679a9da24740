"""Overrides of thresholds as PromQL: which instances each threshold in force applies to.

Ids are labels of every series; names are labels of `openai_<folder>_info` alone, so each condition
is a join with that metric.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

from lm_openai.hosts import globs
from lm_openai.hosts.jobs import Alert, Job
from lm_openai.model.thresholds import Override, Threshold, match_text, matched_fields, merged

POLL = ("grouping", "instance", "job", "organization")
"""Labels that all series of one poll share, in PromQL's order of words."""
_WILD = re.compile(r"[*?[]")


Conditions = tuple[tuple[Override, bool], ...]
"""Overrides, each with True if the instance matches it."""


class Branch(NamedTuple):
    """Instances to which the same overrides apply, and their threshold.

    `name` is the match of those overrides, such as `project=batch-*`, empty for none.
    """

    name: str
    threshold: Threshold
    conditions: Conditions


def branches(alert: Alert) -> Iterator[Branch]:
    """Yield each set of instances whose thresholds differ; the sets do not overlap.

    The last matching override wins, level by level. Only overrides whose fields are not all set by
    a later one are distinguished.
    """
    for taken, decided in _split(alert.overrides, (), ()):
        conditions = tuple(one for one in decided if one[1] or not _apart(one[0], taken))
        threshold = alert.threshold
        for override in taken:
            threshold = merged(threshold, threshold.datapoint, override.change)
        name = "; ".join(dict.fromkeys(match_text(one.match) for one in taken))
        yield Branch(name, threshold, conditions)


def selection(job: Job, branch: Branch) -> str:
    """Return the operators that select the branch's series of a metric; empty for all."""
    info = f"openai_{job.definition.folder}_info"
    return "".join(
        f"\n{'and' if wanted else 'unless'} on ({_labels(override)}) ({_matching(info, override)})"
        for override, wanted in branch.conditions
    )


def quoted(text: str) -> str:
    """Return text as a string of PromQL."""
    return json.dumps(text, ensure_ascii=False)


def pattern(glob: str) -> str:
    """Return a glob as an RE2 expression, which PromQL anchors.

    >>> pattern("batch-*"), pattern("[!a-c]?.x")
    ('batch-.*', '[^a-c].[.]x|\\\\[!a-c][?][.]x')
    """
    return globs.regex(glob, _literal)


def _split(
    rest: tuple[Override, ...], taken: tuple[Override, ...], conditions: Conditions
) -> Iterator[tuple[tuple[Override, ...], Conditions]]:
    """Yield the overrides that apply and the conditions; decides the last override first."""
    if not rest:
        yield taken, conditions
        return
    *before, last = rest
    known = {one.match: wanted for one, wanted in conditions}
    settled = {name for one in taken for name in one.change}
    decided = known.get(last.match)
    if decided is None and (settled.issuperset(last.change) or _apart(last, taken)):
        decided = False
    for wanted in (True, False) if decided is None else (decided,):
        added = ((last, wanted),) if decided is None else ()
        applied = (last, *taken) if wanted else taken
        yield from _split(tuple(before), applied, (*conditions, *added))


def _apart(override: Override, taken: tuple[Override, ...]) -> bool:
    """Return True if no instance can match the override and all of the others.

    A dimension with names excludes nothing: the id can match one glob and the name the other.
    """
    own = {name: glob for name, glob in override.match if len(matched_fields(name)) == 1}
    return any(
        name in own and _exclusive(own[name], glob) for one in taken for name, glob in one.match
    )


def _exclusive(first: str, second: str) -> bool:
    """Return True if no text matches both globs; False if that is not certain."""
    for text, glob in ((first, second), (second, first)):
        if not _WILD.search(text):
            return text != glob and not fnmatchcase(text, glob)
    one, other = (_WILD.split(glob, maxsplit=1)[0] for glob in (first, second))
    return not (one.startswith(other) or other.startswith(one))


def _labels(override: Override) -> str:
    return ", ".join(sorted({*POLL, *(name for name, _ in override.match)}))


def _matching(info: str, override: Override) -> str:
    """Return the info series that match all globs of the override, each by id or name."""
    parts = [" or ".join(_selectors(info, name, glob)) for name, glob in override.match]
    return parts[0] if len(parts) == 1 else " and ".join(f"({part})" for part in parts)


def _selectors(info: str, dimension: str, glob: str) -> Iterator[str]:
    for label in matched_fields(dimension):
        yield f"{info}{{{label}=~{quoted(pattern(glob))},{label}!={quoted('')}}}"


def _literal(character: str) -> str:
    """Return an escaped character, as a class of one where that needs no backslash."""
    escaped = re.sub(r"[\\^\[]", r"\\\g<0>", character)
    return re.sub(r"[.+*?()|{}$]", r"[\g<0>]", escaped)
