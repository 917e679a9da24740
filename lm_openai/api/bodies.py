"""Bodies of responses: decompressed in small pieces, bounded in size and values, no secrets."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

from lm_openai.errors import ApiFailure
from lm_openai.redaction import struck_bytes

LARGEST = 32 * 1024 * 1024
"""Bytes of a body after decompression; a page of usage has about 10 MB."""
MOST_MEMORY = 145_000_000
"""Bytes that reading and parsing a body may take; a page of usage of 10 MB takes about 80 MB."""
VALUE_BYTES, COPIES = 120, 3
"""Bytes of a JSON value, and copies of a body at a time: as bytes, as text and in values."""
PLAIN = ("", "identity")
GZIP = ("gzip", "x-gzip")
_PIECE = 64 * 1024
_WIDEST = 4
"""Bytes of each character of a text that is not ASCII, at most."""
_GZIP_WINDOW = 31
_ESCAPE = rb"(?s)\\(?:u00([2-7][0-9A-Fa-f])|(/)|.)"
_ESCAPED_ASCII = re.compile(rb"\\(?:u00[2-7]|/)")


def pieces(chunks: Iterable[bytes], encoding: str, endpoint: str) -> Iterator[bytes]:
    """Yield a body in pieces of at most 64 KiB, decompressed if its encoding is gzip.

    Raises ApiFailure for another encoding and for damaged content. urllib3 would decompress without
    a limit, and as often as the header says.
    """
    if encoding not in PLAIN + GZIP:
        raise ApiFailure("contract", endpoint, f"Content-Encoding is {encoding}, not gzip")
    return _inflated(chunks, endpoint) if encoding in GZIP else iter(chunks)


def check(body: bytes | bytearray, endpoint: str) -> None:
    """Raise ApiFailure if parsing the body could take too much memory, after a few scans of it."""
    if not body.isascii() and len(body) * _WIDEST > LARGEST:
        reason = f"over {LARGEST // _WIDEST} bytes, some of them not ASCII"
        raise ApiFailure("too_large", endpoint, reason)
    # Values follow these characters, except for the last of each list; an escape is a piece too.
    marks = [mark for mark in (b"{", b"[", b",", b"\\") if mark in body]
    values = sum(map(body.count, marks))
    if len(body) * COPIES + values * VALUE_BYTES > MOST_MEMORY:
        raise ApiFailure("too_large", endpoint, f"{values} values in {len(body)} bytes")


def struck(body: bytes | bytearray) -> bytes:
    """Return a JSON text without the secrets, also if it spells them with escapes."""
    content = bytes(body)
    if b"\\" in content and _ESCAPED_ASCII.search(content):
        content = re.sub(_ESCAPE, _plain, content)
    return struck_bytes(content)


def _plain(escape: re.Match[bytes]) -> bytes:
    """Return an escape in the form that `json.dumps` gives it."""
    letter = bytes.fromhex(escape[1].decode()) if escape[1] else escape[2]
    if letter in (b'"', b"\\"):
        return b"\\" + letter
    return letter or escape[0]


def _inflated(chunks: Iterable[bytes], endpoint: str) -> Iterator[bytes]:
    """Yield the content of one or more gzip members; an empty body is no content."""
    engine, left = zlib.decompressobj(_GZIP_WINDOW), b""
    for chunk in chunks:
        left += chunk
        while left:
            if engine.eof:
                engine = zlib.decompressobj(_GZIP_WINDOW)
            yield _inflate(engine, left, endpoint)
            left = engine.unused_data if engine.eof else engine.unconsumed_tail
    while not engine.eof:
        piece = _inflate(engine, b"", endpoint)
        if not piece:
            raise _broken(endpoint)
        yield piece


def _inflate(engine: zlib._Decompress, compressed: bytes, endpoint: str) -> bytes:
    with suppress(zlib.error):
        return engine.decompress(compressed, _PIECE)
    raise _broken(endpoint)


def _broken(endpoint: str) -> ApiFailure:
    return ApiFailure("unreachable", endpoint, "the compressed response is broken")
