"""Simulator of the vendor's API with a demo organization; standard library only."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import count
from threading import Event, Thread
from typing import Any, TextIO

from lm_openai.simulator import control
from lm_openai.simulator.fault_plan import Plan, check_kind, parse_fault
from lm_openai.simulator.faults import Fault
from lm_openai.simulator.incident_faults import INCIDENTS
from lm_openai.simulator.incidents import NO_INCIDENTS
from lm_openai.simulator.organization import DAY, Settings
from lm_openai.simulator.organization import organization as organization_of
from lm_openai.simulator.routes import State
from lm_openai.simulator.server import (
    ADMIN_KEY,
    MISSING_SCOPE,
    NO_AUDIT_KEY,
    NO_MANAGEMENT_KEY,
    NO_USAGE_KEY,
    Backend,
    Request,
    Server,
)
from lm_openai.simulator.usage import KINDS

__all__ = [
    "ADMIN_KEY",
    "NO_AUDIT_KEY",
    "NO_MANAGEMENT_KEY",
    "NO_USAGE_KEY",
    "Fault",
    "Request",
    "Simulator",
    "late",
    "parse_fault",
    "run_forever",
]

MAX_RECORDED = 100_000


class Simulator:
    """Demo organization that serves the API, by default on loopback, in its `with` block.

    `at` stops the clock at that time until `now` is set; without `at`, `clock` gives the time.
    Creation, archiving and expiry dates are near `epoch`, by default the UTC midnight before the
    start. `lag` scales the delay of usage; `delays` replaces it per kind, in seconds. Also in
    seconds: `audit_delay` is the maximum delay of an audit event, `token_life` the lifetime of a
    page token (None: unlimited), `latency` the pause before each response.
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
        self._plan = Plan()
        for fault in faults:
            self.inject(fault)
        self._address = (host, port)
        self._backend = Backend(
            self._state, self._plan, self._record, latency, count(1), partial(control.respond, self)
        )
        self._server: Server | None = None

    @property
    def now(self) -> float:
        """Simulated time in Unix seconds; setting it stops the clock at that time."""
        return self._clock() if self._at is None else self._at

    @now.setter
    def now(self, moment: float) -> None:
        self._at = moment

    @property
    def url(self) -> str:
        """Base URL; its port is known after `start`."""
        host, port = self._address
        return f"http://{host}:{port}/v1"

    def fault(self, kind: str, path: str = "*", **settings: Any) -> None:
        """Inject `Fault(kind, path, **settings)` from now on. Raises ValueError if it is wrong."""
        self.inject(Fault(kind, path, **settings))

    def inject(self, fault: Fault) -> None:
        """Inject a fault from now on. Raises ValueError for an unknown kind, project or model."""
        check_kind(fault.kind)
        incident = INCIDENTS.get(fault.kind)
        if incident is None:
            self._plan.add(fault)
        else:
            found = incident(fault, self.organization, self.settings, int(self.now))
            self.settings = self.settings._replace(incidents=found)

    def clear(self) -> None:
        """Discard the recorded requests and all faults; what they did to usage never happened."""
        self.requests.clear()
        self._plan.clear()
        self.settings = self.settings._replace(incidents=NO_INCIDENTS)

    def start(self) -> Simulator:
        """Start the server and return the simulator; a restart uses the same port."""
        if self._server is None:
            self._server = Server(self._address, self._backend)
            self._address = (self._address[0], self._server.server_port)
            Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop the server: refuse new connections and close the open ones."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Simulator:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _record(self, request: Request) -> None:
        """Record a request; drop the oldest ones, because a demo may run for weeks."""
        self.requests.append(request)
        if len(self.requests) > MAX_RECORDED:
            del self.requests[: MAX_RECORDED // 2]

    def _state(self) -> State:
        return State(
            self.organization, int(self.now), self.settings, self.token_life, self.audit_delay
        )


def late(seconds: int) -> dict[str, Any]:
    """Return the arguments of a Simulator whose usage and costs all arrive `seconds` late."""
    return {"lag": 0.0, "delays": dict.fromkeys((*KINDS, "costs"), seconds)}


def run_forever(simulator: Simulator, out: TextIO) -> None:
    """Serve until SIGINT or SIGTERM. Works only in the main thread.

    Writes the base URL and the keys to `out`.
    """
    stopped = Event()
    previous = {
        number: signal.signal(number, lambda *_: stopped.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with simulator:
            out.write(_greeting(simulator))
            out.flush()
            while not stopped.wait(1):
                pass  # a signal to another thread does not wake this one
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _greeting(simulator: Simulator) -> str:
    lines = [f"OPENAI_BASE_URL={simulator.url}", f"OPENAI_ADMIN_KEY={ADMIN_KEY}"]
    lines += [f"# {key} lacks the scope {scope}" for key, scope in MISSING_SCOPE.items() if scope]
    return "\n".join(lines) + "\n"
