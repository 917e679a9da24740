"""Every DataSource in modules/ keeps the same contract: a new one is a new folder, no new test."""

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
    """Each DataSource in turn."""
    return datasource.definition(request.param)


@pytest.fixture
def document(source: Definition, tmp_path: Path) -> dict[str, Any]:
    """What the DataSource prints as JSON of its record, numbers exact."""
    outcome = replay.replayed(source.folder, tmp_path)
    assert outcome.status == 0, outcome.stderr
    found: dict[str, Any] = exact(outcome.stdout)
    return found


def test_every_folder_in_modules_is_a_datasource() -> None:
    folders = {path.name for path in (ROOT / "modules").iterdir() if path.is_dir()}

    assert folders - {"__pycache__"} == set(FOLDERS)


def test_every_declared_datapoint_occurs_or_is_excused(
    source: Definition, document: dict[str, Any]
) -> None:
    """`testdata/absent.json` names, with its reason, what the record does not show."""
    excused = excuses(source.folder)
    occurring = {name for row in document["instances"] for name in row["datapoints"]}
    declared = {datapoint.name for datapoint in source.datapoints}

    assert declared - occurring == set(excused)


def test_the_numbers_equal_plain_arithmetic_over_the_answers(
    source: Definition, document: dict[str, Any]
) -> None:
    printed = {row["id"]: row["datapoints"] for row in document["instances"]}
    wanted = expected(source)

    assert printed.keys() == wanted.keys()
    for identifier, numbers in wanted.items():
        shown = {name: printed[identifier].get(name) for name in numbers}
        assert shown == numbers, identifier


def test_the_document_keeps_the_report_schema(document: dict[str, Any]) -> None:
    plain = json.loads(json.dumps(document, default=float))

    jsonschema.Draft202012Validator(resources.schema("report")).validate(plain)


@pytest.mark.parametrize(("form", "discover"), list(replay.outputs()))
def test_each_format_prints_what_was_agreed(
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
    """By arithmetic for a usage kind, else `testdata/expected.json`, worked out by hand."""
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
    return found


def exact(text: str) -> Any:
    """A JSON document whose numbers are exact."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def excuses(folder: str) -> dict[str, str]:
    """What the record cannot show, and why."""
    path = replay.testdata(folder) / "absent.json"
    found: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    return found
