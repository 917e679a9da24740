"""Host properties: which of the settings wins, and what each is worth, ready to use."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TextIO

from lm_openai import timespans
from lm_openai.config import sources, value_types
from lm_openai.config.registry import (
    FAMILY,
    KEY,
    KEY_FILE,
    row,
)
from lm_openai.config.sources import Setting
from lm_openai.errors import WrongUsage
from lm_openai.timespans import WIDTHS, Window

__all__ = ["Properties", "Window", "load", "matches"]

NO_KEY = (
    "no admin key: an organization owner makes one (sk-admin-…) at platform.openai.com under "
    "Organization, Admin keys; set it as OPENAI_ADMIN_KEY, or as openai.admin.key or "
    "openai.admin.key.file in a --properties file; `lm-openai demo` shows the suite without any"
)
_LOOKBACK = {"1m": 3 * timespans.HOUR, "1h": 3 * timespans.DAY, "1d": 3 * timespans.DAY}


class Properties:
    """All settings of one host, checked; `repr` never shows a secret."""

    __slots__ = ("_key", "_texts", "_values")

    def __init__(self, texts: Mapping[str, str], values: Mapping[str, Any]) -> None:
        self._texts, self._values = texts, values
        self._key = ""

    def __repr__(self) -> str:
        shown = (
            f"{name}={sources.shown_text(row(name), text)}" for name, text in self._texts.items()
        )
        return f"Properties({', '.join(sorted(shown))})"

    def is_set(self, name: str) -> bool:
        """Whether somebody set it; a default does not count."""
        return name in self._values

    def text(self, name: str) -> str:
        """A key, name, path, URL, command or width; empty when unset and without default."""
        return str(self._value(name) or "")

    def flag(self, name: str) -> bool:
        """A truth value."""
        return bool(self._value(name))

    def seconds(self, name: str) -> int:
        """A duration; 0 when unset and without default."""
        return int(self._value(name) or 0)

    def count(self, name: str) -> int:
        """A whole number; 0 when unset and without default."""
        return int(self._value(name) or 0)

    def dollars(self, name: str) -> Decimal | None:
        """Dollars, or None when unset and without default."""
        value: Decimal | None = self._value(name)
        return value

    def date(self, name: str) -> int | None:
        """Unix seconds, or None when unset."""
        value: int | None = self._value(name)
        return value

    def globs(self, name: str) -> tuple[str, ...]:
        """Globs; none when unset."""
        return tuple(self._value(name) or ())

    def words(self, name: str) -> tuple[str, ...]:
        """Dimensions; none when unset."""
        return tuple(self._value(name) or ())

    @property
    def organization(self) -> str:
        """What to call the organization."""
        return self.text("openai.org.name")

    def for_datasource(self, folder: str) -> Properties:
        """The same settings with `openai.<folder>.x` in the place of `openai.x`."""
        own = f"{FAMILY}{folder}."
        return Properties(_lifted(self._texts, own), _lifted(self._values, own))

    def window(self, now: int, grace: int | None = None) -> Window:
        """`openai.window` that ends `grace` before now (default: openai.finalization.grace)."""
        return timespans.window(self.text("openai.window"), now - self._grace(grace))

    def series(self, now: int, width: str) -> Window:
        """What a series is read over, from a bucket's start; `width` is the definition's own."""
        width = self.text("openai.bucket.width") or width
        lookback = self.seconds("openai.lookback") or _LOOKBACK[width]
        end = now - self._grace(None)
        return Window((end - lookback) // WIDTHS[width] * WIDTHS[width], end, width)

    def chosen(self, what: str, identifier: str, name: str = "") -> bool:
        """Whether a project or model ("projects", "models") is printed, by its id or its name."""
        included = self.globs(f"openai.{what}.include")
        if included and not matches(included, identifier, name):
            return False
        return not matches(self.globs(f"openai.{what}.exclude"), identifier, name)

    def project_budgets(self) -> dict[str, Decimal]:
        """Dollars a month by project id."""
        return self._by_id("openai.budget.project.")

    def token_budgets(self) -> dict[str, int]:
        """Tokens a day by project id."""
        return self._by_id("openai.tokens.budget.project.")

    def admin_key(self) -> str:
        """The key, or its file's, read once; raises WrongUsage when there is no safe one."""
        self._key = self._key or self.text(KEY) or self._key_in_file()
        return self._key

    def secrets(self) -> tuple[str, ...]:
        """Everything that must never be shown, longest first, for redaction."""
        found = {text for name, text in self._texts.items() if row(name).secret}
        for name, text in self._texts.items():
            found.update(sources.user_info(text) if row(name).kind == "url" else ())
        if self.is_set(KEY_FILE) and not self.is_set(KEY):
            with contextlib.suppress(WrongUsage):
                found.add(self.admin_key())
        return tuple(sorted(found, key=len, reverse=True))

    def _key_in_file(self) -> str:
        if not self.is_set(KEY_FILE):
            raise WrongUsage(NO_KEY)
        from lm_openai.config.key_file import read

        return read(self.text(KEY_FILE), shared=self.flag("openai.admin.key.file.shared"))

    def _value(self, name: str) -> Any:
        return self._values[name] if name in self._values else _default(name)

    def _grace(self, grace: int | None) -> int:
        return self.seconds("openai.finalization.grace") if grace is None else grace

    def _by_id(self, prefix: str) -> dict[str, Any]:
        return {
            name.removeprefix(prefix): value
            for name, value in self._values.items()
            if name.startswith(prefix)
        }


def load(
    environ: Mapping[str, str],
    files: Sequence[str] = (),
    sets: Sequence[str] = (),
    stdin: TextIO | None = None,
) -> Properties:
    """Environment, then files in their order (`-` is `stdin`), then `key=value` sets; later wins.

    An empty value and a token that LogicMonitor left as it was (`##openai.window##`) are unset. A
    key file takes the place of a key that came earlier, and the other way round. Raises WrongUsage.
    """
    layers = [
        sources.environment(environ),
        *(sources.file(path, stdin) for path in files),
        sources.sets(sets),
    ]
    texts: dict[str, str] = {}
    values: dict[str, Any] = {}
    for layer in layers:
        found = {entry.name: entry for entry in layer if not sources.unset(entry.text)}
        if KEY in found or KEY_FILE in found:
            for name in (KEY, KEY_FILE):
                texts.pop(name, None)
                values.pop(name, None)
        for setting in found.values():
            texts[setting.name] = setting.text
            values[setting.name] = _checked(setting)
    return Properties(texts, values)


def matches(globs: Iterable[str], identifier: str, name: str = "") -> bool:
    """Whether any glob fits the id or the name, upper and lower case told apart."""
    from fnmatch import fnmatchcase

    return any(fnmatchcase(text, glob) for glob in globs for text in (identifier, name) if text)


@functools.cache
def _default(name: str) -> Any:
    entry = row(name)
    return value_types.parse(entry.kind, entry.default, entry.bounds) if entry.default else None


def _lifted(entries: Mapping[str, Any], own: str) -> dict[str, Any]:
    mine = [name for name in entries if name.startswith(own)]
    return {**entries, **{FAMILY + name.removeprefix(own): entries[name] for name in mine}}


def _checked(setting: Setting) -> Any:
    entry = row(setting.name)
    try:
        return value_types.parse(entry.kind, setting.text, entry.bounds)
    except ValueError as reason:
        shown = sources.shown_text(entry, setting.text)
        raise WrongUsage(
            f"{setting.name} (from {setting.origin}): {shown} is refused; {reason}"
        ) from None
