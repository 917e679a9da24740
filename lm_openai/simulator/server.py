"""HTTP server of the demo organization: keys, scopes, headers and connections."""

from __future__ import annotations

import gzip
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import formatdate
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from socketserver import TCPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lm_openai.simulator import control, faults, parameters, refusals, routes
from lm_openai.simulator.fault_plan import Plan
from lm_openai.simulator.faults import RequestInfo, Response
from lm_openai.simulator.refusals import Refusal
from lm_openai.simulator.routes import State

MIN_COMPRESSED_BYTES = 1024
LARGEST_BODY = 1024 * 1024
"""Bytes of a request's body that are read; no endpoint here takes one."""
PROJECT_KEY = "sk-proj-"
ADMIN_KEY = "sk-admin-demo"
NO_AUDIT_KEY = "sk-admin-demo-no-audit"
NO_USAGE_KEY = "sk-admin-demo-no-usage"
NO_MANAGEMENT_KEY = "sk-admin-demo-no-management"
MISSING_SCOPE = {
    ADMIN_KEY: None,
    NO_AUDIT_KEY: routes.AUDIT_SCOPE,
    NO_USAGE_KEY: routes.USAGE_SCOPE,
    NO_MANAGEMENT_KEY: routes.MANAGEMENT_SCOPE,
}
"""Accepted keys, each with the one scope that it lacks; None if it has all scopes."""


class Request(NamedTuple):
    """Recorded request; a `status` of 0 means a connection closed without a response."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    status: int


class Backend(NamedTuple):
    """Parts of a simulator that its connections use; `latency` is in seconds.

    `control` responds to a method, a path and a body below control.ROOT.
    """

    state: Callable[[], State]
    plan: Plan
    record: Callable[[Request], None]
    latency: float
    numbers: Iterator[int]
    control: Callable[[str, str, str], Response]


class Server(ThreadingHTTPServer):
    """HTTP server that closes all its connections when it stops, also those kept alive."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], backend: Backend) -> None:
        self.backend = backend
        self.connections: set[socket.socket] = set()
        super().__init__(address, Connection)

    def server_bind(self) -> None:
        """Bind without the host name lookup of the standard library."""
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report an error, unless the client only closed its connection or timed out."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self.connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


class Connection(BaseHTTPRequestHandler):
    """Connection of one client, kept alive between its requests."""

    protocol_version = "HTTP/1.1"
    server: Server
    wbufsize = -1
    disable_nagle_algorithm = True
    timeout = 60

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError):
            self.close_connection = True

    def log_message(self, format: str, *arguments: Any) -> None:
        """Log nothing; the simulator records the requests."""

    def do_GET(self) -> None:
        state = self.server.backend.state()
        target = urlsplit(self.path)
        query = parameters.parse(target.query)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, LARGEST_BODY))
        if target.path.startswith(control.ROOT) and self._is_local():
            text = body.decode("utf-8", "replace")
            response = self.server.backend.control(self.command, target.path, text)
            self._send(response, state.now)
            return
        response = self._respond(target.path, query, state)
        self.server.backend.record(Request(self.command, target.path, query, response.status))
        time.sleep(self.server.backend.latency + response.wait)
        self._send(response, state.now)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _is_local(self) -> bool:
        """Return True for a client on this machine."""
        return ip_address(self.client_address[0]).is_loopback

    def _respond(self, path: str, query: dict[str, list[str]], state: State) -> Response:
        info = RequestInfo(query, routes.scope(path))

        def normal() -> Response:
            return respond(self.command, path, query, self.headers.get("Authorization"), state)

        fault = self.server.backend.plan.take(path, info)
        return normal() if fault is None else faults.inject(fault, info, normal)

    def _send(self, response: Response, now: int) -> None:
        if response.status == 0:
            self.close_connection = True
            return
        body, encoding = self._encoded(response.body)
        self.send_response_only(response.status)
        self.send_header("Date", formatdate(now, usegmt=True))
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(body) + response.cut))
        self.send_header("x-request-id", _request_id(next(self.server.backend.numbers)))
        for name, value in (*encoding, *response.headers):
            self.send_header(name, value)
        if response.cut:
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def _encoded(self, body: bytes) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        accepted = self.headers.get("Accept-Encoding", "")
        if "gzip" not in accepted or len(body) < MIN_COMPRESSED_BYTES:
            return body, ()
        return gzip.compress(body, 1), (("Content-Encoding", "gzip"),)


def respond(
    method: str,
    path: str,
    query: Mapping[str, list[str]],
    authorization: str | None,
    state: State,
) -> Response:
    """Return the normal response to a request; a Refusal becomes an error response."""
    try:
        route, identifiers = routes.find(method, path)
        _authorize(authorization, routes.scope(path))
        parameters.refuse_unknown(query, route.parameters)
        page = route.respond(state, query, *identifiers)
    except Refusal as refusal:
        return faults.error_response(refusal)
    return Response(200, json.dumps(page, separators=(",", ":")).encode())


def _authorize(authorization: str | None, scope: str) -> None:
    scheme, _, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise refusals.no_key()
    if key.startswith(PROJECT_KEY):
        raise refusals.missing_scopes([scope])
    if key not in MISSING_SCOPE:
        raise refusals.wrong_key(key)
    if MISSING_SCOPE[key] == scope:
        raise refusals.missing_scopes([scope])


def _request_id(number: int) -> str:
    return "req_" + blake2b(str(number).encode(), digest_size=16).hexdigest()
