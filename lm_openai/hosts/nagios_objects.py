"""Text of Nagios object files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from lm_openai.redaction import one_line

SHELL = str.maketrans("", "", "`~$&|'\"<>\\")
"""Characters that Nagios removes from a check's output by default, and the backslash."""


class Object(NamedTuple):
    """One object, or template, with its directives in order."""

    kind: str
    directives: Mapping[str, str]


def text(comment: str, objects: Iterable[Object]) -> str:
    """Return an object file that begins with a comment."""
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return "\n".join((head, *map(_block, objects)))


def without_macros(words: str) -> str:
    """Return text in which Nagios sees no macro: a dollar sign is written twice."""
    return words.replace("$", "$$")


def without_shell(words: str) -> str:
    """Return text without the characters of SHELL.

    Nagios removes them from no macro but the output, and a notification command is a shell's line:
    the name of a project could end or start a command there.
    """
    return " ".join(words.translate(SHELL).split())


def _block(one: Object) -> str:
    width = max(map(len, one.directives))
    lines = [f"  {name:{width}}  {_value(words)}\n" for name, words in one.directives.items()]
    return f"define {one.kind} {{\n{''.join(lines)}}}\n"


def _value(words: str) -> str:
    """Return a value on one line, without `;`, which begins a comment."""
    return " ".join(one_line(words).replace(";", ",").split())
