"""Globs of overrides as regular expressions, for systems that match instances themselves."""

from __future__ import annotations

import re
from collections.abc import Callable

_WILD = {"*": ".*", "?": "."}
_PARTS = re.compile(r"\[(?:!(?:\][^\]]*|[^\]]+)|[^!\]][^\]]*|\][^\]]*)\]|.", re.S)
"""Parts of a glob: a set, or any other character."""
_SPECIAL, _ESCAPED = r"[\\\[\]^]", r"\\\g<0>"


def regex(glob: str, literal: Callable[[str], str] = re.escape) -> str:
    """Return the regular expression of a glob, without anchors; `literal` escapes one character.

    Like the collector's glob, one with a set also fits its own text.

    >>> regex("batch-?"), regex("[!a^]*")
    ('batch\\\\-.', '[^a\\\\^].*|\\\\[!a\\\\^\\\\]\\\\*')
    """
    parts = _PARTS.findall(glob)
    text = "".join(_WILD.get(part) or _set(part) or literal(part) for part in parts)
    return f"{text}|{''.join(map(literal, glob))}" if "[" in glob else text


def _set(part: str) -> str:
    """Return the regular expression of a set such as `[!abc]`; empty for a character."""
    if len(part) == 1:
        return ""
    sign, members = ("^", part[2:-1]) if part[1] == "!" else ("", part[1:-1])
    return f"[{sign}{re.sub(_SPECIAL, _ESCAPED, members)}]"
