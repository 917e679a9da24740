"""Line items of real bills, and text that does not fit the grammar."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_openai.metrics.line_items import (
    KINDS,
    Billed,
    Item,
    billed,
    read,
)

UNITS = {
    "tokens": ("output", 1),
    "1000_tokens": ("output", 1000),
    "images": ("images", 1),
    "characters": ("characters", 1),
    "duration_seconds": ("seconds", 1),
    "duration_minutes": ("seconds", 60),
    "duration_hours": ("seconds", 3600),
}


@pytest.mark.parametrize(
    ("text", "model", "side"),
    [
        ("gpt-5.5-2026-04-23, cached input", "gpt-5.5-2026-04-23", "cached_input"),
        ("gpt-5.5-2026-04-23, cache writes", "gpt-5.5-2026-04-23", "cache_writes"),
        ("gpt-audio-mini-2025-12-15 audio, input", "gpt-audio-mini-2025-12-15", "input"),
        ("gpt-image-2.5-flare image, output", "gpt-image-2.5-flare", "output"),
        ("priority | gpt-5.6-sol, output, long context", "gpt-5.6-sol", "output"),
        ("gpt-6-astra, input_tokens", "gpt-6-astra", "input"),
        (
            "ft:gpt-4o-mini-2024-07-18:acme::a1b2c3, input",
            "ft:gpt-4o-mini-2024-07-18:acme::a1b2c3",
            "input",
        ),
        ("text-embedding-ada-002-v2, input", "text-embedding-ada-002-v2", "input"),
        ("o1, output", "o1", "output"),
    ],
)
def test_a_line_item_of_a_model_gives_the_model_and_the_side(
    text: str, model: str, side: str
) -> None:
    assert read(text) == Item(model, side)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "none",
        "web search tool calls",
        "Vector storage",
        "Credit grant",
        "Text tokens",
        "Completions",
        "gpt-4o",
        "gpt-4o, reasoning",
        "gpt-4o, Input",
        "gpt-4o, input, short context",
        "gpt-4o video, input",
        "express | gpt-4o, input",
        "gpt-4o | priority, input",
        " gpt-4o, input",
        "gpt-4o, input\n",
        "gpt-4o,input",
        ", input",
        "gpt-4o, mini, input",
    ],
)
def test_text_that_does_not_fit_the_grammar_gives_none(text: str) -> None:
    assert read(text) is None
    assert billed(text, Decimal(1), "tokens") is None


@pytest.mark.parametrize("unit", UNITS)
def test_quantities_are_converted_to_single_tokens_images_characters_or_seconds(unit: str) -> None:
    kind, size = UNITS[unit]

    assert billed("m, output", Decimal("2.5"), unit) == Billed("m", kind, Decimal("2.5") * size)


@pytest.mark.parametrize("unit", [None, "", "gibibyte_hours", "calls", "TOKENS"])
def test_an_unknown_unit_gives_none(unit: str | None) -> None:
    assert billed("gpt-4o, input", Decimal(5), unit) is None


def test_a_line_item_without_a_quantity_gives_none() -> None:
    assert billed("gpt-4o, input", None, "tokens") is None


sides = st.sampled_from(["input", "output", "cached input", "cache writes"])
models = st.from_regex(r"[a-z0-9][a-z0-9.:-]{0,30}", fullmatch=True)


@given(models, sides, st.sampled_from(["", " audio", " image"]), st.booleans(), st.booleans())
def test_tier_modality_and_long_context_do_not_change_the_quantity(
    model: str, side: str, modality: str, priority: bool, long: bool
) -> None:
    text = f"{'priority | ' if priority else ''}{model}{modality}, {side}"
    text += ", long context" if long else ""

    assert billed(text, Decimal(7), "tokens") == billed(f"{model}, {side}", Decimal(7), "tokens")


@given(st.text(), st.sampled_from([*UNITS, None]))
def test_any_text_is_either_parsed_or_gives_none(text: str, unit: str | None) -> None:
    found = billed(text, Decimal(1), unit)

    assert found is None or (found.kind in KINDS and found.model in text)
