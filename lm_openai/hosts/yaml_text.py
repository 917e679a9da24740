"""YAML in block style, from dictionaries, lists, strings and numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*|[0-9]+[smhd]")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}
"""Words that YAML reads as something else than text."""


def document(value: Mapping[str, Any]) -> str:
    """Return a mapping as a YAML document; a string of several lines is a literal block.

    >>> document({"name": "a b", "list": ["1m", {"x": 1, "y": []}]})
    'name: "a b"\\nlist:\\n  - 1m\\n  - x: 1\\n    y: []\\n'
    """
    return "".join(f"{line}\n" for line in _lines(value))


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entry(f"{_scalar(key)}:", inner)
        return
    for inner in value:
        first, *rest = _lines(inner) if _nested(inner) else [_scalar(inner)]
        yield f"- {first}"
        yield from _indented(rest)


def _entry(head: str, value: Any) -> Iterator[str]:
    if _nested(value):
        yield head
        yield from _indented(_lines(value))
    elif isinstance(value, str) and "\n" in value:
        yield f"{head} |-"
        yield from _indented(value.split("\n"))
    else:
        yield f"{head} {_scalar(value)}"


def _nested(value: Any) -> bool:
    return bool(value) and not isinstance(value, str) and isinstance(value, Mapping | Sequence)


def _indented(lines: Iterable[str]) -> Iterator[str]:
    yield from (f"  {line}" for line in lines)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)
