"""HTTP server of the resident mode: metrics and health, for a few clients at a time.

It is the standard library's, which has no dependencies: one GET a connection, read here as a whole
before it is parsed, so that its size and time are bounded; Prometheus needs no more.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from socketserver import TCPServer, ThreadingMixIn
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import urlsplit

from lm_openai.errors import WrongUsage

LOOPBACK = "127.0.0.1"
MOST_CLIENTS = 32
"""Connections at a time; another one gets HTTP 503."""
LARGEST_REQUEST = 8 * 1024
SECONDS = 10.0
"""Seconds in which a client has to send its request, and then to read the response."""
_PIECE = 64 * 1024
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"


class Server(ThreadingMixIn, HTTPServer):
    """Server of the pages that `page(folders)` returns, for the DataSources in `served`."""

    daemon_threads, block_on_close = True, False
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        page: Callable[[tuple[str, ...]], str],
        served: tuple[str, ...],
    ) -> None:
        self.page, self.served = page, served
        self._free = BoundedSemaphore(MOST_CLIENTS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, Connection)

    @property
    def url(self) -> str:
        """URL of the server."""
        host, port = self.server_address[:2]
        shown = str(host)
        return f"http://[{shown}]:{port}" if ":" in shown else f"http://{shown}:{port}"

    def server_bind(self) -> None:
        """Bind without the host name lookup of the standard library."""
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread of its own, or refuse it."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        request.settimeout(0)
        with suppress(OSError):
            request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
        self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a client that goes away is no fault."""


class Connection(BaseHTTPRequestHandler):
    """Connection with one request."""

    server: Server
    default_request_version = "HTTP/1.0"
    wbufsize = -1

    def handle(self) -> None:
        """Read a request within SECONDS and answer it."""
        self.requestline, self.request_version, self.command = "", "HTTP/1.0", ""
        head = self._head()
        if head is None:
            self.send_error(431)
        elif head:
            self.rfile = BytesIO(head)
            self.handle_one_request()

    def do_GET(self) -> None:
        path, served = urlsplit(self.path).path, self.server.served
        folder = path.removeprefix("/metrics/")
        if path == "/-/healthy":
            self._send(200, "ok\n", _TEXT)
        elif path == "/metrics":
            self._send(200, self.server.page(served), _METRICS)
        elif folder in served:
            self._send(200, self.server.page((folder,)), _METRICS)
        else:
            names = ", ".join(f"/metrics/{name}" for name in served)
            self._send(404, f"try /metrics, {names} or /-/healthy\n", _TEXT)

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request that is not understood; nothing of it is repeated."""
        self._send(code, f"HTTP {code:d}\n", _TEXT)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log no requests."""

    def _head(self) -> bytes | None:
        """Return the request without its body, b"" if none came, None if it is too large."""
        until, head = time.monotonic() + SECONDS, b""
        while b"\r\n\r\n" not in head and b"\n\n" not in head:
            self.connection.settimeout(max(until - time.monotonic(), 0.001))
            piece = self.connection.recv(_PIECE)
            if not piece:
                return b""
            head += piece
            if len(head) > LARGEST_REQUEST:
                return None
        self.connection.settimeout(SECONDS)
        return head

    def _send(self, status: int, text: str, kind: str) -> None:
        body = text.encode()
        self.close_connection = True
        self.send_response_only(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else body)


def split(address: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT, [HOST]:PORT or PORT; raises WrongUsage."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or LOOPBACK
    if not (port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise WrongUsage(f"--listen {address!r}: give HOST:PORT, [IPV6]:PORT, or PORT alone")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Return True for `localhost` and the addresses of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
