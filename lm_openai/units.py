"""How one unit is spelled in each monitoring system."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

Number = int | float | Decimal


class Unit(NamedTuple):
    """One unit: its type never changes ("int" or "float"), so neither does an Influx field's.

    `uom` is Nagios' unit of measurement (none for counts and dollars: there `c` means counter);
    `prometheus` is the base unit's word and `factor` what a value is multiplied by to reach it.
    """

    type: str
    uom: str
    zabbix: str
    prometheus: str
    factor: Decimal = Decimal(1)


UNITS = {
    "tokens": Unit("int", "", "!tokens", "tokens"),
    "requests": Unit("int", "", "!req", "requests"),
    "images": Unit("int", "", "!images", "images"),
    "characters": Unit("int", "", "!chars", "characters"),
    "sessions": Unit("int", "", "!sessions", "sessions"),
    "count": Unit("int", "", "", ""),
    "boolean": Unit("int", "", "", ""),
    "bytes": Unit("int", "B", "B", "bytes"),
    "seconds": Unit("float", "s", "s", "seconds"),
    "whole_seconds": Unit("int", "s", "s", "seconds"),
    "minutes": Unit("int", "", "!min", "seconds", Decimal(60)),
    "days": Unit("float", "", "!days", "seconds", Decimal(86400)),
    "dollars": Unit("float", "", "!USD", "dollars"),
    "percent": Unit("float", "%", "%", "ratio", Decimal("0.01")),
    "megabytes_per_minute": Unit(
        "int", "", "!MB/min", "bytes_per_second", Decimal(1_000_000) / Decimal(60)
    ),
}


def plain(value: Number) -> str:
    """A number as every system reads it: no exponent, no trailing zeros after a fraction.

    >>> plain(Decimal("0.0000251000")), plain(3.0), plain(12)
    ('0.0000251', '3', '12')
    """
    if isinstance(value, int):
        return str(int(value))
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    if not exact.is_finite():
        raise ValueError(f"{value} is not a number to print")
    text = f"{exact:f}"
    return (text.rstrip("0").rstrip(".") or "0") if "." in text else text
