"""The grammar of a bill's line items: which model and which kind of quantity one charges for.

A line item is display text that changes. What fits the grammar as it was seen in the wild is
understood; everything else is None, for the caller to count, and never guessed at.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import NamedTuple

KINDS = ("input", "cached_input", "cache_writes", "output", "images", "characters", "seconds")
_SIDES = {
    "input": "input",
    "input_tokens": "input",
    "cached input": "cached_input",
    "input_cached_tokens": "cached_input",
    "cache writes": "cache_writes",
    "input_cache_write_tokens": "cache_writes",
    "output": "output",
    "output_tokens": "output",
}
_GRAMMAR = re.compile(
    r"(?:(?:priority|flex|batch|scale|default) \| )?"
    r"(?P<model>[^\s,|]+)"
    r"(?: (?:text|audio|image))?"
    rf", (?P<side>{'|'.join(_SIDES)})"
    r"(?:, long context)?"
)
_TOKENS = {"tokens": 1, "1000_tokens": 1000}
_OTHERS = {
    "images": ("images", 1),
    "characters": ("characters", 1),
    "duration_seconds": ("seconds", 1),
    "duration_minutes": ("seconds", 60),
    "duration_hours": ("seconds", 3600),
}


class Billed(NamedTuple):
    """A billed quantity in single tokens, images, characters or seconds; `kind` is one of KINDS."""

    model: str
    kind: str
    quantity: Decimal


class Item(NamedTuple):
    """What a text says: `side` is input, cached_input, cache_writes or output."""

    model: str
    side: str


def billed(text: str, quantity: Decimal | None, unit: str | None) -> Billed | None:
    """What a line item charges for; None unless its text, its quantity and its unit are understood.

    Tier, modality and long context tell prices apart, not counts, so they are read over.

    >>> billed("priority | o3-2025-04-16, cached input", Decimal(2), "1000_tokens")
    Billed(model='o3-2025-04-16', kind='cached_input', quantity=Decimal('2000'))
    """
    item = read(text)
    if item is None or quantity is None:
        return None
    if unit in _TOKENS:
        return Billed(item.model, item.side, quantity * _TOKENS[unit])
    if unit in _OTHERS:
        kind, size = _OTHERS[unit]
        return Billed(item.model, kind, quantity * size)
    return None


def read(text: str) -> Item | None:
    """Model and side of a line item, None where the text does not fit the grammar."""
    found = _GRAMMAR.fullmatch(text)
    return Item(found["model"], _SIDES[found["side"]]) if found else None
