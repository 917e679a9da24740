"""Records of the API: the fields read from each response, their types and exact numbers."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from lm_openai.api.endpoints import COST_DIMENSIONS, UsageKind
from lm_openai.errors import ApiFailure
from lm_openai.timespans import WIDTHS

Record = dict[str, Any]
_MOST_DIGITS, _MOST_DECIMALS = 19, 60
_TEXTS = ("id", "model", "type", "status", "interval", "currency")


class Bucket(NamedTuple):
    """Usage from `start` to `end` (Unix seconds); the first and last bucket may be clipped.

    `results` are the rows as the API sent them. Dimensions that are not in the request's group_by
    are None; quantities that the usage kind does not require may be missing or None.
    """

    start: int
    end: int
    results: list[Record]


class Cost(NamedTuple):
    """Cost of one group in one UTC day; a negative amount is a credit."""

    amount: Decimal
    currency: str
    project_id: str | None = None
    line_item: str | None = None
    api_key_id: str | None = None
    user_id: str | None = None
    api_source: str | None = None
    quantity: Decimal | None = None
    quantity_unit: str | None = None


class Project(NamedTuple):
    """One project; `name` is the id if the project has no name."""

    id: str
    name: str
    created_at: int
    archived: bool


class RateLimit(NamedTuple):
    """Limits of one model in one project; None if the API sends no such limit."""

    id: str
    model: str
    max_requests_per_1_minute: int | None
    max_tokens_per_1_minute: int | None
    max_images_per_1_minute: int | None = None
    max_audio_megabytes_per_1_minute: int | None = None
    max_requests_per_1_day: int | None = None
    batch_1_day_max_input_tokens: int | None = None


class SpendLimit(NamedTuple):
    """Hard limit in dollars (the API sends cents) per interval, usually `month`."""

    amount: Decimal
    currency: str
    interval: str
    enforcing: bool


def bucket(raw: Any, kind: UsageKind, endpoint: str) -> Bucket:
    """Return a time bucket of `usage/*`; its rows hold each required quantity as an int.

    Raises ApiFailure if a required field is missing or has the wrong type.
    """
    require(raw, ("start_time", "end_time", "results"), endpoint)
    results = raw["results"]
    if type(results) is not list:
        raise ApiFailure("contract", endpoint, "results is not a list")
    for row in results:
        for field in kind.required:
            if type(row) is not dict or type(row.get(field)) is not int:
                _normalize(row, field, endpoint)
    return Bucket(count(raw, "start_time", endpoint), count(raw, "end_time", endpoint), results)


def costs(raw: Any, endpoint: str) -> tuple[int, list[Cost]]:
    """Return the UTC midnight (Unix seconds) and the costs of a bucket of `costs`.

    Rows without an amount are left out: the contract allows them and they state no money. Raises
    ApiFailure.
    """
    require(raw, ("start_time", "results"), endpoint)
    if type(raw["results"]) is not list:
        raise ApiFailure("contract", endpoint, "results is not a list")
    start = count(raw, "start_time", endpoint)
    rows = (_cost(row, endpoint) for row in raw["results"])
    return start - start % WIDTHS["1d"], [row for row in rows if row is not None]


def project(row: Record) -> Project:
    """Return the project in a row of `projects`."""
    archived = row.get("archived_at") is not None or row.get("status") == "archived"
    return Project(row["id"], row.get("name") or row["id"], row["created_at"], archived)


def rate_limit(row: Record, endpoint: str = "rate_limits") -> RateLimit:
    """Return the limits in a row of `rate_limits`.

    Raises ApiFailure with the field's name if a limit is not a whole number.
    """
    limits = {
        field: count(row, field, endpoint)
        for field in RateLimit._fields[2:]
        if row.get(field) is not None
    }
    absent = dict.fromkeys(RateLimit._fields[2:4])
    return RateLimit(row["id"], row["model"], **{**absent, **limits})


def spend_limit(row: Record, endpoint: str = "spend_limit") -> SpendLimit:
    """Return the limit in a response of `spend_limit`, in dollars; raises ApiFailure."""
    require(row["enforcement"], ("status",), endpoint)
    cents = number(row["threshold_amount"], "threshold_amount", endpoint)
    enforcing = row["enforcement"]["status"] == "enforcing"
    return SpendLimit(cents / 100, row["currency"].lower(), row["interval"], enforcing)


def require(row: Any, fields: Iterable[str], endpoint: str) -> None:
    """Raise ApiFailure if a record is not an object or lacks a field, or a text is not a string.

    The failure names the endpoint and the field.
    """
    if type(row) is not dict:
        raise ApiFailure("contract", endpoint, "a record is not an object")
    for field in fields:
        if field not in row:
            raise ApiFailure("contract", endpoint, f"{field} is missing")
        if field in _TEXTS and type(row[field]) is not str:
            raise ApiFailure("contract", endpoint, f"{field} is not a string")


def count(row: Record, field: str, endpoint: str) -> int:
    """Return a whole number, which may be sent as `3.0` or `"3"`; raises ApiFailure."""
    value = row[field]
    if type(value) is int:
        return value
    exact = number(value, field, endpoint)
    if exact != exact.to_integral_value():
        raise ApiFailure("contract", endpoint, f"{field} is not a whole number")
    return int(exact)


def number(value: Any, field: str, endpoint: str) -> Decimal:
    """Return the exact number in a JSON string or number.

    Raises ApiFailure for NaN, infinity and more digits than any amount or count can have.
    """
    if isinstance(value, (str, int, float, Decimal)) and not isinstance(value, bool):
        try:
            exact = Decimal(value if isinstance(value, (str, Decimal)) else repr(value))
        except InvalidOperation:
            exact = Decimal("NaN")
        if exact.is_finite() and _reasonable(exact):
            return exact
    raise ApiFailure("contract", endpoint, f"{field} is not a number")


def _reasonable(exact: Decimal) -> bool:
    decimals = -int(exact.as_tuple().exponent)
    return exact.adjusted() < _MOST_DIGITS and decimals < _MOST_DECIMALS


def _normalize(row: Any, field: str, endpoint: str) -> None:
    require(row, (field,), endpoint)
    row[field] = count(row, field, endpoint)


def _cost(row: Any, endpoint: str) -> Cost | None:
    require(row, (), endpoint)
    amount = row.get("amount")
    if amount is None:
        return None
    require(amount, ("value", "currency"), endpoint)
    quantity = row.get("quantity")
    return Cost(
        amount=number(amount["value"], "amount.value", endpoint),
        currency=str(amount["currency"]).lower(),
        quantity=None if quantity is None else number(quantity, "quantity", endpoint),
        quantity_unit=row.get("quantity_unit"),
        **{dimension: row.get(dimension) for dimension in COST_DIMENSIONS},
    )
