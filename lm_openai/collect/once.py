"""Results that a run or a poll computes once each."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import RLock
from typing import Any, TypeVar

from lm_openai.errors import ApiFailure

T = TypeVar("T")


class Once:
    """Results by name; safe to use from threads, which wait for the one that computes."""

    def __init__(self) -> None:
        self._outcomes: dict[Hashable, Any] = {}
        self._locks: dict[Hashable, RLock] = {}

    def get(self, name: Hashable, compute: Callable[[], T]) -> T:
        """Return `compute()`, called once per name, or raise its ApiFailure again."""
        with self._locks.setdefault(name, RLock()):
            if name not in self._outcomes:
                try:
                    self._outcomes[name] = compute()
                except ApiFailure as failure:
                    # The traceback would keep the response that was read.
                    self._outcomes[name] = failure.with_traceback(None)
        outcome: T | ApiFailure = self._outcomes[name]
        if isinstance(outcome, ApiFailure):
            raise outcome
        return outcome
