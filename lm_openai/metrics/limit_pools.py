"""Pools of rate limit rows, and the pool that a model's usage counts against."""

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
    """Models that share one limit, named after the row with the shortest name.

    `limits` has the short names of LIMITS as keys. A missing or unlimited limit is not in it; a
    limit of 0 blocks the pool. `known` is False for a model without a limit row.
    """

    name: str
    limits: dict[str, int]
    known: bool = True

    @property
    def blocked(self) -> bool:
        """True if some limit is 0."""
        return 0 in self.limits.values()

    @property
    def alone(self) -> bool:
        """True if the row does not name a model, so that usage never contains its name."""
        return _never_joined(self.name)


class Pools(NamedTuple):
    """All pools of one project, by row name and, where a family is one pool, by family name."""

    all: tuple[Pool, ...]
    by_row: dict[str, Pool]
    by_family: dict[str, Pool]

    def pool_for(self, model: str) -> Pool:
        """Return the pool that a model's usage counts against, with `known` False if no row fits.

        The exact row comes first, then the family's row; a fine-tuned model falls back to its base
        model. Names are never matched by prefix, because `o1` and `o1-pro` are unrelated models. No
        model falls back to a row that never joins a pool (NEVER_JOINED).
        """
        for candidate in candidates(model):
            pool = self.by_row.get(candidate) or self.by_family.get(candidate)
            if pool and (candidate == model or not _never_joined(candidate)):
                return pool
        return Pool(model, {}, known=False)


def pools(rows: Iterable[RateLimit]) -> Pools:
    """Return a project's pools; the rows of one family with equal limits form one pool."""
    members: dict[tuple[object, ...], list[RateLimit]] = {}
    for row in rows:
        members.setdefault(_identity(row), []).append(row)
    result: list[Pool] = []
    by_row: dict[str, Pool] = {}
    by_family: dict[str, list[Pool]] = {}
    for same in members.values():
        name = min((row.model for row in same), key=lambda model: (len(model), model))
        result.append(Pool(name, _limits(same[0])))
        by_row.update((row.model, result[-1]) for row in same)
        if not _never_joined(name):
            by_family.setdefault(family(name), []).append(result[-1])
    single = {stem: own[0] for stem, own in by_family.items() if len(own) == 1}
    return Pools(tuple(sorted(result, key=lambda pool: pool.name)), by_row, single)


@lru_cache(maxsize=4096)
def family(model: str) -> str:
    """Return the model's name without its date and version.

    >>> family("gpt-4o-2024-08-06"), family("gpt-4-0613"), family("text-embedding-ada-002-v2")
    ('gpt-4o', 'gpt-4', 'text-embedding-ada-002')
    """
    return _VERSION.sub("", model, count=1)


def candidates(model: str) -> Iterator[str]:
    """Yield the names under which a model is looked up, the most specific first.

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
    if _never_joined(row.model):
        return (row.model,)
    return (family(row.model), *row[2:])


@lru_cache(maxsize=4096)
def _never_joined(model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in NEVER_JOINED)


def _limits(row: RateLimit) -> dict[str, int]:
    known = {short: getattr(row, field) for short, field in LIMITS.items()}
    return {
        short: limit for short, limit in known.items() if limit is not None and limit < UNLIMITED
    }
