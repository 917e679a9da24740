"""Endpoints of the admin API: paths, dimensions, filters, page sizes, meaning of usage kinds.

Source: the vendor's published contract of the admin endpoints. A usage kind is declared here and
nowhere else; every total, headroom figure and comparison derives from its row.
"""

from __future__ import annotations

from typing import NamedTuple

PREFIX = "/organization/"
MAXIMUM_BUCKETS = {"1m": 1440, "1h": 168, "1d": 31}
MAXIMUM_COST_BUCKETS = 180

TOTALS = {
    "requests": ("num_model_requests",),
    "tokens": ("input_tokens", "output_tokens"),
    "images": ("images",),
    "seconds": ("seconds",),
    "characters": ("characters",),
}
"""Totals over several usage kinds, each with the fields that it adds up."""


class UsageKind(NamedTuple):
    """One usage endpoint, `usage/<name>`.

    `object` is the `object` field of its results. `dimensions` are the values of `group_by`,
    `filters` the other query parameters. `required` are the quantities in every row, `quantities`
    all that a row may have. `totals` names the keys of TOTALS to which its rows contribute:
    "requests" only if no other kind counts the same requests. `level` marks a kind whose buckets
    hold a level, such as bytes stored, that must not be added up over time. `new` marks a kind that
    some organizations do not have yet, where HTTP 404 is not an error. `shared` is the grouping
    in which all DataSources request the kind, so that one response serves them; who needs another
    grouping, or a response with too many rows, requests its own.
    """

    name: str
    object: str
    dimensions: tuple[str, ...]
    filters: tuple[str, ...]
    required: tuple[str, ...]
    quantities: tuple[str, ...]
    totals: tuple[str, ...] = ()
    level: bool = False
    new: bool = False
    shared: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """The endpoint's path."""
        return f"{PREFIX}usage/{self.name}"

    @property
    def optional(self) -> tuple[str, ...]:
        """The quantities that a row may lack."""
        return tuple(name for name in self.quantities if name not in self.required)

    @property
    def knows_batch(self) -> bool:
        """True if the endpoint can leave out batch requests (`batch=false`)."""
        return "batch" in self.filters


_CALLER = ("project_id", "user_id", "api_key_id")
_BY_MODEL = (*_CALLER, "model")
_CALLER_FILTERS = ("project_ids", "user_ids", "api_key_ids")
_MODEL_FILTERS = (*_CALLER_FILTERS, "models")
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
_EMBEDDED = ("input_tokens", "num_model_requests")
_BY_POOL = ("project_id", "model")
_BY_POOL_AND_BATCH = (*_BY_POOL, "batch")


def _kind(
    name: str,
    dimensions: tuple[str, ...],
    filters: tuple[str, ...],
    required: tuple[str, ...],
    quantities: tuple[str, ...] = (),
    totals: tuple[str, ...] = (),
    noun: str = "",
    level: bool = False,
    new: bool = False,
    shared: tuple[str, ...] = _BY_POOL,
) -> UsageKind:
    return UsageKind(
        name,
        f"organization.usage.{noun or name}.result",
        dimensions,
        filters,
        required,
        quantities or required,
        totals,
        level,
        new,
        shared,
    )


# Searches and code interpreter sessions have no "requests": they happen inside requests that
# completions already counts.
USAGE_KINDS = {
    kind.name: kind
    for kind in (
        _kind(
            "completions",
            _TEXT_DIMENSIONS,
            (*_MODEL_FILTERS, "batch"),
            _TEXT,
            _ALL_TEXT,
            totals=("requests", "tokens"),
            shared=_BY_POOL_AND_BATCH,
        ),
        _kind(
            "decisions",
            _TEXT_DIMENSIONS,
            (*_MODEL_FILTERS, "batch"),
            _TEXT,
            _ALL_TEXT,
            totals=("requests", "tokens"),
            new=True,
            shared=_BY_POOL_AND_BATCH,
        ),
        _kind("embeddings", _BY_MODEL, _MODEL_FILTERS, _EMBEDDED, totals=("requests", "tokens")),
        _kind("moderations", _BY_MODEL, _MODEL_FILTERS, _EMBEDDED, totals=("requests", "tokens")),
        _kind(
            "images",
            (*_BY_MODEL, "size", "source"),
            (*_MODEL_FILTERS, "sources", "sizes"),
            ("images", "num_model_requests"),
            totals=("requests", "images"),
        ),
        _kind(
            "audio_speeches",
            _BY_MODEL,
            _MODEL_FILTERS,
            ("characters", "num_model_requests"),
            totals=("requests", "characters"),
        ),
        _kind(
            "audio_transcriptions",
            _BY_MODEL,
            _MODEL_FILTERS,
            ("seconds", "num_model_requests"),
            totals=("requests", "seconds"),
        ),
        _kind(
            "vector_stores",
            ("project_id",),
            ("project_ids",),
            ("usage_bytes",),
            level=True,
            shared=("project_id",),
        ),
        _kind(
            "code_interpreter_sessions",
            ("project_id",),
            ("project_ids",),
            ("num_sessions",),
            shared=("project_id",),
        ),
        _kind(
            "file_search_calls",
            (*_CALLER, "vector_store_id"),
            (*_CALLER_FILTERS, "vector_store_ids"),
            ("num_requests",),
            noun="file_searches",
            shared=("vector_store_id",),
        ),
        _kind(
            "web_search_calls",
            (*_BY_MODEL, "context_level", "api_source"),
            (*_MODEL_FILTERS, "context_levels"),
            ("num_model_requests", "num_requests"),
            noun="web_searches",
            shared=("model", "context_level"),
        ),
    )
}
COST_DIMENSIONS = ("project_id", "line_item", "api_key_id", "user_id", "api_source")


def kinds_with(total: str) -> tuple[str, ...]:
    """Return the names of the usage kinds that contribute to a key of TOTALS.

    >>> kinds_with("images")
    ('images',)
    """
    return tuple(name for name, kind in USAGE_KINDS.items() if total in kind.totals)


class Listing(NamedTuple):
    """One list endpoint: its path below PREFIX, its paging, its largest page and its fields.

    `paging` is the source of the next page's `after`: "last_id" of the response, the id of the
    "last_item", or the response's "next". `required` are the fields without which a row says
    nothing; `numbers` are whole numbers and `flags` booleans, each of which may be absent or null
    unless it is required too. `asked` are parameters of every request, so that one response serves
    all readers. `read` is False if no DataSource reads the list.
    """

    path: str
    paging: str
    limit: int
    required: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    asked: tuple[tuple[str, str | bool], ...] = ()
    read: bool = True


class Single(NamedTuple):
    """One endpoint with one record: its path below PREFIX and the record's required fields.

    `absent` are the kinds of failure that mean that there is no such record. `read` is False if no
    DataSource reads it.
    """

    path: str
    required: tuple[str, ...]
    absent: tuple[str, ...] = ()
    read: bool = True


LIMIT_NUMBERS = (
    "max_requests_per_1_minute",
    "max_tokens_per_1_minute",
    "max_images_per_1_minute",
    "max_audio_megabytes_per_1_minute",
    "max_requests_per_1_day",
    "batch_1_day_max_input_tokens",
)
_KEY_NUMBERS = ("created_at", "last_used_at", "expires_at")

# The vendor states no maximum for rate_limits; its own Terraform provider sends 1000.
# Without owner_project_access the API leaves out keys whose owner has left the project.
LISTS = {
    "projects": Listing("projects", "last_id", 100, ("id",), asked=(("include_archived", True),)),
    "rate_limits": Listing(
        "projects/{project_id}/rate_limits", "last_id", 1000, ("model",), LIMIT_NUMBERS
    ),
    "api_keys": Listing(
        "projects/{project_id}/api_keys",
        "last_id",
        100,
        ("id",),
        numbers=_KEY_NUMBERS,
        asked=(("owner_project_access", "any"),),
    ),
    "service_accounts": Listing("projects/{project_id}/service_accounts", "last_id", 100),
    "project_spend_alerts": Listing("projects/{project_id}/spend_alerts", "last_id", 100),
    "spend_alerts": Listing("spend_alerts", "last_id", 100),
    "users": Listing("users", "last_id", 100, flags=("is_service_account",)),
    "invites": Listing("invites", "last_id", 100, ("status",), numbers=("expires_at",)),
    "audit_logs": Listing(
        "audit_logs", "last_id", 100, ("id", "type", "effective_at"), numbers=("effective_at",)
    ),
    "admin_api_keys": Listing("admin_api_keys", "last_item", 100, ("id",), numbers=_KEY_NUMBERS),
    "groups": Listing("groups", "next", 1000, ("id",), read=False),
    "roles": Listing("roles", "next", 1000, ("id",), read=False),
}

_NO_LIMIT = ("not_found", "archived")
SINGLES = {
    "spend_limit": Single("spend_limit", ("threshold_amount",), _NO_LIMIT),
    "project_spend_limit": Single(
        "projects/{project_id}/spend_limit", ("threshold_amount",), _NO_LIMIT
    ),
    "project": Single("projects/{project_id}", ("id",), read=False),
}


def rows_read() -> dict[str, Listing | Single]:
    """Return the lists and single records that a DataSource reads, by name."""
    rows: dict[str, Listing | Single] = {**LISTS, **SINGLES}
    return {name: row for name, row in rows.items() if row.read}


def endpoint_name(path: str) -> str:
    """Return the name of an endpoint in messages: its path without PREFIX."""
    return path.removeprefix(PREFIX)


def family(endpoint: str) -> str:
    """Return the name that the endpoints share which the API throttles together.

    >>> [family(name) for name in ("usage/images", "projects/proj_a", "projects/proj_a/api_keys")]
    ['usage', 'projects', 'api_keys']
    """
    parts = endpoint.split("/")
    return parts[2] if len(parts) > 2 else parts[0]
