"""HTTP's bytes: one session, one TLS context, and every answer bounded in size and time."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, unquote, urlsplit

from lm_openai import __version__
from lm_openai.api.endpoints import endpoint_name
from lm_openai.errors import ApiFailure, WrongUsage

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

Pairs = Iterable[tuple[str, str]]

LARGEST_ANSWER = 64 * 1024 * 1024
LONGEST_CONNECT = 10.0
PIECE = 16 * 1024
CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
HASHED_FOLDERS = ("/etc/ssl/certs",)
PROXY_REFUSALS = ("Tunnel connection failed: 40", "Tunnel connection failed: 511")


class Connection(NamedTuple):
    """Where the API is and how to get there; `url` has no trailing slash to mind.

    `proxy` may hold user info, whose password may come apart as `proxy_password`; without a proxy
    here the usual environment variables hold. `ca_file` is a PEM file or a hashed folder.
    """

    url: str
    key: str
    proxy: str = ""
    proxy_password: str = ""
    ca_file: str = ""
    concurrency: int = 16

    def __repr__(self) -> str:
        return "Connection(…)"


class HttpResponse(NamedTuple):
    """One answer; header names are in lower case, the body is decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Transport:
    """One session to one API; safe to use from threads, to be closed.

    Raises WrongUsage for a URL, key, proxy or CA file that cannot work.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
        largest: int = LARGEST_ANSWER,
    ) -> None:
        self.connection = connection
        self._url = _checked_url(connection.url)
        self._clock, self._largest = clock, largest
        proxy = _proxy(connection)
        self._proxies = {"http": proxy, "https": proxy} if proxy else None
        self._session = _session(connection, tls_context(connection.ca_file, environ))

    def __repr__(self) -> str:
        return f"Transport({self._url})"

    def get(self, path: str, query: Pairs, timeout: float) -> HttpResponse:
        """The answer to a GET within `timeout` seconds, whatever its status, redirects refused.

        Raises ApiFailure: unreachable, proxy, tls, deadline, too_large or redirect.
        """
        from urllib3.exceptions import LocationValueError

        endpoint = endpoint_name(path)
        until = self._clock() + timeout
        try:
            with self._send(path, query, timeout) as response:
                return self._answer(response, endpoint, until)
        except (OSError, LocationValueError) as error:
            failure = _failure(error, endpoint, late=self._clock() >= until)
        # Raised out here, so that no exception of the libraries, which may quote a URL, is chained.
        raise failure

    def close(self) -> None:
        """Give up the connections."""
        self._session.close()

    def _send(self, path: str, query: Pairs, timeout: float) -> Response:
        return self._session.get(
            self._url + path,
            params=list(query),
            timeout=(min(timeout, LONGEST_CONNECT), timeout),
            proxies=self._proxies,
            allow_redirects=False,
            stream=True,
        )

    def _answer(self, response: Response, endpoint: str, until: float) -> HttpResponse:
        if response.is_redirect:
            raise ApiFailure("redirect", endpoint, _target(response))
        # The oldest urllib3 served would pass off a connection that broke as a short answer.
        response.raw.enforce_content_length = True
        body = bytearray()
        for piece in response.iter_content(PIECE):
            body += piece
            if len(body) > self._largest:
                raise ApiFailure("too_large", endpoint, f"over {self._largest} bytes")
            if self._clock() > until:
                raise ApiFailure("deadline", endpoint, "the answer came too slowly")
        headers = {name.lower(): value for name, value in response.headers.items()}
        return HttpResponse(response.status_code, headers, bytes(body))


def tls_context(ca_file: str, environ: Mapping[str, str] = os.environ) -> ssl.SSLContext:
    """A verifying context: the CA file given, else the environment's, else the platform's.

    A hashed folder is looked up lazily and costs nothing; a bundle is read once. Raises WrongUsage
    for a CA file that cannot be read.
    """
    from urllib3.util.ssl_ import create_urllib3_context

    # urllib3 1.26 checks host names itself and fails on addresses with a context of another make.
    context = create_urllib3_context()
    given = {"openai.ca.file": ca_file, **{name: environ.get(name, "") for name in CA_VARIABLES}}
    for name, path in given.items():
        if path:
            return _trusting(context, name, path)
    folder = _hashed_folder()
    if folder:
        context.load_verify_locations(capath=folder)
    else:
        context.load_verify_locations(cafile=_bundle())
    return context


def _trusting(context: ssl.SSLContext, name: str, path: str) -> ssl.SSLContext:
    folder = os.path.isdir(path)
    try:
        context.load_verify_locations(
            cafile=None if folder else path, capath=path if folder else None
        )
    except OSError as error:
        reason = error.strerror or "it holds no certificate"
        raise WrongUsage(f"{name}: {path} cannot be used: {reason}; give a PEM file") from None
    return context


def _hashed_folder() -> str | None:
    """The platform's folder of certificates linked by hash, if it has one."""
    for folder in (ssl.get_default_verify_paths().capath, *HASHED_FOLDERS):
        names = os.listdir(folder) if folder and os.path.isdir(folder) else []
        if any(name.endswith(".0") for name in names):
            return folder
    return None


def _bundle() -> str:
    from certifi import where

    return ssl.get_default_verify_paths().cafile or where()


def _session(connection: Connection, context: ssl.SSLContext) -> Session:
    import requests
    from requests.adapters import HTTPAdapter

    class Adapter(HTTPAdapter):
        """Gives every connection the one context; urllib3 would load the CA bundle for each."""

        def init_poolmanager(self, *args: Any, **settings: Any) -> None:
            super().init_poolmanager(*args, **settings, ssl_context=context)

        def proxy_manager_for(self, proxy: str, **settings: Any) -> Any:
            return super().proxy_manager_for(proxy, **settings, ssl_context=context)

        def build_connection_pool_key_attributes(self, request: Any, *_: Any) -> Any:
            return super().build_connection_pool_key_attributes(request, True)

        def cert_verify(self, *_: Any) -> None:
            """The context verifies."""

    session = requests.Session()
    size = connection.concurrency
    adapter = Adapter(pool_connections=2, pool_maxsize=size, pool_block=True)
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    session.headers.update({"User-Agent": f"lm-openai/{__version__}", "Accept": "application/json"})
    session.auth = _bearer(connection.key)
    return session


def _bearer(key: str) -> Any:
    """Sets the header as an `auth`, since a ~/.netrc would take the place of a plain header."""
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise WrongUsage("openai.admin.key: no key looks like this; copy it again, without blanks")

    def sign(request: PreparedRequest) -> PreparedRequest:
        request.headers["Authorization"] = f"Bearer {key}"
        return request

    return sign


def _checked_url(url: str) -> str:
    parts = _split("openai.api.url", url)
    if parts.username is not None:
        raise WrongUsage("openai.api.url: leave out the user; the admin key is what signs in")
    return url.rstrip("/")


def _proxy(connection: Connection) -> str:
    """The proxy's URL with its user info percent-encoded; empty when none was given."""
    if not connection.proxy:
        return ""
    given = connection.proxy if "://" in connection.proxy else f"http://{connection.proxy}"
    parts = _split("openai.proxy.url", given)
    if parts.username is None:
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
    # These mean that a password's own / ? # or @ was taken for the URL's.
    if not usable or parts.query or parts.fragment or "@" in parts.path:
        raise WrongUsage(
            f"{name}: not a URL such as https://host:port (write @ # / as %40 %23 %2F)"
        )
    return parts


def _target(response: Response) -> str:
    """Where a redirect leads, without what could be a secret."""
    from urllib.parse import urljoin

    target = urlsplit(urljoin(response.url, response.headers["location"]))
    host = target.netloc.rpartition("@")[2]
    return f"to {target.scheme}://{host}{target.path}"


def _failure(error: Exception, endpoint: str, late: bool) -> ApiFailure:
    from requests import exceptions

    cause = _cause(error)
    reason = _words(cause)
    if isinstance(error, ValueError):
        # The API's URL and openai.proxy.url were checked; only the environment's was not.
        return ApiFailure("proxy", endpoint, "the environment's proxy is not a usable URL")
    if isinstance(error, exceptions.ProxyError):
        refused = reason.startswith(PROXY_REFUSALS)
        return ApiFailure("proxy" if refused else "unreachable", endpoint, f"proxy: {reason}")
    if isinstance(cause, ssl.SSLCertVerificationError):
        return ApiFailure("tls", endpoint, reason)
    if isinstance(error, exceptions.SSLError) and cause is None:
        return ApiFailure("tls", endpoint, "it is another host's")
    if isinstance(error, exceptions.ConnectTimeout):
        return ApiFailure("unreachable", endpoint, "no connection in time")
    if late or isinstance(error, exceptions.ReadTimeout):
        return ApiFailure("deadline", endpoint, "no answer in time")
    return ApiFailure("unreachable", endpoint, reason)


def _cause(error: BaseException) -> BaseException | None:
    """The operating system's or OpenSSL's own error beneath the libraries'."""
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


def _words(cause: BaseException | None) -> str:
    """The cause in its own words, which quote no URL."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message.rstrip(".")
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {(cause.reason or 'the connection broke off').lower()}"
    if isinstance(cause, OSError):
        return cause.strerror or str(cause)
    return "the connection broke off"
