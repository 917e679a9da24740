"""Command line of every DataSource script: one row for each option."""

from __future__ import annotations

from typing import NamedTuple

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
