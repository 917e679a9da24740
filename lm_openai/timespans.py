"""Spans of time in UTC: bucket widths, durations, moments and the windows that end at a moment."""

from __future__ import annotations

import re
import time
from typing import NamedTuple

MINUTE, HOUR, DAY = 60, 3600, 86400
WIDTHS = {"1m": MINUTE, "1h": HOUR, "1d": DAY}
_SECONDS = {"s": 1, "m": MINUTE, "h": HOUR, "d": DAY}


class Window(NamedTuple):
    """Half-open span in Unix seconds; `width` is the width of its buckets (`1m`, `1h`, `1d`)."""

    start: int
    end: int
    width: str


def newborn_day(now: int) -> int | None:
    """Return today's midnight in the first hour of a UTC day, when its costs may not exist yet."""
    return now // DAY * DAY if now % DAY < HOUR else None


def window(text: str, end: int) -> Window:
    """Return the window `text` that ends at `end`: whole buckets and the running one, in UTC.

    Up to an hour is read in minutes, up to a day in hours, above that in days. `today` and `month`
    contain the last second before `end`, so that neither is empty at midnight.
    """
    if text == "today":
        return Window((end - 1) // DAY * DAY, end, "1h")
    if text == "month":
        return Window(_month_start(end - 1), end, "1d")
    length = duration(text)
    width = "1m" if length <= HOUR else "1h" if length <= DAY else "1d"
    return Window(end // WIDTHS[width] * WIDTHS[width] - length, end, width)


def duration(text: str) -> int:
    """Return the seconds of a whole number with its unit; raises ValueError.

    >>> duration("90s"), duration("3h")
    (90, 10800)
    """
    found = re.fullmatch(r"([0-9]{1,9})([smhd])", text)
    if not found:
        raise ValueError
    return int(found[1]) * _SECONDS[found[2]]


def short(seconds: int) -> str:
    """Return seconds as `duration` reads them, in the largest unit that makes a whole number.

    >>> short(90), short(10800)
    ('90s', '3h')
    """
    unit = [unit for unit, length in _SECONDS.items() if seconds % length == 0][-1]
    return f"{seconds // _SECONDS[unit]}{unit}"


def moment(text: str) -> int:
    """Return the Unix seconds of an ISO 8601 date or time; without an offset it is UTC.

    Raises ValueError.
    """
    from datetime import datetime, timezone

    found = re.fullmatch(
        r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?)?", text, re.A
    )
    if not found:
        raise ValueError
    day, clock, offset = found[1], found[2] or "00:00", found[3] or "Z"
    parsed = datetime.fromisoformat(f"{day}T{clock}{offset.replace('Z', '+00:00')}")
    return int(parsed.astimezone(timezone.utc).timestamp())


def iso(seconds: int) -> str:
    """Return Unix seconds in ISO 8601 and UTC.

    >>> iso(0)
    '1970-01-01T00:00:00Z'
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _month_start(instant: int) -> int:
    from datetime import datetime, timezone

    now = datetime.fromtimestamp(instant, timezone.utc)
    return int(datetime(now.year, now.month, 1, tzinfo=timezone.utc).timestamp())
