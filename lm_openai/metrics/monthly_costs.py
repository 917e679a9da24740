"""Costs of one calendar month, exact to the last digit, for comparison with the invoice."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.errors import WrongUsage
from lm_openai.metrics import bill
from lm_openai.metrics.billing_days import calendar
from lm_openai.timespans import DAY

if TYPE_CHECKING:
    from lm_openai.api.client import Client
    from lm_openai.collect.directory import Directory


SETTLING_SECONDS = DAY
BY = ("project_id", "line_item")


class Row(NamedTuple):
    """Amount of one project's line item on one UTC day (`2026-10-31`)."""

    project_name: str
    project_id: str
    line_item: str
    day: str
    amount: Decimal


class Month(NamedTuple):
    """Costs of a month as billed so far, in one currency (`usd`).

    `name` is the month (`2026-10`). `rows` are sorted by project name, project id, line item and
    day; rows of 0 dollars are left out. `unfinished` is the reason why the costs may still change,
    or "" if they are final.
    """

    name: str
    organization: str
    rows: tuple[Row, ...]
    unfinished: str = ""
    currency: str = bill.CURRENCY


def read(client: Client, directory: Directory, organization: str, text: str, now: int) -> Month:
    """Request a month by project, line item and day; raises WrongUsage and ApiFailure."""
    start, end = period(text, now)
    rows = bill.expected_rows(directory, BY)
    dates = calendar(now)
    complete = range(start, min(end, dates.today), DAY)
    billed = bill.by_group(client, start, min(end, dates.tomorrow), BY, rows, complete)
    result = [
        Row(directory.label("project_id", project), project, item, _date(day), amount)
        for (project, item), days in billed.groups.items()
        for day, amount in days.items()
        if amount
    ]
    result.sort(key=lambda row: (row.project_name.lower(), *row))
    return Month(text, organization, tuple(result), _unfinished(end, now), billed.currency)


def period(text: str, now: int) -> tuple[int, int]:
    """Return the Unix seconds at which a month (`2026-10`) and the next one start.

    Raises WrongUsage for other text and for a month that has not begun.
    """
    if not re.fullmatch(r"(19[7-9][0-9]|2[0-9]{3})-(0[1-9]|1[0-2])", text):
        raise WrongUsage(f"--month {text!r}: give a year and a month, such as 2026-10")
    start = int(datetime.strptime(f"{text} +0000", "%Y-%m %z").timestamp())
    if start > now:
        raise WrongUsage(
            f"--month {text}: that month has not begun; give this month or an earlier one"
        )
    return start, calendar(start).next_month


def total(rows: Iterable[Row]) -> Decimal:
    """Return the exact sum of the rows."""
    return sum((row.amount for row in rows), Decimal(0))


def _unfinished(end: int, now: int) -> str:
    if now < end:
        return f"unfinished: the month ends on {_date(end - DAY)}, so its last days are missing"
    if now < end + SETTLING_SECONDS:
        return "unfinished: the month ended less than a day ago, so more costs may still arrive"
    return ""


def _date(seconds: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
