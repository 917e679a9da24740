"""Which limit rows are one pool, and which pool a model's use counts against."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import NamedTuple

from lm_openai.api.records import RateLimit

UNLIMITED = 2147483647
NEVER_JOINED = ("default", "*-long-context", "*-shared")
_DATE = r"[-:]\d{4}-\d{2}-\d{2}|-(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_VERSION = re.compile(rf"(?:{_DATE})?(?:-v\d+)?$", re.ASCII)
LIMITS = {
    "rpm": "max_requests_per_1_minute",
    "tpm": "max_tokens_per_1_minute",
    "ipm": "max_images_per_1_minute",
    "rpd": "max_requests_per_1_day",
    "batch_tpd": "batch_1_day_max_input_tokens",
    "audio_megabytes_per_minute": "max_audio_megabytes_per_1_minute",
}


class Pool(NamedTuple):
    """Models that share one limit, named by the shortest row; `limits` by short name.

    A limit that is absent or unlimited is not in `limits`; 0 blocks. `known` is False for a model
    without a limit row.
    """

    name: str
    limits: dict[str, int]
    known: bool = True

    @property
    def blocked(self) -> bool:
        """Whether some limit is 0."""
        return 0 in self.limits.values()

    @property
    def alone(self) -> bool:
        """Whether its row is no model, so that usage never names it."""
        return _stands_alone(self.name)


class Pools(NamedTuple):
    """All pools of one project, by row and, where a family is one pool, by family."""

    all: tuple[Pool, ...]
    by_row: dict[str, Pool]
    by_family: dict[str, Pool]

    def pool_for(self, model: str) -> Pool:
        """The pool that a model's use counts against; an unknown one when no row fits.

        The exact row wins, then the family's; a fine-tuned model falls back to its base. Names
        are never matched by prefix, since `o1` and `o1-pro` are strangers, and nothing falls back
        to a row that stands alone.
        """
        for candidate in candidates(model):
            pool = self.by_row.get(candidate) or self.by_family.get(candidate)
            if pool and (candidate == model or not _stands_alone(candidate)):
                return pool
        return Pool(model, {}, known=False)


def pools(rows: Iterable[RateLimit]) -> Pools:
    """Join a project's limit rows: one family with equal limits is one pool."""
    members: dict[tuple[object, ...], list[RateLimit]] = {}
    for row in rows:
        members.setdefault(_identity(row), []).append(row)
    found: list[Pool] = []
    by_row: dict[str, Pool] = {}
    by_family: dict[str, list[Pool]] = {}
    for same in members.values():
        name = min((row.model for row in same), key=lambda model: (len(model), model))
        found.append(Pool(name, _limits(same[0])))
        by_row.update((row.model, found[-1]) for row in same)
        if not _stands_alone(name):
            by_family.setdefault(family(name), []).append(found[-1])
    alone = {word: own[0] for word, own in by_family.items() if len(own) == 1}
    return Pools(tuple(sorted(found, key=lambda pool: pool.name)), by_row, alone)


@lru_cache(maxsize=4096)
def family(model: str) -> str:
    """The model's name without its date and version.

    >>> family("gpt-4o-2024-08-06"), family("gpt-4-0613"), family("text-embedding-ada-002-v2")
    ('gpt-4o', 'gpt-4', 'text-embedding-ada-002')
    """
    return _VERSION.sub("", model, count=1)


def candidates(model: str) -> Iterator[str]:
    """Names to look a model up by, nearest first.

    >>> list(candidates("ft:gpt-4o-2024-08-06:org::id"))[-2:]
    ['gpt-4o-2024-08-06', 'gpt-4o']
    """
    for name in _names(model):
        yield name
        if family(name) != name:
            yield family(name)


def _names(model: str) -> Iterator[str]:
    yield model
    if model.startswith("ft:") and model.count(":") > 1:
        base = model.split(":")[1]
        yield f"ft:{base}"
        yield base
    elif model.startswith("ft:"):
        yield model.removeprefix("ft:")


def _identity(row: RateLimit) -> tuple[object, ...]:
    if _stands_alone(row.model):
        return (row.model,)
    return (family(row.model), *row[2:])


@lru_cache(maxsize=4096)
def _stands_alone(model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in NEVER_JOINED)


def _limits(row: RateLimit) -> dict[str, int]:
    known = {short: getattr(row, field) for short, field in LIMITS.items()}
    return {
        short: limit for short, limit in known.items() if limit is not None and limit < UNLIMITED
    }
