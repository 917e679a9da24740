"""JSON files that people write: parsing, schema validation and one-sentence error messages."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lm_openai import __version__
from lm_openai.errors import WrongUsage, suggest
from lm_openai.resources import schema
from lm_openai.timespans import DAY

if TYPE_CHECKING:
    from jsonschema import ValidationError

REMEMBERED_SECONDS = 30 * DAY
_LONGEST_NUMBER, _MOST_DIGITS = 60, 30
_TOO_DEEP = "not JSON that this file can have: it is nested too deeply"
_WORDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "a string",
    "array": "a list",
    "object": "an object",
    "boolean": "true or false",
}


class Stamps(Protocol):
    """Store of the states of files that passed their check, such as the suite's cache."""

    def get(self, name: str) -> Any:
        """Return the value stored under the name; None if it is missing or expired."""

    def put(self, name: str, value: Any, ttl: int) -> Any:
        """Store a value for `ttl` seconds."""


class Place(NamedTuple):
    """Position in a file; as text `costs.json: thresholds[0].warning`."""

    path: str
    keys: tuple[str | int, ...] = ()

    def at(self, *keys: str | int) -> Place:
        """Return a position below this one."""
        return Place(self.path, self.keys + keys)

    def wrong(self, problem: str) -> WrongUsage:
        """Return the error to raise; its message starts with this position."""
        return WrongUsage(f"{self}: {problem}")

    def __str__(self) -> str:
        steps = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys)
        position = "".join(steps).lstrip(".")
        return f"{self.path}: {position}" if position else self.path


class File(NamedTuple):
    """Content of a file, not checked yet; `state` changes when the file changes."""

    place: Place
    content: Any
    state: str


def read(path: str) -> File:
    """Return a JSON file; numbers with a fraction are Decimal.

    Raises WrongUsage, which names the path.
    """
    from lm_openai import files

    place = Place(path)
    try:
        text, status = files.read(path)
    except OSError as error:
        raise place.wrong(f"cannot be read ({error.strerror})") from None
    return File(place, parse(text, place), f"{status.st_mtime_ns} {status.st_size} {__version__}")


def parse(text: bytes, place: Place) -> Any:
    """Return parsed JSON; numbers with a fraction are Decimal.

    Raises WrongUsage for invalid JSON (with line and column), NaN, Infinity, numbers that no limit
    can have, too many levels and duplicate names.
    """
    try:
        return json.loads(
            text,
            parse_float=_number,
            parse_int=_number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_unique,
        )
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}"
        raise place.wrong(f"{position}: not JSON ({error.msg})") from None
    except ValueError as error:
        raise place.wrong(f"not JSON ({error})") from None
    except RecursionError:
        raise place.wrong(_TOO_DEEP) from None


def check(file: File, name: str, stamps: Stamps | None = None) -> None:
    """Validate a file against `schemas/<name>.schema.json`; raises WrongUsage with the first fault.

    A file that `stamps` records in this state is not validated again, which avoids the import of
    jsonschema. Do not use it for files with secrets: the message quotes a wrong value.
    """
    stamp = f"checked {name} {file.place._replace(path=os.path.abspath(file.place.path))}"
    if stamps is not None and stamps.get(stamp) == file.state:
        return
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    try:
        fault = best_match(Draft202012Validator(schema(name)).iter_errors(file.content))
        problem = fault and _sentence(fault)
    except RecursionError:
        raise file.place.wrong(_TOO_DEEP) from None
    if fault is not None and problem:
        raise file.place.at(*fault.absolute_path).wrong(problem)
    if stamps is not None:
        stamps.put(stamp, file.state, REMEMBERED_SECONDS)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the nearest known name, or all names if none is near."""
    names = list(known)
    return suggest(name, names) or f"; expected one of {', '.join(names)}"


def quoted(value: Any) -> str:
    """Return a value as the file writes it, cut to 60 characters."""
    text = str(value) if isinstance(value, Decimal) else json.dumps(value, default=str)
    return text if len(text) <= 60 else text[:59] + "…"


def _sentence(fault: ValidationError) -> str:
    rule: Any = fault.validator
    found: Any = fault.instance
    allowed: Any = fault.validator_value
    if rule == "type":
        types = [allowed] if isinstance(allowed, str) else allowed
        words = " or ".join(_WORDS[name] for name in types if name != "null")
        return f"{quoted(found)} is not {words}"
    if rule == "required":
        return " and ".join(quoted(name) for name in allowed if name not in found) + " is missing"
    if rule == "additionalProperties":
        around: Any = fault.schema
        known = around["properties"]
        unknown = next(name for name in found if name not in known)
        return f"unknown field {quoted(unknown)}{nearest(unknown, known)}"
    if rule == "enum":
        return f"{quoted(found)} is not one of {', '.join(map(str, allowed))}"
    if rule in ("minimum", "maximum"):
        side = "below" if rule == "minimum" else "above"
        return f"{quoted(found)} is {side} the {rule} of {allowed}"
    if rule in ("minLength", "minProperties", "minItems"):
        return "must not be empty"
    return fault.message


def _number(text: str) -> int | Decimal:
    """Return an exact number; raises ValueError for one that no limit can have."""
    try:
        exact = Decimal(text)
    except InvalidOperation:
        exact = Decimal("Infinity")
    if len(text) > _LONGEST_NUMBER or exact.is_infinite() or abs(exact.adjusted()) > _MOST_DIGITS:
        raise ValueError(f"the number {text[:_MOST_DIGITS]}… is too long, too large or too small")
    return exact if any(sign in text for sign in ".eE") else int(text)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not allowed")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{quoted(name)} appears twice in one object")
        found[name] = value
    return found
