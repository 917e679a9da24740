"""Session: the client's share of the poll's time."""

from __future__ import annotations

import pytest

from lm_openai.app.session import connect
from lm_openai.config import properties
from lm_openai.errors import ApiFailure
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support.http_api import Clock


def test_requests_stop_after_three_quarters_of_the_timeout() -> None:
    """Of 40 s, 10 are kept for computing and printing."""
    with Simulator(at=1795005296) as demo:
        environ = {"OPENAI_ADMIN_KEY": ADMIN_KEY, "OPENAI_BASE_URL": demo.url}
        clock = Clock()
        client = connect(properties.load(environ, (), ("openai.timeout=40",)), clock=clock)
        clock.now += 29.9
        assert list(client.list("projects"))
        clock.now += 0.1
        with pytest.raises(ApiFailure, match="the poll ran out of time"):
            list(client.list("projects"))


@pytest.mark.parametrize(("spent", "kept"), [(0, 10), (10, 10), (14, 14), (20, 20), (35, 20)])
def test_time_is_kept_for_as_much_computing_as_the_responses_took(
    spent: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 40 s, a quarter at least and a half at most."""
    processor = Clock()
    monkeypatch.setattr("time.process_time", processor)
    with Simulator(at=1795005296) as demo:
        environ = {"OPENAI_ADMIN_KEY": ADMIN_KEY, "OPENAI_BASE_URL": demo.url}
        clock = Clock()
        client = connect(properties.load(environ, (), ("openai.timeout=40",)), clock=clock)
        processor.now += spent
        clock.now += 40 - kept - 0.1
        assert list(client.list("projects"))
        clock.now += 0.1
        with pytest.raises(ApiFailure, match="the poll ran out of time"):
            list(client.list("projects"))
