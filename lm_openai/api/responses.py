"""What an answer of the API means: a record, or which failure and whether asking again helps."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from lm_openai.api.records import Record
from lm_openai.api.transport import HttpResponse
from lm_openai.errors import ApiFailure

NEVER, ONCE, ALWAYS = range(3)
LONGEST_REASON = 200
BILLING_CODES = ("insufficient_quota", "credit_balance_exhausted")


class StalePage(ApiFailure):
    """The API no longer takes a page token that it gave itself; asking from a later start helps."""


class Rejection(NamedTuple):
    """Why an answer is none; `again`: NEVER, ONCE or ALWAYS; `wait`: seconds the API asks for."""

    failure: ApiFailure
    retry: int = NEVER
    wait: float | None = None


class ErrorBody(NamedTuple):
    """What an error body says, free of secrets; empty where the body is not the API's."""

    code: str
    message: str


def classify(
    answer: HttpResponse, endpoint: str, key: str, exact: bool = False
) -> Record | Rejection:
    """The record in an answer, or why there is none; `exact` reads fractions as Decimal.

    `key` is the admin key, which tells a project key's failures and is struck from all texts.
    """
    if answer.status != 200:
        return _refusal(answer, endpoint, key)
    try:
        record = json.loads(
            answer.body, parse_float=Decimal if exact else None, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        again = NEVER if _is_markup(answer.body) else ALWAYS
        return Rejection(ApiFailure("not_json", endpoint, _seen(answer)), again)
    if isinstance(record, dict):
        return record
    return Rejection(ApiFailure("contract", endpoint, "the answer is not an object"))


def _refusal(answer: HttpResponse, endpoint: str, key: str) -> Rejection:
    told = _told(answer.body, key)
    status = answer.status
    if status == 429:
        return _too_many(answer, told, endpoint)
    if status in (408, 409) or status >= 500:
        reason = f"HTTP {status}: {told.message}" if told.message else f"HTTP {status}"
        return Rejection(ApiFailure("down", endpoint, reason), ALWAYS, _retry_after(answer.headers))
    if status in (401, 403):
        return _not_allowed(status, told, answer, endpoint, key)
    if status == 404:
        return Rejection(ApiFailure("not_found", endpoint, told.message))
    if status == 400 and "page token is invalid" in told.message:
        return Rejection(StalePage("contract", endpoint, "it refuses its own page token"))
    if status == 400 and "archived" in f"{told.code} {told.message}":
        return Rejection(ApiFailure("archived", endpoint))
    if status < 300 or not told.message:
        return Rejection(ApiFailure("not_json", endpoint, _seen(answer)))
    return Rejection(ApiFailure("refused", endpoint, told.message))


def _too_many(answer: HttpResponse, told: ErrorBody, endpoint: str) -> Rejection:
    # rate_limit_exceeded is the ordinary throttle, *_spend_limit_exceeded and the like are not.
    limit = told.code.endswith("_limit_exceeded") and not told.code.endswith("rate_limit_exceeded")
    if limit or told.code in BILLING_CODES:
        return Rejection(ApiFailure("billing", endpoint, told.code))
    return Rejection(ApiFailure("throttled", endpoint), ALWAYS, _retry_after(answer.headers))


def _not_allowed(
    status: int, told: ErrorBody, answer: HttpResponse, endpoint: str, key: str
) -> Rejection:
    """The API sends 401 and 403 for either reason, so code and text decide."""
    if _is_project_key(key) or "session key" in told.message:
        return Rejection(ApiFailure("project_key", endpoint))
    scopes = re.search(r"Missing scopes: ([\w.]*\w(?:, [\w.]*\w)*)", told.message)
    if scopes:
        failure = ApiFailure("scope", endpoint, f"it needs {scopes[1]}", scope=scopes[1])
        return Rejection(failure, ONCE)
    if told.code == "invalid_api_key":
        return Rejection(ApiFailure("key", endpoint))
    if status == 401:
        return Rejection(ApiFailure("key", endpoint, told.message))
    if not told.message:
        return Rejection(ApiFailure("not_json", endpoint, _seen(answer)))
    return Rejection(ApiFailure("refused", endpoint, told.message))


def _is_project_key(key: str) -> bool:
    return key.startswith("sk-") and not key.startswith("sk-admin-")


def _told(body: bytes, key: str) -> ErrorBody:
    """Reads `{"error": {...}}`, and the bare `{"code", "message"}` that some answers have."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ErrorBody("", "")
    error = said.get("error", said) if isinstance(said, dict) else {}
    if not isinstance(error, dict):
        return ErrorBody("", _safe(str(error), key))
    code = error.get("code") or error.get("type") or ""
    return ErrorBody(str(code), _safe(str(error.get("message") or code), key))


def _safe(text: str, key: str) -> str:
    """One line without any key: the API quotes a wrong one, masked but not enough."""
    text = re.sub(r"\bsk-[^\s,;]*\w", "sk-…", text.replace(key, "sk-…") if key else text)
    text = " ".join(text.split()).rstrip(".")
    return text if len(text) <= LONGEST_REASON else text[: LONGEST_REASON - 1] + "…"


def _seen(answer: HttpResponse) -> str:
    """What came instead of JSON."""
    if not answer.body.strip():
        what = "nothing"
    elif _is_markup(answer.body):
        what = "a web page"
    else:
        what = "broken JSON" if answer.body.lstrip()[:1] in (b"{", b"[") else "other text"
    return f"HTTP {answer.status} with {what}"


def _is_markup(body: bytes) -> bool:
    return body.lstrip()[:1] == b"<"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, from seconds or from an HTTP date against the answer's own Date."""
    wish = headers.get("retry-after", "")
    try:
        seconds = float(wish)
    except ValueError:
        until, now = unix_seconds(wish), unix_seconds(headers.get("date", ""))
        seconds = until - now if until is not None and now is not None else 0
    return seconds if 0 < seconds < float("inf") else None


def unix_seconds(http_date: str) -> int | None:
    """An HTTP date as Unix seconds; None for what is no date."""
    from email.utils import parsedate_to_datetime

    try:
        return int(parsedate_to_datetime(http_date).timestamp())
    except (TypeError, ValueError, OverflowError):
        return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
