"""Folders of threshold files and of the cache, from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress


def threshold_folders(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders of a site's threshold files: the host's, then the user's, if any."""
    host = environ.get("LM_OPENAI_ETC") or "/etc/lm-openai"
    home = environ.get("HOME")
    user = environ.get("XDG_CONFIG_HOME") or (home and os.path.join(home, ".config"))
    folders = [host, os.path.join(user, "lm-openai")] if user else [host]
    return tuple(os.path.join(folder, "thresholds.d") for folder in folders)


def cache_folder(chosen: str, environ: Mapping[str, str]) -> str:
    """Return the folder of the cache.

    It is `chosen` (openai.cache.dir), else the user's cache folder, else a private folder in the
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
    return _temporary(environ.get("TMPDIR") or "/tmp")


def taken(environ: Mapping[str, str]) -> str:
    """Return the usual folder in the temporary folder if another user created it; else ""."""
    usual = _usual(environ.get("TMPDIR") or "/tmp")
    return "" if _may_be_ours(usual) else usual


def _temporary(parent: str) -> str:
    """Return this user's folder in a folder that all users share.

    If another user created the usual name, it is one with a random end. Later processes find it,
    because nobody can create a folder that belongs to this user.
    """
    usual = _usual(parent)
    if _may_be_ours(usual):
        return usual
    with suppress(OSError):
        names = sorted(name for name in os.listdir(parent) if name.startswith(_usual("") + "-"))
        for path in (os.path.join(parent, name) for name in names):
            if os.path.isdir(path) and _may_be_ours(path):
                return path
    return f"{usual}-{os.urandom(6).hex()}"


def _usual(parent: str) -> str:
    return os.path.join(parent, f"lm-openai-{os.geteuid()}")


def _may_be_ours(path: str) -> bool:
    """Return True if this user owns the path, or if it does not exist."""
    try:
        return os.lstat(path).st_uid == os.geteuid()
    except OSError:
        return True


def _writable(home: str) -> bool:
    inner = os.path.join(home, ".cache")
    return os.access(inner if os.path.isdir(inner) else home, os.W_OK | os.X_OK)
