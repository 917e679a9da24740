"""Bodies of responses: gzip in small pieces, limits of size and values, secrets in any spelling."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lm_openai.api import bodies
from lm_openai.errors import ApiFailure
from lm_openai.redaction import learn

KEY = 'gw+Zq8/vN3"x0\\secret'
TEXT = b'{"data": []}'
JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.text(), inner),
)


def body(*chunks: bytes, encoding: str = "gzip") -> bytes:
    return b"".join(bodies.pieces(chunks, encoding, "costs"))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_gzip_in_chunks_and_members_is_joined(size: int) -> None:
    sent = gzip.compress(TEXT) + gzip.compress(b"") + gzip.compress(b" " * 300_000)
    chunks = [sent[start : start + size] for start in range(0, len(sent), size)]

    assert body(*chunks) == TEXT + b" " * 300_000
    assert max(map(len, bodies.pieces(chunks, "x-gzip", "costs"))) <= 64 * 1024


@pytest.mark.parametrize(
    "sent",
    [b"", gzip.compress(TEXT)[:-1], gzip.compress(TEXT) + b"x", b"plain", TEXT],
    ids=["empty", "cut", "with a rest", "text", "JSON"],
)
def test_broken_gzip_is_a_failure_that_is_retried(sent: bytes) -> None:
    with pytest.raises(ApiFailure) as caught:
        body(*([sent] if sent else []))

    assert (caught.value.kind, caught.value.detail) == (
        "unreachable",
        "the compressed response is broken",
    )
    assert caught.value.__context__ is None


@pytest.mark.parametrize("encoding", ["gzip, gzip", "br", "deflate", "zstd", "identity, gzip"])
def test_another_encoding_is_refused_by_name(encoding: str) -> None:
    with pytest.raises(ApiFailure) as caught:
        body(gzip.compress(TEXT), encoding=encoding)

    assert caught.value.kind == "contract"
    assert f"Content-Encoding is {encoding}, not gzip" in str(caught.value)


@pytest.mark.parametrize("encoding", ["", "identity"])
def test_a_plain_body_stays_as_it_is(encoding: str) -> None:
    assert body(TEXT, b"x", encoding=encoding) == TEXT + b"x"


@pytest.mark.parametrize(
    ("part", "allowed", "reason"),
    [
        (b"{},", 582_329, "1164660 values in 1746990 bytes"),  # 145 MB / (3 * 3 + 2 * 120)
        (b"[1],", 575_396, "1150794 values in 2301588 bytes"),
        (b"1,", 1_150_793, "1150794 values in 2301588 bytes"),
        (b"\\n", 1_150_793, "1150794 values in 2301588 bytes"),
        (b"x" * 32, 1024 * 1024, ""),  # the limit of bytes is the transport's
        (bytes(32), 1_510_416, "0 values in 48333344 bytes"),
        ("é".encode() * 4, 1024 * 1024, "over 8388608 bytes, some of them not ASCII"),
    ],
)
def test_a_body_that_would_take_too_much_memory_is_refused(
    part: bytes, allowed: int, reason: str
) -> None:
    bodies.check(part * allowed, "costs")
    if not reason:
        return

    with pytest.raises(ApiFailure) as caught:
        bodies.check(part * (allowed + 1), "costs")

    assert (caught.value.kind, caught.value.detail) == ("too_large", reason)


@given(JSON, some.booleans())
def test_json_without_a_secret_keeps_its_value(value: Any, ascii_only: bool) -> None:
    learn([KEY])
    text = json.dumps(value, ensure_ascii=ascii_only).replace("/", "\\/")
    encoded = text.encode(errors="surrogatepass")

    assert json.loads(bodies.struck(encoded)) == json.loads(encoded)


def test_escapes_do_not_hide_a_secret() -> None:
    learn([KEY])
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
    sent = f'{{"a": "{escaped}", "b{escaped}": 1, "c": "\\\\u0041\\u00e9\\n\\/\\u0022\\u005c"}}'

    assert json.loads(bodies.struck(sent.encode())) == {
        "a": "***",
        "b***": 1,
        "c": '\\u0041é\n/"\\',
    }
