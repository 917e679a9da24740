"""Faults by name: each row says how to break something and what is expected then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from tests.faults.scene import Scene


class Fault(NamedTuple):
    """One fault: `work` breaks something and raises Broken if the scripts do not survive it.

    A `bounded` one belongs to the set for CI. `seconds` limit its time, `settings` are those of its
    demo organization.
    """

    name: str
    work: Callable[[Scene], None]
    bounded: bool
    seconds: float
    settings: dict[str, Any]


FAULTS: list[Fault] = []


def fault(
    name: str, bounded: bool = False, seconds: float = 90, **settings: Any
) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Declare the decorated function as a fault."""

    def declare(work: Callable[[Scene], None]) -> Callable[[Scene], None]:
        FAULTS.append(Fault(name, work, bounded, seconds, settings))
        return work

    return declare
