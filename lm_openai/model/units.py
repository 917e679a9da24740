"""Units with their spelling in each monitoring system, and the plain form of a number."""

from __future__ import annotations

from decimal import Decimal, DefaultContext, getcontext
from typing import NamedTuple

from lm_openai.errors import Failure

Number = int | float | Decimal
DIGITS = 100
"""Digits of decimal arithmetic. An amount has up to 79 and no sum may lose one; Python keeps 28."""
getcontext().prec = DefaultContext.prec = DIGITS
# The default context is that of every thread that starts later.


class Unit(NamedTuple):
    """One unit.

    `type` is "int" or "float"; it is fixed, since an Influx field cannot change its type. `uom` is
    the Nagios unit of measurement, empty for counts and dollars (`c` would mean counter). Zabbix
    shows a `zabbix` unit with a leading `!` as it is and adds K, M and G to any other.
    `prometheus` is the word for the base unit, and `factor` converts a value to it. `grafana` is
    the unit of a field in Grafana, `grafana_base` that of a field in the base unit.
    """

    type: str
    uom: str
    zabbix: str
    prometheus: str
    grafana: str
    factor: Decimal = Decimal(1)
    grafana_base: str = ""


UNITS = {
    "tokens": Unit("int", "", "tokens", "tokens", "count:tokens"),
    "requests": Unit("int", "", "req", "requests", "count:requests"),
    "images": Unit("int", "", "images", "images", "count:images"),
    "characters": Unit("int", "", "chars", "characters", "count:characters"),
    "sessions": Unit("int", "", "sessions", "sessions", "count:sessions"),
    "count": Unit("int", "", "", "", "short"),
    "boolean": Unit("int", "", "", "", "bool:yes/no"),
    "bytes": Unit("int", "B", "B", "bytes", "bytes"),
    "seconds": Unit("float", "s", "s", "seconds", "s"),
    "whole_seconds": Unit("int", "s", "s", "seconds", "s"),
    "minutes": Unit("int", "", "!min", "seconds", "m", Decimal(60), "s"),
    "days": Unit("float", "", "!days", "seconds", "d", Decimal(86400), "s"),
    "dollars": Unit("float", "", "!USD", "dollars", "currencyUSD"),
    "percent": Unit("float", "%", "%", "ratio", "percent", Decimal("0.01"), "percentunit"),
    "megabytes_per_minute": Unit(
        "int",
        "",
        "!MB/min",
        "bytes_per_second",
        "suffix:MB/min",
        Decimal(1_000_000) / Decimal(60),
        "Bps",
    ),
}


def plain(value: Number) -> str:
    """Return a number in the form that every system reads.

    It has no exponent and no trailing zeros in its fraction. Raises Failure for NaN and infinity,
    which are never printed.

    >>> plain(Decimal("0.0000251000")), plain(3.0), plain(12)
    ('0.0000251', '3', '12')
    """
    if isinstance(value, int):
        return str(int(value))
    exact = _exact(value)
    if not exact.is_finite():
        raise Failure(f"{value} is not a finite number: report this with the DataSource's name")
    text = f"{exact:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def in_base_units(value: Number, unit: Unit) -> Number:
    """Return a value in the base units of Prometheus, to 9 places: seconds, bytes, ratios of 1.

    >>> plain(in_base_units(97.5, UNITS["percent"]))
    '0.975'
    """
    return value if unit.factor == 1 else round(_exact(value) * unit.factor, 9)


def _exact(value: Number) -> Decimal:
    """Return the number as a Decimal.

    A float becomes the shortest decimal that reads back as the same float, not its binary
    expansion.
    """
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
