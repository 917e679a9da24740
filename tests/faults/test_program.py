"""The bounded set of `./run faults`: each fault is survived, whatever the load of the machine."""

from __future__ import annotations

import pytest

from tests.conftest import missing
from tests.faults.program import BOUNDED_SCALE, tried
from tests.faults.rows import FAULTS
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

PATIENT = 60.0
"""Seconds by which a run may exceed its limit here: a busy machine is no fault."""


def test_each_fault_of_the_bounded_set_is_survived() -> None:
    results = [*tried([row for row in FAULTS if row.bounded], BOUNDED_SCALE, PATIENT)]

    assert len(results) > 15
    assert {one.fault.name: one.problem for one in results if one.problem} == {}
    untried = [one.untried for one in results if one.untried]
    if untried:
        missing(untried[0])


def test_each_fault_has_a_name_of_its_own() -> None:
    assert len({row.name for row in FAULTS}) == len(FAULTS)


def test_the_readme_states_the_number_of_faults() -> None:
    assert f"{len(FAULTS)} faults" in (ROOT / "README.md").read_text()
