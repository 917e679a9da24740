"""All DataSources in one run: the formats that allow it, its requests, and missing scopes."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from line_protocol_parser import parse_line
from prometheus_client.parser import text_string_to_metric_families

from lm_openai import resources
from lm_openai.app import run_many
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.collect import datasource
from lm_openai.output.registry import FORMATS
from lm_openai.simulator import (
    ADMIN_KEY,
    NO_AUDIT_KEY,
    NO_MANAGEMENT_KEY,
    NO_USAGE_KEY,
    Simulator,
)
from lm_openai.timespans import iso
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

AT = 1795005296  # 2026-11-18 12:34:56 UTC
FOLDERS = resources.folders()
BY_LISTS = {"api_keys_by_key", "organization", "rate_limits", "rate_limits_by_model"}


class Outcome(NamedTuple):
    status: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=AT, projects=6, models=16) as simulator:
        yield simulator


def collected(demo: Simulator, cache: Path, form: str, key: str = ADMIN_KEY) -> Outcome:
    """Run `collect all` in this process."""
    environ = {**environment(demo.url, cache, key), "LM_OPENAI_TIMEOUT": "100"}
    out, err = io.StringIO(), io.StringIO()
    options = Options(format=form, verbose=True)
    status = run_many.run(FOLDERS, options, Surroundings(environ, io.StringIO(), out, err, AT))
    return Outcome(status, out.getvalue(), err.getvalue())


def printed(outcome: Outcome) -> set[str]:
    """Return the folders in the JSON output, which has one document per line."""
    documents = [json.loads(line) for line in outcome.stdout.splitlines()]
    return {document["datasource"]["folder"] for document in documents}


def test_json_is_one_document_per_line_and_v_prints_the_request_count(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.clear()
    outcome = collected(demo, tmp_path, "json")

    assert (outcome.status, printed(outcome)) == (0, set(FOLDERS))
    assert outcome.stdout.count("\n") == len(FOLDERS)
    assert outcome.stderr.startswith(f"{len(demo.requests)} requests, 0 retries, 0 throttled")


def test_influx_prints_all_datasources_and_every_line_parses(
    demo: Simulator, tmp_path: Path
) -> None:
    outcome = collected(demo, tmp_path, "influx")

    lines = [parse_line(line) for line in outcome.stdout.splitlines()]
    assert outcome.status == 0
    printed_folders = {line["measurement"].removeprefix("openai_") for line in lines}
    without_series = {
        folder for folder in FOLDERS if not datasource.definition(folder).series_width
    }
    assert without_series < printed_folders <= set(FOLDERS)


def test_prometheus_prints_all_datasources_and_each_metric_header_once(
    demo: Simulator, tmp_path: Path
) -> None:
    outcome = collected(demo, tmp_path, "prometheus")

    families = [family.name for family in text_string_to_metric_families(outcome.stdout)]
    assert outcome.status == 0
    assert len(families) == len(set(families))
    assert outcome.stdout.count("openai_poll_success{") == len(FOLDERS)


def test_nagios_prints_the_worst_state_and_one_line_per_datasource(
    demo: Simulator, tmp_path: Path
) -> None:
    outcome = collected(demo, tmp_path, "nagios")

    first, *others, last = outcome.stdout.splitlines()
    assert outcome.status == 2
    assert first.startswith("OPENAI CRITICAL - ")
    assert last == f"Polled at {iso(AT)}."
    assert len(others) == len(FOLDERS)


@pytest.mark.parametrize("form", sorted(name for name, row in FORMATS.items() if not row.together))
def test_a_format_for_one_datasource_at_a_time_is_refused(
    demo: Simulator, tmp_path: Path, form: str
) -> None:
    outcome = collected(demo, tmp_path, form)

    assert outcome.status in (1, 2)
    assert f"{form} accepts only one DataSource" in outcome.stdout + outcome.stderr


@pytest.mark.parametrize(
    ("key", "scope", "lost"),
    [
        (NO_AUDIT_KEY, "api.audit_logs.read", {"audit_by_event_type"}),
        (NO_MANAGEMENT_KEY, "api.management.read", BY_LISTS),
    ],
)
def test_a_missing_scope_fails_only_the_datasources_that_need_it(
    demo: Simulator, tmp_path: Path, key: str, scope: str, lost: set[str]
) -> None:
    outcome = collected(demo, tmp_path, "json", key)

    assert outcome.status == 0
    assert set(FOLDERS) - printed(outcome) <= lost
    for folder in set(FOLDERS) - printed(outcome):
        title = datasource.definition(folder).title
        message = re.search(rf"^{title}: .*", outcome.stderr, re.MULTILINE)
        assert message, folder
        assert scope in message[0]


def test_without_the_usage_scope_no_usage_or_costs_are_printed(
    demo: Simulator, tmp_path: Path
) -> None:
    outcome = collected(demo, tmp_path, "prometheus", NO_USAGE_KEY)

    metrics = "".join(line for line in outcome.stdout.splitlines(True) if line[0] != "#")
    failed = set(re.findall(r'openai_poll_success\{datasource="(\w+)".* 0$', metrics, re.MULTILINE))
    assert outcome.status == 0
    assert {"completion_by_model", "cost_by_project", "usage_by_consumer"} <= failed
    assert not re.search(r"^openai_\w*(_tokens|_amount_dollars)\{", metrics, re.MULTILINE)
