"""Dashboards that are shipped for Grafana, and their panels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lm_openai.hosts import grafana
from lm_openai.hosts.jobs import jobs

Json = dict[str, Any]
FILES = grafana.files(jobs())
DASHBOARDS: dict[str, Json] = {
    path: json.loads(text) for path, text in FILES.items() if path.endswith(".json")
}


def panels(dashboard: Json) -> Iterator[Json]:
    """Yield the panels that have queries, those of folded rows too."""
    for panel in dashboard["panels"]:
        yield from panel["panels"] if panel["type"] == "row" else [panel]
