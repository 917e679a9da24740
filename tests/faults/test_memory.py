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

NOW = 1795005296
HOUR = NOW // 3600 * 3600
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


def allowed(text: bytes, end: bytes = b"") -> bytes:
    """Return a body that repeats the text as often as the limits allow."""
    values = sum(map(text.count, (b",", b"{", b"[", b"\\")))
    cost = len(text) * bodies.COPIES + values * bodies.VALUE_BYTES
    return filled(text, end, min(LARGEST, bodies.MOST_MEMORY // cost * len(text)) - 99)


def used(body: bytes) -> bytes:
    """Return a page with one bucket of usage, whose rows are `body`."""
    head = f'{{"object":"page","has_more":false,"next_page":null,"data":[{{"start_time":{HOUR},'
    return f'{head}"end_time":{HOUR + 3600},"results":['.encode() + body + b"]}]}"


def usage() -> bytes:
    """Return as many rows of usage as are allowed, each of a model of its own."""
    row = (
        '{"object":"a","model":"m%06d","num_model_requests":1,"input_tokens":12,"output_tokens":1}'
    )
    cost = (len(row % 0) + 1) * bodies.COPIES + 6 * bodies.VALUE_BYTES
    rows = (row % number for number in range(bodies.MOST_MEMORY // cost - 9))
    return used(",".join(rows).encode())


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
    "as many empty objects as are allowed": lambda: gzipped(allowed(b"{},", b"{}")),
    "as many objects as are allowed": lambda: gzipped(allowed(b'{"a":1},', b"{}")),
    "as many lists as are allowed": lambda: gzipped(allowed(b"[1],", b"[]")),
    "as many decimals as are allowed": lambda: gzipped(allowed(b"1.5,", b"1")),
    "as many rows as are allowed": lambda: gzipped(allowed(ROW, b"{}")),
    "as much usage as is allowed": lambda: gzipped(usage()),
    "one long text": lambda: gzipped(filled(b"a", b'"').replace(b"[a", b'["')),
    "one long text of another script": lambda: gzipped(
        filled("\N{GRINNING FACE}".encode(), b'"', LARGEST // 4).replace(b"[\xf0", b'["\xf0')
    ),
    "a long text of another script": lambda: gzipped(
        filled(b"a", '\N{GRINNING FACE}"'.encode()).replace(b"[a", b'["')
    ),
    "escapes": lambda: gzipped(filled(b"\\u0061", b'"').replace(b"[\\", b'["\\')),
    "as many escapes as are allowed": lambda: gzipped(
        allowed(b"\\u0061", b'"').replace(b"[\\", b'["\\')
    ),
    "deep lists": lambda: gzipped(b"[" * 1_600_000),
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
import re
import sys
from lm_openai.app.cli import main
try:
    main(sys.argv[1:])
finally:
    with open("/proc/self/status") as status:
        peak = int(re.search(r"VmHWM:\\s*([0-9]+) kB", status.read())[1])
    print(f"peak {peak // 1024} MB", file=sys.stderr)
"""
# ru_maxrss would be that of the process which started this one, if it was larger.


def measured(url: str, home: Path) -> tuple[int, str, int]:
    """Run polls in a process; return its status, what it printed and its peak in megabytes."""
    import subprocess

    environ = {
        "HOME": str(home),
        "OPENAI_ADMIN_KEY": "sk-admin-measured-1",
        "OPENAI_BASE_URL": url,
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
        "LM_OPENAI_CONCURRENCY": "1",
    }
    words = [
        "collect",
        "completion_by_model",
        "cost_by_project",
        "--timeout",
        "20",
        "--at",
        str(NOW),
    ]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r"peak (\d+) MB", ran.stderr)
    assert found, ran.stderr
    return ran.returncode, ran.stdout[-1000:] + ran.stderr, int(found[1])
