"""Plan of the faults to inject: parsed from text, matched with requests and counted."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from fnmatch import fnmatchcase
from random import Random
from threading import Lock
from typing import Any

from lm_openai.simulator.faults import (
    KINDS,
    Fault,
    RequestInfo,
    dimension,
    is_status,
    unknown,
)
from lm_openai.simulator.incident_faults import INCIDENTS


class Plan:
    """Faults of one simulator with the remaining count of each; thread-safe."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._lock = Lock()
        self._due: list[tuple[Fault, _Count | _Rate]] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Add a fault of responses."""
        with self._lock:
            self._due.append((fault, _Rate(fault) if fault.kind == "rate" else _Count(fault)))

    def clear(self) -> None:
        with self._lock:
            self._due.clear()

    def take(self, path: str, info: RequestInfo) -> Fault | None:
        """Return the first fault due for a request, and reduce its count; None if none is due."""
        with self._lock:
            for fault, count in self._due:
                affected = fnmatchcase(path, fault.path) and _applies(fault, info)
                if affected and count.due():
                    return fault
        return None


class _Count:
    """Number of requests that a fault still skips, and number that it still affects."""

    def __init__(self, fault: Fault) -> None:
        self.skip = fault.skip
        self.times = fault.times
        self.percent = fault.percent
        self.random = Random(repr(fault))

    def due(self) -> bool:
        """Count one matching request; return True if the fault affects it."""
        if self.percent is not None and self.random.random() * 100 >= self.percent:
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


class _Rate:
    """Requests that a fault of kind `rate` still lets through; a second's worth at most."""

    def __init__(self, fault: Fault) -> None:
        self.per_second = self.left = fault.per_second
        self.counted = time.monotonic()

    def due(self) -> bool:
        """Count one matching request; return True if it exceeds the rate."""
        now = time.monotonic()
        gained = (now - self.counted) * self.per_second
        self.left, self.counted = min(self.per_second, self.left + gained), now
        if self.left < 1:
            return True
        self.left -= 1
        return False


def parse_fault(text: str) -> Fault:
    """Parse `KIND[:PATH][:NAME=VALUE]...`, for example `429:*/costs:times=2:retry_after=1`.

    Raises ValueError that names the unknown kind, the unknown setting or the wrong number.
    """
    kind, *parts = _parts(text)
    words: dict[str, Any] = {"kind": kind}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            name, value = "path", part
        if name not in Fault._fields or name == "kind":
            raise ValueError(unknown("fault setting", name, Fault._fields[1:]))
        words[name] = _converted(name, value)
    check_kind(kind)
    return Fault(**words)


def check_kind(kind: str) -> None:
    """Raise ValueError for an unknown kind of fault."""
    if kind not in KINDS and kind not in INCIDENTS and not is_status(kind):
        raise ValueError(unknown("fault kind", kind, [*KINDS, *INCIDENTS, "429", "500", "503"]))


def _applies(fault: Fault, info: RequestInfo) -> bool:
    """Return True if the fault applies to the request; two kinds depend on its query."""
    if fault.kind == "expired-page":
        return "page" in info.query
    if fault.kind == "grouping":
        grouped = ",".join(info.query.get("group_by", []) + info.query.get("group_by[]", []))
        if dimension(fault):
            return dimension(fault) in grouped
        by_project = "project_id" in grouped or any(
            name.startswith("project_ids") for name in info.query
        )
        return "user_id" in grouped and by_project
    return True


def _parts(text: str) -> list[str]:
    """Split at colons, except at those inside a value."""
    head, *settings = re.split(r":(?=\w+=)", text)
    return [*head.split(":", 1), *settings]


def _converted(name: str, value: str) -> Any:
    numbers: dict[str, Callable[[str], Any]] = {
        "times": int,
        "skip": int,
        "size": int,
        "rows": int,
        "start": int,
        "end": int,
        "percent": float,
        "seconds": float,
        "per_second": float,
    }
    try:
        return numbers.get(name, str)(value)
    except ValueError:
        raise ValueError(f"fault setting {name}: '{value}' is not a valid number") from None
