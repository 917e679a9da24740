"""Output formats: one row each, with the options it supports and the stream of its errors."""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

from lm_openai.errors import WrongUsage


class Format(NamedTuple):
    """One output format; the module `lm_openai.output.<name>` writes it.

    `series` is True if a series is the default, False if it needs --series and None if the format
    has none. `together` allows several DataSources in one run. `errors_on_stdout` is for hosts that
    read nothing else; such a document carries its partial failures itself. `stderr` is False for a
    host that reads stderr as the value. `exit_is_state` makes the exit status the worst state.
    `parts` allows --part. `mode` is the mode of a file of --output, before the umask. `failed_file`
    is True if a failed poll replaces that file, because its reader would take the old one for a
    success. `each` prints a failed run of several DataSources for each of them, since each is a
    service of its own.

    Every module has `write(report)` and `discover(report)`. With `errors_on_stdout` it also has
    `failed(sentence, title)`, with `together` `write_all(reports, gaps)` and with `exit_is_state`
    `status(report)` and `status_all(reports, gaps)`. Texts end with a newline; "" prints nothing.
    """

    name: str
    series: bool | None = None
    together: bool = False
    errors_on_stdout: bool = False
    stderr: bool = True
    exit_is_state: bool = False
    parts: bool = False
    mode: int = 0o640
    failed_file: bool = False
    each: bool = False

    def writer(self) -> ModuleType:
        """Import and return the module that writes this format."""
        from importlib import import_module

        return import_module(f"lm_openai.output.{self.name}")


FORMATS = {
    row.name: row
    for row in (
        Format("json", series=False, together=True),
        Format("influx", series=True, together=True),
        Format("logicmonitor"),
        Format("nagios", together=True, errors_on_stdout=True, exit_is_state=True),
        Format("zabbix", errors_on_stdout=True, stderr=False, parts=True),
        Format("checkmk", together=True, errors_on_stdout=True, each=True),
        Format("prometheus", together=True, mode=0o644, failed_file=True),
    )
}
"""All formats by name; the first is the default."""

DEFAULT = next(iter(FORMATS))


def named(name: str) -> Format:
    """Return the format of that name; raises WrongUsage for an unknown one."""
    if name not in FORMATS:
        raise WrongUsage(f"unknown format {name!r}: use one of {', '.join(FORMATS)}")
    return FORMATS[name]


def names(formats: list[Format]) -> str:
    """Return the names of formats as a list in words: `json, influx and nagios`."""
    *first, last = (row.name for row in formats)
    return f"{', '.join(first)} and {last}" if first else last
