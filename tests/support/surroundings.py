"""Surroundings of a run in a test: the environment that names an API, a key and one folder."""

from __future__ import annotations

from pathlib import Path

from lm_openai.simulator import ADMIN_KEY


def environment(url: str, folder: Path, key: str = ADMIN_KEY) -> dict[str, str]:
    """Return the environment of a run; `folder` holds its cache and its site files."""
    return {
        "OPENAI_ADMIN_KEY": key,
        "OPENAI_BASE_URL": url,
        "LM_OPENAI_CACHE_DIR": str(folder),
        "LM_OPENAI_ETC": str(folder),
    }
