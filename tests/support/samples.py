"""Small definitions and reports for tests, and ids and names that break careless formats."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from hypothesis import strategies

from lm_openai.model.definition import Datapoint, Definition, Graph
from lm_openai.model.report import (
    Breach,
    Instance,
    Reading,
    Report,
    Row,
    Sample,
)
from lm_openai.model.thresholds import Threshold
from lm_openai.model.units import Number

NOON = 1_790_078_400
"""2026-09-22T12:00:00Z."""

DATAPOINTS = (
    Datapoint("input_tokens", "tokens", "Input tokens", fold="sum", min=0),
    Datapoint("num_model_requests", "requests", "Requests", fold="sum", min=0),
    Datapoint("amount", "dollars", "Dollars"),
    Datapoint(
        "cached_percent",
        "percent",
        'Share of "input" that is C:\\cached',
        derived={"percent": ["input_cached_tokens", "input_tokens"]},
        min=0,
        max=100,
    ),
    Datapoint("peak_age_seconds", "whole_seconds", "Age of the peak", min=0),
)

IDS = (
    "gpt-4o",
    "gpt-4.1",
    "gpt-4-1",
    "ft:gpt-4o:org::id",
    "proj_1/gpt 4",
    "a,b=c",
    "it's",
    '"quoted"',
    "line\nbreak",
    "back\\slash",
    "ends\\",
    "a|b",
    "x##y",
    "#",
    "C#",
    "Größe ☃ 模型",
    "a\u2028b",
    "tab\tbell\x07",
    "  two  spaces  ",
    "100%&x=y",
    "none",
)

TEXTS = strategies.sampled_from(IDS) | strategies.text(
    strategies.characters(exclude_categories=["Cs"]), min_size=1, max_size=40
)
WHOLE = strategies.integers(-(2**63), 2**63 - 1)
MONEY = strategies.decimals(-(10**9), 10**9, allow_nan=False, places=12)
FLOATS = strategies.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)


def definition(*datapoints: Datapoint, **changes: Any) -> Definition:
    """Return a definition for tests; one graph draws all datapoints."""
    points = datapoints or DATAPOINTS
    fields: dict[str, Any] = {
        "folder": "completion_by_model",
        "name": "OpenAI_Completion_ByModel",
        "title": "OpenAI Completion By Model",
        "description": "For tests.",
        "interval": 300,
        "discovery_interval": 3600,
        "dimensions": ("model",),
        "series_width": "1m",
        "properties": (),
        "datapoints": points,
        "graphs": (Graph("All", tuple(point.name for point in points)),),
    }
    return Definition(**{**fields, **changes})


def instance(identifier: str = "gpt-4o", alias: str | None = None, **names: str) -> Instance:
    """Return an instance of the model with that id."""
    return Instance(
        identifier, identifier if alias is None else alias, {"model": identifier}, names
    )


def row(
    which: Instance | str = "gpt-4o",
    *thresholds: Threshold,
    idle: bool = False,
    **values: Number,
) -> Row:
    """Return a row with these values, compared with the thresholds of their datapoints."""
    limits = {threshold.datapoint: threshold for threshold in thresholds}
    readings = (reading(name, value, limits.get(name)) for name, value in values.items())
    return Row(instance(which) if isinstance(which, str) else which, tuple(readings), idle)


def reading(name: str, value: Number, threshold: Threshold | None = None) -> Reading:
    """Return a reading of the value, with its breach if it has one."""
    level = threshold.level(value) if threshold else 0
    return Reading(
        name, value, threshold, Breach(level, threshold) if threshold and level else None
    )


def threshold(
    name: str,
    operator: str,
    warning: object = None,
    error: object = None,
    critical: object = None,
    **more: Any,
) -> Threshold:
    """Return a threshold; a limit is anything that Decimal accepts as text."""
    bounds = (
        None if bound is None else Decimal(str(bound)) for bound in (warning, error, critical)
    )
    first, second, third = bounds
    return Threshold(name, operator, first, second, third, **more)


def sample(which: Instance | str, start: int, **values: Number) -> Sample:
    """Return one bucket of one instance."""
    return Sample(instance(which) if isinstance(which, str) else which, values, start)


def report(rows: Iterable[Row] = (), **changes: Any) -> Report:
    """Return a report of the hour before NOON."""
    whole: dict[str, Any] = {
        "definition": definition(),
        "organization": "acme",
        "time": NOON,
        "start": NOON - 3600,
        "end": NOON,
    }
    return Report(**{**whole, **changes, "rows": tuple(rows)})
