"""The demo organization over HTTP: who may ask, and how bytes come and go."""

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
from socketserver import TCPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from lm_openai.simulator import faults, parameters, refusals, routes
from lm_openai.simulator.faults import Answer, Asked
from lm_openai.simulator.refusals import Refusal
from lm_openai.simulator.routes import Scene

WORTH_COMPRESSING = 1024
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
"""The keys that exist, and the one scope that each lacks."""


class Request(NamedTuple):
    """One request as it came; a `status` of 0 is a connection closed without an answer."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    status: int


class Desk(NamedTuple):
    """What a connection needs of its simulator."""

    scene: Callable[[], Scene]
    plan: faults.Plan
    record: Callable[[Request], None]
    latency: float
    numbers: Iterator[int]


class Server(ThreadingHTTPServer):
    """A server whose connections end with it, kept-alive ones too."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], desk: Desk) -> None:
        self.desk = desk
        self.connections: set[socket.socket] = set()
        super().__init__(address, Connection)

    def server_bind(self) -> None:
        """Without the look-up of a host name that the library does here."""
        TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; anything else is told."""
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
    """One client's connection, kept alive between its requests."""

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
        """Nothing is logged; the simulator keeps the requests."""

    def do_GET(self) -> None:
        scene = self.server.desk.scene()
        target = urlsplit(self.path)
        query = parameters.parse(target.query)
        length = int(self.headers.get("Content-Length") or 0)
        self.rfile.read(min(length, faults.MEBIBYTE))
        answer = self._answer(target.path, query, scene)
        self.server.desk.record(Request(self.command, target.path, query, answer.status))
        time.sleep(self.server.desk.latency + answer.wait)
        self._send(answer, scene.now)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

    def _answer(self, path: str, query: dict[str, list[str]], scene: Scene) -> Answer:
        asked = Asked(query, routes.scope(path))

        def true_answer() -> Answer:
            return answer(self.command, path, query, self.headers.get("Authorization"), scene)

        fault = self.server.desk.plan.take(path, asked)
        return true_answer() if fault is None else faults.spoil(fault, asked, true_answer)

    def _send(self, answer: Answer, now: int) -> None:
        if answer.status == 0:
            self.close_connection = True
            return
        body, encoding = self._encoded(answer.body)
        self.send_response_only(answer.status)
        self.send_header("Date", formatdate(now, usegmt=True))
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(body) + answer.cut))
        self.send_header("x-request-id", _request_id(next(self.server.desk.numbers)))
        for name, value in (*encoding, *answer.headers):
            self.send_header(name, value)
        if answer.cut:
            self.close_connection = True
        self.end_headers()
        self.wfile.write(body)

    def _encoded(self, body: bytes) -> tuple[bytes, tuple[tuple[str, str], ...]]:
        accepted = self.headers.get("Accept-Encoding", "")
        if "gzip" not in accepted or len(body) < WORTH_COMPRESSING:
            return body, ()
        return gzip.compress(body, 1), (("Content-Encoding", "gzip"),)


def answer(
    method: str,
    path: str,
    query: Mapping[str, list[str]],
    authorization: str | None,
    scene: Scene,
) -> Answer:
    """What the organization says to a request; a refusal is an answer too."""
    try:
        route, identifiers = routes.find(method, path)
        _admit(authorization, routes.scope(path))
        parameters.only(query, route.parameters)
        page = route.answer(scene, query, *identifiers)
    except Refusal as refusal:
        return faults.refused(refusal)
    return Answer(200, json.dumps(page, separators=(",", ":")).encode())


def _admit(authorization: str | None, scope: str) -> None:
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
