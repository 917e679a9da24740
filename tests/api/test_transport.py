"""Transport over real connections: what it sends, refuses and never shows."""

from __future__ import annotations

import base64
import gzip
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import trustme
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from lm_openai.api.tls import tls_context
from lm_openai.api.transport import Connection, Transport
from lm_openai.errors import ApiFailure, WrongUsage

KEY = "sk-admin-very-secret-value"
PATH = "/organization/costs"
Talker = Callable[[bytes], str]


@pytest.fixture
def talker() -> Iterator[Talker]:
    """Function that starts a server and returns its URL; it sends `response` to each connection."""
    listeners: list[socket.socket] = []

    def serve(listener: socket.socket, response: bytes) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)
                connection.sendall(response)

    def start(response: bytes) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=serve, args=(listener, response), daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(authority: trustme.CA) -> Iterator[HTTPServer]:
    """HTTPS server with a certificate for localhost, signed by `authority`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with HTTPServer(host="localhost", ssl_context=context) as server:
        server.expect_request("/v1" + PATH).respond_with_json({"object": "page"})
        yield server


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def transport_to(url: str, key: str = KEY, **settings: Any) -> Transport:
    return Transport(Connection(url, key, **settings), environ={})


def failure_of(transport: Transport, timeout: float = 10.0) -> ApiFailure:
    with pytest.raises(ApiFailure) as caught:
        transport.get(PATH, [], timeout)
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    return caught.value


def test_the_key_is_sent_as_bearer_token_and_the_query_percent_encoded(
    httpserver: HTTPServer,
) -> None:
    httpserver.expect_request("/v1" + PATH).respond_with_json({})
    query = [("group_by[]", "project_id"), ("group_by[]", "line_item"), ("page", "page_a+b/c=")]
    transport_to(httpserver.url_for("/v1/")).get(PATH, query, 10)
    request, _ = httpserver.log[0]
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["User-Agent"].startswith("lm-openai/")
    assert request.query_string == (
        b"group_by%5B%5D=project_id&group_by%5B%5D=line_item&page=page_a%2Bb%2Fc%3D"
    )


def test_a_response_has_lower_case_headers_and_a_decompressed_body(httpserver: HTTPServer) -> None:
    headers = {"Content-Encoding": "gzip", "X-Request-Id": "req_1"}
    body = gzip.compress(b'{"a": 1}')
    httpserver.expect_request(PATH).respond_with_data(body, status=418, headers=headers)
    response = transport_to(httpserver.url_for("")).get(PATH, [], 10)
    assert (response.status, response.body) == (418, b'{"a": 1}')
    assert response.headers["x-request-id"] == "req_1"


def test_a_netrc_entry_does_not_replace_the_key(httpserver: HTTPServer, home: Path) -> None:
    netrc = home / ".netrc"
    netrc.write_text(f"machine {httpserver.host} login someone password else\n")
    netrc.chmod(0o600)
    httpserver.expect_request(PATH).respond_with_json({})
    transport_to(httpserver.url_for("")).get(PATH, [], 10)
    assert httpserver.log[0][0].headers["Authorization"] == f"Bearer {KEY}"


def test_a_redirect_is_refused_and_named_without_its_query(httpserver: HTTPServer) -> None:
    target = "https://user:hush@login.example/there?token=hush"
    httpserver.expect_request(PATH).respond_with_data("", status=302, headers={"Location": target})
    failure = failure_of(transport_to(httpserver.url_for("")))
    assert failure.kind == "redirect"
    assert "to https://login.example/there)" in str(failure)
    assert "hush" not in str(failure)
    assert len(httpserver.log) == 1


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_a_response_over_the_size_limit_is_refused(httpserver: HTTPServer, encoding: str) -> None:
    body = b" " * 5_000_000
    sent = gzip.compress(body) if encoding == "gzip" else body
    httpserver.expect_request(PATH).respond_with_data(sent, headers={"Content-Encoding": encoding})
    connection = Connection(httpserver.url_for(""), KEY)
    assert failure_of(Transport(connection, largest=4_999_999)).kind == "too_large"
    assert len(Transport(connection, largest=5_000_000).get(PATH, [], 10).body) == 5_000_000


def test_no_response_within_the_timeout_fails_as_deadline(httpserver: HTTPServer) -> None:
    finished = threading.Event()

    def wait(_: Request) -> Response:
        finished.wait(30)
        return Response("{}")

    httpserver.expect_request(PATH).respond_with_handler(wait)
    failure = failure_of(transport_to(httpserver.url_for("")), timeout=0.1)
    finished.set()
    assert (failure.kind, failure.detail) == ("deadline", "no response in time")


@pytest.mark.parametrize("timeout", [0, -0.0005])
def test_a_request_without_time_left_is_not_sent(timeout: float) -> None:
    failure = failure_of(transport_to("http://127.0.0.1:9/v1"), timeout)
    assert (failure.kind, failure.detail) == ("deadline", "the request was not sent")


def test_a_slow_response_fails_as_deadline_after_the_timeout(httpserver: HTTPServer) -> None:
    httpserver.expect_request(PATH).respond_with_json({})
    moments = iter([0.0, 11.0])
    transport = Transport(Connection(httpserver.url_for(""), KEY), clock=lambda: next(moments))
    assert failure_of(transport, timeout=10).detail == "the response arrived too slowly"


def test_a_closed_port_is_unreachable_with_the_reason_of_the_system() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        failure = failure_of(transport_to(f"http://127.0.0.1:{bound.getsockname()[1]}"))
    assert str(failure) == (
        "costs: no connection to the API (Connection refused); "
        "check DNS, firewall, proxy and openai.api.url"
    )


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nno",
        b"220 mail.example ESMTP\r\n",
    ],
    ids=["closed", "cut", "not gzip", "not HTTP"],
)
def test_a_broken_response_is_unreachable(talker: Talker, response: bytes) -> None:
    assert failure_of(transport_to(talker(response))).kind == "unreachable"


def test_a_server_without_tls_behind_https_is_unreachable(talker: Talker) -> None:
    url = talker(b"HTTP/1.1 400 Bad Request\r\n\r\n").replace("http:", "https:")
    failure = failure_of(transport_to(url))
    assert failure.kind == "unreachable"
    assert failure.detail.startswith("TLS failed")


def test_a_private_ca_is_trusted_through_the_property(secure: HTTPServer, ca_file: str) -> None:
    transport = transport_to(secure.url_for("/v1"), ca_file=ca_file)
    assert b'"page"' in transport.get(PATH, [], 10).body


def test_a_private_ca_is_trusted_through_the_usual_variable(
    secure: HTTPServer, ca_file: str
) -> None:
    environ = {"REQUESTS_CA_BUNDLE": ca_file}
    transport = Transport(Connection(secure.url_for("/v1"), KEY), environ=environ)
    assert transport.get(PATH, [], 10).status == 200


def test_the_property_wins_over_the_variable(
    secure: HTTPServer, ca_file: str, tmp_path: Path
) -> None:
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    connection = Connection(secure.url_for("/v1"), KEY, ca_file=ca_file)
    transport = Transport(connection, environ={"REQUESTS_CA_BUNDLE": str(other)})
    assert transport.get(PATH, [], 10).status == 200


def test_a_certificate_of_an_unknown_ca_is_refused(secure: HTTPServer) -> None:
    failure = failure_of(transport_to(secure.url_for("/v1")))
    assert failure.kind == "tls"
    assert "unable to get local issuer certificate" in str(failure)


def test_a_certificate_for_another_host_is_refused(secure: HTTPServer, ca_file: str) -> None:
    url = f"https://127.0.0.1:{secure.port}/v1"
    assert failure_of(transport_to(url, ca_file=ca_file)).kind == "tls"


def test_variables_that_requests_reads_itself_do_not_change_the_trusted_cas(
    secure: HTTPServer, monkeypatch: pytest.MonkeyPatch, ca_file: str
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", ca_file)
    assert failure_of(transport_to(secure.url_for("/v1"))).kind == "tls"


def test_the_ca_is_read_once_for_all_connections(
    secure: HTTPServer, ca_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = []
    load = ssl.SSLContext.load_verify_locations

    def counted(context: ssl.SSLContext, *args: Any, **settings: Any) -> None:
        loads.append(settings)
        load(context, *args, **settings)

    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", counted)
    transport = transport_to(secure.url_for("/v1"), ca_file=ca_file)
    together = threading.Barrier(4)

    def status(_: int) -> int:
        together.wait(30)
        return transport.get(PATH, [], 10).status

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(status, range(4))] == [200] * 4
    assert len(loads) == 1


@pytest.mark.parametrize("text", ["", "not a certificate"])
def test_a_ca_file_without_certificate_is_refused_by_name(tmp_path: Path, text: str) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text(text)
    with pytest.raises(WrongUsage, match=r"openai\.ca\.file: .*broken\.pem cannot be used"):
        tls_context(str(broken), {})


def test_a_missing_ca_file_is_refused_with_the_name_of_the_variable(tmp_path: Path) -> None:
    with pytest.raises(WrongUsage, match=r"SSL_CERT_FILE: .*No such file"):
        tls_context("", {"SSL_CERT_FILE": str(tmp_path / "absent.pem")})


def test_without_a_ca_file_verification_is_still_required() -> None:
    assert tls_context("", {}).verify_mode == ssl.CERT_REQUIRED


def test_a_certificate_for_an_address_is_accepted_at_that_address(
    authority: trustme.CA, ca_file: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with HTTPServer(host="127.0.0.1", ssl_context=context) as server:
        server.expect_request(PATH).respond_with_json({})
        transport = transport_to(server.url_for(""), ca_file=ca_file)
        assert transport.get(PATH, [], 10).status == 200


@pytest.mark.parametrize(
    ("proxy", "password"),
    [("http://us%40r:p%3Aw%23@{}", ""), ("us%40r@{}", "p:w#"), ("http://us%40r:old@{}", "p:w#")],
    ids=["in the URL", "separate, without scheme", "separate wins"],
)
def test_the_proxy_receives_the_request_and_its_password(
    httpserver: HTTPServer, proxy: str, password: str
) -> None:
    httpserver.expect_request("/v1" + PATH).respond_with_data("from the proxy")
    address = f"{httpserver.host}:{httpserver.port}"
    transport = transport_to(
        "http://api.example/v1",
        proxy=proxy.format(address),
        proxy_password=password,
        insecure=True,
    )
    assert transport.get(PATH, [], 10).body == b"from the proxy"
    request, _ = httpserver.log[0]
    assert request.headers["Host"] == "api.example"
    sent = base64.b64decode(request.headers["Proxy-Authorization"].removeprefix("Basic "))
    assert sent == b"us@r:p:w#"


def test_the_usual_variable_sets_the_proxy(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("HTTP_PROXY", httpserver.url_for(""))
    httpserver.expect_request("/v1" + PATH).respond_with_data("from the proxy")
    response = transport_to("http://api.example/v1", insecure=True).get(PATH, [], 10)
    assert response.body == b"from the proxy"


def test_https_works_through_a_proxy_tunnel_with_a_private_ca(
    secure: HTTPServer, ca_file: str
) -> None:
    with Tunnel() as tunnel:
        transport = transport_to(secure.url_for("/v1"), ca_file=ca_file, proxy=tunnel.url)
        assert transport.get(PATH, [], 10).status == 200
        transport.close()
    assert tunnel.request.startswith(f"CONNECT localhost:{secure.port} ")
    assert KEY not in tunnel.request


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://api.example/v1", ""),
        ("HTTP://10.0.0.1:8080", ""),
        ("http://127.0.0.1.example", ""),
        ("http://localhost.example", ""),
        ("http://127.0.0.1/v1", "proxy.example:3128"),
        ("http://[::1]:8080", "http://me:hush@proxy.example:3128"),
    ],
)
def test_plain_http_beyond_this_machine_needs_a_property(url: str, proxy: str) -> None:
    with pytest.raises(WrongUsage) as caught:
        transport_to(url, proxy=proxy)
    assert "unencrypted; use https, or set openai.api.url.insecure=true" in str(caught.value)
    assert "hush" not in str(caught.value)
    transport_to(url, proxy=proxy, insecure=True).close()


@pytest.mark.parametrize("url", ["http://127.9.9.9", "http://localhost:1/v1", "http://[::1]:1"])
def test_plain_http_on_this_machine_is_accepted(url: str) -> None:
    transport_to(url).close()
    transport_to(url, proxy="localhost:3128").close()


def test_a_plain_request_to_this_machine_avoids_a_proxy_of_the_environment(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    httpserver.expect_request(PATH).respond_with_json({})
    url = f"http://127.0.0.1:{httpserver.port}"
    assert transport_to(url).get(PATH, [], 10).status == 200


def test_the_proxy_cannot_echo_its_password(talker: Talker) -> None:
    password = "pr0xy/Pass+w0rd"
    basic = base64.b64encode(f"watcher:{password}".encode())
    reason = b"407 no " + basic + b" " + password.encode() + b" pr0xy%2FPass%2Bw0rd"
    proxy = talker(b"HTTP/1.1 " + reason + b"\r\n\r\n")
    failure = failure_of(
        transport_to(
            "https://api.example/v1",
            proxy=proxy.replace("://", "://watcher@"),
            proxy_password=password,
        )
    )
    assert "407 no" in failure.detail
    assert "Pass" not in failure.detail
    assert basic.decode()[12:] not in failure.detail


@pytest.mark.parametrize("status", [b"407 Proxy Authentication Required", b"403 Forbidden"])
def test_a_refusal_of_the_proxy_is_not_reported_as_an_unreachable_api(
    talker: Talker, status: bytes
) -> None:
    proxy = talker(b"HTTP/1.1 " + status + b"\r\n\r\n").replace("://", "://user:hush@")
    failure = failure_of(transport_to("https://api.example/v1", proxy=proxy))
    assert failure.kind == "proxy"
    assert status.decode() in str(failure)
    assert "hush" not in "".join(traceback.format_exception(failure))


@pytest.mark.parametrize("proxy", ["proxy.example:3128", "http://proxy.example"])
def test_a_proxy_password_without_a_user_is_refused(proxy: str) -> None:
    with pytest.raises(WrongUsage, match=r"^openai\.proxy\.pass: openai\.proxy\.url names no user"):
        Transport(Connection("https://api.example", KEY, proxy=proxy, proxy_password="hush-hush"))


def test_an_unreachable_proxy_is_reported_without_its_password() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        proxy = f"http://user:hush@127.0.0.1:{bound.getsockname()[1]}"
        failure = failure_of(transport_to("https://api.example/v1", proxy=proxy))
    assert (failure.kind, failure.detail) == ("unreachable", "proxy: Connection refused")
    assert "hush" not in "".join(traceback.format_exception(failure))


@pytest.mark.parametrize("url", ["http://user:hush@proxy:port", "ftp://user:hush@proxy:1"])
def test_an_invalid_proxy_variable_is_not_quoted(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("HTTP_PROXY", url)
    failure = failure_of(transport_to("http://api.example/v1", insecure=True))
    assert failure.kind == "proxy"
    assert "hush" not in "".join(traceback.format_exception(failure))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("openai.proxy.url", {"proxy": "http://user:#hush@proxy:8080"}),
        ("openai.proxy.url", {"proxy": "http://user:1/hush@proxy:8080"}),
        ("openai.proxy.url", {"proxy": "socks5://user:hush@proxy"}),
        ("openai.proxy.url", {"proxy": "http://user:hush@proxy:hush"}),
        ("openai.api.url", {"url": "https://user:hush@api.example/v1"}),
        ("openai.api.url", {"url": "https://api.example/v1?key=hush"}),
        ("openai.api.url", {"url": "hush"}),
        ("openai.api.url", {"url": "https://api.example:99999"}),
        ("openai.admin.key", {"key": "hush\nX: y"}),
        ("openai.admin.key", {"key": "hush key"}),
        ("openai.admin.key", {"key": "“hush”"}),
        ("openai.admin.key", {"key": ""}),
    ],
)
def test_an_invalid_setting_is_refused_with_its_property_and_not_quoted(
    name: str, settings: dict[str, str]
) -> None:
    with pytest.raises(WrongUsage) as caught:
        transport_to(**{"url": "https://api.example/v1", **settings})
    assert str(caught.value).startswith(f"{name}: ")
    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_no_repr_shows_the_key_or_the_proxys_password() -> None:
    connection = Connection("https://api.example", KEY, "http://u:hush@proxy", "hush")
    shown = repr(connection) + str(connection) + repr(Transport(connection, environ={}))
    assert KEY not in shown
    assert "hush" not in shown


class Tunnel:
    """HTTP proxy that supports CONNECT for one connection; `request` is its request head."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.request = ""
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Tunnel:
        self._thread.start()
        return self

    def __exit__(self, *problem: object) -> None:
        self._listener.close()
        self._thread.join(30)

    def _serve(self) -> None:
        near, _ = self._listener.accept()
        self.request = near.recv(65536).decode()
        host, port = self.request.split()[1].rsplit(":", 1)
        far = socket.create_connection((host, int(port)))
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=_pump, args=(far, near), daemon=True)
        back.start()
        _pump(near, far)
        back.join(30)
        near.close()
        far.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    while piece := source.recv(65536):
        target.sendall(piece)
    target.shutdown(socket.SHUT_WR)
