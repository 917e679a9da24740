"""TCP relay in front of a server of this machine, which makes its replies slow or loses them."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress

PIECE = 65536


class Relay:
    """Relay on a free port; `delay` holds each piece of a reply back, in seconds.

    While it is `cut`, connections open and stay open, and nothing passes: as behind a firewall that
    drops packets.
    """

    def __init__(self, port: int) -> None:
        self._target, self.delay = port, 0.0
        self._whole = threading.Event()
        self._whole.set()

    def __enter__(self) -> Relay:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.heal()

    def cut(self) -> None:
        """Let nothing pass."""
        self._whole.clear()

    def heal(self) -> None:
        """Let everything pass again, also what was held back."""
        self._whole.set()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        address = ("127.0.0.1", self._target)
        with client, suppress(OSError), socket.create_connection(address) as server:
            words = (client, server, False)
            threading.Thread(target=self._pass, args=words, daemon=True).start()
            self._pass(server, client, True)

    def _pass(self, source: socket.socket, target: socket.socket, slow: bool) -> None:
        """Pass bytes on until one side closes."""
        with suppress(OSError):
            while piece := source.recv(PIECE):
                self._whole.wait()
                time.sleep(self.delay if slow else 0)
                target.sendall(piece)
        with suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)
