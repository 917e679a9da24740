"""Sources of host properties: the environment, files and the command line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TextIO

from lm_openai import resources
from lm_openai.config.registry import FAMILY, KEY, Property, row, scalar_text, table
from lm_openai.errors import WrongUsage, suggest

PREFIX = "LM_OPENAI_"
VARIABLES = {"OPENAI_ADMIN_KEY": KEY, "OPENAI_BASE_URL": "openai.api.url"}
NOT_A_PROPERTY = "LM_OPENAI_ETC"


class Setting(NamedTuple):
    """One value as somebody wrote it, and where."""

    name: str
    text: str
    origin: str


def environment(environ: Mapping[str, str]) -> Iterator[Setting]:
    """The settings among the environment's variables; raises WrongUsage for an unknown one."""
    for variable, name in VARIABLES.items():
        yield Setting(name, environ.get(variable, "").strip(), variable)
    for variable, text in environ.items():
        if variable.startswith(PREFIX) and variable != NOT_A_PROPERTY:
            name = _named(variable)
            _ours(name, variable)
            yield Setting(name, text.strip(), variable)


def file(path: str, stdin: TextIO | None) -> Iterator[Setting]:
    """The settings in a JSON object or in lines; what is not ours is passed over."""
    origin = "standard input" if path == "-" else path
    text = _read(path, origin, stdin).removeprefix("\ufeff")
    pairs = _json(text, origin) if text.lstrip().startswith("{") else _lines(text, origin)
    for name, value in pairs:
        if _ours(name, origin):
            yield Setting(name, value, origin)


def sets(pairs: Sequence[str]) -> Iterator[Setting]:
    """The settings of `--set name=value`; a person wrote them, so a strange name is refused."""
    for pair in pairs:
        name, sign, text = (part.strip() for part in pair.partition("="))
        if not sign:
            raise WrongUsage("--set wants name=value")
        if not _ours(name, "--set"):
            near = suggest(FAMILY + name, table())
            raise WrongUsage(f"{_shown_name(name)} (from --set) is no property{near}")
        entry = row(name)
        if entry.secret or (entry.kind == "url" and any(user_info(text))):
            raise WrongUsage(
                f"{name}: a secret is refused in --set, for a command line shows in the process "
                f"list; use the environment ({variable_of(name)}) or a --properties file"
            )
        yield Setting(name, text, "--set")


def unset(text: str) -> bool:
    """Whether it says nothing: empty, or a token that LogicMonitor had no value for."""
    return not text or re.fullmatch(r"##[^#]+##", text) is not None


def variable_of(name: str) -> str:
    """The environment variable of a property: `LM_OPENAI_GROUP_BY` for `openai.group.by`."""
    return PREFIX + name.removeprefix(FAMILY).replace(".", "_").upper()


def shown_text(entry: Property, text: str) -> str:
    """The text as it may be shown: nothing of a secret, nor of a URL that could hold one."""
    hidden = entry.secret or (entry.kind == "url" and any(sign in text for sign in "@?#"))
    return "(not shown)" if hidden else repr(text)


def user_info(url: str) -> Iterator[str]:
    """The secrets inside a URL, as written and as sent."""
    from urllib.parse import unquote

    authority = url.partition("://")[2].partition("/")[0]
    user, at, _ = authority.rpartition("@")
    if at:
        for part in (user, user.partition(":")[2] or user):
            yield from filter(None, (part, unquote(part)))


def _named(variable: str) -> str:
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
    raise WrongUsage(f"the environment's {variable} is no setting{suggest(variable, known)}")


def _ours(name: str, origin: str) -> bool:
    """Whether the name is one of ours; WrongUsage when it only looks so."""
    if not name.lower().startswith(FAMILY):
        return False
    try:
        row(name)
    except KeyError:
        near = suggest(name.lower(), _near())
        raise WrongUsage(f"{_shown_name(name)} (from {origin}) is no property{near}") from None
    return True


def _shown_name(name: str) -> str:
    """The name without what may be a value that lost its sign, for that could be a secret."""
    return re.match(r"[A-Za-z0-9._]{0,80}", name)[0]  # type: ignore[index]


def _near() -> Iterator[str]:
    yield from table()
    for folder in resources.folders():
        for name, entry in table().items():
            if entry.each:
                yield f"{FAMILY}{folder}.{name.removeprefix(FAMILY)}"


def _read(path: str, origin: str, stdin: TextIO | None) -> str:
    try:
        if path == "-":
            if stdin is None:
                raise WrongUsage("properties from standard input: there is none")
            return stdin.read()
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            return file.read()
    except OSError as reason:
        raise WrongUsage(f"properties from {origin} cannot be read: {reason.strerror}") from None
    except UnicodeDecodeError:
        raise WrongUsage(f"properties from {origin} are not UTF-8 text") from None


def _json(text: str, origin: str) -> Iterator[tuple[str, str]]:
    try:
        members = json.loads(text, parse_float=str)
    except json.JSONDecodeError as reason:
        where = f"line {reason.lineno}: {reason.msg}"
        raise WrongUsage(f"properties from {origin} are not valid JSON ({where})") from None
    except (ValueError, RecursionError):
        raise WrongUsage(f"properties from {origin} are JSON beyond reason") from None
    for name, value in members.items():
        if not isinstance(value, (dict, list)):
            yield name.strip(), scalar_text(value).strip()
        elif _ours(name.strip(), origin):
            raise WrongUsage(f"{name} (from {origin}): give text, a number, true or false")


def _lines(text: str, origin: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        name, sign, value = line.strip().partition("=")
        if sign and not name.startswith("#"):
            yield name.rstrip(), value.lstrip()
        elif name.lower().startswith(FAMILY):
            raise WrongUsage(f"properties from {origin}, line {number}: no = after the name")


def secrets(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the keys and passwords in the environment, those in proxy URLs included."""
    for name, text in environ.items():
        ours = name in VARIABLES or name.startswith(PREFIX)
        if ours and name.endswith(("_KEY", "_PASS")):
            yield text.strip()
        elif ours or name.lower().endswith("_proxy"):
            yield from user_info(text if "://" in text else f"http://{text}")
