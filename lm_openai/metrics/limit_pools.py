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
Stated = frozenset[tuple[str, int]]
"""Limits that a row states, by short name; UNLIMITED and above are one value."""


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
    """Return a project's pools; the rows of one family whose limits agree form one pool."""
    return _pools_of(tuple(rows))


@lru_cache(maxsize=128)
def _pools_of(rows: tuple[RateLimit, ...]) -> Pools:
    """Return `pools`; most projects of an organization have the same rows."""
    families: dict[tuple[str, bool], list[RateLimit]] = {}
    for row in rows:
        alone = _never_joined(row.model)
        stem = row.model if alone else family(row.model)
        families.setdefault((stem, alone), []).append(row)
    result: list[Pool] = []
    by_row: dict[str, Pool] = {}
    by_family: dict[str, Pool] = {}
    for (stem, alone), members in families.items():
        own = [(_pool(same), same) for same in _joined(members)]
        result += (pool for pool, _ in own)
        by_row.update((row.model, pool) for pool, same in own for row in same)
        if len(own) == 1 and not alone:
            by_family[stem] = own[0][0]
    return Pools(tuple(sorted(result, key=lambda pool: pool.name)), by_row, by_family)


def _joined(rows: Iterable[RateLimit]) -> Iterable[list[RateLimit]]:
    """Return the rows of one family by pool; the order of the rows does not matter.

    Rows that state the same limits are one pool, and so are rows that agree wherever both state a
    limit. A row that agrees with two rows that differ from each other stays a pool of its own.
    """
    equal: dict[Stated, list[RateLimit]] = {}
    for row in rows:
        equal.setdefault(frozenset(_stated(row).items()), []).append(row)
    near = {one: [other for other in equal if _agree(one, other)] for one in equal}
    clear = [one for one in equal if _agree(*near[one])]
    result: dict[Stated, list[RateLimit]] = {}
    for one, same in equal.items():
        first = next(other for other in clear if other in near[one]) if one in clear else one
        result.setdefault(first, []).extend(same)
    return result.values()


def _agree(*stated: Stated) -> bool:
    """Return True if no limit has two values."""
    every = frozenset().union(*stated)
    return len(dict(every)) == len(every)


def _pool(rows: Iterable[RateLimit]) -> Pool:
    """Return the pool of rows that agree; it has every limit that one of them states."""
    members = list(rows)
    name = min((row.model for row in members), key=lambda model: (len(model), model))
    stated = {short: limit for row in members for short, limit in _stated(row).items()}
    limits = {short: stated[short] for short in LIMITS if stated.get(short, UNLIMITED) < UNLIMITED}
    return Pool(name, limits)


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


@lru_cache(maxsize=4096)
def _never_joined(model: str) -> bool:
    return any(fnmatchcase(model, pattern) for pattern in NEVER_JOINED)


def _stated(row: RateLimit) -> dict[str, int]:
    """Return the limits that a row states by short name; all unlimited values are UNLIMITED."""
    known = {short: getattr(row, field) for short, field in LIMITS.items()}
    return {short: min(limit, UNLIMITED) for short, limit in known.items() if limit is not None}
