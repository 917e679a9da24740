"""Services of Nagios and Icinga: their states, results, perfdata and notifications."""

from __future__ import annotations

import re
from typing import NamedTuple

OK, WARNING, CRITICAL, UNKNOWN = range(4)
STATES = {"ok": OK, "warning": WARNING, "unknown": UNKNOWN, "error": CRITICAL, "critical": CRITICAL}
"""States of a plugin by those of the JSON document."""
OTHER = "other"
"""Service of the same host that does not need the API."""
ITEM = re.compile(r"(\S+)=(-?[0-9.]+)([a-zA-Z%]*)(?:;\S*)?")


class Status(NamedTuple):
    """Service as the server stores it: its state 0 to 3, and its last and next check."""

    state: int
    hard: bool
    attempt: int
    checked: float
    next: float
    text: str
    perfdata: tuple[str, ...]


class Notification(NamedTuple):
    """One notification: a service and a word such as CRITICAL."""

    service: str
    word: str


def items(status: Status) -> list[tuple[str, float, str]]:
    """Return (label, value, unit) of a service's perfdata."""
    found = [ITEM.fullmatch(word) for word in status.perfdata]
    return [(one[1], float(one[2]), one[3]) for one in found if one]
