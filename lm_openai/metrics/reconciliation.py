"""Reconciliation of the bill with usage: which billed quantity matches which counted one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from lm_openai.api.endpoints import TOTALS, USAGE_KINDS, UsageKind
from lm_openai.api.records import Record, count
from lm_openai.errors import ApiFailure
from lm_openai.metrics.bill import CURRENCY, FEWEST_ROWS, only_currency, refuse_gaps
from lm_openai.metrics.limit_pools import family
from lm_openai.metrics.line_items import billed
from lm_openai.metrics.usage import MODEL_KINDS, not_offered
from lm_openai.model.aggregation import percent
from lm_openai.model.report import NONE
from lm_openai.timespans import DAY

if TYPE_CHECKING:
    from lm_openai.api.client import Client
    from lm_openai.collect.poll import Poll

COMPARED_DAYS = 7
SETTLING_DAYS = 1
Key = tuple[str, str]
K = TypeVar("K")
T = TypeVar("T", int, Decimal)


class Bill(NamedTuple):
    """Quantities and net amounts by (model, kind), and amounts by unknown line item (`unread`).

    All amounts are in one `currency` (`usd`).
    """

    quantities: dict[Key, Decimal]
    amounts: dict[Key, Decimal]
    unread: dict[str, Decimal]
    currency: str = CURRENCY


class Pair(NamedTuple):
    """Quantities of one model and kind; None on the side that does not have it."""

    billed: Decimal | None
    used: int | None

    @property
    def difference_percent(self) -> float | None:
        """Percent billed above the count (negative: below), or None if one side is missing."""
        if self.billed is None or self.used is None:
            return None
        return percent(self.billed - self.used, self.used)


class Reconciliation(NamedTuple):
    """Both sides by (model, kind), and the charges that match no count.

    `charged` and `unmatched` are amounts in `currency` without credits. `unmatched_items` is the
    number of line items and (model, kind) pairs in `unmatched`. `unbilled` is the number of pairs
    with usage that the bill does not have.
    """

    pairs: dict[Key, Pair]
    charged: Decimal
    unmatched: Decimal
    unmatched_items: int
    unbilled: int
    currency: str = CURRENCY


def window(now: int) -> tuple[int, int]:
    """Return the start and end of 7 UTC days that end one day before today.

    By then both sides are final.
    """
    end = now // DAY * DAY - SETTLING_DAYS * DAY
    return end - COMPARED_DAYS * DAY, end


def reconcile(poll: Poll) -> Reconciliation:
    """Request both sides and join them; raises ApiFailure if any request fails."""
    start, end = window(poll.now)
    return joined(bill(poll.client, start, end), used(poll, start, end))


def bill(client: Client, start: int, end: int) -> Bill:
    """Request the costs of the days and return them parsed; raises ApiFailure."""
    result = Bill({}, {}, {})
    received = []
    currencies = set()
    for day, costs in client.costs(start, end, group_by=("line_item",), groups=FEWEST_ROWS):
        received.append(day)
        for cost in costs:
            if cost.amount:
                currencies.add(cost.currency)
            text = cost.line_item or NONE
            item = billed(text, cost.quantity, cost.quantity_unit)
            if item is None:
                _add(result.unread, text, cost.amount)
            else:
                key = (item.model, item.kind)
                _add(result.quantities, key, item.quantity)
                _add(result.amounts, key, cost.amount)
    refuse_gaps(received, range(start, end, DAY))
    return result._replace(currency=only_currency(currencies))


def used(poll: Poll, start: int, end: int) -> dict[Key, int]:
    """Request the usage of all kinds that have models, by (model, kind); raises ApiFailure."""
    outcomes = poll.client.together(
        partial(_counted, poll.client, USAGE_KINDS[name], start, end) for name in MODEL_KINDS
    )
    counts: dict[Key, int] = {}
    for name, outcome in zip(MODEL_KINDS, outcomes):
        if isinstance(outcome, ApiFailure):
            if not not_offered(poll, name, outcome):
                raise outcome
            continue
        for key, quantity in outcome:
            counts[key] = counts.get(key, 0) + quantity
    return {key: quantity for key, quantity in counts.items() if quantity}


def quantities(kind: UsageKind, row: Record) -> Iterator[tuple[str, int]]:
    """Yield (kind, quantity) of a usage row, in the kinds of the bill.

    The kind `input` is the input that was neither read from the cache nor written to it.
    """
    for total in kind.totals:
        if total not in ("requests", "tokens"):
            for field in TOTALS[total]:
                yield total, row[field]
    if "tokens" not in kind.totals:
        return
    cached = _optional(row, "input_cached_tokens", kind)
    written = _optional(row, "input_cache_write_tokens", kind)
    yield "input", row["input_tokens"] - cached - written
    if "input_cached_tokens" in kind.quantities:
        yield "cached_input", cached
        yield "cache_writes", written
    if "output_tokens" in kind.required:
        yield "output", row["output_tokens"]


def _optional(row: Record, field: str, kind: UsageKind) -> int:
    return 0 if row.get(field) is None else count(row, field, f"usage/{kind.name}")


def joined(bill: Bill, counted: Mapping[Key, int]) -> Reconciliation:
    """Join both sides under common model names."""
    names = common_names({model for model, _ in bill.quantities}, {model for model, _ in counted})
    quantities = _renamed(bill.quantities, names)
    counts = _renamed(counted, names)
    charges = _renamed(bill.amounts, names)
    pairs = {
        key: Pair(quantities.get(key), counts.get(key))
        for key in sorted({**quantities, **counts})
        if quantities.get(key) or counts.get(key)
    }
    unmatched = [
        *_positive(amount for key, amount in charges.items() if key not in counts),
        *_positive(bill.unread.values()),
    ]
    return Reconciliation(
        pairs=pairs,
        charged=sum(_positive([*charges.values(), *bill.unread.values()]), Decimal(0)),
        unmatched=sum(unmatched, Decimal(0)),
        unmatched_items=len(unmatched),
        unbilled=len(counts.keys() - quantities.keys()),
        currency=bill.currency,
    )


def common_names(billed: set[str], counted: set[str]) -> dict[str, str]:
    """Return the name under which each model is compared; usually its own.

    A bill may name an alias while usage counts its snapshots, and the other way round. If usage has
    the alias and the bill exactly one snapshot instead, the alias gets that snapshot's name. In any
    other case in which the two sides name different members of a family that has an alias, the
    whole family is compared under the alias.
    """
    names = {name: name for name in billed | counted}
    for alias in [name for name in names if family(name) == name]:
        members = {name for name in names if family(name) == alias}
        charged, seen = members & billed, members & counted
        if charged == seen or not charged or not seen:
            continue
        if len(charged) == 1 and alias not in charged:
            names[alias] = min(charged)
        else:
            names.update(dict.fromkeys(members, alias))
    return names


def _counted(client: Client, kind: UsageKind, start: int, end: int) -> list[tuple[Key, int]]:
    return [
        ((row.get("model") or NONE, name), quantity)
        for bucket in client.usage(kind.name, start, end, "1d", group_by=("model",), whole=True)
        for row in bucket.results
        for name, quantity in quantities(kind, row)
    ]


def _positive(amounts: Iterable[Decimal]) -> list[Decimal]:
    return [amount for amount in amounts if amount > 0]


def _renamed(amounts: Mapping[Key, T], names: Mapping[str, str]) -> dict[Key, T]:
    result: dict[Key, T] = {}
    for (model, kind), amount in amounts.items():
        _add(result, (names[model], kind), amount)
    return result


def _add(sums: dict[K, T], key: K, amount: T) -> None:
    sums[key] = sums[key] + amount if key in sums else amount
