"""API that answers with the bytes of a test, however they break HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

Answer = Callable[[str], bytes]
"""Response to a request, which is given as text."""


class Hostile:
    """Server on a free port that answers each request with `answer(request)`, then closes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    def __enter__(self) -> Hostile:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.address}"
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
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(30)
            request = b""
            while b"\r\n\r\n" not in request:
                received = connection.recv(65536)
                if not received:
                    return
                request += received
            connection.sendall(self.answer(request.decode("latin-1")))
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
