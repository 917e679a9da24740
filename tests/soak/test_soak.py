"""The soak's scenario: an incident that an outage interrupts is one problem and one recovery."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.soak import reference, scenario
from tests.soak.polls import due, polled
from tests.soak.program import soaked
from tests.soak.scenario import Span

pytestmark = pytest.mark.slow

PART = Span.of("30 18:25", "30 21:30")


def test_an_incident_in_an_outage_and_the_outage_are_notified_once() -> None:
    found = reference.counted(soaked("reference", PART))

    assert found == scenario.expected(PART)
    assert len(found) == 2


def test_both_parts_hold_incidents_and_the_outage() -> None:
    assert len(scenario.expected(scenario.WHOLE)) == len(scenario.INCIDENTS) + 1
    assert len(scenario.expected(scenario.BOUNDED)) > 2


def test_every_job_is_polled_at_its_interval() -> None:
    moments = [moment for moment, job in due(PART) if job.definition.folder == scenario.LIMITS]

    assert {later - moment for moment, later in pairwise(moments)} == {300}
    assert {job.definition.folder for _, job in due(scenario.WHOLE)} == {
        job.definition.folder for job in polled()
    }
