"""Connection to the Redis server of several hosts: short waits, and no second try after a fault."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from lm_openai.errors import WrongUsage
from lm_openai.redaction import sentence

if TYPE_CHECKING:
    from redis import Redis

SLOWEST = 1.0
"""Seconds for one read or write of the connection."""
PATIENCE = 2.0
"""Seconds for one command, with the name resolution and connection of the first one."""
MOST_OFF = 8
"""Seconds that the clocks of a host and of Redis may differ, if the host shares responses."""
_PORT = 6379


class Server(NamedTuple):
    """Address and access of a Redis server; `ca_file` may be empty."""

    url: str
    password: str = ""
    ca_file: str = ""

    @property
    def place(self) -> str:
        """Host and port, without user info."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port or _PORT}"


class Gone(Exception):
    """Redis is not used in this run, for the reason in Link.trouble."""


class Link:
    """Redis server as one run uses it; safe to use from threads.

    The first fault ends the use of it: `trouble` is the reason then, as a sentence. `clock` returns
    this host's time in Unix seconds.
    """

    def __init__(self, server: Server, clock: Callable[[], float] = time.time) -> None:
        refuse_missing_package()
        self.trouble = ""
        self._server, self._clock = server, clock
        self._lock = Lock()
        self._client: Redis | None = None
        self._ahead = 0.0

    @property
    def place(self) -> str:
        """Host and port of the server."""
        return self._server.place

    def now(self) -> float:
        """Return the time of Redis in Unix seconds; raises Gone."""
        self._connected()
        return self._clock() + self._ahead

    def time(self) -> float:
        """Return the time of Redis in Unix seconds, or this host's while Redis is not used."""
        return self._clock() + (0.0 if self.trouble else self._ahead)

    def run(self, script: str, keys: Sequence[str], *arguments: str | bytes | int) -> Any:
        """Return the reply to a Lua script; raises Gone."""
        client = self._connected()
        return self._bounded(lambda: client.eval(script, len(keys), *keys, *arguments))

    def _connected(self) -> Redis:
        """Return the client; the first call connects it and compares the clocks."""
        with self._lock:
            if self.trouble:
                raise Gone
            if self._client is None:
                client = _client(self._server)
                before = self._clock()
                seconds, microseconds = self._bounded(client.time)
                self._ahead = seconds + microseconds / 1e6 - (before + self._clock()) / 2
                self._refuse_skew()
                self._client = client
            return self._client

    def _refuse_skew(self) -> None:
        if abs(self._ahead) > MOST_OFF:
            place = f"the clock of Redis at {self.place}"
            raise self._gone(f"this host's clock and {place} differ by {abs(self._ahead):.0f} s")

    def _bounded(self, work: Callable[[], Any]) -> Any:
        """Return what `work` returns within PATIENCE; raises Gone.

        A thread runs it, because nothing else ends a name resolution, or a reply byte by byte.
        """
        outcome: list[Any] = []
        fault: list[Exception] = []

        def run() -> None:
            try:
                outcome.append(work())
            except Exception as error:
                fault.append(error)

        thread = Thread(target=run, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        if outcome:
            return outcome[0]
        raise self._gone(self._reason(fault[0] if fault else None))

    def _gone(self, reason: str) -> Gone:
        self.trouble = self.trouble or f"responses are not shared with other hosts: {reason}"
        return Gone()

    def _reason(self, fault: Exception | None) -> str:
        from redis import exceptions

        place = f"Redis at {self.place}"
        if fault is None or isinstance(fault, exceptions.TimeoutError):
            return f"{place} did not respond in time; check it and the network"
        denied = isinstance(fault, exceptions.AuthenticationError)
        if denied or str(fault).startswith(("NOAUTH", "WRONGPASS")):
            return f"{place} refused the access; check openai.cache.pass and openai.cache.url"
        detail = sentence(str(fault) or type(fault).__name__)
        if isinstance(fault, exceptions.ConnectionError):
            return f"no connection to {place} ({detail}); check openai.cache.url"
        return f"{place} refused a command ({detail}); check its memory, role and access rules"

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            with suppress(Exception):
                self._client.close()


def refuse_missing_package() -> None:
    """Raise WrongUsage if the package redis is not installed."""
    from importlib.util import find_spec

    if find_spec("redis") is None:
        raise WrongUsage(
            "openai.cache.url needs the Python package redis: install lm-openai[redis], or "
            "python3-redis on Debian, or remove the property"
        )


def _client(server: Server) -> Redis:
    from redis import Redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    scheme, _, rest = server.url.partition("://")
    tls: dict[str, Any] = {}
    if scheme.lower() == "rediss":
        tls = {"ssl_check_hostname": True, "ssl_ca_certs": server.ca_file or None}
    client: Redis = Redis.from_url(
        f"{scheme.lower()}://{rest}",
        password=server.password or None,
        socket_timeout=SLOWEST,
        socket_connect_timeout=SLOWEST,
        retry=Retry(NoBackoff(), 0),
        **tls,
    )
    return client
