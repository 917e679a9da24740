"""Order of rows for people: the worst state first, then what is nearest to its threshold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lm_openai.model.report import STATES, Reading, Report, Row


def nearness(reading: Reading) -> float:
    """Return the value as a part of the lowest limit of its threshold: 1 at the limit, above worse.

    For a threshold on low values it is the limit as a part of the value. Return 0 where a part
    means nothing: without a threshold, with a limit of 0 and for a threshold on equality.
    """
    threshold = reading.threshold
    if threshold is None or not threshold.on:
        return 0.0
    limit = float(next(bound for bound in threshold.limits if bound is not None))
    value = float(reading.value)
    if threshold.operator in (">", ">=") and limit > 0:
        return max(0.0, value / limit)
    if threshold.operator in ("<", "<=") and value > 0:
        return max(0.0, limit / value)
    return 0.0


def nearest(row: Row) -> Reading | None:
    """Return the reading that is nearest to its threshold, or None if no reading has a nearness."""
    best = max(row.readings, key=nearness, default=None)
    return best if best and nearness(best) else None


def severity(row: Row) -> int:
    """Return how bad the row's state is, the higher the worse."""
    return STATES.index(row.state)


def ranked(rows: Iterable[Row], chief: Sequence[str], points: Sequence[str]) -> list[Row]:
    """Return the rows by severity, idle rows last, then by nearness to a threshold.

    The nearness of each of the `chief` datapoints counts first, in their order, such as that of
    tokens, requests and images; then the greatest nearness of any other, then the values of
    `points`.
    """

    def key(row: Row) -> tuple[object, ...]:
        readings = {reading.datapoint: reading for reading in row.readings}
        near = {name: -nearness(reading) for name, reading in readings.items()}
        values = [-float(readings[name].value) if name in readings else 0.0 for name in points]
        order = [near.get(name, 0.0) for name in chief]
        nearest_of_all = min(near.values(), default=0.0)
        return (-severity(row), row.idle, order, nearest_of_all, values, row.instance.alias)

    return sorted(rows, key=key)


def attention(reports: Iterable[Report]) -> list[tuple[Row, Report]]:
    """Return all rows whose state is not ok, with their reports, in the same order."""
    bad = [(row, report) for report in reports for row in report.rows if severity(row)]
    return sorted(
        bad,
        key=lambda pair: (-severity(pair[0]), -max(map(nearness, pair[0].readings), default=0.0)),
    )
