"""API that answers with the bytes of a test, however they break HTTP."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from urllib.error import HTTPError
from urllib.request import Request, urlopen

Answer = Callable[[str], "bytes | Iterable[bytes]"]
"""Response to a request, which is given as text; as a whole or in pieces."""
TRICKLE_SECONDS, TRICKLE_PAUSE = 20.0, 0.1


class Hostile:
    """Server on a free port that answers each request with `answer(request)`, then closes.

    With `context` it speaks TLS. `greeting` is sent before the request, and before TLS, in pieces.
    """

    def __init__(
        self,
        answer: Answer,
        context: ssl.SSLContext | None = None,
        greeting: Callable[[], Iterable[bytes]] = tuple,
    ) -> None:
        self.answer, self._context, self._greeting = answer, context, greeting

    def __enter__(self) -> Hostile:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"{'https' if self._context else 'http'}://{self.address}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def _greet(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(30)
            for piece in self._greeting():
                connection.sendall(piece)
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request:
                received = connection.recv(65536)
                if not received:
                    return
                request += received
            answer = self.answer(request.decode("latin-1"))
            for piece in (answer,) if isinstance(answer, bytes) else answer:
                connection.sendall(piece)
            # A close with unread data would reset the connection before the client reads.
            connection.shutdown(socket.SHUT_WR)
            connection.recv(1)


def header(request: str, name: str) -> str:
    """Return a request's header, empty if it has none."""
    lines = request.split("\r\n")[1:]
    found = (line.partition(":")[2] for line in lines if line.lower().startswith(f"{name}:"))
    return next(found, "").strip()


def response(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """Return a response with the headers and a body of known length."""
    head = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*head, "", ""]).encode() + body


def trickle(first: bytes, piece: bytes) -> Iterator[bytes]:
    """Yield `first`, then `piece` again and again, each soon enough for any read."""
    yield first
    until = time.monotonic() + TRICKLE_SECONDS
    while time.monotonic() < until:
        time.sleep(TRICKLE_PAUSE)
        yield piece


def relayed(request: str, server: str) -> bytes:
    """Return the response of another server, such as the demo organization, to a request."""
    sent = Request(server + request.split()[1])
    sent.add_header("Authorization", header(request, "authorization"))
    try:
        with urlopen(sent) as found:
            return response(found.read())
    except HTTPError as refusal:
        return response(refusal.read(), f"{refusal.code} Refused")
