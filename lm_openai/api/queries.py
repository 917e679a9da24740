"""Queries: parameters and paths as the API spells them, and the rows that fit on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from lm_openai.api.endpoints import PREFIX
from lm_openai.errors import WrongUsage

Values = Sequence[str] | str | bool
Query = list[tuple[str, str]]

PAGE_BYTES = 10_000_000
ROW_BYTES = 363
"""Measured size of one usage row as text; a page holds at most PAGE_BYTES / ROW_BYTES rows."""


def restrictions(
    name: str,
    group_by: Sequence[str],
    dimensions: Sequence[str],
    filters: Mapping[str, Values] = {},
    known: Sequence[str] = (),
) -> Query:
    """Return the parameters of group_by and filters; raises WrongUsage for unsupported ones."""
    for given, allowed in ((group_by, dimensions), (filters, known)):
        for word in given:
            if word not in allowed:
                raise WrongUsage(f"{name} does not support {word!r}; allowed: {', '.join(allowed)}")
    query = [("group_by[]", dimension) for dimension in group_by]
    for field, values in filters.items():
        sent_values = (values,) if isinstance(values, (str, bool)) else values
        parameter = field if field == "batch" else f"{field}[]"
        query += [(parameter, _text(value)) for value in sent_values]
    return query


def limit(most: int, groups: int | None) -> int:
    """Return the buckets per page: the API's maximum, or fewer if a page would be too large."""
    fitting = PAGE_BYTES // (ROW_BYTES * groups) if groups else most
    return max(1, min(most, fitting))


def encoded(parameters: Mapping[str, Any]) -> Query:
    """Return the parameters: a sequence as `name[]`, a mapping as `name[key]`, None not at all."""
    query: Query = []
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            query += [(f"{name}[{key}]", _text(item)) for key, item in value.items()]
        elif isinstance(value, (tuple, list, set, frozenset)):
            query += [(f"{name}[]", _text(item)) for item in value]
        elif value is not None:
            query.append((name, _text(value)))
    return query


def path(template: str, ids: Mapping[str, Any]) -> str:
    """Return the path of a template with its ids percent-encoded, even half a surrogate."""
    sent = {name: quote(str(ids[name]), safe="", errors="surrogatepass") for name in ids}
    return PREFIX + template.format_map(sent)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
