"""What a project may use per minute and day: its rate limit rows in the API's wire form."""

from __future__ import annotations


def rows(case: str, models: list[str]) -> list[dict[str, object]]:
    return []
