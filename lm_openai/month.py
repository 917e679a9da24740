"""One calendar month of costs, exact to the last digit, to be held against the invoice."""

from __future__ import annotations

import csv
import io
import re
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING, NamedTuple

from lm_openai import costs
from lm_openai.days import DAY, calendar
from lm_openai.errors import WrongUsage
from lm_openai.units import plain
from lm_openai.writers import one_line

if TYPE_CHECKING:
    from lm_openai.client import Client
    from lm_openai.names import Names

SETTLING_SECONDS = DAY
BY = ("project_id", "line_item")
CENT = Decimal("0.01")
FORMATS = ("table", "csv", "json")


class Row(NamedTuple):
    """Dollars of one project's line item in one UTC day (`2026-10-31`)."""

    project_name: str
    project_id: str
    line_item: str
    day: str
    amount: Decimal


class Month(NamedTuple):
    """A month as it is billed by now; `unfinished` says why it may still change, else is empty.

    `rows` are in the order of project, line item and day and hold no zeros.
    """

    name: str
    organization: str
    rows: tuple[Row, ...]
    unfinished: str = ""


def read(client: Client, names: Names, organization: str, text: str, now: int) -> Month:
    """Ask for a month by project, line item and day; raises WrongUsage and ApiFailure."""
    start, end = period(text, now)
    rows = costs.expected_rows(names, BY)
    dates = calendar(now)
    complete = range(start, min(end, dates.today), DAY)
    groups = costs.by_group(client, start, min(end, dates.tomorrow), BY, rows, complete)
    found = [
        Row(names.of("project_id", project) or project, project, item, _date(day), amount)
        for (project, item), days in groups.items()
        for day, amount in days.items()
        if amount
    ]
    found.sort(key=lambda row: (row.project_name.lower(), *row))
    return Month(text, organization, tuple(found), _unfinished(end, now))


def period(text: str, now: int) -> tuple[int, int]:
    """First second of a month (`2026-10`) and of the next; raises WrongUsage."""
    if not re.fullmatch(r"(19[7-9][0-9]|2[0-9]{3})-(0[1-9]|1[0-2])", text):
        raise WrongUsage(f"--month {text!r}: give a year and a month, such as 2026-10")
    start = int(datetime.strptime(f"{text} +0000", "%Y-%m %z").timestamp())
    if start > now:
        raise WrongUsage(f"--month {text}: that month has not begun")
    return start, calendar(start).next_month


def total(rows: Iterable[Row]) -> Decimal:
    """The exact sum."""
    return sum((row.amount for row in rows), Decimal(0))


def cents(amount: Decimal) -> Decimal:
    """Rounded to the cent, half to even; never `-0.00`."""
    return amount.quantize(CENT, ROUND_HALF_EVEN) + 0


def written(month: Month, form: str) -> str:
    """The month as one of FORMATS."""
    return {"table": table, "csv": comma_separated, "json": document}[form](month)


def table(month: Month) -> str:
    """For people: to the cent by project and line item, then by day, then the month.

    Every sum is exact and rounded once, so that the month is right to the cent; where rounded
    lines add up to something else, the last line says so.
    """
    lines = [*_by_project(month), *_by_day(month), (f"total of {month.name}", total(month.rows))]
    return "".join(
        (
            f"{month.organization}: costs of {month.name} in US dollars, by UTC days\n",
            f"{month.unfinished}\n" if month.unfinished else "",
            "\n",
            *_aligned(lines),
            _rounding(month),
        )
    )


def comma_separated(month: Month) -> str:
    """One line for each project, line item and day, amounts with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("day", "project_id", "project_name", "line_item", "amount", "currency"))
    for row in month.rows:
        words = (row.day, row.project_id, row.project_name, row.line_item)
        writer.writerow((*map(one_line, words), plain(row.amount), costs.CURRENCY))
    return text.getvalue()


def document(month: Month) -> str:
    """One JSON document, amounts with all their digits and the total also to the cent."""
    from lm_openai.writers.json import text

    whole = total(month.rows)
    return (
        text(
            {
                "month": month.name,
                "organization": month.organization,
                "currency": costs.CURRENCY,
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


Line = tuple[str, Decimal | None]


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
    """Amounts end in one column."""
    spelled = [
        (one_line(label), "" if amount is None else str(cents(amount))) for label, amount in lines
    ]
    left = max(len(label) for label, _ in spelled)
    right = max(len(amount) for _, amount in spelled)
    for label, amount in spelled:
        yield f"{label:{left}}  {amount:>{right}}".rstrip() + "\n"


def _rounding(month: Month) -> str:
    """What the lines add up to as they are shown, where that is not the total."""
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
    """The rows by the values of some fields; in the order in which they came."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(getattr(row, field) for field in fields), []).append(row)
    yield from found.items()


def _unfinished(end: int, now: int) -> str:
    if now < end:
        return f"unfinished: the month ends on {_date(end - DAY)}, and its last days are to come"
    if now < end + SETTLING_SECONDS:
        return "unfinished: the month ended less than a day ago, and costs still come in"
    return ""


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
