"""How the tests of single DataSources poll the demo organization, and read what comes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support import replay

WEDNESDAY = 1795005296  # 2026-11-18 12:34:56 UTC


def polled(
    folder: str,
    demo: Simulator,
    cache: Path,
    form: str = "json",
    properties: dict[str, str] | None = None,
    *,
    discover: bool = False,
    key: str = ADMIN_KEY,
) -> replay.Outcome:
    """One run at the demo's own time; `cache` also holds the site's `thresholds.d`."""
    settings = {"openai.org.name": "acme", **(properties or {})}
    record = replay.Record(int(demo.now), settings, ())
    return replay.collected(folder, record, demo.url, cache, form, discover, key)


def document(*arguments: Any, **settings: Any) -> dict[str, Any]:
    """What `polled` prints as JSON."""
    outcome = polled(*arguments, **settings)
    assert outcome.status == 0, outcome.stderr
    found: dict[str, Any] = json.loads(outcome.stdout)
    return found


def values(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Datapoints by alias."""
    return {row["alias"]: row["datapoints"] for row in found["instances"]}


def breaches(found: dict[str, Any]) -> dict[str, dict[str, str]]:
    """By alias the level of each datapoint over its threshold; only where there is one."""
    return {
        row["alias"]: {breach["datapoint"]: breach["level"] for breach in row["breaches"]}
        for row in found["instances"]
        if row["breaches"]
    }
