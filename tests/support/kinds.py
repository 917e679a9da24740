"""DataSources by usage kind, derived from their scripts."""

from __future__ import annotations

from importlib import import_module

from lm_openai import resources
from lm_openai.api.endpoints import TOTALS, USAGE_KINDS


def kinds_by_folder() -> dict[str, str]:
    """Return the usage kind of each DataSource that shows one kind, by folder."""
    modules = {
        folder: import_module(f"lm_openai.modules.{folder}.{folder}")
        for folder in resources.folders()
    }
    return {folder: module.KIND for folder, module in modules.items() if hasattr(module, "KIND")}


def counted_total(kind: str) -> str:
    """Return the total other than requests to which a kind contributes: `tokens`, `images`, …"""
    (total,) = (name for name in USAGE_KINDS[kind].totals if name != "requests")
    return total


def total_of(kind: str, values: dict[str, float]) -> float:
    """Return a kind's part of its total, from the datapoints of its DataSource."""
    fields = set(TOTALS[counted_total(kind)]) & set(USAGE_KINDS[kind].required)
    return sum(values[field] for field in fields)
