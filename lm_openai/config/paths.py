"""Folders of threshold files and of the cache, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping


def threshold_folders(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders of a site's threshold files: the host's, then the user's, if any."""
    host = environ.get("LM_OPENAI_ETC") or "/etc/lm-openai"
    home = environ.get("HOME")
    user = environ.get("XDG_CONFIG_HOME") or (home and os.path.join(home, ".config"))
    folders = [host, os.path.join(user, "lm-openai")] if user else [host]
    return tuple(os.path.join(folder, "thresholds.d") for folder in folders)


def cache_folder(chosen: str, environ: Mapping[str, str]) -> str:
    """Return the folder of the cache.

    It is `chosen` (openai.cache.dir), else the user's cache folder, else a private folder below the
    temporary folder.
    """
    if chosen:
        return chosen
    shared = environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(shared):
        return os.path.join(shared, "lm-openai")
    home = environ.get("HOME", "")
    if os.path.isabs(home) and _writable(home):
        return os.path.join(home, ".cache", "lm-openai")
    return os.path.join(environ.get("TMPDIR") or "/tmp", f"lm-openai-{os.geteuid()}")


def _writable(home: str) -> bool:
    inner = os.path.join(home, ".cache")
    return os.access(inner if os.path.isdir(inner) else home, os.W_OK | os.X_OK)
