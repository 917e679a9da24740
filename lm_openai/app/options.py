"""Parsed options of a DataSource script, and a fast parser for plain polls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lm_openai.output.command_line import OPTIONS
from lm_openai.output.registry import DEFAULT


class Options(NamedTuple):
    """Parsed options; `series` is None if neither --series nor --no-series was given.

    Without `output` the text goes to stdout, without `part` it has all instances.
    """

    format: str = DEFAULT
    discover: bool = False
    properties: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    thresholds: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    datapoints: tuple[str, ...] = ()
    series: bool | None = None
    at: str = ""
    timeout: str = ""
    output: str | None = None
    part: str | None = None
    verbose: bool = False


TABLE = {option.flag: option for option in OPTIONS}
NEGATIVES = {option.negative: option for option in OPTIONS if option.negative}


def parse(argv: Sequence[str]) -> Options | None:
    """Parse the plain forms `--flag`, `--option value` and `--option=value`, without imports.

    Return None for anything else, including --help and wrong usage, which click handles.
    """
    found: dict[str, Any] = {}
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if flag in NEGATIVES and not equals:
            found[NEGATIVES[flag].field] = False
            continue
        option = TABLE.get(flag)
        if option is None or (equals and option.value is None):
            return None
        if option.value is None:
            found[option.field] = True
            continue
        text = value if equals else next(words, None)
        if text is None:
            return None
        found[option.field] = (*found.get(option.field, ()), text) if option.many else text
    # As for click, the last value of an option counts.
    chosen = ((option.choices, found.get(option.field)) for option in OPTIONS if option.choices)
    if any(value is not None and value not in choices for choices, value in chosen):
        return None
    return Options(**found)
