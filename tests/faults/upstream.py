"""Faults of the API and of the way to it."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from itertools import count
from typing import Any, NamedTuple

import trustme

from tests.faults.rows import fault
from tests.faults.scene import SCRIPT, Ran, Scene, failed, require, succeeded
from tests.faults.sharing import repeatedly
from tests.faults.test_memory import bomb
from tests.support.hostile import Answer, Hostile, response, trickle

SCRIPTS = (SCRIPT, "cost_by_project", "rate_limits")
SHORT = 8.0
"""Limit of a poll in seconds, for faults that are retried or wait."""
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
FORMATS = ("json", "nagios", "prometheus", "influx", "zabbix", "checkmk", "logicmonitor")

LATE = "the poll ran out of time"
"""Said of the last try, or if three scripts at once are too slow to find out."""

# (kind of the simulator's fault, its settings, parts of the message, of which one appears)
FAILING: dict[str, tuple[str, dict[str, Any], str]] = {
    "every response is a web page": ("html", {}, "is not JSON"),
    "every response is truncated JSON": ("truncated", {}, "is not JSON"),
    "every connection closed without a response": ("closed", {}, "no connection to the API"),
    "every connection closed in mid-body": ("cut", {}, f"no connection to the API|{LATE}"),
    "every response has 80 MiB": ("huge", {}, f"a response is larger than allowed|{LATE}"),
    "every page promises another one and has no cursor": ("no-cursor", {}, "cursor is missing"),
    "every list lacks its rows": ("missing", {"field": "data"}, "breaks the API's contract"),
    "HTTP 429 for ever, without Retry-After": ("429", {}, "the API throttles"),
    "HTTP 429 for ever, with a Retry-After of a day": (
        "429",
        {"retry_after": 86400},
        "the API asked for a pause of 86400 s",
    ),
    "HTTP 429 for ever, with a Retry-After that is no number": (
        "429",
        {"retry_after": "\t soon, -1"},
        "the API throttles",
    ),
    "out of credit": ("quota", {}, "ran out of credit"),
    "HTTP 500 for ever": ("500", {}, "server error (HTTP 500"),
    "every response after the limit": ("slow", {"seconds": 9}, "the poll ran out of time"),
    "every redirect leads back": ("redirect", {}, "the API sent a redirect"),
    "the key is revoked": ("401", {}, "the admin key is wrong or was revoked"),
}


def fails(scene: Scene, kind: str, settings: Mapping[str, Any], words: str) -> None:
    """Require the failure of each script; the next poll is right."""
    scene.demo.fault(kind, **settings)
    running = [scene.start(script, timeout=SHORT) for script in SCRIPTS]
    for ran in scene.finish(*running):
        failed(ran, *words.split("|"))


for name, row in FAILING.items():
    fault(name)(partial(fails, kind=row[0], settings=row[1], words=row[2]))


def reset(request: str) -> Iterable[bytes]:
    """Yield a part of a body, then wait for the reset that `Resetting` sends."""
    yield OK + b"Content-Length: 500\r\n\r\n" + b'{"object":'


class Resetting(Hostile):
    """Server that resets each connection in the middle of a body (RST)."""

    def _serve(self, connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"".join(reset("")))
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        connection.close()


def document(value: object) -> bytes:
    return response(json.dumps(value).encode(), "200 OK", "Content-Type: application/json")


def endless(numbers: Iterable[int]) -> Answer:
    """Return an API whose lists never end, each page with a new cursor."""
    waiting = iter(numbers)

    def answer(request: str) -> bytes:
        cursor = f"page_{next(waiting)}"
        return document(
            {"object": "page", "data": [], "has_more": True, "next_page": cursor, "last_id": cursor}
        )

    return answer


TOO_LARGE = "larger than allowed|Content-Encoding|ran out of time"
"""Three scripts at once may not be fast enough to find out what is too large."""
HOSTILE: dict[str, tuple[Answer, str]] = {
    "JSON nested 1.6 million times": (lambda _: response(b"[" * 1_600_000), "larger than allowed"),
    "JSON nested 300,000 times": (lambda _: response(b"[" * 300_000), "is not JSON"),
    "objects nested 300,000 times": (lambda _: response(b'{"a":' * 300_000), "is not JSON"),
    "gzip bomb of 512 MiB": (
        lambda _: response(bomb(1), "200 OK", "Content-Encoding: gzip"),
        TOO_LARGE,
    ),
    "gzip inside gzip": (
        lambda _: response(bomb(2), "200 OK", "Content-Encoding: gzip, gzip"),
        TOO_LARGE,
    ),
    "broken gzip": (
        lambda _: response(gzip.compress(b"{}")[:-6], "200 OK", "Content-Encoding: gzip"),
        "",
    ),
    "lists that never end, with new cursors": (endless(count()), ""),
    "null in place of an object": (lambda _: document(None), "the response is not an object"),
    "a number in place of an object": (lambda _: document(7), "the response is not an object"),
    "an empty body": (lambda _: response(b""), "is not JSON"),
    "bytes that are no HTTP": (lambda _: b"SSH-2.0-OpenSSH_9.2\r\n", "no connection to the API"),
    "HTTP 204 without a body": (lambda _: response(b"", "204 No Content"), "is not JSON"),
    "status line trickled byte by byte": (
        lambda _: trickle(b"", b"H"),
        "the poll ran out of time",
    ),
    "headers trickled byte by byte": (lambda _: trickle(OK, b"x"), "the poll ran out of time"),
    "body trickled byte by byte": (
        lambda _: trickle(OK + b"Content-Length: 9999\r\n\r\n", b" "),
        "the poll ran out of time",
    ),
    "headers that split a response in two": (
        lambda _: response(b"{}", "200 OK", "X: a\r\nContent-Length: 0", "Y: \x1b]0;x\x07"),
        "",
    ),
    "an error message with line ends and escapes": (
        lambda _: response(
            json.dumps(
                {"error": {"message": "x\r\nOK: fine\x1b[2J\u202e", "code": "\x07"}}
            ).encode(),
            "400 Bad",
        ),
        "the API refused the request",
    ),
}


def refuses(scene: Scene, answer: Answer, words: str, server: type[Hostile] = Hostile) -> None:
    """Require the failure of each script with a hostile server."""
    with server(answer) as hostile:
        environ = {"OPENAI_BASE_URL": f"{hostile.url}/v1"}
        running = [scene.start(script, environ=environ, timeout=SHORT) for script in SCRIPTS]
        for ran in scene.finish(*running):
            failed(ran, *words.split("|"))


for name, hostile_row in HOSTILE.items():
    fault(name)(partial(refuses, answer=hostile_row[0], words=hostile_row[1]))
fault("connection reset (RST) in mid-body")(
    partial(refuses, answer=reset, words="no connection to the API", server=Resetting)
)


def recorded(seen: list[str], request: str) -> bytes:
    """Note the request of a client that should not send one."""
    seen.append(request)
    return b""


class Certificate(NamedTuple):
    """Certificate of a server: the name, whether its CA is known, and days until it expires."""

    name: str
    known: bool
    days: int
    words: str


CERTIFICATES = {
    "TLS certificate of another host": Certificate("other.example", True, 9, "match"),
    "TLS certificate of an unknown CA": Certificate("127.0.0.1", False, 9, "unable to get"),
    "TLS certificate that expired": Certificate("127.0.0.1", True, -9, "expired"),
}


def distrusts(scene: Scene, certificate: Certificate) -> None:
    """Require that no request is sent over a connection that cannot be trusted."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    now = datetime.now(timezone.utc)
    issued = authority.issue_cert(
        certificate.name, not_after=now + timedelta(days=certificate.days)
    )
    issued.configure_cert(context)
    path = scene.folder / "ca.pem"
    (authority if certificate.known else trustme.CA()).cert_pem.write_to_path(str(path))
    seen: list[str] = []
    with Hostile(partial(recorded, seen), context) as server:
        environ = {"OPENAI_BASE_URL": f"{server.url}/v1", "LM_OPENAI_CA_FILE": str(path)}
        failed(scene.poll(environ=environ, timeout=SHORT), certificate.words)
    require(not seen, "the key was sent")


for name, certificate in CERTIFICATES.items():
    fault(name)(partial(distrusts, certificate=certificate))


RESOLVERS = {
    "DNS: the name does not exist": ("raise socket.gaierror(-2, 'Name unknown')", "Name unknown"),
    "DNS: no server answers": ("raise socket.gaierror(-3, 'Try again')", "Try again"),
    "DNS: the look-up hangs": ("time.sleep(60)", "the poll ran out of time"),
    "DNS: no address in the answer": ("return []", "no connection to the API"),
}


def unresolved(scene: Scene, code: str, words: str) -> None:
    """Require a failure in time, whatever the resolver does."""
    program = f"import socket, time\ndef look(*a, **k):\n    {code}\nsocket.getaddrinfo = look\n"
    environ = {**scene.site(program), "OPENAI_BASE_URL": "https://api.invalid/v1"}
    for ran in scene.finish(*[scene.start(s, environ=environ, timeout=SHORT) for s in SCRIPTS]):
        failed(ran, words)


for name, resolver in RESOLVERS.items():
    fault(name)(partial(unresolved, code=resolver[0], words=resolver[1]))


def moved(status: str, location: str, request: str) -> bytes:
    """Return a redirect."""
    return response(b"", status, location)


@fault("redirect to another host")
def redirect(scene: Scene) -> None:
    """The key does not follow."""
    for status in ("301 Moved", "302 Found", "307 Temporary", "308 Permanent"):
        seen: list[str] = []
        with Hostile(partial(recorded, seen)) as thief:
            location = f"Location: {thief.url}/v1/organization/costs"
            refuses(scene, partial(moved, status, location), "the API sent a redirect (to http")
        require(not seen, f"{status} was followed")


def storm(scene: Scene, **settings: Any) -> None:
    """Throttle the first 12 responses; require the right numbers of all processes."""
    scene.demo.fault("429", times=12, **settings)
    running = [scene.start(script) for script in SCRIPTS for _ in range(scene.many(10))]
    succeeded(*scene.finish(*running))


fault("storm of HTTP 429 with Retry-After, 30 processes", seconds=90)(partial(storm, retry_after=1))
fault("storm of HTTP 429 without Retry-After, 30 processes", seconds=90)(storm)


@fault("HTTP 503 comes and goes while 30 processes poll")
def flapping(scene: Scene) -> None:
    """Each retries and prints right numbers and sums of costs."""
    for number in range(100):
        scene.demo.fault("503", times=1, skip=3 * number)
    environ = {"LM_OPENAI_CACHE_TTL": "0s"}
    running = [scene.start(script, environ=environ) for script in SCRIPTS for _ in range(10)]
    succeeded(*scene.finish(*running))


@fault("API restarts again and again while 30 processes poll")
def restarting(scene: Scene) -> None:
    """Connections break in the middle of requests; no number is wrong."""

    def restart() -> None:
        scene.demo.stop()
        time.sleep(0.05)
        scene.demo.start()

    with repeatedly(restart, 0.4):
        running = [scene.start(script) for script in SCRIPTS for _ in range(scene.many(10))]
        runs = scene.finish(*running)
    for ran in runs:
        if ran.status:
            failed(ran, "no connection to the API")


@fault("every page has the cursor of its own request")
def repeated_cursor(scene: Scene) -> None:
    """Paging ends; pages that hold the whole time anyway are right."""
    scene.demo.fault("repeated-cursor")
    for ran in scene.finish(*[scene.start(script, timeout=SHORT) for script in SCRIPTS]):
        if ran.status or ran.script != SCRIPT:
            failed(ran, "cursor was already used", "refused its own page token")


@fault("buckets missing, first, last and in the middle")
def missing_buckets(scene: Scene) -> None:
    """No sum is printed as if it were of the whole time."""
    for kept in (None, 1, 20):
        scene.demo.fault("hole", rows=kept)
        environ = {"LM_OPENAI_CACHE_TTL": "0s"}
        running = [scene.start(script, environ=environ, timeout=SHORT) for script in SCRIPTS]
        scene.finish(*running)
        scene.demo.clear()


NUMBERS = ('"x"', "[]", "{}", "true", "1.5", "1e999", "12345678901234567890123456")
TEXTS = ("5", "[]", "{}", "true", "[[[[]]]]", "1e999")
TYPES: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    (SCRIPT, "*/usage/completions"): {
        "input_tokens": NUMBERS,
        "output_tokens": NUMBERS,
        "num_model_requests": NUMBERS,
        "start_time": NUMBERS,
        "end_time": NUMBERS,
        "model": TEXTS,
        "project_id": TEXTS,
        "results": ("5", '"x"', "{}", "[5]", '["x"]', "[[]]"),
        "data": ("5", '"x"', "{}", "[5]", '["x"]', "[[]]"),
        "has_more": ("5", '"x"', "[]", "{}"),
        "next_page": ("5", "[]", "{}", "true"),
    },
    ("cost_by_project", "*/costs"): {
        "amount": ("5", '"x"', "[]", "{}"),
        "value": ('"x"', "[]", "{}", "true"),
        "currency": TEXTS,
        "project_id": TEXTS,
        "line_item": TEXTS,
    },
    ("rate_limits", "*/rate_limits"): {
        "model": TEXTS,
        "max_requests_per_1_minute": NUMBERS,
        "max_tokens_per_1_minute": NUMBERS,
    },
    ("rate_limits", "*/projects"): {"id": TEXTS, "status": TEXTS, "created_at": NUMBERS},
}


def wrong_types(scene: Scene, script: str, path: str, fields: dict[str, tuple[str, ...]]) -> None:
    """Require a failure or right numbers for each wrong value in each field."""
    problems: list[str] = []
    for field, values in fields.items():
        for value in values:
            scene.demo.clear()
            scene.demo.fault("replace", path, field=field, value=value)
            ran = scene.poll(script, environ={"LM_OPENAI_CACHE_TTL": "0s"}, timeout=10)
            forget(scene)
            scene.collect(problems, f"{field}={value}", ran)
    require(not problems, "; ".join(problems))


def forget(scene: Scene) -> None:
    """Remove the cache folder, since values of one case would be used in the next."""
    shutil.rmtree(scene.cache, ignore_errors=True)


for (script, path), fields in TYPES.items():
    fault(f"wrong types in each field of {path[2:]}", seconds=180)(
        partial(wrong_types, script=script, path=path, fields=fields)
    )


KINDS = ("object", "type", "role")
ENUMS = {
    SCRIPT: KINDS,
    # A vendor's limit with another interval is no monthly budget, and has no threshold here.
    "cost_by_project": (*KINDS, "status"),
    "rate_limits": (*KINDS, "status"),
    "api_keys_by_key": (*KINDS, "status"),
    "spend_limits_by_project": (*KINDS, "status", "interval"),
    # An invitation with an unknown status is not pending.
    "organization": KINDS,
}


@fault("unknown values of status, object, type and role", seconds=180)
def unknown_enums(scene: Scene) -> None:
    """A value that the vendor adds later changes no number."""
    problems: list[str] = []
    for script, fields in ENUMS.items():
        for field in fields:
            scene.demo.clear()
            scene.demo.fault("replace", field=field, value='"brand_new"')
            ran = scene.poll(script, timeout=10)
            forget(scene)
            scene.collect(problems, f"{script} {field}", ran)
    require(not problems, "; ".join(problems))


EVIL = "x\r\nOK: all fine\nopenai_fake 1\x1b]0;owned\x07\x9b2J\u202e|a=1 \u2028[CRITICAL]"


@fault("line ends, terminal escapes and perfdata in every name, in every format")
def evil_names(scene: Scene) -> None:
    """No line is forged, no terminal is controlled, and each format stays valid."""
    scene.demo.fault("replace", field="name", value=json.dumps(EVIL))
    for script in ("rate_limits", "cost_by_project"):
        for form in FORMATS:
            ran = scene.poll(script, "--format", form)
            require(ran.status in (0, 1, 2), f"{form}: status {ran.status}: {ran.sentence}")
            forged = re.search(r"^(OK: all|openai_fake|.CRITICAL.  *$)", ran.stdout, re.MULTILINE)
            require(not forged, f"{form}: a forged line")
            valid(form, ran)


def valid(form: str, ran: Ran) -> None:
    """Require output that the reader of its format accepts."""
    from line_protocol_parser import parse_line
    from prometheus_client.parser import text_string_to_metric_families

    readers: dict[str, Callable[[str], object]] = {
        "json": json.loads,
        "zabbix": json.loads,
        "prometheus": lambda text: [*text_string_to_metric_families(text)],
        "influx": lambda text: [parse_line(line) for line in text.splitlines()],
    }
    readers.get(form, str)(ran.stdout)


@fault("2,000 projects whose limits are throttled", False, 240, projects=2000, models=8)
def throttled_projects(scene: Scene) -> None:
    """Parts that could not be read in time are named, and the next poll goes on there.

    Only the end of each run is checked: an undisturbed poll reads other projects.
    """
    scene.demo.fault("rate", "*/rate_limits", per_second=40)
    counts = []
    for _ in range(2):
        ran = scene.poll("rate_limits", timeout=20, environ={"LM_OPENAI_CACHE_TTL": "1s"})
        time.sleep(6)  # a report with a gap is shared for 5 s
        succeeded(ran)
        found = ran.document
        counts.append(len(found["instances"]))
        require(bool(found["partial_failures"] or found["notes"]), "limits lack, without a word")
        scene.end(ran)
    require(0 < counts[0] < counts[1], f"{counts} instances in two polls")
