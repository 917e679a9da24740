"""The vendor's example responses, read by the real scripts over HTTP; all numbers by hand.

Every example is one bucket of 2024-11-01 (UTC) without dimensions; the poll is at noon of that day.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from line_protocol_parser import parse_line
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.support.scripts import started

SOON = "2024-11-01T00:30:00Z"
MIDNIGHT = 1730419200
KEY = "sk-admin-oracle"

COMPLETIONS: dict[str, float] = {
    "input_tokens": 1000,
    "output_tokens": 500,
    "input_cached_tokens": 400,
    "input_cache_write_tokens": 100,
    "input_uncached_tokens": 500,
    "input_text_tokens": 400,
    "input_audio_tokens": 50,
    "input_image_tokens": 50,
    "input_cached_text_tokens": 300,
    "input_cached_audio_tokens": 50,
    "input_cached_image_tokens": 50,
    "output_text_tokens": 400,
    "output_audio_tokens": 50,
    "output_image_tokens": 50,
    "num_model_requests": 5,
    "total_tokens": 1500,  # 1000 + 500: the input includes its cached, audio and image parts
    "cached_percent": 40.0,  # 400 of 1000
}
IMAGES: dict[str, float] = {"images": 2, "num_model_requests": 2}
COST: dict[str, float] = {
    "amount": 0.06,
    "amount_month_to_date": 0.06,  # the 1st is the month so far
    "amount_yesterday": 0,  # before the first day of the only bucket
    "amount_last_month": 0,
    "budget": 100.0,  # the vendor's spend limit, 10,000 cents
    "budget_used_percent": 0.06,  # 0.06 of 100
}
# All usage is in one minute: completions 1,500 tokens and 5 requests, embeddings and moderations 16
# and 2 each, images 2 requests, speeches and transcriptions 1 each. No row has a limit for them.
USED: dict[str, float] = {
    "tpm_used": 1532,
    "rpm_used": 13,
    "ipm_used": 2,
    "rpd_used": 13,
    "batch_tpd_used": 0,
    "limit_known": 0,
    "peak_age_seconds": 1740,  # 00:30 - 00:01
}
ADA: dict[str, float] = {
    "rpm_limit": 600,
    "rpm_used": 0,
    "rpm_utilization": 0.0,
    "tpm_limit": 150000,
    "tpm_used": 0,
    "tpm_utilization": 0.0,
    "ipm_limit": 10,
    "ipm_used": 0,
    "ipm_utilization": 0.0,
    "rpd_used": 0,
    "batch_tpd_used": 0,
    "limit_known": 1,
}
EXPECTED: dict[str, dict[str, dict[str, float]]] = {
    "completion_by_model": {"none": COMPLETIONS},
    "images_by_model": {"none": IMAGES},
    "cost_by_organization": {"organization": COST},
    "rate_limits": {"none/none": USED, "proj_abc/ada": ADA},
}
TAGS = {
    "none": {"model": "none"},
    "organization": {},
    "none/none": {"project_id": "none", "model": "none"},
    "proj_abc/ada": {"project_id": "proj_abc", "model": "ada"},
}


@pytest.fixture(scope="module")
def vendor(oracle: Callable[[str], Any]) -> Iterator[str]:
    """Serve the examples as an API; yields its base URL."""
    responses = {
        entry["path"].replace("{project_id}", "proj_abc"): entry["answer"]
        for entry in oracle("examples.json")["examples"]
    }
    with HTTPServer(host="127.0.0.1") as server:
        anything = server.expect_request(re.compile(".*"))
        anything.respond_with_handler(lambda request: _respond(responses, request))
        yield server.url_for("/v1")


def _respond(responses: dict[str, Any], request: Request) -> Response:
    """Return the example response; the page after one with `has_more` is empty and the last."""
    found = responses.get(request.path.removeprefix("/v1"))
    if found is None:
        return Response('{"error": {"message": "unknown", "code": null}}', 404)
    if {"page", "after"} & request.args.keys():
        found = {**found, "data": [], "has_more": False, "next_page": None}
    if "/usage/" in request.path and found["data"]:
        found = {**found, "data": [*_before(request, found["data"][0]), *found["data"]]}
    return Response(json.dumps(found), content_type="application/json")


def _before(request: Request, first: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an empty bucket for the requested time before the example."""
    start, end = int(request.args["start_time"]), first["start_time"]
    if start < end:
        yield {"object": "bucket", "start_time": start, "end_time": end, "results": []}


def polled(folder: str, form: str, vendor: str, tmp_path: Path) -> str:
    """Return the output of the script for the examples."""
    options = ("--format", form, "--at", SOON, "--set", "openai.limits.unused=true")
    outcome = started(
        folder, options, tmp_path, {"OPENAI_ADMIN_KEY": KEY, "OPENAI_BASE_URL": vendor}
    )
    assert (outcome.status, outcome.stderr) == (0, "")
    return outcome.stdout


@pytest.mark.parametrize("folder", EXPECTED)
def test_the_examples_give_the_right_numbers_in_json(
    folder: str, vendor: str, tmp_path: Path
) -> None:
    document = json.loads(polled(folder, "json", vendor, tmp_path))

    found = {row["id"]: row["datapoints"] for row in document["instances"]}
    assert found == EXPECTED[folder]
    assert document["partial_failures"] == []


@pytest.mark.parametrize("folder", EXPECTED)
def test_the_examples_give_the_right_numbers_in_line_protocol(
    folder: str, vendor: str, tmp_path: Path
) -> None:
    lines = [parse_line(line) for line in polled(folder, "influx", vendor, tmp_path).splitlines()]

    for identifier, numbers in EXPECTED[folder].items():
        tags = {**TAGS[identifier], "organization": "default"}
        matching = [line for line in lines if line["tags"] == tags]
        assert {line["measurement"] for line in matching} == {f"openai_{folder}"}
        fields = {name: value for line in matching for name, value in line["fields"].items()}
        assert {name: fields.get(name) for name in numbers} == numbers
    assert len(lines) >= len(EXPECTED[folder])


@pytest.mark.parametrize("folder", ["completion_by_model", "images_by_model"])
def test_a_bucket_keeps_its_own_time_in_line_protocol(
    folder: str, vendor: str, tmp_path: Path
) -> None:
    lines = polled(folder, "influx", vendor, tmp_path).splitlines()

    assert [parse_line(line)["time"] for line in lines] == [MIDNIGHT * 10**9]
