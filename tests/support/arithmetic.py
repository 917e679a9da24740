"""Plain arithmetic over recorded answers: what the numbers of a poll must be, worked out apart."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.support.replay import Record

Expected = dict[str, dict[str, Decimal]]
WEEK = 7 * 86400


def usage(record: Record, kind: str, dimensions: list[str]) -> Expected:
    """id -> quantity -> sum over the window's rows, 0 for what only the week before shows."""
    window = [row for bucket in _buckets(record, kind, "1m") for row in bucket["results"]]
    week = [row for bucket in _buckets(record, kind, "1d") for row in bucket["results"]]
    found: Expected = {_id(row, dimensions): {} for row in (*week, *window)}
    for row in window:
        sums = found[_id(row, dimensions)]
        for name, value in row.items():
            if isinstance(value, int) and not isinstance(value, bool):
                sums[name] = sums.get(name, Decimal(0)) + value
    return found


def _buckets(record: Record, kind: str, width: str) -> list[dict[str, Any]]:
    """The buckets of the one recorded answer of that width."""
    answers = [
        entry.answer["data"]
        for entry in record.answers
        if entry.path == f"/organization/usage/{kind}" and entry.query["bucket_width"] == [width]
    ]
    (buckets,) = answers
    return list(buckets)


def _id(row: dict[str, Any], dimensions: list[str]) -> str:
    return "/".join(_word(row[dimension]) for dimension in dimensions)


def _word(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else value
