"""Notes on the API in a host's cache, made older, so that a test need not wait for the next try."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lm_openai.app import session
from lm_openai.config import properties
from lm_openai.storage.cache import Cache, SharedNotes


def age(environ: Mapping[str, str], sets: Sequence[str], now: int, seconds: int) -> None:
    """Make the notes of a host's processes as old as if that many seconds had passed."""
    settings = properties.load(environ, (), tuple(sets), io.StringIO())
    owner = session.open_cache(settings, environ, now).identity
    shared = Cache(environ["LM_OPENAI_CACHE_DIR"], owner, time.time)
    SharedNotes(shared).change(lambda notes: notes.update(_older(notes, seconds)))


def _older(notes: dict[str, Any], seconds: int) -> dict[str, Any]:
    """Return the notes with all their times that many seconds earlier."""
    down = {
        key: [*(moment - seconds for moment in entry[:3]), *entry[3:]]
        for key, entry in notes.get("down", {}).items()
    }
    times: dict[str, Any] = {
        name: {key: moment - seconds for key, moment in notes[name].items()}
        for name in ("claimed", "answered")
        if name in notes
    }
    return {**({"down": down} if down else {}), **times}
