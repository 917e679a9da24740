"""Clock of the machine: a poll whose numbers would be of another time fails, and says why."""

from __future__ import annotations

import io
import json
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from lm_openai.app import clock
from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.simulator import Fault, Simulator
from tests.support import scripts
from tests.support.demo_polls import WEDNESDAY
from tests.support.hostile import Hostile, response
from tests.support.replay import Outcome
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

HOUR = 3600
CURE = ", so every number would be of the wrong time: set it (timedatectl set-ntp true)\n"


def polled(
    url: str, folder: Path, now: int, form: str = "json", name: str = "organization", at: str = ""
) -> Outcome:
    """Poll at a machine whose clock shows `now`; `folder` holds its cache."""
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environment(url, folder), io.StringIO(), out, err, now)
    status = run(name, Options(format=form, at=at), around)
    return Outcome(out.getvalue(), err.getvalue(), status)


@pytest.mark.parametrize("form", ["json", "influx", "prometheus", "logicmonitor", "nagios"])
@pytest.mark.parametrize(("wrong", "words"), [(3, "ahead of"), (-3, "behind")])
def test_a_script_beside_an_api_three_hours_off_prints_the_cause_and_no_number(
    form: str, wrong: int, words: str, tmp_path: Path
) -> None:
    """The scripts run as processes with the real time; the API's clock is moved instead."""
    with Simulator(clock=lambda: time.time() - wrong * HOUR) as demo:
        environ = environment(demo.url, tmp_path)
        ran = scripts.started("rate_limits", ("--format", form), tmp_path, environ)

    reason = f"this machine's clock is 3 hours {words} the API's"
    if form == "nagios":
        assert ran.status == 3
        assert ran.stdout.startswith(f"OPENAI RATE LIMITS BY PROJECT UNKNOWN - {reason}")
        assert "|" not in ran.stdout
    else:
        assert (ran.status, ran.stdout, ran.stderr) == (1, "", reason + CURE)


@pytest.mark.parametrize(
    ("ahead", "difference"),
    [
        (clock.MOST_DIFFERENCE, ""),
        (-clock.MOST_DIFFERENCE, ""),
        (clock.MOST_DIFFERENCE + 1, "5 minutes ahead of"),
        (-clock.MOST_DIFFERENCE - 2, "5 minutes behind"),
        (40 * 86400, "40 days ahead of"),
        (-HOUR, "60 minutes behind"),
    ],
)
def test_five_minutes_are_accepted_and_more_are_named(
    ahead: int, difference: str, tmp_path: Path
) -> None:
    with Simulator(at=WEDNESDAY) as demo:
        outcome = polled(demo.url, tmp_path, WEDNESDAY + ahead)

    assert outcome.status == bool(difference)
    assert outcome.stderr == (
        f"this machine's clock is {difference} the API's{CURE}" if difference else ""
    )


def test_the_clock_is_the_cause_of_what_fails_because_of_it(tmp_path: Path) -> None:
    with Simulator(at=WEDNESDAY, faults=[Fault("400")]) as demo:
        outcome = polled(demo.url, tmp_path, WEDNESDAY + HOUR)

    assert "clock is 60 minutes ahead" in outcome.stderr


def test_with_a_simulated_time_nothing_is_compared(tmp_path: Path) -> None:
    with Simulator(at=WEDNESDAY) as demo:
        outcome = polled(demo.url, tmp_path, WEDNESDAY + HOUR, at=str(WEDNESDAY))

    assert (outcome.status, outcome.stderr) == (0, "")


def test_a_poll_that_reads_only_cached_responses_does_not_pass_meanwhile(tmp_path: Path) -> None:
    with Simulator(at=WEDNESDAY) as demo:
        first = polled(demo.url, tmp_path, WEDNESDAY + HOUR, name="api_keys_by_key")
        sent = len(demo.requests)
        second = polled(demo.url, tmp_path, WEDNESDAY + HOUR + 60, name="api_keys_by_key")
        cached = len(demo.requests) == sent
        corrected = polled(demo.url, tmp_path, WEDNESDAY, name="api_keys_by_key")

    assert cached
    assert first.stderr == second.stderr != ""
    assert (corrected.status, corrected.stderr) == (0, "")


@pytest.mark.parametrize(
    ("status", "headers", "wrong"),
    [
        ("200 OK", {"Date": 0}, False),
        ("200 OK", {"Date": -HOUR}, True),
        ("200 OK", {"Date": -HOUR, "Age": HOUR}, False),
        ("200 OK", {}, False),
        ("200 OK", {"Date": "yesterday"}, False),
        ("502 Bad Gateway", {"Date": -HOUR}, False),
    ],
)
def test_the_api_s_time_is_that_of_the_origin_and_not_of_a_gateway(
    status: str, headers: dict[str, int | str], wrong: bool, tmp_path: Path
) -> None:
    page: dict[str, Any] = {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }
    date = headers.get("Date")
    if isinstance(date, int):
        headers = {**headers, "Date": formatdate(WEDNESDAY + date, usegmt=True)}
    lines = [f"{name}: {value}" for name, value in headers.items()]
    with Hostile(lambda _: response(json.dumps(page).encode(), status, *lines)) as api:
        outcome = polled(api.url + "/v1", tmp_path, WEDNESDAY)

    assert ("clock" in outcome.stderr) == wrong


def test_the_date_of_a_shared_response_says_nothing_about_the_clock(tmp_path: Path) -> None:
    """Costs are shared for five minutes, and the second poll requests nothing else."""
    with Simulator(at=WEDNESDAY) as demo:
        polled(demo.url, tmp_path, WEDNESDAY + 200, name="cost_by_organization")
        second = polled(demo.url, tmp_path, WEDNESDAY + 490, name="cost_by_organization")

    assert second.stderr == ""
