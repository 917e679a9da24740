"""Memory of a poll whose API sends more than any organization has; each poll is a process."""

from __future__ import annotations

import gzip
import json
import os
import re
import sys
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from lm_openai.api import bodies
from tests.support.hostile import Hostile, response
from tests.support.paths import ROOT

MOST_MEGABYTES = 300
MEGABYTE = 1024 * 1024
LARGEST = bodies.LARGEST
ROW = b'{"id":"proj_0123456789abcdef","name":"a project with a name"},'


@cache
def bomb(layers: int, megabytes: int = 512) -> bytes:
    """Return zeros, compressed several times; one layer holds 512 MiB in 0.5 MB."""
    packer = zlib.compressobj(6, wbits=31)
    packed = b"".join(packer.compress(bytes(MEGABYTE)) for _ in range(megabytes)) + packer.flush()
    for _ in range(layers - 1):
        packed = gzip.compress(packed)
    return packed


def filled(text: bytes, end: bytes = b"", size: int = LARGEST) -> bytes:
    """Return a body of at most `size` bytes: a page whose rows repeat the text."""
    head, tail = b'{"object":"list","has_more":false,"data":[', end + b"]}"
    return head + text * ((size - len(head) - len(tail)) // len(text)) + tail


def values(text: bytes, end: bytes) -> bytes:
    """Return a body with as many values as a response may have."""
    commas = text.count(b",") + text.count(b"{") + text.count(b"[")
    return filled(text, end, (bodies.MOST_VALUES - 9) // commas * len(text))


def gzipped(body: bytes) -> bytes:
    return response(gzip.compress(body, 1), "200 OK", "Content-Encoding: gzip")


CASES = {
    "one layer of gzip": lambda: response(bomb(1), "200 OK", "Content-Encoding: gzip"),
    "two layers of gzip": lambda: response(bomb(2), "200 OK", "Content-Encoding: gzip, gzip"),
    "two headers": lambda: response(
        bomb(2), "200 OK", "Content-Encoding: gzip", "Content-Encoding: gzip"
    ),
    "deflate": lambda: response(bomb(1), "200 OK", "Content-Encoding: deflate"),
    "a redirect": lambda: response(bomb(1), "302 Found", "Location: /x", "Content-Encoding: gzip"),
    "an error": lambda: response(bomb(1), "400 Bad", "Content-Encoding: gzip"),
    "endless text": lambda: response(b"x" * (LARGEST + 1)),
    "empty objects": lambda: gzipped(filled(b"{},", b"{}")),
    "as many empty objects as are allowed": lambda: gzipped(values(b"{},", b"{}")),
    "as many objects as are allowed": lambda: gzipped(values(b'{"a":1},', b"{}")),
    "as many lists as are allowed": lambda: gzipped(values(b"[1],", b"[]")),
    "as many decimals as are allowed": lambda: gzipped(values(b"1.5,", b"1")),
    "rows as large as are allowed": lambda: gzipped(values(ROW, b"{}")),
    "one long text": lambda: gzipped(filled(b"a", b'"').replace(b"[a", b'["')),
    "one long text of another script": lambda: gzipped(
        filled("\N{GRINNING FACE}".encode(), b'"', LARGEST // 4).replace(b"[\xf0", b'["\xf0')
    ),
    "a long text of another script": lambda: gzipped(
        filled(b"a", '\N{GRINNING FACE}"'.encode()).replace(b"[a", b'["')
    ),
    "escapes": lambda: gzipped(filled(b"\\u0061", b'"').replace(b"[\\", b'["\\')),
    "as many escapes as are allowed": lambda: gzipped(
        filled(b"\\u0061", b'"', 6 * (bodies.MOST_VALUES - 9)).replace(b"[\\", b'["\\')
    ),
    "deep lists": lambda: gzipped(b"[" * (bodies.MOST_VALUES - 1)),
    "a long message": lambda: response(
        json.dumps({"error": {"message": "sk-" * (LARGEST // 3 - 20)}}).encode(), "400 Bad"
    ),
    "a long code": lambda: response(
        json.dumps({"error": {"code": ["a" * 1000] * 30_000}}).encode(), "400 Bad"
    ),
}


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile(lambda request: b"") as server:
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_response_takes_more_than_300_megabytes(
    case: str, hostile: Hostile, tmp_path: Path
) -> None:
    answer = CASES[case]()
    hostile.answer = lambda request: answer

    status, text, peak = measured(hostile.url, tmp_path)

    assert (status, "a fault in" in text) in ((0, False), (1, False))
    assert peak < MOST_MEGABYTES


PROGRAM = """
import resource
import sys
from lm_openai.app.cli import main
try:
    main(sys.argv[1:])
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"peak {peak // 1024} MB", file=sys.stderr)
"""


def measured(url: str, home: Path) -> tuple[int, str, int]:
    """Run `costs` in a process; return its status, what it printed and its peak in megabytes."""
    import subprocess

    environ = {
        "HOME": str(home),
        "OPENAI_ADMIN_KEY": "sk-admin-measured-1",
        "OPENAI_BASE_URL": url,
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
    }
    words = ["costs", "--month", "2026-11", "--timeout", "40"]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env=environ,
        capture_output=True,
        text=True,
        timeout=90,
    )
    found = re.search(r"peak (\d+) MB", ran.stderr)
    assert found, ran.stderr
    return ran.returncode, ran.stdout[-1000:] + ran.stderr, int(found[1])
