"""JSON files that people write: how they are read, and what is wrong with them in one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from lm_openai import __version__
from lm_openai.errors import WrongUsage, suggest
from lm_openai.resources import schema

if TYPE_CHECKING:
    from jsonschema import ValidationError

REMEMBERED_SECONDS = 30 * 86400
_WORDS = {
    "number": "a number",
    "integer": "a whole number",
    "string": "a text",
    "array": "a list",
    "object": "an object",
    "boolean": "true or false",
}


class Stamps(Protocol):
    """What remembers which files were found right; the suite's cache is one."""

    def get(self, name: str) -> Any:
        """What was put under that name, None when nothing is there any more."""

    def put(self, name: str, value: Any, ttl: int) -> Any:
        """Keep a value for `ttl` seconds."""


class Place(NamedTuple):
    """A spot in a file; as text `costs.json: thresholds[0].warning`."""

    path: str
    keys: tuple[str | int, ...] = ()

    def at(self, *keys: str | int) -> Place:
        """A spot below this one."""
        return Place(self.path, self.keys + keys)

    def wrong(self, problem: str) -> WrongUsage:
        """The error to raise, naming this spot."""
        return WrongUsage(f"{self}: {problem}")

    def __str__(self) -> str:
        steps = (f"[{key}]" if isinstance(key, int) else f".{key}" for key in self.keys)
        spot = "".join(steps).lstrip(".")
        return f"{self.path}: {spot}" if spot else self.path


class File(NamedTuple):
    """What a file holds, not checked yet, and the state in which it was read."""

    place: Place
    content: Any
    state: str


def read(path: str) -> File:
    """The JSON in a file, numbers with a fraction as Decimal; raises WrongUsage naming the path."""
    place = Place(path)
    try:
        with open(path, "rb") as opened:
            status = os.fstat(opened.fileno())
            text = opened.read()
    except OSError as error:
        raise place.wrong(f"cannot be read ({error.strerror})") from None
    return File(place, parse(text, place), f"{status.st_mtime_ns} {status.st_size} {__version__}")


def parse(text: bytes, place: Place) -> Any:
    """JSON without NaN and without a name twice; raises WrongUsage with line and column."""
    try:
        return json.loads(
            text, parse_float=Decimal, parse_constant=_no_number, object_pairs_hook=_once
        )
    except json.JSONDecodeError as error:
        spot = f"line {error.lineno}, column {error.colno}"
        raise place.wrong(f"{spot}: not JSON ({error.msg})") from None
    except ValueError as error:
        raise place.wrong(f"not JSON ({error})") from None


def check(file: File, name: str, stamps: Stamps | None = None) -> None:
    """Hold a file against `schemas/<name>.schema.json`; raises WrongUsage with the first fault.

    A file that `stamps` knows in this state is not looked at again, which spares the import of
    jsonschema. Not for files that hold secrets: a wrong value is quoted.
    """
    stamp = f"checked {name} {os.path.abspath(file.place.path)}"
    if stamps is not None and stamps.get(stamp) == file.state:
        return
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    fault = best_match(Draft202012Validator(schema(name)).iter_errors(file.content))
    if fault is not None:
        raise file.place.at(*fault.absolute_path).wrong(_sentence(fault))
    if stamps is not None:
        stamps.put(stamp, file.state, REMEMBERED_SECONDS)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error: the known name that is near, else all of them."""
    names = list(known)
    return suggest(name, names) or f"; known are {', '.join(names)}"


def quoted(value: Any) -> str:
    """A value as it stands in the file, shortened."""
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
        return f"nothing here is called {quoted(unknown)}{nearest(unknown, known)}"
    if rule == "enum":
        return f"{quoted(found)} is not one of {', '.join(map(str, allowed))}"
    if rule in ("minimum", "maximum"):
        return f"{quoted(found)} is {'below' if rule == 'minimum' else 'above'} {allowed}"
    if rule in ("minLength", "minProperties", "minItems"):
        return "is empty"
    return fault.message


def _no_number(constant: str) -> None:
    raise ValueError(f"{constant} is not a number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{quoted(name)} is written twice in one object")
        found[name] = value
    return found
