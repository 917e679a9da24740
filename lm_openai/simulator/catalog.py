"""Models of the demo organization: their names in usage and the kinds that each one serves."""

from __future__ import annotations

import re
from typing import NamedTuple


class Model(NamedTuple):
    """Model; `name` is its name in usage: a dated snapshot, a bare alias or a fine-tuned model."""

    name: str
    family: str
    kinds: tuple[str, ...]


def models(count: int) -> tuple[Model, ...]:
    """Return the first `count` models: real names first, then generated text models."""
    known = [Model(name, family(name), kinds) for name, kinds in KNOWN[:count]]
    names = (f"gpt-sim-{number:04d}-2026-01-15" for number in range(len(known), count))
    return (*known, *(Model(name, family(name), ("completions",)) for name in names))


def family(name: str) -> str:
    """Return the name without date or version; a fine-tuned model has its base model's family."""
    base = name.split(":")[1] if name.startswith("ft:") else name
    return re.sub(r"-\d{4}-\d{2}-\d{2}$|-v\d+$", "", base)


TEXT = ("completions",)
TEXT_AND_SEARCH = ("completions", "web_search_calls")

KNOWN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("gpt-4o-2024-08-06", TEXT_AND_SEARCH),
    ("gpt-4o-mini-2024-07-18", TEXT),
    ("gpt-5-nano-2025-08-07", TEXT),
    ("gpt-4.1-2025-04-14", TEXT),
    ("text-embedding-3-small", ("embeddings",)),
    ("o3-2025-04-16", TEXT),
    ("gpt-4.1-mini-2025-04-14", TEXT),
    ("gpt-5-2025-08-07", (*TEXT_AND_SEARCH, "decisions")),
    ("gpt-5-mini-2025-08-07", (*TEXT, "decisions")),
    ("gpt-4o", TEXT),
    ("ft:gpt-4o-mini-2024-07-18:acme::a1b2c3", TEXT),
    ("text-embedding-3-large", ("embeddings",)),
    ("omni-moderation-latest", ("moderations",)),
    ("gpt-image-1", ("images",)),
    ("dall-e-3", ("images",)),
    ("tts-1", ("audio_speeches",)),
    ("whisper-1", ("audio_transcriptions",)),
    ("gpt-realtime-2025-08-28", TEXT),
    ("computer-use-preview-2025-03-11", TEXT),
    ("gpt-4o-2024-11-20", TEXT),
    ("text-embedding-ada-002-v2", ("embeddings",)),
    ("gpt-5.1-2025-11-13", TEXT_AND_SEARCH),
    ("o4-mini-2025-04-16", TEXT),
    ("gpt-4o-audio-preview-2024-12-17", TEXT),
)
