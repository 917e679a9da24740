"""The options of every DataSource script, in one table, and the quickest way to read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lm_openai.output.registry import DEFAULT, FORMATS


class Option(NamedTuple):
    """One row: `value` is None for a switch, `many` for an option that may be repeated."""

    flag: str
    help: str
    value: str | None = None
    many: bool = False
    choices: tuple[str, ...] = ()
    negative: str = ""

    @property
    def field(self) -> str:
        """The name in Options."""
        return FIELDS.get(self.flag, self.flag.strip("-"))


class Options(NamedTuple):
    """What a caller asked for; `series` is None when neither --series nor --no-series was given."""

    format: str = DEFAULT
    discover: bool = False
    properties: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    thresholds: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    series: bool | None = None
    at: str = ""
    timeout: str = ""
    verbose: bool = False


FIELDS = {"-v": "verbose", "--set": "sets", "--instance": "instances"}
OPTIONS = (
    Option("--format", f"what to print (default {DEFAULT})", "FORMAT", choices=tuple(FORMATS)),
    Option("--discover", "print the instances, in the format's own discovery form"),
    Option(
        "--properties", "host properties: JSON or key=value lines; - is stdin", "FILE", many=True
    ),
    Option("--set", "one host property; never a secret", "KEY=VALUE", many=True),
    Option("--thresholds", "a site's thresholds, over the shipped ones", "FILE", many=True),
    Option("--instance", "only this wildvalue, or glob over wildvalue and alias", "ID", many=True),
    Option("--series", "one entry per bucket (influx: the default)", negative="--no-series"),
    Option("--at", 'what "now" is: ISO 8601 or Unix seconds', "TIME"),
    Option("--timeout", "seconds for the whole poll (openai.timeout)", "S"),
    Option("-v", "say on stderr what was asked and how it went"),
)
TABLE = {option.flag: option for option in OPTIONS}
NEGATIVES = {option.negative: option for option in OPTIONS if option.negative}


def parse(argv: Sequence[str]) -> Options | None:
    """The plain poll form (`--flag`, `--option value`, `--option=value`), without imports.

    None for anything else, help and mistakes among it: those are for the command line of people.
    """
    found: dict[str, Any] = {}
    words = iter(argv)
    for word in words:
        flag, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if flag in NEGATIVES and not equals:
            found[NEGATIVES[flag].field] = False
            continue
        option = TABLE.get(flag)
        if option is None or (equals and option.value is None):
            return None
        if option.value is None:
            found[option.field] = True
            continue
        text = value if equals else next(words, None)
        if text is None or (option.choices and text not in option.choices):
            return None
        found[option.field] = (*found.get(option.field, ()), text) if option.many else text
    return Options(**found)
