"""Pipeline of one poll: undeclared datapoints are refused, declared ones keep their order."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from pytest_httpserver import HTTPServer

from lm_openai.collect import pipeline
from lm_openai.collect.datasource import DataSource
from lm_openai.collect.poll import Poll
from lm_openai.config import properties
from lm_openai.errors import Failure
from lm_openai.model.report import Instance, Report, Sample
from lm_openai.model.thresholds import Rules
from lm_openai.storage.cache import Cache
from tests.support.http_api import KEY, Clock, client_of
from tests.support.samples import NOON, definition, instance


def report(server: HTTPServer, *samples: Sample) -> Report:
    """Poll a DataSource that yields these samples."""

    def discover(poll: Poll) -> Iterable[Instance]:
        return {sample.instance.id: sample.instance for sample in samples}.values()

    def collect(poll: Poll, instances: Iterable[Instance]) -> Iterable[Sample]:
        return samples

    source = DataSource(definition(), discover, collect)
    settings = properties.load({"OPENAI_ADMIN_KEY": KEY})
    client, cache = client_of(server, Clock()), Cache(None, "", lambda: NOON)
    return pipeline.poll(
        source, settings, NOON, client, cache, Rules(source.definition.name, {})
    ).report()


def test_a_datapoint_that_the_definition_lacks_is_an_error(httpserver: HTTPServer) -> None:
    sample = Sample(instance("gpt-4o"), {"input_tokens": 1, "output_token": 2})

    with pytest.raises(Failure, match=r"yields output_token, which completion_by_model\.json"):
        report(httpserver, sample)


def test_declared_datapoints_appear_in_the_order_of_the_definition(httpserver: HTTPServer) -> None:
    model = instance("gpt-4o")
    found = report(
        httpserver,
        Sample(model, {"num_model_requests": 2, "input_tokens": 1}, NOON - 60),
        Sample(model, {"num_model_requests": 3, "input_tokens": 4}, NOON),
    )

    (row,) = found.rows
    values = [(reading.datapoint, reading.value) for reading in row.readings]
    assert values == [("input_tokens", 5), ("num_model_requests", 5)]
