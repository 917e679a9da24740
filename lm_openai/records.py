"""The API's words: what each endpoint is called, takes and gives, and the records read from it."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from lm_openai.errors import ApiFailure

Record = dict[str, Any]

PREFIX = "/organization/"
WIDTHS = {"1m": 60, "1h": 3600, "1d": 86400}
MAXIMUM_BUCKETS = {"1m": 1440, "1h": 168, "1d": 31}
MAXIMUM_COST_BUCKETS = 180
_MOST_DIGITS, _MOST_DECIMALS = 19, 60
_TEXTS = ("id", "model", "type", "status", "interval", "currency")


class Kind(NamedTuple):
    """One usage endpoint, `usage/<name>`.

    `object` is what its results call themselves, `dimensions` what group_by takes, `filters` what
    narrows it, `required` the quantities in every row and `quantities` all that a row may have.
    """

    name: str
    object: str
    dimensions: tuple[str, ...]
    filters: tuple[str, ...]
    required: tuple[str, ...]
    quantities: tuple[str, ...]

    @property
    def knows_batch(self) -> bool:
        """Whether batch work can be told apart (`batch=false` leaves it out)."""
        return "batch" in self.filters


_PEOPLE = ("project_id", "user_id", "api_key_id")
_BY_MODEL = (*_PEOPLE, "model")
_NARROW = ("project_ids", "user_ids", "api_key_ids")
_NARROW_MODEL = (*_NARROW, "models")
_TEXT = ("input_tokens", "output_tokens", "num_model_requests")
_ALL_TEXT = (
    "input_tokens",
    "output_tokens",
    "input_cached_tokens",
    "input_cache_write_tokens",
    "input_cache_write_30m_tokens",
    "input_cache_write_12h_tokens",
    "input_uncached_tokens",
    "input_text_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "input_cached_text_tokens",
    "input_cached_audio_tokens",
    "input_cached_image_tokens",
    "output_text_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "num_model_requests",
)
_TEXT_DIMENSIONS = (*_BY_MODEL, "batch", "service_tier", "api_source")


def _kind(
    name: str,
    dimensions: tuple[str, ...],
    filters: tuple[str, ...],
    required: tuple[str, ...],
    quantities: tuple[str, ...] = (),
    noun: str = "",
) -> Kind:
    return Kind(
        name,
        f"organization.usage.{noun or name}.result",
        dimensions,
        filters,
        required,
        quantities or required,
    )


KINDS = {
    kind.name: kind
    for kind in (
        _kind("completions", _TEXT_DIMENSIONS, (*_NARROW_MODEL, "batch"), _TEXT, _ALL_TEXT),
        _kind("decisions", _TEXT_DIMENSIONS, (*_NARROW_MODEL, "batch"), _TEXT, _ALL_TEXT),
        _kind("embeddings", _BY_MODEL, _NARROW_MODEL, ("input_tokens", "num_model_requests")),
        _kind("moderations", _BY_MODEL, _NARROW_MODEL, ("input_tokens", "num_model_requests")),
        _kind(
            "images",
            (*_BY_MODEL, "size", "source"),
            (*_NARROW_MODEL, "sources", "sizes"),
            ("images", "num_model_requests"),
        ),
        _kind("audio_speeches", _BY_MODEL, _NARROW_MODEL, ("characters", "num_model_requests")),
        _kind("audio_transcriptions", _BY_MODEL, _NARROW_MODEL, ("seconds", "num_model_requests")),
        _kind("vector_stores", ("project_id",), ("project_ids",), ("usage_bytes",)),
        _kind("code_interpreter_sessions", ("project_id",), ("project_ids",), ("num_sessions",)),
        _kind(
            "file_search_calls",
            (*_PEOPLE, "vector_store_id"),
            (*_NARROW, "vector_store_ids"),
            ("num_requests",),
            noun="file_searches",
        ),
        _kind(
            "web_search_calls",
            (*_BY_MODEL, "context_level", "api_source"),
            (*_NARROW_MODEL, "context_levels"),
            ("num_model_requests", "num_requests"),
            noun="web_searches",
        ),
    )
}
COST_DIMENSIONS = ("project_id", "line_item", "api_key_id", "user_id", "api_source")
COST_FILTERS = ("project_ids", "api_key_ids", "line_items")


class Listing(NamedTuple):
    """One list: its path below PREFIX, how it pages, its longest page and what each row must have.

    `paging` names where the next page's `after` comes from: "last_id" of the answer, the id of the
    "last_item", or the answer's "next".
    """

    path: str
    paging: str
    limit: int
    required: tuple[str, ...]


_ALERT = ("id", "threshold_amount", "currency", "interval")

# The vendor states no maximum for rate_limits; its own Terraform provider asks for 1000.
LISTS = {
    "projects": Listing("projects", "last_id", 100, ("id", "created_at")),
    "rate_limits": Listing(
        "projects/{project_id}/rate_limits",
        "last_id",
        1000,
        ("id", "model", "max_requests_per_1_minute", "max_tokens_per_1_minute"),
    ),
    "api_keys": Listing(
        "projects/{project_id}/api_keys", "last_id", 100, ("id", "created_at", "last_used_at")
    ),
    "service_accounts": Listing(
        "projects/{project_id}/service_accounts", "last_id", 100, ("id", "name", "created_at")
    ),
    "project_users": Listing("projects/{project_id}/users", "last_id", 100, ("id", "role")),
    "project_spend_alerts": Listing("projects/{project_id}/spend_alerts", "last_id", 100, _ALERT),
    "spend_alerts": Listing("spend_alerts", "last_id", 100, _ALERT),
    "users": Listing("users", "last_id", 100, ("id", "added_at")),
    "invites": Listing("invites", "last_id", 100, ("id", "status", "created_at")),
    "audit_logs": Listing("audit_logs", "last_id", 100, ("id", "type", "effective_at")),
    "admin_api_keys": Listing(
        "admin_api_keys", "last_item", 100, ("id", "created_at", "expires_at")
    ),
    "groups": Listing("groups", "next", 1000, ("id", "name", "created_at")),
    "roles": Listing("roles", "next", 1000, ("id", "name")),
}

_LIMIT = ("threshold_amount", "currency", "interval", "enforcement")

SINGLES = {
    "spend_limit": ("spend_limit", _LIMIT),
    "project_spend_limit": ("projects/{project_id}/spend_limit", _LIMIT),
    "project": ("projects/{project_id}", ("id", "created_at")),
}


class Bucket(NamedTuple):
    """Usage between two instants (Unix seconds); the first and the last may be clipped.

    `results` are the rows as the API sent them: dimensions that were not asked for are None,
    quantities beyond the kind's required ones may be absent or None.
    """

    start: int
    end: int
    results: list[Record]


class Cost(NamedTuple):
    """Money of one group in one UTC day; a negative amount is a credit."""

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
    """One project; its id stands in for a name that it lacks."""

    id: str
    name: str
    created_at: int
    archived: bool


class RateLimit(NamedTuple):
    """One model's limits in one project; None where the API gives no such limit."""

    id: str
    model: str
    max_requests_per_1_minute: int | None
    max_tokens_per_1_minute: int | None
    max_images_per_1_minute: int | None = None
    max_audio_megabytes_per_1_minute: int | None = None
    max_requests_per_1_day: int | None = None
    batch_1_day_max_input_tokens: int | None = None


class SpendLimit(NamedTuple):
    """A hard limit in dollars (the wire has cents) over its interval, usually `month`."""

    amount: Decimal
    currency: str
    interval: str
    enforcing: bool


def endpoint(path: str) -> str:
    """How sentences call an endpoint: its path without what all have in common."""
    return path.removeprefix(PREFIX)


def bucket(raw: Any, kind: Kind, asked: str) -> Bucket:
    """One time bucket of `usage/*`, its rows holding every required quantity as an int."""
    require(raw, ("start_time", "end_time", "results"), asked)
    results = raw["results"]
    if type(results) is not list:
        raise ApiFailure("contract", asked, "results is not a list")
    for row in results:
        for field in kind.required:
            if type(row) is not dict or type(row.get(field)) is not int:
                _mend(row, field, asked)
    return Bucket(count(raw, "start_time", asked), count(raw, "end_time", asked), results)


def costs(raw: Any, asked: str) -> tuple[int, list[Cost]]:
    """The UTC day of a costs bucket and what it cost.

    Rows without an amount state no money (the contract allows them) and are left out.
    """
    require(raw, ("start_time", "results"), asked)
    if type(raw["results"]) is not list:
        raise ApiFailure("contract", asked, "results is not a list")
    start = count(raw, "start_time", asked)
    rows = (_cost(row, asked) for row in raw["results"])
    return start - start % WIDTHS["1d"], [row for row in rows if row is not None]


def project(row: Record) -> Project:
    """A row of `projects`."""
    gone = row.get("archived_at") is not None or row.get("status") == "archived"
    return Project(row["id"], row.get("name") or row["id"], row["created_at"], gone)


def rate_limit(row: Record, asked: str = "rate_limits") -> RateLimit:
    """A row of `rate_limits`; a limit that is no whole number is refused by its name."""
    limits = {
        field: count(row, field, asked)
        for field in RateLimit._fields[2:]
        if row.get(field) is not None
    }
    absent = dict.fromkeys(RateLimit._fields[2:4])
    return RateLimit(row["id"], row["model"], **{**absent, **limits})


def spend_limit(row: Record, asked: str = "spend_limit") -> SpendLimit:
    """The answer of `spend_limit`, its cents as dollars."""
    require(row["enforcement"], ("status",), asked)
    cents = number(row["threshold_amount"], "threshold_amount", asked)
    enforcing = row["enforcement"]["status"] == "enforcing"
    return SpendLimit(cents / 100, row["currency"].lower(), row["interval"], enforcing)


def require(row: Any, fields: Iterable[str], asked: str) -> None:
    """Refuse, by endpoint and field, a record that lacks what the contract promises."""
    if type(row) is not dict:
        raise ApiFailure("contract", asked, "a record is not an object")
    for field in fields:
        if field not in row:
            raise ApiFailure("contract", asked, f"{field} is missing")
        if field in _TEXTS and type(row[field]) is not str:
            raise ApiFailure("contract", asked, f"{field} is not text")


def count(row: Record, field: str, asked: str) -> int:
    """A whole number, also when the wire spells it `3.0` or `"3"`."""
    value = row[field]
    if type(value) is int:
        return value
    exact = number(value, field, asked)
    if exact != exact.to_integral_value():
        raise ApiFailure("contract", asked, f"{field} is not a whole number")
    return int(exact)


def number(value: Any, field: str, asked: str) -> Decimal:
    """An exact number from a JSON string or number; NaN, infinity and absurd sizes are refused."""
    if isinstance(value, (str, int, float, Decimal)) and not isinstance(value, bool):
        try:
            exact = Decimal(value if isinstance(value, (str, Decimal)) else repr(value))
        except InvalidOperation:
            exact = Decimal("NaN")
        if exact.is_finite() and _reasonable(exact):
            return exact
    raise ApiFailure("contract", asked, f"{field} is not a number")


def _reasonable(exact: Decimal) -> bool:
    decimals = -int(exact.as_tuple().exponent)
    return exact.adjusted() < _MOST_DIGITS and decimals < _MOST_DECIMALS


def _mend(row: Any, field: str, asked: str) -> None:
    require(row, (field,), asked)
    row[field] = count(row, field, asked)


def _cost(row: Any, asked: str) -> Cost | None:
    require(row, (), asked)
    amount = row.get("amount")
    if amount is None:
        return None
    require(amount, ("value", "currency"), asked)
    quantity = row.get("quantity")
    return Cost(
        amount=number(amount["value"], "amount.value", asked),
        currency=str(amount["currency"]).lower(),
        quantity=None if quantity is None else number(quantity, "quantity", asked),
        quantity_unit=row.get("quantity_unit"),
        **{dimension: row.get(dimension) for dimension in COST_DIMENSIONS},
    )
