"""Configuration for monitoring systems, shipped in packaging/<name>/ beside its README.md."""

from __future__ import annotations

from pathlib import Path

from lm_openai.hosts.jobs import jobs
from lm_openai.hosts.registry import HOSTS

KEPT = {".md", ".png"}
"""Suffixes of the files that are not generated."""


def wanted(root: Path) -> dict[Path, str | None]:
    """Return the text of every shipped file; None for one that no monitoring system has."""
    shipped, texts = jobs(), dict[Path, str | None]()
    for name, host in HOSTS.items():
        folder = root / "packaging" / name
        texts.update((path, None) for path in folder.rglob("*") if generated(path))
        texts.update((folder / path, text) for path, text in host.module().files(shipped).items())
    return texts


def generated(path: Path) -> bool:
    """Return True for a file that this program wrote."""
    return path.is_file() and path.suffix not in KEPT
