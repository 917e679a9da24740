"""Expected numbers of a poll, computed with plain arithmetic from the recorded responses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.support.replay import Record

Expected = dict[str, dict[str, Decimal]]
WEEK = 7 * 86400


def usage(record: Record, kind: str, dimensions: list[str]) -> Expected:
    """Return id -> quantity -> sum over the window's rows; empty for ids that only the week has."""
    window = [row for bucket in _buckets(record, kind, "1m") for row in bucket["results"]]
    week = [row for bucket in _buckets(record, kind, "1d") for row in bucket["results"]]
    result: Expected = {_id(row, dimensions): {} for row in (*week, *window)}
    for row in window:
        sums = result[_id(row, dimensions)]
        for name, value in row.items():
            if isinstance(value, int) and not isinstance(value, bool):
                sums[name] = sums.get(name, Decimal(0)) + value
    return result


def probes(record: Record) -> dict[str, Decimal]:
    """Return the number of requests and the age of each kind's newest minute with usage."""
    found = {"requests_made": Decimal(len(record.answers))}
    for entry in record.answers:
        kind = entry.path.partition("/usage/")[2]
        buckets = entry.answer["data"] if kind else ()
        ends = [bucket["end_time"] for bucket in buckets if bucket["results"]]
        if ends:
            found[f"{kind}_data_age_seconds"] = Decimal(record.at - max(ends))
    return found


def _buckets(record: Record, kind: str, width: str) -> list[dict[str, Any]]:
    """Return the buckets of the only recorded response with that width."""
    found = [
        entry.answer["data"]
        for entry in record.answers
        if entry.path == f"/organization/usage/{kind}" and entry.query["bucket_width"] == [width]
    ]
    (buckets,) = found
    return list(buckets)


def _id(row: dict[str, Any], dimensions: list[str]) -> str:
    return "/".join(_word(row[dimension]) for dimension in dimensions)


def _word(value: Any) -> str:
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else value
