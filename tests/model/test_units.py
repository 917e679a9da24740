"""Units and their spelling per system, and numbers that every system reads."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given

from lm_openai.errors import Failure
from lm_openai.model.units import UNITS, in_base_units, plain
from tests.support.samples import FLOATS, MONEY, WHOLE


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        (Decimal("0.0000251000"), "0.0000251"),
        (2.51e-05, "0.0000251"),
        (Decimal("1E+3"), "1000"),
        (1e22, "10000000000000000000000"),
        (3.0, "3"),
        (-0.0, "0"),
        (Decimal("-0.000"), "0"),
        (Decimal("0E-8"), "0"),
        (100, "100"),
        (Decimal("100"), "100"),
        (True, "1"),
        (Decimal("-12.50"), "-12.5"),
    ],
)
def test_a_number_is_printed_without_exponent_and_trailing_zeros(value, printed):
    assert plain(value) == printed


@pytest.mark.parametrize(
    "value", [float("nan"), float("-inf"), Decimal("NaN"), Decimal("Infinity")]
)
def test_nan_and_infinity_are_refused(value):
    with pytest.raises(Failure, match="not a finite number"):
        plain(value)


@given(FLOATS)
def test_a_float_reads_back_as_itself(value):
    assert float(plain(value)) == value


@given(MONEY | WHOLE)
def test_money_and_counts_read_back_exactly(value):
    assert Decimal(plain(value)) == value


@given(FLOATS | MONEY | WHOLE)
def test_no_number_has_an_exponent(value):
    assert set(plain(value)) <= set("-.0123456789")


def test_conversion_to_base_units_is_exact():
    assert in_base_units(97.1, UNITS["percent"]) == Decimal("0.971")
    assert in_base_units(15, UNITS["minutes"]) == 900
    assert in_base_units(1.5, UNITS["days"]) == 129600
    assert in_base_units(7, UNITS["tokens"]) == 7


def test_megabytes_per_minute_become_bytes_per_second():
    assert round(in_base_units(60, UNITS["megabytes_per_minute"])) == 1_000_000


def test_no_unit_uses_the_nagios_uom_for_counters():
    assert {unit.uom for unit in UNITS.values()} == {"", "s", "B", "%"}


def test_every_unit_has_a_type_that_influx_supports():
    assert {unit.type for unit in UNITS.values()} == {"int", "float"}
