"""Polls of the demo organization by one DataSource, and readers of the JSON they print."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support import replay

WEDNESDAY = 1795005296  # 2026-11-18 12:34:56 UTC
VARYING = {"latency_seconds", "requests_made"}
"""Datapoints about the poll itself, which differ between two polls of the same time."""


def polled(
    folder: str,
    demo: Simulator,
    cache: Path,
    form: str = "json",
    properties: dict[str, str] | None = None,
    *,
    discover: bool = False,
    key: str = ADMIN_KEY,
    **options: Any,
) -> replay.Outcome:
    """Poll once at the demo's time; `cache` is also the folder of the site's `thresholds.d`.

    `options` are further fields of Options.
    """
    settings = {"openai.org.name": "acme", **(properties or {})}
    record = replay.Record(int(demo.now), settings, ())
    return replay.collected(folder, record, demo.url, cache, form, discover, key, **options)


def document(*arguments: Any, **settings: Any) -> dict[str, Any]:
    """Return the document that `polled` prints as JSON; fails if the status is not 0."""
    outcome = polled(*arguments, **settings)
    assert outcome.status == 0, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def values(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return datapoints by alias."""
    return {row["alias"]: row["datapoints"] for row in found["instances"]}


def breaches(found: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Return, by alias, the level of each datapoint in breach of its threshold."""
    return {
        row["alias"]: {breach["datapoint"]: breach["level"] for breach in row["breaches"]}
        for row in found["instances"]
        if row["breaches"]
    }
