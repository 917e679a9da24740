"""Source of API data for one poll: the client, the shared cache and the run's usage queries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

from lm_openai.api.client import Client
from lm_openai.collect.usage_queries import UsageQueries
from lm_openai.storage.cache import Cache

P = ParamSpec("P")
T = TypeVar("T")


class Source(NamedTuple):
    """Everything that a read of the API may use besides its arguments; `now` is Unix seconds.

    Such a read is a module-level function whose first parameter is the Source. It cannot see the
    host properties, so a property that shapes its result has to be an argument, and the arguments
    are part of the cache key.
    """

    client: Client
    cache: Cache
    queries: UsageQueries
    now: int

    def shared(
        self,
        seconds: float,
        fetch: Callable[Concatenate[Source, P], T],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> T:
        """Return the result of `fetch`, cached for `seconds` and shared between processes.

        The rows that its lists refuse (see Client.list) are cached with it, so that every poll
        reports them. Raises ApiFailure, which is cached too (see Cache.remember).
        """

        def fetched() -> tuple[T, list[tuple[str, str]]]:
            with self.client.refusals() as refused:
                return fetch(self, *arguments, **options), refused

        result, refused = self.cache.remember(key(fetch, arguments, options), seconds, fetched)
        self.client.refuse(refused)
        return result

    def once(
        self,
        fetch: Callable[Concatenate[Source, P], T],
        *arguments: P.args,
        **options: P.kwargs,
    ) -> T:
        """Return the result of `fetch`, computed once for all polls of the run."""
        name = key(fetch, arguments, options)
        return self.queries.once(name, lambda: fetch(self, *arguments, **options))


def key(fetch: Callable[..., object], arguments: object, options: object = None) -> str:
    """Return the cache key of a read: its name and every argument.

    Raises TypeError for a closure or a lambda, since those see more than their arguments.
    """
    if getattr(fetch, "__closure__", None) or "<" in fetch.__qualname__:
        raise TypeError(f"{fetch.__qualname__} is not a module-level function")
    return f"{fetch.__module__}.{fetch.__qualname__} {arguments!r} {options or ''}"
