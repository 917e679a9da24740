"""Icinga's configuration language: values, statements and blocks as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, Union

INDENT = "  "
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"})


class Code(NamedTuple):
    """Expression that is written as it is."""

    text: str


Value = Union[str, int, Code, Sequence[str], Mapping[str, "Value"]]  # noqa: UP007  # recursive
Statement = Union[Code, "tuple[str, Value]"]
"""A line of code, or a name and the value that it gets."""


def block(head: str, statements: Iterable[Statement]) -> str:
    """Return an object, a template or an apply rule; `head` is its line without the brace."""
    lines = (INDENT + _statement(one).replace("\n", "\n" + INDENT) for one in statements)
    return "\n".join((f"{head} {{", *lines, "}\n"))


def named(kind: str, name: str) -> str:
    """Return the head of a block: `template Service "openai"`."""
    return f"{kind} {quoted(name)}"


def imports(name: str) -> Code:
    """Return the statement that imports a template."""
    return Code(f"import {quoted(name)}")


def listed(words: Iterable[str]) -> Code:
    """Return a list of constants: `[ OK, Warning ]`."""
    return Code(f"[ {', '.join(words)} ]")


def quoted(text: str) -> str:
    """Return a string literal."""
    return f'"{text.translate(ESCAPES)}"'


def literal_macro(text: str) -> str:
    """Return text for a value that Icinga searches for macros such as `$host.name$`."""
    return text.replace("$", "$$")


def duration(seconds: int) -> Code:
    """Return a duration in its largest unit: `5m`, `90s`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "m")):
        if seconds % size == 0:
            return Code(f"{seconds // size}{unit}")
    return Code(f"{seconds}s")


def _statement(one: Statement) -> str:
    return one.text if isinstance(one, Code) else f"{one[0]} = {literal(one[1])}"


def literal(value: Value) -> str:
    """Return a value as an expression; a dictionary has one line for each entry."""
    if isinstance(value, Code):
        return value.text
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, Mapping):
        return listed(map(quoted, value)).text
    if not value:
        return "{ }"
    entries = (f"{quoted(name)} = {literal(one)}" for name, one in value.items())
    inner = "\n".join(entries).replace("\n", "\n" + INDENT)
    return f"{{\n{INDENT}{inner}\n}}"
