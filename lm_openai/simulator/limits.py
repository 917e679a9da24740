"""Rate limit rows of a project, per minute and per day, in the API's wire form."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from lm_openai.simulator.catalog import family

Row = dict[str, Any]

UNLIMITED = 2147483647  # the API's value for "no limit"


def rows(case: str, models: Sequence[str]) -> list[Row]:
    """Return all rows of a project, including rows for the generated names in `models`."""
    changes = CHANGES.get(case, {})
    generated = tuple(model for model in models if model.startswith("gpt-sim-"))
    return [
        {"object": "project.rate_limit", "id": f"rl-{name}", "model": name, **limits, **change}
        for name, limits in _usual(generated)
        for change in (changes.get(name, {}),)
    ]


def row_of(found: Iterable[Row], model: str) -> Row | None:
    """Return the row that a model's usage counts against: its own, its base's or its family's."""
    by_model = {row["model"]: row for row in found}
    base = model.split(":")[1] if model.startswith("ft:") else model
    names = (model, f"ft:{base}", base, family(model)) if base != model else (model, family(model))
    return next((by_model[name] for name in names if name in by_model), None)


def pool(found: Sequence[Row], model: str) -> frozenset[str]:
    """Return the models of the rows that share one limit with a model's row; empty without one."""
    own = row_of(found, model)
    return frozenset(row["model"] for row in found if own and _shared(row) == _shared(own))


def _shared(row: Row) -> tuple[str, dict[str, int]]:
    """Return a row's model without its date, and the row's limits."""
    stem = re.sub(r"-(?:\d{4}-\d{2}-\d{2}|[01]\d{3})$", "", row["model"])
    return stem, {field: row[field] for field in FIELDS if field in row}


@lru_cache(maxsize=8)
def _usual(generated: tuple[str, ...]) -> tuple[tuple[str, dict[str, int]], ...]:
    extra = tuple((GENERATED_LIMITS, f"{name[: -len(DATE)]} {name}") for name in generated)
    return tuple(
        (name, _limits(numbers)) for numbers, names in (*LIMITS, *extra) for name in _names(names)
    )


def _limits(numbers: str) -> dict[str, int]:
    pairs = zip(FIELDS, numbers.split())
    return {field: int(number.replace("_", "")) for field, number in pairs if number != "-"}


def _names(words: str) -> Iterator[str]:
    """Yield full names; a word that begins with `-` extends the last one: `gpt-4o -2024-05-13`."""
    full = ""
    for word in words.split():
        full = full if word.startswith("-") else word
        yield full + word if word.startswith("-") else full


FIELDS = (
    "max_requests_per_1_minute",
    "max_tokens_per_1_minute",
    "max_images_per_1_minute",
    "max_requests_per_1_day",
    "batch_1_day_max_input_tokens",
    "max_audio_megabytes_per_1_minute",
)

# Limits that differ from the usual ones, by project case and row; they demonstrate the case.
HOT = {"max_requests_per_1_minute": 2_000, "max_tokens_per_1_minute": 400_000}
BLOCKED = {"max_requests_per_1_minute": 0, "max_tokens_per_1_minute": 0}
NO_LIMIT = {"max_requests_per_1_minute": UNLIMITED, "max_tokens_per_1_minute": UNLIMITED}
CHANGES: dict[str, dict[str, dict[str, int]]] = {
    "hot": {"gpt-4o-mini": HOT, "gpt-4o-mini-2024-07-18": HOT},
    "blocked": {"o3": BLOCKED, "o3-2025-04-16": BLOCKED},
    "unlimited": dict.fromkeys(
        ("gpt-4o", "gpt-4o-2024-05-13", "gpt-4o-2024-08-06", "gpt-4o-2024-11-20"), NO_LIMIT
    ),
    "translation": {"gpt-4.1-2025-04-14": {"max_tokens_per_1_minute": 120_000}},
}

DATE = "-2026-01-15"
GENERATED_LIMITS = "5000 2_000_000 50000 - 100_000_000"

# Limits in the order of FIELDS (`-`: the rows lack this field), and the rows that have them.
LIMITS = (
    ("10000 2_000_000 50000 - 200_000_000", "gpt-4o -2024-05-13 -2024-08-06 -2024-11-20"),
    ("10000 4_000_000 50000 - 40_000_000", "gpt-4o-mini -2024-07-18"),
    ("10000 2_000_000 50000 - 200_000_000", "gpt-4.1 -2025-04-14"),
    ("10000 10_000_000 50000 - 1_000_000_000", "gpt-4.1-mini -2025-04-14"),
    ("10000 10_000_000 50000 - 1_000_000_000", "gpt-4.1-nano -2025-04-14"),
    ("1000 5_000_000 50000 - 100_000_000", "gpt-4.1-long-context"),
    ("2000 10_000_000 50000 - 500_000_000", "gpt-4.1-mini-long-context"),
    ("2000 10_000_000 50000 - 500_000_000", "gpt-4.1-nano-long-context"),
    ("10000 4_000_000 50000 - 200_000_000", "gpt-5 -2025-08-07 gpt-5-chat-latest gpt-5-codex"),
    ("10000 4_000_000 50000 - 1_000_000_000", "gpt-5-mini -2025-08-07"),
    ("10000 1_000_000 50000 - 1_000_000_000", "gpt-5-nano -2025-08-07"),
    ("500 150_000 50000 - 5_000_000", "gpt-5-pro -2025-10-06 gpt-5.2-pro -2025-12-11"),
    ("2000 1_000_000 - - -", "gpt-5-search-api -2025-10-14"),
    ("10000 4_000_000 50000 - 200_000_000", "gpt-5.1 -2025-11-13 -chat-latest -codex"),
    ("10000 4_000_000 50000 - 200_000_000", "gpt-5.2 -2025-12-11 -chat-latest"),
    ("5000 2_000_000 - - 40_000_000", "gpt-5.1-codex-mini codex-mini-latest"),
    ("5000 1_500_000 50000 - 5_000_000", "o1 -2024-12-17 o1-preview -2024-09-12"),
    ("5000 5_000_000 - - 100_000_000", "o1-mini -2024-09-12 o3-mini -2025-01-31"),
    ("500 150_000 50000 1000 5_000_000", "o1-pro -2025-03-19 o3-pro -2025-06-10"),
    ("5000 2_000_000 50000 - 5_000_000", "o3 -2025-04-16"),
    ("5000 4_000_000 50000 - 500_000_000", "o4-mini -2025-04-16"),
    ("500 500_000 - - 2_000_000", "o3-deep-research -2025-06-26"),
    ("1000 2_000_000 - - 10_000_000", "o4-mini-deep-research -2025-06-26"),
    ("10000 1_000_000 50000 - -", "chatgpt-4o-latest gpt-4.5-preview -2025-02-27"),
    ("10000 300_000 - - 30_000_000", "gpt-4 -0314 -0613"),
    ("10000 800_000 50000 - 80_000_000", "gpt-4-turbo -2024-04-09 gpt-4-turbo-preview"),
    ("10000 800_000 50000 - 80_000_000", "gpt-4-0125-preview gpt-4-1106-preview"),
    ("10000 800_000 50000 - 80_000_000", "gpt-4-vision-preview gpt-4-1106-vision-preview"),
    ("10000 10_000_000 - - 1_000_000_000", "gpt-3.5-turbo -0125 -1106 -16k"),
    ("3500 90_000 - - 200_000", "gpt-3.5-turbo-instruct -0914 babbage-002 davinci-002"),
    ("10000 2_000_000 - - -", "gpt-4o-audio-preview -2024-10-01 -2024-12-17 -2025-06-03"),
    ("10000 4_000_000 - - -", "gpt-4o-mini-audio-preview -2024-12-17"),
    ("5000 2_000_000 - 100000 -", "gpt-4o-realtime-preview -2024-10-01 -2024-12-17 -2025-06-03"),
    ("5000 4_000_000 - 100000 -", "gpt-4o-mini-realtime-preview -2024-12-17"),
    ("5000 2_000_000 50000 100000 -", "gpt-realtime -2025-08-28 gpt-realtime-mini -2025-10-06"),
    ("10000 2_000_000 - - -", "gpt-audio -2025-08-28 gpt-audio-mini -2025-10-06"),
    ("1000 2_000_000 - - -", "gpt-4o-search-preview -2025-03-11"),
    ("2000 4_000_000 - - -", "gpt-4o-mini-search-preview -2025-03-11"),
    ("5000 2_000_000 - - - 400", "gpt-4o-transcribe gpt-4o-mini-transcribe"),
    ("5000 2_000_000 - - - 400", "gpt-4o-transcribe-diarize"),
    ("5000 2_000_000 - - -", "gpt-4o-mini-tts -2025-03-20"),
    ("5000 2147483647 - - -", "tts-1 -1106 tts-1-hd -1106"),
    ("7500 2147483647 - - - 200", "whisper-1"),
    ("7500 2147483647 200 - -", "dall-e-2"),
    ("7500 2147483647 15 - -", "dall-e-3"),
    ("2000 3_000_000 150 - -", "gpt-image-1 gpt-image-1-mini gpt-image-1.5 chatgpt-image-latest"),
    ("100 2147483647 - - -", "sora-2 sora-2-pro"),
    ("10000 5_000_000 - - 500_000_000", "text-embedding-3-small"),
    ("10000 5_000_000 - - 500_000_000", "text-embedding-3-large"),
    ("10000 5_000_000 - - 500_000_000", "text-embedding-ada-002"),
    ("2000 250_000 - - -", "omni-moderation-latest omni-moderation-2024-09-26"),
    ("1000 150_000 - - -", "text-moderation-latest text-moderation-stable text-moderation-007"),
    ("10000 2_000_000 50000 - 200_000_000", "ft:gpt-4o-2024-05-13 ft:gpt-4o-2024-08-06"),
    ("10000 4_000_000 50000 - 40_000_000", "ft:gpt-4o-mini-2024-07-18"),
    ("10000 2_000_000 50000 - 200_000_000", "ft:gpt-4.1-2025-04-14"),
    ("10000 10_000_000 50000 - 1_000_000_000", "ft:gpt-4.1-mini-2025-04-14"),
    ("10000 10_000_000 50000 - 1_000_000_000", "ft:gpt-4.1-nano-2025-04-14"),
    ("5000 4_000_000 - - 500_000_000", "ft:o4-mini-2025-04-16"),
    ("10000 10_000_000 - - 1_000_000_000", "ft:gpt-3.5-turbo-0613 ft:gpt-3.5-turbo-0125"),
    ("10000 10_000_000 - - 1_000_000_000", "ft:gpt-3.5-turbo-1106"),
    ("10000 300_000 - - 30_000_000", "ft:gpt-4-0613"),
    ("3500 250_000 - - 200_000", "ft:babbage-002 ft:davinci-002"),
    ("10000 30_000_000 - - -", "gpt-4o-shared gpt-4o-mini-shared gpt-4.1-shared o1-shared"),
    ("10000 30_000_000 - - -", "o3-shared o4-mini-shared gpt-5-shared gpt-5-mini-shared"),
    ("5000 5_000_000 - - -", "gpt-4o-alpha-shared gpt-5-alpha-shared o3-alpha-shared"),
    ("3000 250_000 - - -", "default"),
)
