"""Formats of property values: parsing, and the sentence that names the allowed form."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from lm_openai.timespans import DAY, HOUR, WIDTHS, duration, moment

_LONGEST_WINDOW = 31 * DAY
_FLAGS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Format(NamedTuple):
    """Parser of one kind of value, and its allowed form in words.

    `parse` raises ValueError for an invalid text.
    """

    parse: Callable[[str], Any]
    allowed: str


def parse(kind: str, text: str, bounds: Mapping[str, Any]) -> Any:
    """Return the value of `text`, which has the format `kind`.

    `bounds` may contain `x-minimum` and `x-maximum` of a number or of a duration in seconds, and
    the `x-schemes` of a URL. Raises ValueError, whose message says what is allowed and never
    contains the text.
    """
    form = TYPES[kind]
    try:
        value = form.parse(text)
    except (ValueError, ArithmeticError):
        raise ValueError(f"give {form.allowed}") from None
    unit = " seconds" if kind == "duration" else ""
    if "x-minimum" in bounds and value < Decimal(str(bounds["x-minimum"])):
        raise ValueError(f"the minimum is {bounds['x-minimum']}{unit}")
    if "x-maximum" in bounds and value > Decimal(str(bounds["x-maximum"])):
        raise ValueError(f"the maximum is {bounds['x-maximum']}{unit}")
    schemes = bounds.get("x-schemes")
    if schemes and not value.lower().startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ValueError(f"it must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    return value


def _window(text: str) -> str:
    if text in ("today", "month"):
        return text
    length = duration(text)
    shortest = WIDTHS["1m"] if length <= HOUR else WIDTHS["1h"] if length <= DAY else WIDTHS["1d"]
    if not 0 < length <= _LONGEST_WINDOW or length % shortest:
        raise ValueError
    return text


def _matching(pattern: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return parse


def _line(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _path(text: str) -> str:
    return os.path.expanduser(_line(text))


def _name(text: str) -> str:
    if len(text) > 64 or not text[0].isalnum():
        raise ValueError
    if not all(letter.isalnum() or letter in " ._-" for letter in text):
        raise ValueError
    return text


def _url(text: str) -> str:
    from urllib.parse import urlsplit

    parts = urlsplit(text)
    if not parts.hostname or parts.port == 0 or not re.fullmatch(r"[!-~]+", text):
        raise ValueError
    if "?" in text or "#" in text or "\\" in text:
        raise ValueError
    return text.rstrip("/")


def _globs(text: str) -> tuple[str, ...]:
    globs = tuple(word.strip() for word in _line(text).split(",") if word.strip())
    # fnmatch reads an unclosed bracket literally, so the glob would match nothing without an error
    if not globs or any(re.search(r"\[[^\]]*$", glob) for glob in globs):
        raise ValueError
    return globs


def _dimensions(text: str) -> tuple[str, ...]:
    words = _globs(text)
    if not all(re.fullmatch(r"[a-z][a-z0-9_]*", word) for word in words):
        raise ValueError
    return words


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError
    return _FLAGS[text.lower()]


def _dollars(text: str) -> Decimal:
    return Decimal(_matching(r"-?[0-9]{1,15}(\.[0-9]{1,10})?")(text))


def _count(text: str) -> int:
    return int(_matching(r"[0-9]{1,18}")(text))


TYPES = {
    "key": Format(_matching(r"[!-~]+"), "only the key: letters, digits and signs without spaces"),
    "text": Format(_line, "text on one line"),
    "name": Format(
        _name, "up to 64 letters, digits, spaces, dots, - or _, starting with a letter or digit"
    ),
    "path": Format(_path, "a path on one line"),
    "command": Format(_matching(r"(/|[A-Za-z]:[\\/])[^\x00-\x1f\x7f\"'`$]+"), "an absolute path"),
    "url": Format(_url, "a URL with a host, without query or fragment"),
    "globs": Format(_globs, "comma-separated globs such as proj_abc,batch-*,gpt-[45]*"),
    "dimensions": Format(_dimensions, "comma-separated dimensions such as project_id,model"),
    "window": Format(
        _window,
        "a window such as 15m, 1h, 24h, today, 7d or month "
        "(whole hours above 1h, whole days above 24h)",
    ),
    "duration": Format(duration, "a whole number with its unit, such as 90s, 15m, 3h or 3d"),
    "width": Format(_matching("|".join(WIDTHS)), f"one of {', '.join(WIDTHS)}"),
    "date": Format(moment, "a date such as 2026-01-31, or a time such as 2026-01-31T09:30Z"),
    "flag": Format(_flag, "true or false"),
    "dollars": Format(_dollars, "dollars as a plain number such as 1500 or 99.50"),
    "count": Format(_count, "a whole number"),
}
