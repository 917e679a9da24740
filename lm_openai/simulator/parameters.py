"""Query string parameters: three spellings of arrays, and a refusal for each wrong value."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from urllib.parse import parse_qs

from lm_openai.simulator import refusals

Query = Mapping[str, list[str]]


def parse(text: str) -> dict[str, list[str]]:
    return parse_qs(text, keep_blank_values=True)


def refuse_unknown(query: Query, names: Collection[str]) -> None:
    """Raise Refusal for the first parameter that the endpoint does not have."""
    for name in query:
        if name.removesuffix("[]") not in names:
            raise refusals.unknown_parameter(name)


def values(query: Query, name: str, split: bool = True) -> tuple[str, ...]:
    """Return an array given as `name=a&name=b`, as `name[]=a&name[]=b` or as `name=a,b`.

    `split=False` keeps commas, for values that contain them. Empty and repeated values are omitted.
    """
    given = [*query.get(name, ()), *query.get(f"{name}[]", ())]
    parts = [part for value in given for part in (value.split(",") if split else [value])]
    return tuple(dict.fromkeys(part for part in parts if part))


def choices(query: Query, name: str, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return an array as `values` does. Raises Refusal for a value that is not in `allowed`."""
    found = values(query, name)
    for position, value in enumerate(found):
        if value not in allowed:
            raise refusals.wrong_value(f"{name}[{position}]", value, allowed)
    return found


def choice(query: Query, name: str, allowed: Sequence[str], default: str | None) -> str | None:
    value = text(query, name)
    if value is None:
        return default
    if value not in allowed:
        raise refusals.wrong_value(name, value, allowed)
    return value


def flag(query: Query, name: str) -> bool | None:
    value = choice(query, name, ("true", "false"), None)
    return None if value is None else value == "true"


def integer(
    query: Query, name: str, minimum: int | None = None, maximum: int | None = None
) -> int | None:
    value = text(query, name)
    if value is None:
        return None
    try:
        number = int(value)
    except ValueError:
        raise refusals.wrong_type(name, "an integer") from None
    if minimum is not None and (number < minimum or (maximum is not None and number > maximum)):
        raise refusals.out_of_range(name, number, minimum, maximum)
    return number


def required_integer(query: Query, name: str) -> int:
    number = integer(query, name, minimum=0)
    if number is None:
        raise refusals.missing_parameter(name)
    return number


def text(query: Query, name: str) -> str | None:
    """Return the last value of a parameter that is not an array; None if it is missing."""
    given = query.get(name)
    return given[-1] if given else None
