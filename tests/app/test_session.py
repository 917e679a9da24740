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
