"""Ages of growing minutes as `lm-openai age` reports them."""

from __future__ import annotations

import pytest

from lm_openai.api.client import Client
from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.api.transport import Connection, Transport
from lm_openai.errors import ApiFailure
from lm_openai.metrics.usage_lag import Age, Watch, grown
from lm_openai.simulator import ADMIN_KEY, Simulator

NOON = 1795003200


def test_ages_are_given_for_50_90_and_99_percent_of_the_count() -> None:
    minute = NOON + 60
    sightings = [(60, 0), (300, 50), (600, 90), (1200, 99), (1800, 100), (3000, 100)]

    age = grown("completions", {minute: sightings}, NOON, NOON + 7200)

    assert age == Age("completions", 1, {50: 300, 90: 600, 99: 1200}, False)
    assert age.grace == 20


def test_minutes_of_the_second_half_are_not_measured() -> None:
    early, late = NOON + 60, NOON + 3660
    seen = {early: [(60, 10), (3600, 10)], late: [(60, 0), (3000, 1000)]}

    age = grown("completions", seen, NOON, NOON + 7200)

    assert age is not None
    assert (age.minutes, age.ages[99]) == (1, 60)


def test_a_minute_that_still_grows_at_the_end_is_reported_as_growing() -> None:
    age = grown("images", {NOON + 60: [(60, 1), (7000, 5)]}, NOON, NOON + 7200)

    assert age is not None
    assert age.growing


def test_a_kind_without_use_has_no_age() -> None:
    assert grown("images", {NOON: [(60, 0), (600, 0)]}, NOON, NOON + 7200) is None


def test_the_lag_of_the_demo_organization_is_measured_by_kind() -> None:
    """Images arrive 40 minutes later than completions."""
    with Simulator(at=NOON, delays={"images": 3600}) as simulator:
        watched = Watch(lambda: client(simulator), lambda: int(simulator.now))
        watched.poll()
        while watched.watched() < 7200:
            simulator.now += 300
            watched.poll()
        ages = {age.kind: age for age in watched.ages()}

    assert ages["completions"].ages[50] < ages["completions"].ages[99]
    assert ages["images"].ages[50] > ages["completions"].ages[50]


def test_a_first_poll_without_any_usage_response_is_a_failure() -> None:
    with Simulator(at=NOON) as simulator:
        simulator.fault("500")
        impatient = Client(Transport(Connection(simulator.url, ADMIN_KEY)), deadline_seconds=0.2)

        with pytest.raises(ApiFailure):
            Watch(lambda: impatient, lambda: int(simulator.now)).poll()


def test_a_failed_poll_between_others_leaves_only_a_gap() -> None:
    with Simulator(at=NOON) as simulator:
        watched = Watch(lambda: client(simulator), lambda: int(simulator.now))
        watched.poll()
        simulator.fault("404", times=len(USAGE_KINDS))
        simulator.now += 60
        watched.poll()

        assert watched.watched() == 60


def client(simulator: Simulator) -> Client:
    return Client(Transport(Connection(simulator.url, ADMIN_KEY)))
