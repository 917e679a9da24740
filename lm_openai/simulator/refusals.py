"""Error responses of the vendor's API: status and body of each, as in its contract."""

from __future__ import annotations

from collections.abc import Iterable

MAX_LISTED = 20


class Refusal(Exception):
    """Error response; `omit_param` omits `param` from the body where the API omits it."""

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        omit_param: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        error: dict[str, object] = {"message": message, "type": kind, "param": param, "code": code}
        if omit_param:
            del error["param"]
        self.body = {"error": error}


def no_key() -> Refusal:
    return Refusal(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header"
        " using Bearer auth (i.e. Authorization: Bearer YOUR_KEY).",
    )


def wrong_key(key: str) -> Refusal:
    return Refusal(
        401,
        f"Incorrect API key provided: {masked(key)}."
        " You can find your API key at https://platform.openai.com/account/api-keys.",
        code="invalid_api_key",
    )


def missing_scopes(scopes: Iterable[str], status: int = 403) -> Refusal:
    return Refusal(
        status,
        "You have insufficient permissions for this operation."
        f" Missing scopes: {', '.join(scopes)}."
        " Check that you have the correct role in your organization, and if you're using a"
        " restricted API key, that it has the necessary scopes.",
    )


def unknown_url(method: str, path: str) -> Refusal:
    return Refusal(404, f"Invalid URL ({method} {path})")


def wrong_method(method: str, path: str) -> Refusal:
    return Refusal(
        405,
        f"Not allowed to {method} on {path}. (HINT: Perhaps you meant to use a different HTTP"
        " method?)",
    )


def not_found(noun: str, identifier: str) -> Refusal:
    return Refusal(404, f"The {noun} {identifier} was not found", code="not_found")


def no_spend_limit() -> Refusal:
    return Refusal(404, "No spend limit is configured.", code="not_found")


def archived(project_id: str) -> Refusal:
    return Refusal(400, f"The project {project_id} is archived.", code="project_archived")


def bad_page() -> Refusal:
    """Return the refusal of a page token: the API's verbatim body, the only one without `param`."""
    return Refusal(
        400,
        "The page token is invalid, have you modified the query parameters?",
        code="invalid_request_error",
        omit_param=True,
    )


def unsupported_grouping(dimension: str = "") -> Refusal:
    """Return the refusal of costs by a dimension, or by user and project together."""
    subject = f"Grouping by '{dimension}'" if dimension else "Combining 'user_id' with 'project_id'"
    return Refusal(
        400,
        f"{subject} is not supported for this organization and time range.",
        code="unsupported_group_by",
        param="group_by",
    )


def same_day() -> Refusal:
    return Refusal(
        400,
        "'start_time' and 'end_time' must not be on the same UTC day.",
        code="invalid_value",
        param="end_time",
    )


def backwards() -> Refusal:
    return Refusal(
        400, "'end_time' must be after 'start_time'.", code="invalid_value", param="end_time"
    )


def unknown_parameter(name: str) -> Refusal:
    return Refusal(400, f"Unknown parameter: '{name}'.", code="unknown_parameter", param=name)


def missing_parameter(name: str) -> Refusal:
    return Refusal(
        400,
        f"Missing required parameter: '{name}'.",
        code="missing_required_parameter",
        param=name,
    )


def wrong_type(name: str, expected: str) -> Refusal:
    return Refusal(
        400,
        f"Invalid type for '{name}': expected {expected}, but got a string instead.",
        code="invalid_type",
        param=name,
    )


def wrong_value(name: str, value: str, allowed: Iterable[str]) -> Refusal:
    listed = ", ".join(f"'{choice}'" for choice in list(allowed)[:MAX_LISTED])
    return Refusal(
        400,
        f"Invalid value: '{value}'. Supported values are: {listed}.",
        code="invalid_value",
        param=name,
    )


def bad_cursor(name: str, value: str) -> Refusal:
    return Refusal(
        400, f"Invalid '{name}': no item '{value}' in this list.", code="invalid_value", param=name
    )


def out_of_range(name: str, value: int, minimum: int, maximum: int | None) -> Refusal:
    if maximum is not None and value > maximum:
        message, bound, code = "above maximum", f"<= {maximum}", "integer_above_max_value"
    else:
        message, bound, code = "below minimum", f">= {minimum}", "integer_below_min_value"
    return Refusal(
        400,
        f"Invalid '{name}': integer {message} value."
        f" Expected a value {bound}, but got {value} instead.",
        code=code,
        param=name,
    )


def throttled() -> Refusal:
    return Refusal(
        429,
        "You're making too many requests, please slow down.",
        code="rate_limit_exceeded",
        kind="rate_limit_error",
    )


def quota(code: str) -> Refusal:
    return Refusal(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        code=code,
        kind="insufficient_quota",
    )


def overloaded() -> Refusal:
    return Refusal(
        503,
        "The server is currently overloaded, please try again later.",
        code="server_is_overloaded",
        kind="service_unavailable_error",
    )


def failed(status: int) -> Refusal:
    """Return an error of any other status, in the API's shape."""
    return Refusal(
        status,
        "The server had an error while processing your request.",
        kind="server_error" if status >= 500 else "invalid_request_error",
    )


def masked(key: str) -> str:
    """Mask a key except its first eight and last four characters; mask a short key completely."""
    if len(key) <= 12:
        return "*" * len(key)
    return key[:8] + "*" * (len(key) - 12) + key[-4:]
