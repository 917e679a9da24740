"""HTTP transport: one session, responses bounded in size and time."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

from lm_openai import __version__
from lm_openai.api import bodies
from lm_openai.api.endpoints import endpoint_name
from lm_openai.errors import ApiFailure, WrongUsage
from lm_openai.redaction import learn, sentence, strike, user_info

if TYPE_CHECKING:
    from ssl import SSLContext

    from requests import PreparedRequest, Response, Session

Pairs = Iterable[tuple[str, str]]

LONGEST_CONNECT = 10.0
SLACK = 0.1
"""Seconds after its time in which a request may still report by itself what it waited for."""
LONGEST_TARGET = 200
CHUNK_BYTES = 64 * 1024
LOOPBACK = ("localhost", "::1")
PROXY_REFUSALS = ("Tunnel connection failed: 40", "Tunnel connection failed: 511")


class Connection(NamedTuple):
    """Address of the API and the way to it; a trailing slash in `url` does not matter.

    `proxy` may contain user info; a `proxy_password` replaces the password in it. If `proxy` is
    empty, the usual environment variables apply. `ca_file` is a PEM file or a hashed folder.
    `insecure` allows plain http beyond this machine.
    """

    url: str
    key: str
    proxy: str = ""
    proxy_password: str = ""
    ca_file: str = ""
    concurrency: int = 16
    insecure: bool = False

    def __repr__(self) -> str:
        return "Connection(…)"


class NotConnected(ApiFailure):
    """No connection could be made, so that every other request would fail in the same way."""


class HttpResponse(NamedTuple):
    """One HTTP response without secrets.

    Header names are lower case, the body is decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


Outcome = HttpResponse | BaseException


class Transport:
    """One session with one API; safe to use from threads; call `close` at the end.

    Raises WrongUsage for a URL, key or proxy that cannot work. The libraries are loaded for the
    first request: a poll that finds every response shared sends none.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        largest: int = bodies.LARGEST,
    ) -> None:
        self.connection = connection
        learn((connection.key, connection.proxy_password, *user_info(connection.proxy)))
        proxy = _proxy(connection)
        self._url = _checked_url(connection, proxy)
        self._clock, self._largest = clock, largest
        # A proxy of the environment would carry the key of a plain request off this machine.
        direct = {"http": ""} if on_loopback(connection.url) else None
        self._proxies = {"http": proxy, "https": proxy} if proxy else direct
        self._sign = _bearer(connection.key)
        self._environ, self._opening = environ, Lock()
        self._session: Session | None = None

    def __repr__(self) -> str:
        return f"Transport({self._url})"

    def open(self) -> Session:
        """Return the session, which is made once; raises WrongUsage for an unusable CA file."""
        with self._opening:
            if self._session is None:
                from lm_openai.api.tls import tls_context

                context = tls_context(self.connection.ca_file, self._environ)
                self._session = _session(self.connection, context, self._sign)
            return self._session

    def get(self, path: str, query: Pairs, timeout: float) -> HttpResponse:
        """Send a GET and return the response, whatever its status, within `timeout` seconds.

        Redirects are refused. Raises ApiFailure of kind unreachable, proxy, tls, deadline,
        too_large, contract or redirect.
        """
        endpoint = endpoint_name(path)
        if timeout <= 0:
            raise ApiFailure("deadline", endpoint, "the request was not sent")
        self.open()
        outcome = _outcome(partial(self._response, path, query, timeout), timeout + SLACK)
        if outcome is None:
            raise ApiFailure("deadline", endpoint, "no response in time")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _response(self, path: str, query: Pairs, timeout: float) -> HttpResponse:
        """Return the response, or raise ApiFailure; a trickle or name resolution takes longer."""
        from urllib3.exceptions import LocationValueError

        endpoint = endpoint_name(path)
        until = self._clock() + timeout
        try:
            with self._send(path, query, timeout) as response:
                return self._read(response, endpoint, until)
        except (OSError, LocationValueError) as error:
            failure = _failure(error, endpoint, late=self._clock() >= until)
        # Raised outside `except`: a chained exception of the libraries may quote a URL.
        raise failure

    def close(self) -> None:
        """Close the connections that no request uses."""
        if self._session is not None:
            self._session.close()

    def _send(self, path: str, query: Pairs, timeout: float) -> Response:
        return self.open().get(
            self._url + path,
            # A cursor or an id of a response may contain half a surrogate.
            params=urlencode([*query], errors="surrogatepass"),
            timeout=(min(timeout, LONGEST_CONNECT), timeout),
            proxies=self._proxies,
            allow_redirects=False,
            stream=True,
        )

    def _read(self, response: Response, endpoint: str, until: float) -> HttpResponse:
        if response.is_redirect:
            raise ApiFailure("redirect", endpoint, _target(response))
        body = self._body(response, endpoint, until)
        bodies.check(body, endpoint)
        headers = {name.lower(): strike(value) for name, value in response.headers.items()}
        return HttpResponse(response.status_code, headers, bodies.struck(body))

    def _body(self, response: Response, endpoint: str, until: float) -> bytearray:
        """Return the decompressed body; raises ApiFailure."""
        # The oldest supported urllib3 would treat a broken connection as a short response.
        response.raw.enforce_content_length = True
        # Without the header, requests does not decompress.
        encoding = ", ".join(response.raw.headers.getlist("content-encoding")).strip().lower()
        response.raw.headers.discard("content-encoding")
        body = bytearray()
        for piece in bodies.pieces(response.iter_content(CHUNK_BYTES), encoding, endpoint):
            body += piece
            if len(body) > self._largest:
                raise ApiFailure("too_large", endpoint, f"over {self._largest} bytes")
            if self._clock() > until:
                raise ApiFailure("deadline", endpoint, "the response arrived too slowly")
        return body


def _outcome(work: Callable[[], HttpResponse], seconds: float) -> Outcome | None:
    """Return the result or exception of `work`, or None if it takes longer.

    Sockets limit each read and not their sum, and nothing limits name resolution. So the work has
    a thread of its own, which is left behind if it is late and does not keep the process alive.
    """
    found: list[Outcome] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            found.append(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return found[0] if found else None


def _session(connection: Connection, context: SSLContext, sign: Any) -> Session:
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        """Adapter with one context for all connections; urllib3 loads the CA bundle for each."""

        def init_poolmanager(self, *args: Any, **settings: Any) -> None:
            super().init_poolmanager(*args, **settings, ssl_context=context)

        def proxy_manager_for(self, proxy: str, **settings: Any) -> Any:
            return super().proxy_manager_for(proxy, **settings, ssl_context=context)

        def build_connection_pool_key_attributes(self, request: Any, *_: Any) -> Any:
            return super().build_connection_pool_key_attributes(request, True)

        def cert_verify(self, *_: Any) -> None:
            """Do nothing: the context verifies."""

    class Direct(requests.Session):
        """Session that does not look at redirects; requests would read the whole body of each."""

        def get_redirect_target(self, resp: Response) -> None:
            """Return None: there is no redirect to follow."""

    session = Direct()
    size = connection.concurrency
    adapter = Adapter(pool_connections=2, pool_maxsize=size, pool_block=True)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers.update(
        {
            "User-Agent": f"lm-openai/{__version__}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        }
    )
    session.auth = sign
    return session


def _bearer(key: str) -> Any:
    """Return an `auth` that sets the key's header: ~/.netrc would override a plain header.

    Raises WrongUsage for a key that no header can carry.
    """
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise WrongUsage("openai.admin.key: not a valid key; copy it again, without spaces")

    def sign(request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {key}"
        return request

    return sign


def on_loopback(url: str) -> bool:
    """Return True if the URL's host is this machine."""
    host = urlsplit(url).hostname or ""
    return host in LOOPBACK or re.fullmatch(r"127(\.\d{1,3}){3}", host) is not None


def _checked_url(connection: Connection, proxy: str) -> str:
    """Return the API's URL without a slash at its end; raises WrongUsage."""
    parts = _split("openai.api.url", connection.url)
    if parts.username is not None:
        raise WrongUsage("openai.api.url: remove the user name; the admin key is the only login")
    local = on_loopback(connection.url) and (not proxy or on_loopback(proxy))
    if parts.scheme == "http" and not local and not connection.insecure:
        raise WrongUsage(
            f"openai.api.url: {parts.scheme}://{parts.netloc} would send the admin key "
            f"unencrypted; use https, or set openai.api.url.insecure=true if nobody else can read "
            f"that network"
        )
    return connection.url.rstrip("/")


def _proxy(connection: Connection) -> str:
    """Return the proxy's URL with percent-encoded user info; empty if no proxy is set.

    Raises WrongUsage for a password without a user.
    """
    if not connection.proxy:
        return ""
    given = connection.proxy if "://" in connection.proxy else f"http://{connection.proxy}"
    parts = _split("openai.proxy.url", given)
    if parts.username is None:
        if connection.proxy_password:
            raise WrongUsage(
                "openai.proxy.pass: openai.proxy.url names no user, as in http://me@host"
            )
        return given
    password = connection.proxy_password or unquote(parts.password or "")
    user = f"{quote(unquote(parts.username), safe='')}:{quote(password, safe='')}"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{user}@{host}"


def _split(name: str, url: str) -> Any:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    # A query, a fragment or an @ in the path may be an unencoded / ? # or @ of a password.
    if not usable or parts.query or parts.fragment or "@" in parts.path:
        raise WrongUsage(
            f"{name}: not a URL such as https://host:port; in a password write @ # / as %40 %23 %2F"
        )
    return parts


def _target(response: Response) -> str:
    """Return the target of a redirect without user info and query, which may be secret."""
    from urllib.parse import urljoin

    try:
        target = urlsplit(urljoin(response.url, response.headers["location"]))
    except ValueError:
        return "to an address that is not a URL"
    host = target.netloc.rpartition("@")[2]
    return sentence(f"to {target.scheme}://{host}{target.path}", LONGEST_TARGET)


def _failure(error: Exception, endpoint: str, late: bool) -> ApiFailure:
    import ssl

    from requests import exceptions

    cause = _cause(error)
    reason = _reason(cause)
    if isinstance(error, ValueError):
        # The API's URL and openai.proxy.url were checked before; the environment's was not.
        return ApiFailure("proxy", endpoint, "the proxy in the environment is not a valid URL")
    if isinstance(error, exceptions.ProxyError):
        if reason.startswith(PROXY_REFUSALS):
            return ApiFailure("proxy", endpoint, f"proxy: {reason}")
        return NotConnected("unreachable", endpoint, f"proxy: {reason}")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ApiFailure("tls", endpoint, reason)
    if isinstance(error, exceptions.SSLError) and cause is None:
        return ApiFailure("tls", endpoint, "it is for another host")
    if isinstance(error, exceptions.ConnectTimeout):
        return NotConnected("unreachable", endpoint, "the connection timed out")
    if late or isinstance(error, exceptions.ReadTimeout):
        return ApiFailure("deadline", endpoint, "no response in time")
    if _is_new_connection(error):
        return NotConnected("unreachable", endpoint, reason)
    return ApiFailure("unreachable", endpoint, reason)


def _is_new_connection(error: Exception) -> bool:
    """Return True if the connection failed at its start: name look-up, TCP or TLS handshake."""
    from requests.exceptions import SSLError
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, SSLError) or isinstance(reason, NewConnectionError)


def _cause(error: BaseException) -> BaseException | None:
    """Return the error of the operating system or OpenSSL behind a library's error, or None."""
    from requests import RequestException

    seen: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        cause = waiting.pop(0)
        if not isinstance(cause, BaseException) or cause in seen:
            continue
        if isinstance(cause, OSError) and not isinstance(cause, RequestException):
            return cause
        seen.append(cause)
        waiting += [*cause.args, getattr(cause, "reason", None), cause.__context__]
    return None


def _reason(cause: BaseException | None) -> str:
    """Return the cause's own text, which never quotes a URL."""
    import ssl

    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message.rstrip(".")
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {(cause.reason or 'the connection broke').lower()}"
    if isinstance(cause, OSError):
        return cause.strerror or str(cause)
    return "the connection broke"
