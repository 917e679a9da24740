"""Fixtures of the client's tests: a clock that no test waits for, and a client on it."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer

from lm_openai.api.client import Client
from tests.support.http_api import Clock, client_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(httpserver: HTTPServer, clock: Clock) -> Client:
    return client_of(httpserver, clock)
