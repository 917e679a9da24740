"""Meaning of an API response: a record, or a failure and whether a retry may help."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, NamedTuple

from lm_openai.api.records import Record
from lm_openai.api.transport import HttpResponse
from lm_openai.errors import ApiFailure
from lm_openai.redaction import sentence

Convert = Callable[[Record], object]
Parse = Callable[[bytes], Any]

NEVER, ONCE, ALWAYS = range(3)
LONGEST_REASON = 200
BILLING_CODES = ("insufficient_quota", "credit_balance_exhausted")


class StalePage(ApiFailure):
    """The API refuses a page token that it issued; a request with a later start may succeed."""


class Rejection(NamedTuple):
    """Reason that a response gives no record, and whether a retry may help.

    `retry` is NEVER, ONCE or ALWAYS. `wait` is the Retry-After in seconds; None if there is none.
    `outage` is True if the API was not there: no connection, no response, or HTTP 5xx.
    """

    failure: ApiFailure
    retry: int = NEVER
    wait: float | None = None
    outage: bool = False


class ErrorBody(NamedTuple):
    """Code and message of an error response, without secrets; empty if it is not the API's."""

    code: str
    message: str


def parsed(body: bytes, exact: bool = False, convert: Convert | None = None) -> Any:
    """Return the value in a JSON text; `exact` reads fractions as Decimal.

    `convert` replaces each object as soon as it is parsed. Raises ValueError and RecursionError.
    """
    return json.loads(
        body,
        parse_float=_exact if exact else _finite,
        parse_constant=_refuse_constant,
        object_hook=convert,
    )


def classify(
    response: HttpResponse, endpoint: str, key: str, parse: Parse = parsed
) -> Record | Rejection:
    """Return the record in a response, or a Rejection.

    `key` is the key of the request, whose form reveals a project key. `parse` is `parsed`, with
    other options or without.
    """
    if response.status != 200:
        return _refusal(response, endpoint, key)
    try:
        record = parse(response.body)
    except ApiFailure as failure:
        return Rejection(failure)
    except (ValueError, RecursionError):
        unreadable = ApiFailure("not_json", endpoint, _content(response))
        return Rejection(unreadable, _retry_unreadable(response.body))
    if isinstance(record, dict):
        return record
    return Rejection(ApiFailure("contract", endpoint, "the response is not an object"))


def _retry_unreadable(body: bytes) -> int:
    """Return the retries after a body that is not JSON: many if it was cut, none for a web page."""
    if _is_markup(body):
        return NEVER
    return ONCE if body.rstrip().endswith(b"}") else ALWAYS


def _refusal(response: HttpResponse, endpoint: str, key: str) -> Rejection:
    error = _error_body(response.body)
    status = response.status
    if status == 429:
        return _too_many_requests(response, error, endpoint)
    if status in (408, 409) or status >= 500:
        reason = f"HTTP {status}: {error.message}" if error.message else f"HTTP {status}"
        return Rejection(
            ApiFailure("down", endpoint, reason),
            ALWAYS,
            _retry_after(response.headers),
            outage=status >= 500,
        )
    if status in (401, 403):
        return _not_allowed(status, error, response, endpoint, key)
    if status == 404:
        return Rejection(ApiFailure("not_found", endpoint, error.message))
    if status == 400 and "page token is invalid" in error.message:
        return Rejection(StalePage("contract", endpoint, "the API refused its own page token"))
    if status == 400 and "archived" in f"{error.code} {error.message}":
        return Rejection(ApiFailure("archived", endpoint))
    if status < 300 or not error.message:
        return Rejection(ApiFailure("not_json", endpoint, _content(response)))
    return Rejection(ApiFailure("refused", endpoint, error.message))


def _too_many_requests(response: HttpResponse, error: ErrorBody, endpoint: str) -> Rejection:
    # rate_limit_exceeded is ordinary throttling; *_spend_limit_exceeded and similar are billing.
    code = error.code
    limit = code.endswith("_limit_exceeded") and not code.endswith("rate_limit_exceeded")
    if limit or code in BILLING_CODES:
        return Rejection(ApiFailure("billing", endpoint, code))
    return Rejection(ApiFailure("throttled", endpoint), ALWAYS, _retry_after(response.headers))


def _not_allowed(
    status: int, error: ErrorBody, response: HttpResponse, endpoint: str, key: str
) -> Rejection:
    """Classify a 401 or 403 by code and text: the API uses both statuses for each reason."""
    if _is_project_key(key) or "session key" in error.message:
        return Rejection(ApiFailure("project_key", endpoint))
    scopes = re.search(r"Missing scopes: ([\w.]*\w(?:, [\w.]*\w)*)", error.message)
    if scopes:
        failure = ApiFailure("scope", endpoint, f"it needs {scopes[1]}", scope=scopes[1])
        return Rejection(failure, ONCE)
    if error.code == "invalid_api_key":
        return Rejection(ApiFailure("key", endpoint))
    if status == 401:
        return Rejection(ApiFailure("key", endpoint, error.message))
    if not error.message:
        return Rejection(ApiFailure("not_json", endpoint, _content(response)))
    return Rejection(ApiFailure("refused", endpoint, error.message))


def _is_project_key(key: str) -> bool:
    return key.startswith("sk-") and not key.startswith("sk-admin-")


def _error_body(body: bytes) -> ErrorBody:
    """Read `{"error": {...}}`, or the bare `{"code", "message"}` of some responses."""
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ErrorBody("", "")
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
    if not isinstance(error, dict):
        return ErrorBody("", _safe(_words(error)))
    code = _words(error.get("code")) or _words(error.get("type"))
    return ErrorBody(sentence(code, LONGEST_REASON), _safe(_words(error.get("message")) or code))


def _words(value: Any) -> str:
    """Return a text or number of an error as text; empty for anything else."""
    return str(value) if isinstance(value, (str, int, float)) else ""


def _safe(text: str) -> str:
    """Return the API's text as a part of a sentence; the API quotes a wrong key, poorly masked."""
    # A text of megabytes, which `sentence` does not show, would take seconds to search.
    masked = re.sub(r"\bsk-[^\s,;]*\w", "sk-…", sentence(text))
    return sentence(masked.strip().rstrip("."), LONGEST_REASON)


def _content(response: HttpResponse) -> str:
    """Describe the status and body of a response that is not JSON."""
    if not response.body.strip():
        content = "an empty body"
    elif _is_markup(response.body):
        content = "a web page"
    else:
        content = "broken JSON" if response.body.lstrip()[:1] in (b"{", b"[") else "other content"
    return f"HTTP {response.status} with {content}"


def _is_markup(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the Retry-After in seconds; None if it is missing, unusable or not positive.

    An HTTP date is compared with the response's Date.
    """
    text = headers.get("retry-after", "")
    try:
        seconds = float(text)
    except ValueError:
        until, now = unix_seconds(text), unix_seconds(headers.get("date", ""))
        seconds = until - now if until is not None and now is not None else 0
    return seconds if 0 < seconds < float("inf") else None


def server_time(headers: Mapping[str, str]) -> int | None:
    """Return the API's time in Unix seconds, None if it is unknown.

    A response that a proxy kept for `Age` seconds has the Date of its origin.
    """
    date = unix_seconds(headers.get("date", ""))
    age = headers.get("age", "")
    return date + int(age) if date is not None and re.fullmatch("[0-9]{1,9}", age) else date


def unix_seconds(http_date: str) -> int | None:
    """Convert an HTTP date to Unix seconds; None if it is not a date."""
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(http_date).timestamp())
    except (TypeError, ValueError, OverflowError):
        return None


def _finite(text: str) -> float | str:
    """Return a number, or the text of one that is too large: infinity is not JSON."""
    value = float(text)
    return value if isfinite(value) else text


def _exact(text: str) -> Decimal | str:
    """Return a number, or the text of one whose exponent is beyond the range of Decimal."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
