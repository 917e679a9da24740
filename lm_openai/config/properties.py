"""Host properties: merging of their sources and typed access to their values."""

from __future__ import annotations

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
    KEY_SHARED,
    row,
)
from lm_openai.config.sources import Setting
from lm_openai.errors import WrongUsage
from lm_openai.redaction import learn
from lm_openai.timespans import WIDTHS, Window

NO_KEY = (
    "no admin key: an organization owner creates one (sk-admin-…) at platform.openai.com under "
    "Organization, Admin keys; set it as OPENAI_ADMIN_KEY, or as openai.admin.key or "
    "openai.admin.key.file in a --properties file; `lm-openai demo` works without a key"
)
_LOOKBACK = {"1m": 3 * timespans.HOUR, "1h": 3 * timespans.DAY, "1d": 3 * timespans.DAY}


class Properties:
    """All properties of one host, validated; `repr` never shows a secret."""

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
        """Return True if the property was set; a default does not count."""
        return name in self._values

    def text(self, name: str) -> str:
        """Return a key, name, path, URL, command or width; empty if unset and without default."""
        return str(self._value(name) or "")

    def flag(self, name: str) -> bool:
        """Return a boolean; False if unset and without default."""
        return bool(self._value(name))

    def seconds(self, name: str) -> int:
        """Return a duration in seconds; 0 if unset and without default."""
        return int(self._value(name) or 0)

    def count(self, name: str) -> int:
        """Return a whole number; 0 if unset and without default."""
        return int(self._value(name) or 0)

    def dollars(self, name: str) -> Decimal | None:
        """Return dollars, or None if unset and without default."""
        value: Decimal | None = self._value(name)
        return value

    def date(self, name: str) -> int | None:
        """Return Unix seconds, or None if unset."""
        value: int | None = self._value(name)
        return value

    def globs(self, name: str) -> tuple[str, ...]:
        """Return globs; empty if unset."""
        return tuple(self._value(name) or ())

    def words(self, name: str) -> tuple[str, ...]:
        """Return dimensions; empty if unset."""
        return tuple(self._value(name) or ())

    @property
    def organization(self) -> str:
        """Name of the organization (openai.org.name)."""
        return self.text("openai.org.name")

    def for_datasource(self, folder: str) -> Properties:
        """Return the properties for one DataSource: `openai.<folder>.x` replaces `openai.x`."""
        prefix = f"{FAMILY}{folder}."
        return Properties(_with_own(self._texts, prefix), _with_own(self._values, prefix))

    def window(self, now: int, grace: int | None = None) -> Window:
        """Return `openai.window`, ending `grace` seconds before `now`.

        The default for `grace` is openai.finalization.grace.
        """
        return timespans.window(self.text("openai.window"), now - self._grace(grace))

    def series(self, now: int, width: str) -> Window:
        """Return the window of a series, which starts on a bucket boundary.

        `width` is the definition's bucket width, which openai.bucket.width overrides.
        """
        width = self.text("openai.bucket.width") or width
        lookback = self.seconds("openai.lookback") or _LOOKBACK[width]
        end = now - self._grace(None)
        return Window((end - lookback) // WIDTHS[width] * WIDTHS[width], end, width)

    def filters(self, what: str) -> tuple[str, ...]:
        """Return the names of the filters that are set; `what` is "projects" or "models"."""
        names = (f"openai.{what}.include", f"openai.{what}.exclude")
        return tuple(name for name in names if self.globs(name))

    def chosen(self, what: str, identifier: str, name: str = "") -> bool:
        """Return True if a project or model is printed, by its id or its name.

        `what` is "projects" or "models".
        """
        included = self.globs(f"openai.{what}.include")
        if included and not matches(included, identifier, name):
            return False
        return not matches(self.globs(f"openai.{what}.exclude"), identifier, name)

    def origin(self, name: str, folder: str) -> str:
        """Return the name under which `openai.x` is set for a DataSource: its own name wins."""
        own = f"{FAMILY}{folder}.{name.removeprefix(FAMILY)}"
        return own if self.is_set(own) else name

    def project_budgets(self) -> dict[str, Decimal]:
        """Return monthly budgets in dollars by project id."""
        return self.by_id("openai.budget.project.")

    def token_budgets(self) -> dict[str, int]:
        """Return daily token budgets by project id."""
        return self.by_id("openai.tokens.budget.project.")

    def by_id(self, prefix: str) -> dict[str, Any]:
        """Return the values of a property with an id, such as `openai.budget.project.`, by id."""
        return {
            name.removeprefix(prefix): value
            for name, value in self._values.items()
            if name.startswith(prefix)
        }

    def admin_key(self) -> str:
        """Return the admin key, from its file if need be; the file is read once.

        Raises WrongUsage if no key is set or its file is refused.
        """
        self._key = self._key or self.text(KEY) or self._key_in_file()
        return self._key

    def _key_in_file(self) -> str:
        if not self.is_set(KEY_FILE):
            raise WrongUsage(NO_KEY)
        from lm_openai.config.key_file import read

        return read(self.text(KEY_FILE), shared=self.flag(KEY_SHARED))

    def _value(self, name: str) -> Any:
        return self._values[name] if name in self._values else _default(name)

    def _grace(self, grace: int | None) -> int:
        return self.seconds("openai.finalization.grace") if grace is None else grace


def load(
    environ: Mapping[str, str],
    files: Sequence[str] = (),
    sets: Sequence[str] = (),
    stdin: TextIO | None = None,
) -> Properties:
    """Return properties from the environment, files in order and `key=value` sets; later wins.

    The file `-` is `stdin`. An empty value and a token that LogicMonitor did not replace
    (`##openai.window##`) count as unset. A later key file replaces an earlier key, and a later key
    an earlier key file. A file that too many users can access is refused, see `exposure`. Raises
    WrongUsage.
    """
    opened = [sources.read(path, stdin) for path in files]
    written = [tuple(sources.settings(file)) for file in opened]
    layers = [sources.environment(environ), *written, sources.sets(sets)]
    properties = _merged(layers)
    for file, layer in zip(opened, written):
        _refuse_exposed(file, layer, shared=properties.flag(KEY_SHARED))
    return properties


def matches(globs: Iterable[str], identifier: str, name: str = "") -> bool:
    """Return True if any glob matches the id or the name; case matters."""
    from fnmatch import fnmatchcase

    return any(fnmatchcase(text, glob) for glob in globs for text in (identifier, name) if text)


def _merged(layers: Iterable[Iterable[Setting]]) -> Properties:
    """Return the properties of all layers; a later one wins."""
    texts: dict[str, str] = {}
    values: dict[str, Any] = {}
    for layer in layers:
        found = {entry.name: entry for entry in layer if not sources.unset(entry.text)}
        if KEY in found or KEY_FILE in found:
            for name in (KEY, KEY_FILE):
                texts.pop(name, None)
                values.pop(name, None)
        for setting in found.values():
            learn(sources.secrets_in(row(setting.name), setting.text))
            texts[setting.name] = setting.text
            values[setting.name] = _checked(setting)
    return Properties(texts, values)


def _refuse_exposed(file: sources.File, settings: Iterable[Setting], *, shared: bool) -> None:
    """Raise WrongUsage for a file that others can change, or read although it has a secret."""
    if file.status is None:
        return
    secret = [
        entry.name
        for entry in settings
        if not sources.unset(entry.text) and sources.is_secret(row(entry.name), entry.text)
    ]
    from lm_openai.config.exposure import refuse

    subject = f"{file.origin}, which contains {secret[0]}," if secret else file.origin
    refuse(subject, file.path, file.status, secret=bool(secret) and not shared)


@functools.cache
def _default(name: str) -> Any:
    entry = row(name)
    return value_types.parse(entry.kind, entry.default, entry.bounds) if entry.default else None


def _with_own(entries: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    own = [name for name in entries if name.startswith(prefix)]
    return {**entries, **{FAMILY + name.removeprefix(prefix): entries[name] for name in own}}


def _checked(setting: Setting) -> Any:
    entry = row(setting.name)
    try:
        return value_types.parse(entry.kind, setting.text, entry.bounds)
    except ValueError as reason:
        shown = sources.shown_text(entry, setting.text)
        raise WrongUsage(
            f"{setting.name} (from {setting.origin}): {shown} is invalid; {reason}"
        ) from None
