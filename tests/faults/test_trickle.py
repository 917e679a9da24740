"""Responses that trickle: each request ends in time by itself, so that the rest is printed."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme

from lm_openai.api.transport import Connection, Transport
from lm_openai.errors import ApiFailure
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support.demo_polls import WEDNESDAY
from tests.support.hostile import Hostile, relayed, trickle
from tests.support.paths import ROOT

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = HEAD + b"Content-Encoding: gzip\r\n"
SLOW = {
    "status line": (b"", b"H"),
    "interim responses": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "header": (HEAD, b"x"),
    "headers": (HEAD, b"a:b\r\n"),
    "body": (HEAD + b"Content-Length: 9999\r\n\r\n", b" "),
    "body without length": (HEAD + b"\r\n", b" "),
    "chunks": (CHUNKED, b"1\r\n \r\n"),
    "size of a chunk": (CHUNKED, b"0"),
    "trailers": (CHUNKED + b"2\r\n{}\r\n0\r\n", b"a:b\r\n"),
    "gzip": (GZIP + b"\r\n\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03", b"\x00\x00\x00\xff\xff"),
    "redirect": (b"HTTP/1.1 302 Found\r\nLocation: /x\r\n", b"x"),
    "error": (b"HTTP/1.1 503 Down\r\nContent-Length: 9999\r\n\r\n", b" "),
}
TLS_RECORD = b"\x16\x03\x03\x3f\xff"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def context(authority: trustme.CA) -> ssl.SSLContext:
    """TLS of a server for 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def late(url: str, **settings: Any) -> ApiFailure:
    """Return the failure of a request that may take 0.3 seconds."""
    transport = Transport(Connection(url, ADMIN_KEY, **settings), environ={})
    with pytest.raises(ApiFailure) as caught:
        transport.get("/organization/costs", [], 0.3)
    assert caught.value.__context__ is None
    return caught.value


@pytest.mark.parametrize(
    ("part", "scheme"),
    [*((part, "http") for part in SLOW), ("headers", "https"), ("body", "https")],
)
def test_whatever_trickles_fails_as_deadline(
    part: str, scheme: str, context: ssl.SSLContext, ca_file: str
) -> None:
    tls = context if scheme == "https" else None
    with Hostile(lambda request: trickle(*SLOW[part]), tls) as server:
        failure = late(server.url, ca_file=ca_file)

    assert failure.kind == "deadline"


def test_a_tls_handshake_that_trickles_fails_as_deadline() -> None:
    with Hostile(lambda request: b"", greeting=lambda: trickle(TLS_RECORD, b"\x00")) as server:
        failure = late(server.url.replace("http", "https"))

    assert failure.kind in ("deadline", "unreachable")
    assert "time" in failure.detail


def test_a_proxy_that_trickles_fails_as_deadline() -> None:
    with Hostile(lambda request: trickle(b"HTTP/1.1 200 Connected\r\n", b"a:b\r\n")) as proxy:
        failure = late("https://api.example/v1", proxy=proxy.url)

    assert failure.kind == "deadline"


def test_name_resolution_that_hangs_fails_as_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def hang(*words: Any, **settings: Any) -> Any:
        release.wait(20)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    failure = late("https://api.example/v1")
    release.set()

    assert failure.kind == "deadline"


def ran(
    url: str, home: Path, ca_file: str, words: Sequence[str]
) -> subprocess.CompletedProcess[str]:
    """Poll the use of all kinds in a process."""
    program = "from lm_openai.start import main; main('usage_by_consumer')"
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        env={
            "HOME": str(home),
            "OPENAI_ADMIN_KEY": ADMIN_KEY,
            "OPENAI_BASE_URL": url,
            "SSL_CERT_FILE": ca_file,
        },
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY, projects=2, models=3) as simulator:
        yield simulator


@pytest.mark.parametrize(
    ("part", "scheme"),
    [("header", "http"), ("body", "http"), ("chunks", "http"), ("body", "https")],
)
def test_the_figures_of_all_other_requests_are_printed(
    part: str, scheme: str, demo: Simulator, context: ssl.SSLContext, ca_file: str, tmp_path: Path
) -> None:
    """The watchdog, which ends a whole run, has nothing to do."""
    origin = urlsplit(demo.url)

    def answer(request: str) -> bytes | Iterable[bytes]:
        if "/usage/images" in request.split()[1]:
            return trickle(*SLOW[part])
        return relayed(request, f"{origin.scheme}://{origin.netloc}")

    with Hostile(answer, context if scheme == "https" else None) as server:
        words = ("--timeout", "4", "--at", str(WEDNESDAY))
        outcome = ran(f"{server.url}{origin.path}", tmp_path, ca_file, words)

    assert "the run was ended" not in outcome.stderr
    assert "usage/images: the poll ran out of time (" in outcome.stderr
    found = json.loads(outcome.stdout)
    assert any(row["datapoints"].get("tokens") for row in found["instances"])
