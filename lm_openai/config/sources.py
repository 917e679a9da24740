"""Sources of host properties: the environment, files and the command line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TextIO

from lm_openai import resources
from lm_openai.config.registry import FAMILY, KEY, Property, row, scalar_text, table
from lm_openai.errors import WrongUsage, suggest
from lm_openai.redaction import user_info

PREFIX = "LM_OPENAI_"
VARIABLES = {"OPENAI_ADMIN_KEY": KEY, "OPENAI_BASE_URL": "openai.api.url"}
NOT_A_PROPERTY = "LM_OPENAI_ETC"


class Setting(NamedTuple):
    """Value of one property as written, with the place where it was written."""

    name: str
    text: str
    origin: str


def environment(environ: Mapping[str, str]) -> Iterator[Setting]:
    """Yield the settings in environment variables; raises WrongUsage for an unknown one."""
    for variable, name in VARIABLES.items():
        yield Setting(name, environ.get(variable, "").strip(), variable)
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and variable != NOT_A_PROPERTY:
            name = _property_of(variable)
            _is_property(name, variable)
            yield Setting(name, text.strip(), variable)


class File(NamedTuple):
    """Text of a `--properties` file; `path` and `status` are those of the opened file.

    `status` is None for standard input. `origin` names the file in messages.
    """

    origin: str
    text: str
    path: str = ""
    status: os.stat_result | None = None


def read(path: str, stdin: TextIO | None) -> File:
    """Read a `--properties` file; `-` is `stdin`. Raises WrongUsage."""
    from lm_openai import files

    origin = "standard input" if path == "-" else path
    path = os.path.expanduser(path)
    try:
        if path == "-":
            return File(origin, _standard_input(stdin))
        data, status = files.read(path, trusted=False)
        return File(origin, data.decode(), path, status)
    except OSError as reason:
        from lm_openai.config.exposure import unreadable

        raise unreadable(f"properties from {origin}", path, reason) from None
    except UnicodeDecodeError:
        raise WrongUsage(f"properties from {origin} are not UTF-8 text") from None


def _standard_input(stdin: TextIO | None) -> str:
    """Return all of standard input; raises WrongUsage, OSError and UnicodeDecodeError."""
    from lm_openai import files

    if stdin is None or not stdin.readable():
        raise WrongUsage("properties from standard input: no standard input is available")
    try:
        descriptor = stdin.fileno()
    except OSError:  # a stream in memory
        return stdin.read()
    return files.stream(descriptor).decode()


def settings(file: File) -> Iterator[Setting]:
    """Yield the settings in a file, a JSON object or lines; names outside `openai.` are skipped.

    Raises WrongUsage.
    """
    origin, text = file.origin, file.text.removeprefix("\ufeff")
    pairs = _json(text, origin) if text.lstrip().startswith("{") else _lines(text, origin)
    for name, value in pairs:
        if _is_property(name, origin):
            yield Setting(name, value, origin)


def sets(pairs: Sequence[str]) -> Iterator[Setting]:
    """Yield the settings of `--set name=value`.

    Raises WrongUsage for a secret and for every unknown name: unlike a host's file, it contains no
    properties of other programs.
    """
    for pair in pairs:
        name, sign, text = (part.strip() for part in pair.partition("="))
        if not sign:
            raise WrongUsage("--set needs name=value")
        if not _is_property(name, "--set"):
            near = suggest(FAMILY + name, table())
            raise WrongUsage(f"{_shown_name(name)} (from --set) is not a known property{near}")
        entry = row(name)
        if is_secret(entry, text):
            raise WrongUsage(
                f"{name}: a secret is refused in --set, because command lines show in the process "
                f"list; use the environment variable {variable_of(name)} or a --properties file"
            )
        yield Setting(name, text, "--set")


def is_secret(entry: Property, text: str) -> bool:
    """Return True for a secret property and for a URL with user info."""
    return any(secrets_in(entry, text))


def unset(text: str) -> bool:
    """Return True for an empty text and for a token that LogicMonitor did not replace."""
    return not text or re.fullmatch(r"##[^#]+##", text) is not None


def variable_of(name: str) -> str:
    """Return a property's environment variable: `LM_OPENAI_GROUP_BY` for `openai.group.by`."""
    return PREFIX + name.removeprefix(FAMILY).replace(".", "_").upper()


def secrets_in(entry: Property, text: str) -> Iterator[str]:
    """Yield what a property's text must not show: a secret, or the user info of a URL."""
    if entry.secret:
        yield text
    elif entry.kind == "url":
        yield from user_info(text)


def shown_text(entry: Property, text: str) -> str:
    """Return the quoted text, or `(not shown)` for a secret and for a URL that may hold one."""
    hidden = entry.secret or (entry.kind == "url" and any(sign in text for sign in "@?#"))
    return "(not shown)" if hidden else repr(text)


def _property_of(variable: str) -> str:
    known = {variable_of(name): name for name, entry in table().items() if not entry.pattern}
    if variable in known:
        return known[variable]
    for stem in (name.removesuffix("<id>") for name, entry in table().items() if entry.pattern):
        if variable.startswith(variable_of(stem)):
            return stem + variable.removeprefix(variable_of(stem))
    for folder in resources.folders():
        own = f"{PREFIX}{folder.upper()}_"
        name = known.get(PREFIX + variable.removeprefix(own), "")
        if variable.startswith(own) and name and table()[name].each:
            return f"{FAMILY}{folder}.{name.removeprefix(FAMILY)}"
    secret = [one for one, name in known.items() if row(name).secret or row(name).kind == "url"]
    spelled = re.match("[A-Z_]{0,80}", variable)[0]  # type: ignore[index]
    raise WrongUsage(
        f"environment variable {_cut(variable, spelled, secret)} is not a known setting"
        f"{suggest(variable, known)}"
    )


def _is_property(name: str, origin: str) -> bool:
    """Return True for a known property and False for a name outside `openai.`.

    Raises WrongUsage for an unknown name in `openai.`.
    """
    if not name.lower().startswith(FAMILY):
        return False
    try:
        row(name)
    except KeyError:
        near = suggest(name.lower(), _known_names())
        shown = _shown_name(name)
        raise WrongUsage(f"{shown} (from {origin}) is not a known property{near}") from None
    return True


def _shown_name(name: str) -> str:
    """Return an unknown name without what may be a secret that was written without `=`.

    A secret follows the name of a property, or begins where no name has such a letter.
    """
    if name.lower() in _known_names():
        return name
    spelled = re.match(r"(?i:openai\.)?[a-z._]{0,60}", name)[0]  # type: ignore[index]
    secret = [one for one, entry in table().items() if entry.secret or entry.kind == "url"]
    return _cut(name, spelled, secret)


def _cut(name: str, spelled: str, secret: Iterable[str]) -> str:
    """Return `spelled`, the start of a name, at most up to the end of a name in `secret`."""
    ends = [len(one) for one in secret if spelled.lower().startswith(one.lower())]
    shown = spelled[: min(ends, default=len(spelled))]
    return shown if shown == name else f"{shown}…"


def _known_names() -> Iterator[str]:
    yield from table()
    for folder in resources.folders():
        for name, entry in table().items():
            if entry.each:
                yield f"{FAMILY}{folder}.{name.removeprefix(FAMILY)}"


def _json(text: str, origin: str) -> Iterator[tuple[str, str]]:
    try:
        members = json.loads(text, parse_float=str)
    except json.JSONDecodeError as reason:
        fault = f"line {reason.lineno}: {reason.msg}"
        raise WrongUsage(f"properties from {origin} are not valid JSON ({fault})") from None
    except (ValueError, RecursionError):
        raise WrongUsage(
            f"properties from {origin}: the JSON is nested too deeply or has too long a number"
        ) from None
    for name, value in members.items():
        if not isinstance(value, (dict, list)):
            yield name.strip(), scalar_text(value).strip()
        elif _is_property(name.strip(), origin):
            raise WrongUsage(f"{name} (from {origin}): give a string, a number, true or false")


def _lines(text: str, origin: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        name, sign, value = line.strip().partition("=")
        if sign and not name.startswith("#"):
            yield name.rstrip(), value.lstrip()
        elif name.lower().startswith(FAMILY):
            raise WrongUsage(
                f"properties from {origin}, line {number}: '=' is missing after the property name"
            )


def secrets(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the keys and passwords in the environment, also those in proxy URLs."""
    for name, text in environ.items():
        own = name in VARIABLES or name.startswith(PREFIX)
        if own and name.endswith(("_KEY", "_PASS")):
            yield text.strip()
        elif own or name.lower().endswith("_proxy"):
            yield from user_info(text if "://" in text else f"http://{text}")
