"""Digest of all reports: spending, main consumers, what is near a limit, next steps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from lm_openai.model.definition import Definition
from lm_openai.model.report import Reading, Report, Row, Values
from lm_openai.model.units import Number
from lm_openai.output.ranking import nearest, nearness
from lm_openai.output.text import row_word

NAMED = 3
"""Number of rows that a line names."""
MONTH = "amount_month_to_date"
SPENDING, DRIVERS, LIMITS = (
    "cost_by_organization",
    ("cost_by_project", "cost_by_line_item"),
    (
        "rate_limits",
        "spend_limits_by_project",
    ),
)


def digest(reports: Iterable[Report]) -> Iterator[tuple[str, str]]:
    """Yield (label, sentence) for each part whose DataSource was polled and has values."""
    polled = {report.definition.folder: report for report in reports}
    if SPENDING in polled:
        yield from _labeled("Spending", map(_spending, polled[SPENDING].rows))
    for folder in DRIVERS:
        if folder in polled:
            yield from _labeled("Driven by", [_drivers(polled[folder])])
    near = [
        (row, polled[folder])
        for folder in LIMITS
        if folder in polled
        for row in polled[folder].rows
    ]
    yield from _labeled("Near its limit", [_near(near)])


def readable(value: Number) -> str:
    """Return a number for people: digits in groups of three, Decimal to 0.01, float to 0.1."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, Decimal) else f"{value:,.1f}"


def measured(definition: Definition, name: str, value: Number) -> str:
    """Return a value with its unit for people: `$1,234.50`, `97.1 %`, `1,234`."""
    unit = definition.datapoint(name).unit
    if unit == "dollars":
        return money(value)
    return readable(value) + {"percent": " %", "bytes": " B"}.get(unit, "")


def money(value: Number) -> str:
    """Return dollars for people: `$1,234.50`."""
    return f"${readable(Decimal(value))}".replace("$-", "-$")


def values_of(row: Row) -> Values:
    """Return the row's values by datapoint."""
    return {reading.datapoint: reading.value for reading in row.readings}


def _labeled(label: str, sentences: Iterable[str]) -> Iterator[tuple[str, str]]:
    yield from ((label, sentence) for sentence in sentences if sentence)


def _spending(row: Row) -> str:
    values = values_of(row)
    parts = [
        f"{money(values[name])} {words}"
        for name, words in (
            ("amount", "today"),
            ("amount_yesterday", "yesterday"),
            (MONTH, "this month"),
        )
        if name in values
    ]
    if "amount_month_forecast" in values:
        low, high = (money(values[f"amount_month_forecast_{end}"]) for end in ("low", "high"))
        parts.append(f"forecast {money(values['amount_month_forecast'])} ({low} to {high})")
    if "budget_used_percent" in values:
        used = readable(float(values["budget_used_percent"]))
        parts.append(f"{used} % of the budget of {money(values['budget'])} used")
    return ", ".join(parts)


def _drivers(report: Report) -> str:
    """Return the rows with the greatest cost of the month, and their shares."""
    costs = [(values_of(row), row.instance.alias) for row in report.rows]
    most = sorted(
        (entry for entry in costs if entry[0].get(MONTH, 0) > 0), key=lambda entry: -entry[0][MONTH]
    )
    return "; ".join(
        f"{alias} {money(values[MONTH])}{_share(values)}" for values, alias in most[:NAMED]
    )


def _near(rows: Iterable[tuple[Row, Report]]) -> str:
    """Return the readings that are nearest to their thresholds."""
    found = [(reading, row, report) for row, report in rows if (reading := nearest(row))]
    found.sort(key=lambda entry: -nearness(entry[0]))
    return "; ".join(
        f"{row.instance.alias}: {_at_limit(report.definition, row, reading)}"
        for reading, row, report in found[:NAMED]
    )


def _at_limit(definition: Definition, row: Row, reading: Reading) -> str:
    """Return `blocked` for a limit of 0, else the reading and its value."""
    value = measured(definition, reading.datapoint, reading.value)
    return row_word(definition, row) or f"{reading.datapoint} {value}"


def _share(values: Mapping[str, Number]) -> str:
    return f" ({readable(float(values['share_percent']))} %)" if "share_percent" in values else ""
