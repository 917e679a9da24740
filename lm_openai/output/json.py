"""Report as one line of JSON, described by schemas/report.schema.json."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from lm_openai.model.report import (
    LEVELS,
    Gap,
    Instance,
    Reading,
    Report,
    Row,
    Unjudged,
)
from lm_openai.model.units import plain
from lm_openai.output.text import limit
from lm_openai.timespans import iso


def write(report: Report) -> str:
    """Return the whole report as one document on one line."""
    document: dict[str, Any] = {
        **_head(report),
        "window": {"start": iso(report.start), "end": iso(report.end)},
        "data_age_seconds": report.ages,
        "instances": [_row(row) for row in report.rows],
        "units": {datapoint.name: datapoint.unit for datapoint in report.definition.datapoints},
        "partial_failures": report.failures,
        "unjudged": report.unjudged,
        "notes": report.notes,
    }
    if report.with_series:
        document["series"] = _series(report)
    return text(document) + "\n"


def write_all(reports: Iterable[Report], gaps: Iterable[Gap] = ()) -> str:
    """Return one document per line; a poll that failed has none."""
    return "".join(map(write, reports))


def discover(report: Report) -> str:
    """Return the instances alone as one document on one line."""
    instances = [_instance(row.instance) for row in report.rows]
    return text({**_head(report), "instances": instances}) + "\n"


def text(value: Any, gap: str = " ") -> str:
    """Return any value as JSON, with `gap` after each comma and colon.

    A Decimal keeps all its digits, which the standard encoder does not support.
    """
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, dict):
        members = [f"{_quoted(key)}:{gap}{text(member, gap)}" for key, member in value.items()]
        return "{" + f",{gap}".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + f",{gap}".join([text(member, gap) for member in value]) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return plain(value)


@lru_cache(maxsize=1024)
def _quoted(word: str) -> str:
    """Return a JSON string; most are names of fields that every instance repeats."""
    # escape only text with unprintable characters; names in any script stay readable
    return json.dumps(word, ensure_ascii=not word.isprintable())


def _head(report: Report) -> dict[str, Any]:
    datasource = report.definition
    return {
        "datasource": {
            "folder": datasource.folder,
            "name": datasource.name,
            "title": datasource.title,
        },
        "organization": report.organization,
        "time": iso(report.time),
        "unix_time": report.time,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        **_instance(row.instance),
        "idle": row.idle,
        **({"archived": True} if row.archived else {}),
        "state": row.state,
        "datapoints": {reading.datapoint: reading.value for reading in row.readings},
        "breaches": [_breach(reading) for reading in row.readings if reading.breach],
        "unjudged": [_unjudged(one) for one in row.unjudged],
        **({"missing": _missing(row)} if row.missing else {}),
    }


def _instance(instance: Instance) -> dict[str, Any]:
    return {
        "wildvalue": instance.wildvalue,
        "id": instance.id,
        "alias": instance.alias,
        "dimensions": instance.dimensions,
        "names": instance.names,
    }


def _unjudged(unjudged: Unjudged) -> dict[str, Any]:
    """Return a threshold whose datapoint is missing, with the value of the known part."""
    missing, breach = unjudged.missing, unjudged.breach
    known = {} if missing.at_least is None else {"at_least": missing.at_least}
    level = {"level": LEVELS[breach.level], "limit": limit(breach)} if breach else {}
    return {"datapoint": unjudged.datapoint, "reason": missing.reason, **known, **level}


def _missing(row: Row) -> dict[str, str]:
    """Return the reason for each datapoint that a failed or incomplete response leaves out."""
    return {name: missing.reason for name, missing in row.missing.items()}


def _breach(reading: Reading) -> dict[str, Any]:
    assert reading.breach
    threshold = reading.breach.threshold
    return {
        "datapoint": reading.datapoint,
        "level": LEVELS[reading.level],
        "operator": threshold.operator,
        "limit": limit(reading.breach),
        "value": reading.value,
        "consecutive": threshold.consecutive,
        "reason": threshold.reason,
    }


def _series(report: Report) -> list[dict[str, Any]]:
    return [
        {
            "wildvalue": sample.instance.wildvalue,
            "start": iso(sample.start),
            "datapoints": sample.values,
        }
        for sample in report.series
        if sample.start is not None
    ]
