"""Real Redis servers on free ports of the loopback address, with empty folders."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

PASSWORD = "cache-password-1"
SECONDS = 15


class RedisServer:
    """Debian's redis-server as a child process; it keeps nothing on disk."""

    def __init__(self, program: str, folder: Path, tls: Path | None = None) -> None:
        """`tls` is a folder with server.pem; without it the server speaks plain text."""
        self._program, self._folder, self._tls = program, folder, tls
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.start()

    @property
    def url(self) -> str:
        """URL without the password."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, empty, and wait until it responds."""
        self._folder.mkdir(exist_ok=True)
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        if self._tls:
            pem = str(self._tls / "server.pem")
            words[:2] = ["--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"]
            words += ["--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", pem]
        words += ["--dir", str(self._folder), "--requirepass", PASSWORD]
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen([self._program, *words], stdout=log, stderr=log)
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise TimeoutError((self._folder / "log").read_text())

    def kill(self) -> None:
        """Kill the server as a power failure does."""
        self._process.kill()
        self._process.wait(SECONDS)

    def pause(self) -> None:
        """Stop the server: it accepts connections and does not respond."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a stopped server go on."""
        os.kill(self._process.pid, signal.SIGCONT)
