"""Aggregation: fold buckets into a window's value and compute derived datapoints."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from lm_openai.model.definition import Definition
from lm_openai.model.report import Sample, Values
from lm_openai.model.units import Number

PLACES = 6
CENT = Decimal("0.01")


def folded(definition: Definition, samples: Iterable[Sample]) -> Values:
    """Return one value per datapoint that any sample has, in the definition's order.

    Samples of the whole poll (`start` None) come after the buckets, so that "last" prefers them.
    """
    in_order = sorted(samples, key=lambda sample: (sample.start is None, sample.start or 0))
    values: Values = {}
    for datapoint in definition.datapoints:
        found = [
            sample.values[datapoint.name] for sample in in_order if datapoint.name in sample.values
        ]
        if found:
            values[datapoint.name] = _fold(datapoint.fold, found)
    return values


def derived(definition: Definition, values: Values) -> Values:
    """Return `values` and all derived datapoints that can be computed from them.

    The result is in the definition's order.
    """
    known = dict(values)
    for datapoint in definition.datapoints:
        for rule, names in (datapoint.derived or {}).items():
            value = RULES[rule]([known.get(name) for name in names])
            if value is not None:
                known[datapoint.name] = value
    return {
        datapoint.name: known[datapoint.name]
        for datapoint in definition.datapoints
        if datapoint.name in known
    }


def percent(part: Number | None, whole: Number | None) -> float | None:
    """Return `part` of `whole` in percent, rounded to 6 places.

    None if either is unknown or the whole is 0 or less.
    """
    if part is None or whole is None or whole <= 0:
        return None
    return float(round(Decimal(part) * 100 / Decimal(whole), PLACES))


def dollar_percent(part: Number | None, whole: Number | None) -> float | None:
    """Return dollars of a total in percent, as `percent` does; None if the total is below a cent.

    A share of a total that nets to almost nothing has no meaning.
    """
    return None if whole is None or whole < CENT else percent(part, whole)


def mean(values: Iterable[Decimal]) -> Decimal | None:
    """Return the mean, not rounded; None if there are no values."""
    known = list(values)
    return sum(known, Decimal(0)) / len(known) if known else None


def _fold(fold: str | None, found: list[Number]) -> Number:
    if fold == "sum":
        return sum(found)
    return max(found) if fold == "max" else found[-1]


def _sum(parts: list[Number | None]) -> Number | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _percent(parts: list[Number | None]) -> Number | None:
    part, whole = parts
    return percent(part, whole)


RULES = {"sum": _sum, "percent": _percent}
