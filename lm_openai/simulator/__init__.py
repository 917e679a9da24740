"""The demo organization behind the real contract; standard library only."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from threading import Event, Thread
from typing import Any, TextIO

from lm_openai.simulator.faults import Fault, Plan, parse_fault
from lm_openai.simulator.organization import DAY, Settings
from lm_openai.simulator.organization import organization as organization_of
from lm_openai.simulator.routes import Scene
from lm_openai.simulator.server import (
    ADMIN_KEY,
    MISSING_SCOPE,
    NO_AUDIT_KEY,
    NO_MANAGEMENT_KEY,
    NO_USAGE_KEY,
    Desk,
    Request,
    Server,
)

__all__ = [
    "ADMIN_KEY",
    "NO_AUDIT_KEY",
    "NO_MANAGEMENT_KEY",
    "NO_USAGE_KEY",
    "Fault",
    "Request",
    "Simulator",
    "parse_fault",
    "run_forever",
]

REMEMBERED = 100_000


class Simulator:
    """A demo organization that answers on loopback while the `with` block lasts.

    `at` stops its clock at that moment until `now` is set again; without it `clock` gives the time.
    Members of the organization are created and keys expire around `epoch`, by default the midnight
    before it starts. `lag` scales how late usage shows, `delays` replaces it per kind in seconds,
    `audit_delay` is how many seconds late an event may show, `token_life` how many seconds a page
    token is good for, `latency` the seconds before every answer.
    """

    def __init__(
        self,
        seed: int = 1,
        at: float | None = None,
        projects: int = 12,
        models: int = 24,
        faults: Iterable[Fault] = (),
        lag: float = 1.0,
        port: int = 0,
        latency: float = 0.0,
        delays: Mapping[str, int] | None = None,
        rename_at: int | None = None,
        epoch: int | None = None,
        breadth: int | None = None,
        audit_delay: int = 600,
        token_life: float | None = None,
        host: str = "127.0.0.1",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._at = at
        start = int(self.now)
        self.organization = organization_of(
            seed, projects, models, start - start % DAY if epoch is None else epoch, breadth
        )
        self.settings = Settings(lag=lag, delays=delays or {}, rename_at=rename_at)
        self.requests: list[Request] = []
        self.token_life = token_life
        self.audit_delay = audit_delay
        self._plan = Plan(tuple(faults))
        self._address = (host, port)
        self._desk = Desk(self._scene, self._plan, self._record, latency, count(1))
        self._server: Server | None = None

    @property
    def now(self) -> float:
        """The simulator's time in Unix seconds; setting it stops the clock there."""
        return self._clock() if self._at is None else self._at

    @now.setter
    def now(self, moment: float) -> None:
        self._at = moment

    @property
    def url(self) -> str:
        """The base URL, known once it has started."""
        host, port = self._address
        return f"http://{host}:{port}/v1"

    def fault(self, kind: str, path: str = "*", **settings: Any) -> None:
        """From now on spoil answers as `Fault(kind, path, **settings)` says."""
        self._plan.add(Fault(kind, path, **settings))

    def clear(self) -> None:
        """Forget all requests and faults."""
        self.requests.clear()
        self._plan.clear()

    def start(self) -> Simulator:
        """Start to answer; after a stop on the same port as before."""
        if self._server is None:
            self._server = Server(self._address, self._desk)
            self._address = (self._address[0], self._server.server_port)
            Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Refuse connections from now on and close those that are open."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *problem: object) -> None:
        self.stop()

    def _record(self, request: Request) -> None:
        """A demo that runs for weeks forgets its oldest requests."""
        self.requests.append(request)
        if len(self.requests) > REMEMBERED:
            del self.requests[: REMEMBERED // 2]

    def _scene(self) -> Scene:
        return Scene(
            self.organization, int(self.now), self.settings, self.token_life, self.audit_delay
        )


def run_forever(simulator: Simulator, out: TextIO) -> None:
    """Answer until SIGINT or SIGTERM; `out` gets the base URL and the keys. Main thread only."""
    ended = Event()
    before = {
        number: signal.signal(number, lambda *_: ended.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with simulator:
            out.write(_greeting(simulator))
            out.flush()
            ended.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _greeting(simulator: Simulator) -> str:
    lines = [f"OPENAI_BASE_URL={simulator.url}", f"OPENAI_ADMIN_KEY={ADMIN_KEY}"]
    lines += [f"# {key} lacks {scope}" for key, scope in MISSING_SCOPE.items() if scope]
    return "\n".join(lines) + "\n"
