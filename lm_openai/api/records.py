"""Records of the API: the fields read from each response, their types and exact numbers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from decimal import Decimal, InvalidOperation
from itertools import groupby
from typing import Any, NamedTuple

from lm_openai.api.endpoints import COST_DIMENSIONS, LIMIT_NUMBERS, Listing, UsageKind
from lm_openai.errors import ApiFailure
from lm_openai.timespans import WIDTHS

Record = dict[str, Any]
Fold = Callable[[list[Record], Sequence[str]], Any]
_MOST_DIGITS, _MOST_DECIMALS = 19, 60
_BEYOND = 10**_MOST_DIGITS
_LATEST = 253_402_300_799
"""Unix seconds of the end of the year 9999, the last one that a date can have."""
_LONGEST_NAME = 80
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
PARTS_OF_INPUT = ("input_cached_tokens", "input_cache_write_tokens")
_STRINGS = ("id", "model", "type", "status", "interval", "currency", "name", "email")


class Bucket(NamedTuple):
    """Usage from `start` to `end` (Unix seconds); the first and last bucket may be clipped.

    `results` are the rows of the API, or what a Fold made of them. Dimensions that are not in the
    request's group_by are None; quantities that the usage kind does not require may be missing or
    None.
    """

    start: int
    end: int
    results: Any


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
    archived: bool


class RateLimit(NamedTuple):
    """Limits of one model in one project, as in LIMIT_NUMBERS; None if the API sends no such limit.

    `id` is the row's id, or the model if it has none.
    """

    id: str
    model: str
    max_requests_per_1_minute: int | None
    max_tokens_per_1_minute: int | None
    max_images_per_1_minute: int | None = None
    max_audio_megabytes_per_1_minute: int | None = None
    max_requests_per_1_day: int | None = None
    batch_1_day_max_input_tokens: int | None = None


class SpendLimit(NamedTuple):
    """Hard limit in dollars (the API sends cents) per interval, usually `month`.

    `currency` and `interval` are empty and `enforcing` is None if the API does not send them.
    """

    amount: Decimal
    currency: str
    interval: str
    enforcing: bool | None


def usage(kind: UsageKind, endpoint: str, fold: Fold | None, raw: Record) -> Record:
    """Return a bucket of `usage/*` with its rows checked, each quantity as an int.

    Any other object is returned as it is. Parts of the input are never larger than the input.
    `fold` takes the rows, and the quantities that some row has, and returns what takes their place.
    Raises ApiFailure if a required field is missing or has the wrong type.
    """
    if "results" not in raw:
        return raw
    rows = raw["results"]
    if type(rows) is not list:
        raise ApiFailure("contract", endpoint, "results is not a list")
    if not {*map(type, rows)} <= {dict}:
        raise ApiFailure("contract", endpoint, "a record is not an object")
    present: set[str] = set()
    # Rows with the same fields are checked together, so that absent fields cost nothing.
    for fields, alike in groupby(rows, key=list):
        present.update(fields)
        _check_rows([*alike], fields, kind, endpoint)
    if fold:
        raw["results"] = fold(rows, [name for name in kind.quantities if name in present])
    return raw


def bucket(raw: Any, endpoint: str) -> Bucket:
    """Return a time bucket whose rows `usage` checked; raises ApiFailure."""
    require(raw, ("start_time", "end_time", "results"), endpoint)
    start, end = moment(raw, "start_time", endpoint), moment(raw, "end_time", endpoint)
    return Bucket(start, end, raw["results"])


def costs(raw: Any, endpoint: str) -> tuple[int, list[Cost]]:
    """Return the UTC midnight (Unix seconds) and the costs of a bucket of `costs`.

    Rows without an amount are left out: the contract allows them and they state no money. Raises
    ApiFailure.
    """
    require(raw, ("start_time", "results"), endpoint)
    if type(raw["results"]) is not list:
        raise ApiFailure("contract", endpoint, "results is not a list")
    start = moment(raw, "start_time", endpoint)
    rows = (_cost(row, endpoint) for row in raw["results"])
    return start - start % WIDTHS["1d"], [row for row in rows if row is not None]


def project(row: Record) -> Project:
    """Return the project in a row of `projects`."""
    archived = row.get("archived_at") is not None or row.get("status") == "archived"
    return Project(row["id"], row.get("name") or row["id"], archived)


def rate_limit(row: Record) -> RateLimit:
    """Return the limits in a row of `rate_limits`, as `listed` returned it."""
    return RateLimit(row.get("id") or row["model"], row["model"], *map(row.get, LIMIT_NUMBERS))


def spend_limit(row: Record, endpoint: str = "spend_limit") -> SpendLimit:
    """Return the limit in a response of `spend_limit`, in dollars; raises ApiFailure."""
    cents = number(row["threshold_amount"], "threshold_amount", endpoint)
    enforcement = row.get("enforcement")
    status = enforcement.get("status") if isinstance(enforcement, dict) else None
    return SpendLimit(
        cents / 100,
        str(row.get("currency") or "").lower(),
        str(row.get("interval") or ""),
        None if status is None else status == "enforcing",
    )


def listed(row: Any, listing: Listing, endpoint: str) -> Record:
    """Return a row of a list, with its numbers as ints and its flags as booleans.

    Raises ApiFailure that names the field and the row if the row breaks the contract.
    """
    try:
        require(row, listing.required, endpoint)
        for field in listing.numbers:
            value = row.get(field)
            if not _is_count(value) and (value is not None or field in listing.required):
                row[field] = count(row, field, endpoint)
        require(row, [field for field in _STRINGS if row.get(field) is not None], endpoint)
        for field in listing.flags:
            if row.get(field) is not None:
                row[field] = boolean(row[field], field, endpoint)
    except ApiFailure as failure:
        name = row.get("id") or row.get("model") if type(row) is dict else None
        where = f" in the row {str(name)[:_LONGEST_NAME]}" if name else ""
        raise ApiFailure(failure.kind, endpoint, failure.detail + where) from None
    record: Record = row
    return record


def require(row: Any, fields: Iterable[str], endpoint: str) -> None:
    """Raise ApiFailure if a record is not an object or lacks a field, or a text is not a string.

    The failure names the endpoint and the field.
    """
    if type(row) is not dict:
        raise ApiFailure("contract", endpoint, "a record is not an object")
    for field in fields:
        if field not in row:
            raise ApiFailure("contract", endpoint, f"{field} is missing")
        if field in _STRINGS and type(row[field]) is not str:
            raise ApiFailure("contract", endpoint, f"{field} is not a string")


def count(row: Record, field: str, endpoint: str) -> int:
    """Return a whole number, which may be sent as `3.0` or `"3"`; raises ApiFailure."""
    value = row[field]
    if _is_count(value):
        return int(value)
    exact = number(value, field, endpoint)
    if exact != exact.to_integral_value():
        raise ApiFailure("contract", endpoint, f"{field} is not a whole number")
    return int(exact)


def moment(row: Record, field: str, endpoint: str) -> int:
    """Return a time in Unix seconds, at most of the year 9999; raises ApiFailure."""
    seconds = count(row, field, endpoint)
    if not 0 <= seconds <= _LATEST:
        raise ApiFailure("contract", endpoint, f"{field} is not a time")
    return seconds


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
            return exact if exact else abs(exact)
        if exact.is_finite() and not exact:
            return Decimal(0)
    raise ApiFailure("contract", endpoint, f"{field} is not a number")


def boolean(value: Any, field: str, endpoint: str) -> bool:
    """Return a boolean, which may be sent as text or as 0 or 1; raises ApiFailure."""
    known = _BOOLEANS.get(str(value).strip().lower())
    if known is None:
        raise ApiFailure("contract", endpoint, f"{field} is neither true nor false")
    return known


def _is_count(value: Any) -> bool:
    """Return True for an int that no conversion need check: 64 bits and a little more."""
    return type(value) is int and -_BEYOND < value < _BEYOND


def _reasonable(exact: Decimal) -> bool:
    decimals = -int(exact.as_tuple().exponent)
    return exact.adjusted() < _MOST_DIGITS and decimals < _MOST_DECIMALS


def _check_rows(
    rows: Iterable[Record], fields: Collection[str], kind: UsageKind, endpoint: str
) -> None:
    """Check rows that have these fields; convert what is not in its usual form already."""
    for name in kind.required:
        if name not in fields:
            raise ApiFailure("contract", endpoint, f"{name} is missing")
    names = [name for name in kind.quantities if name in fields]
    texts = [name for name in kind.dimensions if name in fields and name != "batch"]
    for row in rows:
        for name in names:
            value = row[name]
            if type(value) is int and -_BEYOND < value < _BEYOND:
                continue
            if value is not None or name in kind.required:
                row[name] = count(row, name, endpoint)
            else:
                del row[name]
        for name in texts:
            value = row[name]
            if value is not None and type(value) is not str:
                _text(row, name, endpoint)
    if "batch" in fields and "batch" in kind.dimensions:
        _check_batch(rows, endpoint)
    parts = [name for name in PARTS_OF_INPUT if name in names]
    if parts:
        _cut_parts(rows, parts)


def _check_batch(rows: Iterable[Record], endpoint: str) -> None:
    for row in rows:
        if row["batch"] is not None and type(row["batch"]) is not bool:
            row["batch"] = boolean(row["batch"], "batch", endpoint)


def _cut_parts(rows: Iterable[Record], parts: Sequence[str]) -> None:
    """Cut the parts of the input that together are larger than the input."""
    for row in rows:
        left = row["input_tokens"]
        for name in parts:
            part = row.get(name)
            if part is None:
                continue
            if part > left:
                row[name] = part = left
            left -= part


def _cost(row: Any, endpoint: str) -> Cost | None:
    require(row, (), endpoint)
    amount = row.get("amount")
    if amount is None:
        return None
    require(amount, ("value", "currency"), endpoint)
    return Cost(
        amount=number(amount["value"], "amount.value", endpoint),
        currency=str(amount["currency"]).lower(),
        quantity=_optional(row.get("quantity")),
        quantity_unit=row.get("quantity_unit"),
        **{dimension: _text(row, dimension, endpoint) for dimension in COST_DIMENSIONS},
    )


def _text(row: Record, dimension: str, endpoint: str) -> str | None:
    """Return the text of a dimension, None if it has none; raises ApiFailure for anything else."""
    value = row.get(dimension)
    if value is None or type(value) is str:
        return value
    raise ApiFailure("contract", endpoint, f"{dimension} is not a string")


def _optional(value: Any) -> Decimal | None:
    """Return a number that no amount needs, or None if it is not one."""
    try:
        return None if value is None else number(value, "", "")
    except ApiFailure:
        return None
