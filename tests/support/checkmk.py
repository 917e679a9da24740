"""Reader of agent output by the rules of Checkmk: piggyback hosts and local check lines.

The rules are those of Checkmk's check `local`. Its agent, server and packages were not available.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from math import inf
from typing import NamedTuple

LINE = re.compile(
    r"""(?:cached\((\d+),(\d+)\)[ ]+)?  # inserted by the agent
    (?P<state>[^ ]+)[ ]
    (?:"(?P<double>[^"']+)"|'(?P<single>[^"']+)'|(?P<bare>[^ "']+))[ ]
    (?P<metrics>[^ ]+)
    (?:[ ]+(?P<text>.*))?""",
    re.VERBOSE,
)
METRIC_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
ILLEGAL = set("`;~!$%^&*|'\"<>?,()=\\")
"""Characters that the core rejects in a service's name."""


class Metric(NamedTuple):
    """Metric; `lower` and `upper` are (warning, critical), None without a limit."""

    value: float
    upper: tuple[float, float] | None
    lower: tuple[float, float] | None
    bounds: tuple[float | None, float | None]


class Service(NamedTuple):
    """Service as Checkmk shows it; the first line of `text` is its summary."""

    state: int
    text: str
    metrics: dict[str, Metric]


def hosts(output: str) -> dict[str, dict[str, Service]]:
    """Return the services by host and name from agent output; "" is the agent's own host.

    Raises ValueError for anything that Checkmk ignores, rejects or records otherwise.
    """
    found: dict[str, dict[str, Service]] = {}
    host, section = "", ""
    for line in output.splitlines():
        if line.startswith("<<<<"):
            host, section = line.strip("<>"), ""
        elif line.startswith("<<<"):
            section = line
        else:
            _refuse(section != "<<<local:sep(0)>>>", "outside the section", line)
            name, service = _service(line)
            services = found.setdefault(host, {})
            _refuse(name in services, "a second service of this name", line)
            services[name] = service
    return found


def services(lines: str) -> dict[str, Service]:
    """Return the services by name from what one local check prints."""
    return hosts(f"<<<local:sep(0)>>>\n{lines}").get("", {})


def _service(line: str) -> tuple[str, Service]:
    match = LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"not a local check line: {line!r}")
    name = match["double"] or match["single"] or match["bare"]
    _refuse(match["state"] not in ("0", "1", "2", "3"), "no state", line)
    _refuse(bool(ILLEGAL & set(name)) or not name.isprintable(), "an illegal name", line)
    metrics = dict(_metrics(match["metrics"], line))
    text = (match["text"] or "").replace("\\n", "\n")
    return name, Service(int(match["state"]), text, metrics)


def _metrics(words: str, line: str) -> Iterator[tuple[str, Metric]]:
    seen = set()
    for word in words.split("|") if words != "-" else ():
        name, equals, numbers = word.partition("=")
        _refuse(not equals or not METRIC_NAME.fullmatch(name), "a wrong metric", line)
        _refuse(name in seen, "a metric twice", line)
        seen.add(name)
        value, *rest = [*numbers.split(";"), "", "", "", ""][:5]
        warning, critical = rest[0].split(":"), rest[1].split(":")
        upper = _levels(_number(warning[-1]), _number(critical[-1]), inf)
        low, lowest = (_number(part[0] if len(part) > 1 else "") for part in (warning, critical))
        bounds = (_number(rest[2]), _number(rest[3]))
        yield name, Metric(float(value), upper, _levels(low, lowest, -inf), bounds)


def _levels(
    warning: float | None, critical: float | None, never: float
) -> tuple[float, float] | None:
    """Return both levels: a missing warning is the critical one, a missing critical is never."""
    if warning is None and critical is None:
        return None
    known = critical if warning is None else warning
    assert known is not None
    return known, never if critical is None else critical


def _number(text: str) -> float | None:
    return float(text) if text else None


def _refuse(wrong: bool, why: str, line: str) -> None:
    if wrong:
        raise ValueError(f"{why}: {line!r}")
