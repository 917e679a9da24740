"""Grammar of a bill's line items: the model and the kind of quantity that each one charges.

A line item is display text that the vendor may change. Text that fits the grammar, which was
derived from real bills, is parsed; any other text gives None. The caller counts those; nothing is
guessed.
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
    """Billed quantity in single tokens, images, characters or seconds; `kind` is one of KINDS."""

    model: str
    kind: str
    quantity: Decimal


class Item(NamedTuple):
    """Parsed text of a line item; `side` is input, cached_input, cache_writes or output."""

    model: str
    side: str


def billed(text: str, quantity: Decimal | None, unit: str | None) -> Billed | None:
    """Return what a line item charges, or None if its text, quantity or unit is unknown.

    Tier, modality and long context change the price but not the count, so they are ignored.

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
    """Return the model and side of a line item, or None if the text does not fit the grammar."""
    match = _GRAMMAR.fullmatch(text)
    return Item(match["model"], _SIDES[match["side"]]) if match else None
