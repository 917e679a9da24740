"""Formats of one calendar month of costs, with all digits, to compare with the invoice."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_EVEN, Decimal

from lm_openai.metrics.bill import CURRENCY
from lm_openai.metrics.monthly_costs import BY, Month, Row, total
from lm_openai.model.units import plain
from lm_openai.output.text import one_line

CENT = Decimal("0.01")
FORMATS = ("table", "csv", "json")
BYTE_ORDER_MARK = "\ufeff"
"""First character of a file that spreadsheets then read as UTF-8."""
FORMULA = tuple("=+-@\uff1d\uff0b\uff0d\uff20")
"""Characters that begin a formula, the wide ones in East Asian versions of spreadsheets."""


def cents(amount: Decimal) -> Decimal:
    """Return the amount rounded to the cent, half to even; never `-0.00`."""
    return amount.quantize(CENT, ROUND_HALF_EVEN) + 0


def render(month: Month, form: str) -> str:
    """Return the month in one of FORMATS."""
    return {"table": table, "csv": comma_separated, "json": document}[form](month)


def table(month: Month) -> str:
    """Return a table for people: by project and line item, then by day, then the month's total.

    Every sum is exact and rounded once, so that the total is right to the cent. If the rounded
    lines add up to another amount, the last line shows that amount.
    """
    lines = [*_by_project(month), *_by_day(month), (f"total of {month.name}", total(month.rows))]
    return "".join(
        (
            f"{month.organization}: costs of {month.name} in {_currency(month)}, by UTC days\n",
            f"{month.unfinished}\n" if month.unfinished else "",
            "\n",
            *_aligned(lines),
            _rounding(month),
        )
    )


def comma_separated(month: Month) -> str:
    """Return CSV with one line per project, line item and day; amounts have all their digits.

    A text that a spreadsheet would execute as a formula begins with an apostrophe.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("day", "project_id", "project_name", "line_item", "amount", "currency"))
    for row in month.rows:
        words = (row.day, row.project_id, row.project_name, row.line_item)
        writer.writerow((*map(_inert, words), plain(row.amount), _inert(month.currency)))
    return text.getvalue()


def document(month: Month) -> str:
    """Return one JSON document; amounts have all their digits, the total is also rounded."""
    from lm_openai.output.json import text

    whole = total(month.rows)
    return (
        text(
            {
                "month": month.name,
                "organization": month.organization,
                "currency": month.currency,
                "finished": not month.unfinished,
                "total": whole,
                "total_to_the_cent": str(cents(whole)),
                "projects": _sums(month, "project_id", "project_name"),
                "line_items": _sums(month, "line_item"),
                "days": _sums(month, "day"),
                "rows": [row._asdict() for row in month.rows],
            }
        )
        + "\n"
    )


def _inert(text: str) -> str:
    """Return text on one line that no spreadsheet takes for a formula, also without its spaces."""
    shown = one_line(text)
    return f"'{shown}" if shown.lstrip().startswith(FORMULA) else shown


Line = tuple[str, Decimal | None]


def _currency(month: Month) -> str:
    return "US dollars" if month.currency == CURRENCY else month.currency.upper()


def _by_project(month: Month) -> Iterator[Line]:
    for _, own in _parts(month.rows, "project_id"):
        name, identifier = own[0].project_name, own[0].project_id
        yield (name if name == identifier else f"{name} ({identifier})"), total(own)
        for (item,), rows in _parts(own, "line_item"):
            yield f"  {item}", total(rows)
        yield "", None


def _by_day(month: Month) -> Iterator[Line]:
    yield "by day", None
    for (day,), rows in _parts(sorted(month.rows, key=lambda row: row.day), "day"):
        yield f"  {day}", total(rows)
    yield "", None


def _aligned(lines: Iterable[Line]) -> Iterator[str]:
    """Yield the lines with their amounts aligned on the right."""
    spelled = [
        (one_line(label), "" if amount is None else str(cents(amount))) for label, amount in lines
    ]
    left = max(len(label) for label, _ in spelled)
    right = max(len(amount) for _, amount in spelled)
    for label, amount in spelled:
        yield f"{label:{left}}  {amount:>{right}}".rstrip() + "\n"


def _rounding(month: Month) -> str:
    """Return a line with the sums of the rounded lines that differ from the total, or ""."""
    differing = []
    for words, fields in (("line items", BY), ("projects", BY[:1]), ("days", ("day",))):
        shown = sum(cents(total(rows)) for _, rows in _parts(month.rows, *fields))
        if shown != cents(total(month.rows)):
            differing.append(f"{words} add up to {shown}")
    return f"(rounded one by one, {', '.join(differing)})\n" if differing else ""


def _sums(month: Month, *fields: str) -> list[dict[str, str | Decimal]]:
    return [
        {**dict(zip(fields, key)), "amount": total(rows)}
        for key, rows in sorted(_parts(month.rows, *fields))
    ]


def _parts(rows: Iterable[Row], *fields: str) -> Iterator[tuple[tuple[str, ...], list[Row]]]:
    """Yield the rows grouped by the values of some fields, in order of first appearance."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(getattr(row, field) for field in fields), []).append(row)
    yield from found.items()
