"""Options of every DataSource script: one table, and a fast parser for plain polls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from lm_openai.output.registry import DEFAULT, FORMATS


class Option(NamedTuple):
    """One row of the table.

    `value` is the metavariable, None for a switch. `many` is True for an option that may be
    repeated. `negative` is the flag that turns a switch off.
    """

    flag: str
    help: str
    value: str | None = None
    many: bool = False
    choices: tuple[str, ...] = ()
    negative: str = ""

    @property
    def field(self) -> str:
        """Name of the field in Options."""
        return FIELDS.get(self.flag, self.flag.strip("-"))


class Options(NamedTuple):
    """Parsed options; `series` is None if neither --series nor --no-series was given.

    Without `output` the text goes to stdout, without `part` it has all instances.
    """

    format: str = DEFAULT
    discover: bool = False
    properties: tuple[str, ...] = ()
    sets: tuple[str, ...] = ()
    thresholds: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()
    datapoints: tuple[str, ...] = ()
    series: bool | None = None
    at: str = ""
    timeout: str = ""
    output: str | None = None
    part: str | None = None
    verbose: bool = False


FIELDS = {"-v": "verbose", "--set": "sets", "--instance": "instances", "--datapoint": "datapoints"}
OPTIONS = (
    Option("--format", f"output format (default {DEFAULT})", "FORMAT", choices=tuple(FORMATS)),
    Option("--discover", "print the instances in the format's discovery form"),
    Option(
        "--properties", "host properties as JSON or key=value lines; - is stdin", "FILE", many=True
    ),
    Option("--set", "set one host property; secrets are refused", "KEY=VALUE", many=True),
    Option("--thresholds", "site thresholds that change the shipped ones", "FILE", many=True),
    Option("--instance", "only this wildvalue, or glob over wildvalue and alias", "ID", many=True),
    Option("--datapoint", "only this datapoint, in values and state", "NAME", many=True),
    Option("--series", "print one entry per bucket (default for influx)", negative="--no-series"),
    Option("--at", "poll as of this time: ISO 8601 or Unix seconds", "TIME"),
    Option("--timeout", "limit of the whole poll in seconds (openai.timeout)", "S"),
    Option("--output", "replace this file as a whole instead of printing on stdout", "FILE"),
    Option("--part", "only part I of N of the instances, each for a Zabbix master item", "I/N"),
    Option("-v", "print request counts, data ages and notes on stderr"),
)
TABLE = {option.flag: option for option in OPTIONS}
NEGATIVES = {option.negative: option for option in OPTIONS if option.negative}


def parse(argv: Sequence[str]) -> Options | None:
    """Parse the plain forms `--flag`, `--option value` and `--option=value`, without imports.

    Return None for anything else, including --help and wrong usage, which click handles.
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
