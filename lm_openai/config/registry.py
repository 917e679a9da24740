"""Table of all host properties, read from schemas/properties.schema.json."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from lm_openai import resources

FAMILY = "openai."
KEY, KEY_FILE = "openai.admin.key", "openai.admin.key.file"
KEY_SHARED = "openai.admin.key.file.shared"


class Property(NamedTuple):
    """One row of schemas/properties.schema.json.

    `pattern` matches the names of a property with an `<id>`; it is empty for all others.
    """

    name: str
    kind: str
    description: str
    default: str = ""
    secret: bool = False
    each: bool = False
    bounds: dict[str, Any] = {}
    pattern: str = ""


@functools.cache
def table() -> dict[str, Property]:
    """Return all properties of the suite by name."""
    schema = resources.schema("properties")
    rows = [_property(name, entry) for name, entry in schema["properties"].items()]
    for pattern, entry in schema["patternProperties"].items():
        rows.append(_property(entry["title"], entry)._replace(pattern=pattern))
    return {entry.name: entry for entry in rows}


def row(name: str) -> Property:
    """Return the row of a property, also of one set per DataSource or per project.

    Raises KeyError for an unknown name.
    """
    known = table()
    if name in known:
        return known[name]
    for entry in known.values():
        if entry.pattern and re.search(entry.pattern, name):
            return entry
    folder, _, rest = name.removeprefix(FAMILY).partition(".")
    own = known.get(FAMILY + rest)
    if own and own.each and folder in resources.folders():
        return own
    raise KeyError(name)


def _property(name: str, entry: Mapping[str, Any]) -> Property:
    bounds = {key: entry[key] for key in ("x-minimum", "x-maximum", "x-schemes") if key in entry}
    return Property(
        name=name,
        kind=entry["x-kind"],
        description=entry["description"],
        default=scalar_text(entry["default"]) if "default" in entry else "",
        secret=entry.get("x-secret", False),
        each=entry.get("x-each", False),
        bounds=bounds,
    )


def scalar_text(value: Any) -> str:
    """Return a JSON scalar as `key=value` lines spell it."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
