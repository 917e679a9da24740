"""--part: a large organization spread over several Zabbix master items."""

from __future__ import annotations

import io
import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.model import part
from tests.support.replay import Outcome, Record, answering
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

FOLDER = "rate_limits"


def polled(tmp_path: Path, **options: Any) -> Outcome:
    record = Record.of(FOLDER)
    sets = tuple(f"{name}={value}" for name, value in record.properties.items())
    out, err = io.StringIO(), io.StringIO()
    with answering(record) as url:
        environ = environment(url, tmp_path, "sk-admin-recorded")
        around = Surroundings(environ, io.StringIO(), out, err, record.at)
        status = run(FOLDER, Options(**{"format": "zabbix", "sets": sets, **options}), around)
    return Outcome(out.getvalue(), err.getvalue(), status)


def test_the_parts_hold_every_instance_once_in_discovery_and_collection(tmp_path: Path) -> None:
    whole = json.loads(polled(tmp_path).stdout)
    parts = ("1/3", "2/3", "3/3")
    values: dict[str, Any] = {}
    for name in parts:
        document = json.loads(polled(tmp_path, part=name).stdout)
        rows = json.loads(polled(tmp_path, part=name, discover=True).stdout)

        assert {row["{#WILDVALUE}"] for row in rows} == document["values"].keys()
        assert not document["values"].keys() & values.keys()
        assert 0 < len(document["values"]) < len(whole["values"])
        values |= document["values"]

    assert values == whole["values"]


def test_one_part_of_one_is_everything(tmp_path: Path) -> None:
    assert polled(tmp_path, part="1/1") == polled(tmp_path)


def test_the_part_of_an_instance_depends_on_its_wildvalue_alone() -> None:
    """A change of this rule would move items between the masters of every site."""
    for wildvalue in ("gpt-4o", "proj_1-gpt-4o-00ff00"):
        digest = int(blake2b(wildvalue.encode(), digest_size=8).hexdigest(), 16)
        holding = [number for number in range(1, 6) if part.Part(number, 5).holds(wildvalue)]

        assert holding == [digest % 5 + 1]


def test_parts_are_about_equal() -> None:
    wildvalues = [f"proj_{number}-gpt-4o" for number in range(3000)]
    for number in (1, 2, 3):
        held = [name for name in wildvalues if part.Part(number, 3).holds(name)]
        assert 900 < len(held) < 1100


@pytest.mark.parametrize(
    "text", ["", "2", "0/2", "3/2", "1/0", "1/1000", "-1/2", "1/2/3", "\uff11/2"]
)
def test_a_wrong_part_is_refused(text: str, tmp_path: Path) -> None:
    sentence = f"--part {text!r}: give number and total, such as 1/3, 2/3 or 3/3\n"

    assert polled(tmp_path, part=text) == Outcome(sentence, "", 2)


def test_other_formats_refuse_a_part(tmp_path: Path) -> None:
    assert polled(tmp_path, part="1/2", format="influx") == Outcome(
        "", "--part works with zabbix, not influx\n", 2
    )
