"""Costs endpoint: line items, their prices and the amounts per day."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

from lm_openai.simulator.catalog import family
from lm_openai.simulator.incidents import changed
from lm_openai.simulator.organization import DEFAULT_SETTINGS, Organization, Settings, stable_hash
from lm_openai.simulator.rhythm import (
    DAY,
    HOUR,
    LUMPS,
    Leaf,
    View,
    hours,
    scatter,
    shares,
    totals,
    view,
    visible,
)
from lm_openai.simulator.traffic import leaves
from lm_openai.simulator.usage import KINDS, BucketQuery, intervals, selected

DIMENSIONS = ("project_id", "line_item", "api_key_id", "user_id", "api_source")
FILTERS = ("project_ids", "api_key_ids", "line_items")
CREDIT = "Credit grant"

Wire = dict[str, Any]
Key = tuple[object, ...]


class Charge(NamedTuple):
    """Charge for one field of a leaf: `price` is in picodollars per count.

    `place` is the index of the field's column. One count equals `scale` units; a `unit` of None
    means a number of calls.
    """

    line_item: str
    price: int
    place: int
    unit: str | None
    scale: float = 1


class Sum(NamedTuple):
    """Amount in picodollars, and the quantity, which is None where nothing is counted."""

    amount: int
    quantity: float | None
    unit: str | None


def buckets(
    organization: Organization,
    query: BucketQuery,
    now: int,
    settings: Settings = DEFAULT_SETTINGS,
) -> Iterator[Wire]:
    """Yield the daily buckets of a query in wire form, oldest first, computed on demand.

    A clipped bucket still holds its whole UTC day, as far as that day is billed at `now`.
    """
    wanted = {name: values for name, values in query.filters.items() if values}
    items = wanted.pop("line_items", None)
    sources = selected(_billed(organization, settings), wanted, LEAF_FILTERS)
    seen = billing_view(now, settings)
    identity = f"org-{stable_hash(organization.seed, 'organization'):036x}"[:28]
    for start, end in intervals(query._replace(bucket_width="1d"), now):
        day = start // DAY
        found = _charged(sources, day, seen, query.group_by, items)
        if not wanted and (items is None or CREDIT in items):
            _add_credit(found, organization.seed, day, seen, query.group_by)
        results = [_result(identity, query.group_by, *pair) for pair in found.items()]
        yield {"object": "bucket", "start_time": start, "end_time": end, "results": results}


def billing_view(now: int, settings: Settings) -> View:
    """Return the view of billed usage at `now`: hours appear whole, a day is final a day later."""
    delay = settings.delays.get("costs", int(settings.lag * DELAY))
    return view(now, settings.lag, delay, ARRIVAL, LUMP)


@lru_cache(maxsize=8192)
def charges(leaf: Leaf) -> tuple[Charge, ...]:
    """Return the charges for a leaf's columns."""
    columns = (KINDS[leaf.kind].counter, *leaf.fields)
    if leaf.kind in TOOLS:
        item, field, price, unit, scale = TOOLS[leaf.kind]
        return (Charge(item, price, columns.index(field), unit, scale),)
    return tuple(
        _charge(leaf, field, place) for place, field in enumerate(columns) if field in LABELS
    )


def _charge(leaf: Leaf, field: str, place: int) -> Charge:
    model = str(leaf.dimensions["model"])
    modality, side, unit = LABELS[field]
    before = "priority | " if leaf.dimensions["service_tier"] == "priority" else ""
    after = ", long context" if leaf.long_context else ""
    item = f"{before}{SNAPSHOTS.get(model, model)}{modality}, {side}{after}"
    return Charge(item, _price(leaf, family(model), field), place, unit)


def _price(leaf: Leaf, name: str, field: str) -> int:
    """Return picodollars per count; PRICES has dollars per million counts."""
    cheap = leaf.dimensions["batch"] or leaf.dimensions["service_tier"] == "flex"
    factor = 4 if leaf.dimensions["service_tier"] == "priority" else 1 if cheap else 2
    modality, side, _ = LABELS[field]
    table = PRICES.get(name + modality) or PRICES[DEFAULT + modality]
    dollars = Decimal(table.split()[SIDES.index(side)])
    return int(dollars * 1_000_000 * factor * (2 if leaf.long_context else 1)) // 2


def _billed(organization: Organization, settings: Settings) -> list[Leaf]:
    return [
        leaf
        for kind in KINDS
        for leaf in changed(leaves(organization, kind), kind, settings.incidents)
    ]


def _charged(
    sources: Sequence[Leaf],
    day: int,
    seen: View,
    group_by: tuple[str, ...],
    items: tuple[str, ...] | None,
) -> dict[Key, Sum]:
    found: dict[Key, Sum] = {}
    for leaf in sources:
        values = _values(leaf, day, seen)
        if not values[0]:
            continue
        for charge in charges(leaf):
            if items is None or charge.line_item in items:
                key = _key(leaf.dimensions, charge.line_item, group_by)
                amount, quantity, _ = found.get(key) or Sum(0, 0, None)
                count = values[charge.place]
                found[key] = Sum(
                    amount + count * charge.price,
                    (quantity or 0) + (count if charge.scale == 1 else count * charge.scale),
                    charge.unit,
                )
    return found


def _values(leaf: Leaf, day: int, seen: View) -> Sequence[int]:
    if (day + 1) * DAY <= seen.settled:
        return totals(leaf, day)
    shown = shares(seen, leaf.number % LUMPS, day * DAY, HOUR, 24)
    columns = visible(hours(leaf, day), shown, scatter(leaf.number, day))
    return [sum(column) for column in columns]


def _key(dimensions: Mapping[str, object], item: str, group_by: tuple[str, ...]) -> Key:
    return tuple(item if name == "line_item" else dimensions[name] for name in group_by)


def _add_credit(
    found: dict[Key, Sum], seed: int, day: int, seen: View, group_by: tuple[str, ...]
) -> None:
    """Add a credit for the organization itself on about every sixth day, once the day is over."""
    drawn = stable_hash(seed, "credit", day)
    if drawn % 6 or (day + 1) * DAY > seen.now:
        return
    key = tuple(CREDIT if name == "line_item" else None for name in group_by)
    have = found.get(key) or Sum(0, None, None)
    found[key] = have._replace(amount=have.amount - (5 + drawn % 40) * DOLLAR)


def _result(identity: str, group_by: tuple[str, ...], key: Key, total: Sum) -> Wire:
    by_item = "line_item" in group_by
    grouped = dict(zip(group_by, key))
    quantity = total.quantity if by_item else None
    return {
        "object": "organization.costs.result",
        "amount": {"value": f"{Decimal(total.amount).scaleb(-12):.16f}", "currency": "usd"},
        **{name: grouped.get(name) for name in DIMENSIONS},
        "quantity": quantity,
        "quantity_unit": total.unit if by_item else None,
        "organization_id": identity,
    }


DOLLAR = 10**12
DELAY = 600
LUMP = 1800
# Seconds after the first amounts of an hour, and the billed share in 1024ths; as in usage.ARRIVAL.
ARRIVAL = ((0, 716), (3600, 960), (21600, 1014), (79200, 1024))

LEAF_FILTERS = {"project_ids": "project_id", "api_key_ids": "api_key_id"}
SNAPSHOTS = {"gpt-4o": "gpt-4o-2024-08-06"}

# field: modality, side, unit
LABELS: dict[str, tuple[str, str, str]] = {
    "input_text_tokens": ("", "input", "tokens"),
    "input_cached_text_tokens": ("", "cached input", "tokens"),
    "input_cache_write_30m_tokens": ("", "cache writes", "tokens"),
    "input_cache_write_12h_tokens": ("", "cache writes", "tokens"),
    "output_text_tokens": ("", "output", "tokens"),
    "input_audio_tokens": (" audio", "input", "tokens"),
    "input_cached_audio_tokens": (" audio", "cached input", "tokens"),
    "output_audio_tokens": (" audio", "output", "tokens"),
    "input_image_tokens": (" image", "input", "tokens"),
    "input_cached_image_tokens": (" image", "cached input", "tokens"),
    "output_image_tokens": (" image", "output", "tokens"),
    "input_tokens": ("", "input", "tokens"),
    "images": (" image", "output", "images"),
    "characters": (" audio", "output", "characters"),
    "seconds": (" audio", "input", "duration_seconds"),
}

# kind: line item, field, picodollars per count, unit, units per count
TOOLS: dict[str, tuple[str, str, int, str | None, float]] = {
    "vector_stores": ("Vector storage", "usage_bytes", 93, "gibibyte_hours", 24 / 2**30),
    "code_interpreter_sessions": (
        "code interpreter sessions",
        "num_sessions",
        DOLLAR * 3 // 100,
        None,
        1,
    ),
    "file_search_calls": ("file search tool calls", "num_requests", DOLLAR // 400, None, 1),
    "web_search_calls": ("web search tool calls", "num_requests", DOLLAR // 100, None, 1),
}

# PRICES has dollars per million counts, in the order of SIDES.
SIDES = ("input", "cached input", "cache writes", "output")
DEFAULT = "default"
PRICES = {
    "default": "0.50 0.125 0.50 2.00",
    "default audio": "32.00 2.50 32.00 64.00",
    "default image": "5.00 1.25 5.00 40.00",
    "gpt-4o": "2.50 1.25 2.50 10.00",
    "gpt-4o-mini": "0.15 0.075 0.15 0.60",
    "gpt-4.1": "2.00 0.50 2.00 8.00",
    "gpt-4.1-mini": "0.40 0.10 0.40 1.60",
    "gpt-5": "1.25 0.125 1.5625 10.00",
    "gpt-5-mini": "0.25 0.025 0.3125 2.00",
    "gpt-5-nano": "0.05 0.005 0.0625 0.40",
    "gpt-5.1": "1.25 0.125 1.5625 10.00",
    "o3": "2.00 0.50 2.00 8.00",
    "o4-mini": "1.10 0.275 1.10 4.40",
    "computer-use-preview": "3.00 3.00 3.00 12.00",
    "gpt-realtime": "4.00 0.40 4.00 16.00",
    "text-embedding-3-small": "0.02 0.02 0.02 0",
    "text-embedding-3-large": "0.13 0.13 0.13 0",
    "text-embedding-ada-002": "0.10 0.10 0.10 0",
    "omni-moderation-latest": "0 0 0 0",
    "dall-e-3 image": "0 0 0 40000.00",
    "gpt-image-1 image": "10.00 2.50 10.00 42000.00",
    "tts-1 audio": "0 0 0 15.00",
    "whisper-1 audio": "100.00 0 0 0",
}
