"""Contract of every DataSource in modules/; a new folder needs no new test."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from lm_openai import resources
from lm_openai.collect import datasource
from lm_openai.model.definition import Definition
from tests.support import arithmetic, replay
from tests.support.paths import ROOT
from tests.support.replay import Record

FOLDERS = resources.folders()


@pytest.fixture(params=FOLDERS)
def source(request: pytest.FixtureRequest) -> Definition:
    """Return each DataSource in turn."""
    return datasource.definition(request.param)


@pytest.fixture
def document(source: Definition, tmp_path: Path) -> dict[str, Any]:
    """Return the JSON report of the recorded poll, with exact numbers."""
    outcome = replay.replayed(source.folder, tmp_path)
    assert outcome.status == 0, outcome.stderr
    found: dict[str, Any] = exact(outcome.stdout)
    return found


def test_every_folder_in_modules_is_a_datasource() -> None:
    folders = {path.name for path in (ROOT / "modules").iterdir() if path.is_dir()}

    assert folders - {"__pycache__"} == set(FOLDERS)


def test_every_declared_datapoint_occurs_or_is_listed_in_absent_json(
    source: Definition, document: dict[str, Any]
) -> None:
    """`testdata/absent.json` lists the datapoints that the record cannot show, with the reason."""
    absent = absences(source.folder)
    occurring = {name for row in document["instances"] for name in row["datapoints"]}
    declared = {datapoint.name for datapoint in source.datapoints}

    assert declared - occurring == set(absent)


def test_the_numbers_equal_plain_arithmetic_over_the_responses(
    source: Definition, document: dict[str, Any]
) -> None:
    printed = {row["id"]: row["datapoints"] for row in document["instances"]}
    calculated = expected(source)

    assert printed.keys() == calculated.keys()
    for identifier, numbers in calculated.items():
        shown = {name: printed[identifier].get(name) for name in numbers}
        assert shown == numbers, identifier


def test_the_report_follows_its_schema(document: dict[str, Any]) -> None:
    plain = json.loads(json.dumps(document, default=float))

    jsonschema.Draft202012Validator(resources.schema("report")).validate(plain)


@pytest.mark.parametrize(("form", "discover"), list(replay.outputs()))
def test_each_format_prints_the_expected_output(
    source: Definition, form: str, discover: bool, tmp_path: Path
) -> None:
    outcome = replay.replayed(source.folder, tmp_path, form, discover)

    assert outcome.stdout == replay.expected(source.folder, form, discover).read_text()


def test_generated_files_are_current() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "packaging" / "generate.py", "--check"],
        capture_output=True,
        text=True,
    )

    assert (ran.returncode, ran.stderr) == (0, "")


def expected(source: Definition) -> dict[str, dict[str, Decimal]]:
    """Return the expected numbers: arithmetic for a usage kind, else `testdata/expected.json`."""
    module = import_module(f"lm_openai.modules.{source.folder}.{source.folder}")
    kind = getattr(module, "KIND", None)
    by_hand = replay.testdata(source.folder) / "expected.json"
    if kind is not None and not by_hand.exists():
        sums = arithmetic.usage(Record.of(source.folder), kind, list(source.dimensions))
        names = {datapoint.name for datapoint in source.datapoints}
        return {
            identifier: {name: value for name, value in numbers.items() if name in names}
            for identifier, numbers in sums.items()
        }
    found: dict[str, dict[str, Decimal]] = exact(by_hand.read_text())
    if source.folder == "collection_health":
        found["organization"] |= arithmetic.probes(Record.of(source.folder))
    return found


def exact(text: str) -> Any:
    """Parse JSON with exact numbers."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def absences(folder: str) -> dict[str, str]:
    """Return the datapoints that the record cannot show, with the reason."""
    path = replay.testdata(folder) / "absent.json"
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return found
