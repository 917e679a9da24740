"""Secrets of this process, and text without them.

Whatever reads a secret calls `learn`. Text from the network is struck where it arrives, by
`struck_bytes` and `sentence`; whatever is printed or stored passes `strike` once more.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Any

HIDDEN = "***"
LONGEST = 600
"""Characters of a sentence's part from outside."""
_SHORTEST, _STRONG = 3, 8
_READ = 20_000
# Only names are cleaned in every poll, so the patterns for messages are compiled when used.
_KEY = r"sk-(?<!\wsk-)[\w-]{12,}"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BIDIRECTIONAL = re.compile(r"[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_CODE = "%([0-9A-Fa-f]{2})"
_LETTER = "%[0-9A-Fa-f]{2}|[!-~]"
_INVISIBLE = "[^!-~]+"
_known: set[str] = set()


def learn(secrets: Iterable[str]) -> None:
    """Add secrets of this process; texts of less than 3 characters cannot be kept secret."""
    _known.update(secret for secret in secrets if len(secret) >= _SHORTEST)


def user_info(url: str) -> Iterator[str]:
    """Yield the secrets in a URL, as written and as sent."""
    from urllib.parse import unquote

    authority = url.partition("://")[2].partition("/")[0]
    user, at, _ = authority.rpartition("@")
    if at:
        for part in (user, user.partition(":")[2] or user):
            yield from filter(None, (part, unquote(part)))


def strike(text: str) -> str:
    """Return text of any length without the secrets, in each form of `_forms`.

    A weak secret stays, since it may be a word or number of the suite's own output: shorter than 8
    characters, only letters or without a letter.
    """
    for form in _forms(frozenset(_known)):
        if form in text:
            text = text.replace(form, HIDDEN)
    return text


def struck_bytes(content: bytes) -> bytes:
    """Return what `strike` returns, for UTF-8 text."""
    for form in _forms(frozenset(_known)):
        content = content.replace(form.encode(), HIDDEN.encode())
    return content


def redact(text: str) -> str:
    """Return a message for people without any secret and without anything that looks like a key.

    It also finds weak secrets, and strong ones in another case, with each character
    percent-encoded, or with spaces and invisible characters in between.
    """
    known = frozenset(_known)
    text = _without_scattered(text, _forms(known))
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return re.sub(_KEY, "sk-…", text)


def sentence(text: str, most: int = LONGEST) -> str:
    """Return text from outside as a part of a sentence: redacted, one line, `most` characters.

    A very long text is not shown: its cut could leave the first half of a secret.
    """
    if len(text) > _READ:
        return f"a text of {len(text)} characters"
    return _sentence(text, most, frozenset(_known))


@lru_cache(maxsize=64)
def _sentence(text: str, most: int, known: frozenset[str]) -> str:
    """Return `sentence` of a text; a response may break the contract in the same way many times."""
    shown = redact(" ".join(one_line(text).split()))
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def one_line(text: str) -> str:
    """Return text on one line: each control character, line end and half of a surrogate is a space.

    Characters that change the direction of text are dropped.
    """
    return _BIDIRECTIONAL.sub("", _CONTROL.sub(" ", text))


def lines(text: str) -> str:
    """Return a redacted text of several lines, each without control characters."""
    return "\n".join(map(one_line, redact(text).split("\n")))


class Outlet:
    """Text stream that passes everything to another one, and what is written through `clean`."""

    def __init__(self, stream: Any, clean: Callable[[str], str]) -> None:
        self._stream, self._clean = stream, clean

    def write(self, text: str) -> int:
        """Write the cleaned text; return the number of characters given."""
        self._stream.write(self._clean(text))
        return len(text)

    def writelines(self, parts: Iterable[str]) -> None:
        """Write the parts, cleaned as one text."""
        self.write("".join(parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_streams() -> None:
    """Let stdout and stderr of this process write no secret, tracebacks of Python included."""
    for name, clean in (("stdout", strike), ("stderr", redact)):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, Outlet):
            setattr(sys, name, Outlet(stream, clean))


@lru_cache(maxsize=1)
def _forms(known: frozenset[str]) -> tuple[str, ...]:
    """Return strong secrets in each case, in JSON, percent-encoded and in base64, longest first."""
    import json
    from urllib.parse import quote, quote_plus

    found: set[str] = set()
    for secret in filter(_is_strong, known):
        content = secret.encode()
        quoted = {
            quote(secret, safe=""),
            quote_plus(secret),
            "".join(map("%{:02X}".format, content)),
        }
        lower = {re.sub("%..", lambda code: code[0].lower(), text) for text in quoted}
        cases = {secret, secret.lower(), secret.upper()}
        found |= {*cases, *(json.dumps(text)[1:-1] for text in cases)}
        found |= {*quoted, *lower, *_base64(content)}
    return tuple(sorted(found, key=len, reverse=True))


def _base64(secret: bytes) -> Iterator[str]:
    """Yield what base64 of any text that contains the secret contains, at each of 3 offsets."""
    from base64 import b64encode, urlsafe_b64encode

    for offset in range(3):
        start, end = -(-offset * 8 // 6), (offset + len(secret)) * 8 // 6
        for encode in (b64encode, urlsafe_b64encode):
            yield encode(bytes(offset) + secret + bytes(2))[start:end].decode()


def _without_scattered(text: str, forms: tuple[str, ...]) -> str:
    """Return text without the forms, also if they are percent-encoded or pulled apart."""
    decoded = re.sub(_CODE, _decoded, text) if "%" in text else text
    letters = re.sub(_INVISIBLE, "", decoded).lower()
    for wanted in _wanted(forms):
        if wanted in letters:
            text = _without(text, wanted)
    return text


@lru_cache(maxsize=1)
def _wanted(forms: tuple[str, ...]) -> tuple[str, ...]:
    """Return the visible letters of the forms, long enough not to be found by chance."""
    found = dict.fromkeys(_visible(form)[0] for form in forms)
    return tuple(letters for letters in found if len(letters) >= _STRONG)


def _without(text: str, wanted: str) -> str:
    """Return text with each place whose visible letters are `wanted` hidden."""
    letters, places = _visible(text)
    at = letters.rfind(wanted)
    while at >= 0:
        start, end = places[at][0], places[at + len(wanted) - 1][1]
        text = text[:start] + HIDDEN + text[end:]
        at = letters.rfind(wanted, 0, at)
    return text


def _visible(text: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the visible ASCII characters, decoded and in lower case, and where each stands."""
    found = [
        (re.sub(_CODE, _decoded, one[0]).lower(), one.span()) for one in re.finditer(_LETTER, text)
    ]
    shown = [(letter, place) for letter, place in found if "!" <= letter <= "~"]
    return "".join(letter for letter, _ in shown), [place for _, place in shown]


def _decoded(code: re.Match[str]) -> str:
    return chr(int(code[1], 16))


def _is_strong(secret: str) -> bool:
    letters = sum(map(str.isalpha, secret))
    return len(secret) >= _STRONG and 0 < letters < len(secret)
