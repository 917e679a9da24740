"""Late usage is corrected in a store that overwrites points with equal timestamps."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.hosts.conftest import Influx
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

MIDNIGHT = 1794960000  # 2026-11-18 00:00 UTC
DAY, POLL_EVERY, HORIZON = 86400, 300, 3 * 3600
Minutes = dict[tuple[str, int], int]


def test_a_day_of_polls_stores_the_final_numbers_and_no_minute_twice(
    influx: Influx, tmp_path: Path
) -> None:
    with Simulator(at=MIDNIGHT, projects=4, models=6, epoch=MIDNIGHT) as simulator:
        polled(simulator, influx, tmp_path, "openai.org.name=rereading")
        last = int(simulator.now)
        expected = final(simulator, last)
    settled = range(MIDNIGHT, last - HORIZON, 60)
    stored = minutes(influx, "rereading")

    assert sum(expected.values()) > 0
    assert {key: count for key, count in stored.items() if key[1] in settled} == {
        key: count for key, count in expected.items() if key[1] in settled
    }


def test_without_re_reading_the_same_day_lacks_most_of_its_usage(
    influx: Influx, tmp_path: Path
) -> None:
    """The test above would fail if the series were read only once."""
    with Simulator(at=MIDNIGHT, projects=4, models=6, epoch=MIDNIGHT) as simulator:
        polled(simulator, influx, tmp_path, "openai.org.name=once", "openai.lookback=5m")
        expected = final(simulator, int(simulator.now))

    assert sum(minutes(influx, "once").values()) < sum(expected.values()) // 2


def test_the_lookback_property_sets_the_start_of_one_request(tmp_path: Path) -> None:
    with Simulator(at=MIDNIGHT + 7200) as simulator:
        poll(simulator, tmp_path, "openai.lookback=6h")
        requests = [
            request for request in simulator.requests if request.query["bucket_width"] == ["1m"]
        ]

    assert len(requests) == 1
    assert int(requests[0].query["start_time"][0]) == MIDNIGHT + 7200 - 6 * 3600


def polled(simulator: Simulator, influx: Influx, cache: Path, *sets: str) -> None:
    """Poll every five simulated minutes for a day and store every line."""
    for moment in range(MIDNIGHT + POLL_EVERY, MIDNIGHT + DAY + 1, POLL_EVERY):
        simulator.now = moment + 17
        influx.write(poll(simulator, cache, *sets))


def poll(simulator: Simulator, cache: Path, *sets: str) -> str:
    """Return the line protocol of one poll."""
    environ = environment(simulator.url, cache)
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environ, io.StringIO(), out, err, int(simulator.now))
    status = run("completion_by_model", Options(format="influx", sets=sets), around)
    assert (status, err.getvalue()) == (0, "")
    return out.getvalue()


def minutes(influx: Influx, organization: str) -> Minutes:
    """Return stored tokens by (model, minute); the store keeps one point per time and series."""
    found: Minutes = {}
    where = f"organization = '{organization}' AND time >= {MIDNIGHT}s"
    for series in influx.query(
        f"SELECT total_tokens FROM openai_completion_by_model WHERE {where} GROUP BY model"
    ):
        for nanoseconds, tokens in series["values"]:
            key = (series["tags"]["model"], nanoseconds // 10**9)
            assert key not in found
            found[key] = tokens
    return found


def final(simulator: Simulator, last: int) -> Minutes:
    """Return tokens by (model, minute) that the API reports two days later."""
    from lm_openai.api.client import Client
    from lm_openai.api.transport import Connection, Transport

    simulator.now = last + 2 * DAY
    client = Client(Transport(Connection(simulator.url, ADMIN_KEY)))
    return {
        (row["model"], bucket.start): row["input_tokens"] + row["output_tokens"]
        for bucket in client.usage("completions", MIDNIGHT, last, "1m", group_by=["model"])
        for row in bucket.results
    }
