"""Shipped commands for Telegraf: fresh processes without an environment, output in InfluxDB."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_openai.hosts.jobs import COLLECTOR_SECONDS, PROPERTIES, SCRIPTS, jobs
from lm_openai.model.definition import Definition
from lm_openai.simulator import ADMIN_KEY, Simulator
from lm_openai.timespans import duration, moment
from tests.hosts.conftest import Influx
from tests.support.demo_polls import VARYING, WEDNESDAY, document
from tests.support.paths import ROOT
from tests.support.replay import Outcome

pytestmark = pytest.mark.slow

SHIPPED = ROOT / "packaging/telegraf"
Values = dict[tuple[frozenset[tuple[str, str]], int, str], float]


def inputs(name: str) -> dict[str, list[dict[str, Any]]]:
    """Return the inputs of a shipped file."""
    tomllib = pytest.importorskip("tomllib", reason="tomllib comes with Python 3.11")
    found: dict[str, list[dict[str, Any]]] = tomllib.loads((SHIPPED / name).read_text())["inputs"]
    return found


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    """Start a demo organization in which every DataSource has instances."""
    with Simulator(at=WEDNESDAY, projects=11, models=24) as simulator:
        yield simulator


def properties(demo: Simulator, folder: Path, organization: str, key: str = ADMIN_KEY) -> Path:
    """Write the file of host properties, with a cache folder of the test's own."""
    path = folder / "properties"
    path.write_text(
        f"openai.admin.key={key}\nopenai.org.name={organization}\nopenai.api.url={demo.url}\n"
        f"openai.cache.dir={folder / 'cache'}\n"
    )
    path.chmod(0o600)
    return path


def started(words: list[str], given: Path, stdin: str = "") -> Outcome:
    """Run a shipped command as Telegraf does: without an environment, in the root folder."""
    words = [word.replace(PROPERTIES, str(given)) for word in words]
    ran = subprocess.run(
        [sys.executable, *words], input=stdin, capture_output=True, text=True, env={}, cwd="/",
        timeout=COLLECTOR_SECONDS,
    )  # fmt: skip
    return Outcome(ran.stdout, ran.stderr, ran.returncode)


def script(command: str) -> list[str]:
    """Return the words of an input's command, with the script of this checkout."""
    path, *words = shlex.split(command)
    assert os.path.dirname(path) == SCRIPTS
    folder = Path(path).stem
    return [str(ROOT / "modules" / folder / f"{folder}.py"), *words]


def test_each_datasource_has_an_input_that_outlives_its_poll() -> None:
    found = inputs("lm-openai.conf")["exec"]
    assert [one["commands"][0].split()[0] for one in found] == [job.script for job in jobs()]
    for one, job in zip(found, jobs()):
        assert duration(one["interval"]) == job.interval
        assert duration(one["collection_offset"]) == job.offset
        assert duration(one["timeout"]) > COLLECTOR_SECONDS
        assert one["data_format"] == "influx"


def test_influx_stores_every_value_of_every_datasource(
    demo: Simulator, influx: Influx, tmp_path: Path
) -> None:
    given = properties(demo, tmp_path, "telegraf")
    for one, job in zip(inputs("lm-openai.conf")["exec"], jobs()):
        ran = started([*script(one["commands"][0]), "--at", str(WEDNESDAY)], given)
        assert (ran.status, ran.stderr) == (0, "")
        influx.write(ran.stdout)
        own = document(job.definition.folder, demo, tmp_path, series=True)
        expected = {
            key: value
            for key, value in values(job.definition, own).items()
            if key[2] not in VARYING
        }
        assert expected, job.definition.folder
        found = stored(influx, job.definition, "telegraf")
        assert {key: found.get(key) for key in expected} == expected


def values(definition: Definition, own: dict[str, Any]) -> Values:
    """Return the expected values: of a series at its buckets, all others at the poll's time."""
    rows = own["instances"]
    dimensions = {row["wildvalue"]: frozenset(row["dimensions"].items()) for row in rows}
    bucketed = {one.name for one in definition.datapoints if one.fold or one.derived}
    found: Values = {}
    for row in rows:
        for name, value in row["datapoints"].items():
            if "series" not in own or definition.series_width is None or name not in bucketed:
                found[dimensions[row["wildvalue"]], own["unix_time"], name] = value
    for sample in own.get("series", ()):
        for name, value in sample["datapoints"].items():
            if name in bucketed and sample["wildvalue"] in dimensions:
                found[dimensions[sample["wildvalue"]], moment(sample["start"]), name] = value
    return found


def stored(influx: Influx, definition: Definition, organization: str) -> Values:
    """Return what InfluxDB holds, by dimensions, seconds and field."""
    measurement = f"openai_{definition.folder}"
    text = f"SELECT * FROM {measurement} WHERE organization = '{organization}' GROUP BY *"
    found: Values = {}
    for series in influx.query(text):
        tags = {key: tag for key, tag in series["tags"].items() if tag and key != "organization"}
        for row in series["values"]:
            for name, value in zip(series["columns"][1:], row[1:]):
                if value is not None:
                    found[frozenset(tags.items()), row[0] // 10**9, name] = value
    return found


def test_a_failed_poll_prints_nothing_and_ends_with_an_error(
    demo: Simulator, tmp_path: Path
) -> None:
    given = properties(demo, tmp_path, "failed", key="sk-admin-revoked")
    command = inputs("lm-openai.conf")["exec"][0]["commands"][0]
    ran = started([*script(command), "--at", str(WEDNESDAY)], given)
    assert (ran.status, ran.stdout) == (1, "")
    assert "revoked" in ran.stderr


def test_the_resident_process_prints_a_poll_of_everything_for_each_line(
    influx: Influx, tmp_path: Path
) -> None:
    (one,) = inputs("lm-openai-execd.toml")["execd"]
    assert (one["signal"], one["data_format"]) == ("STDIN", "influx")
    program, *words = one["command"]
    assert program == "/usr/bin/lm-openai"
    with Simulator(projects=3, models=4) as demo:
        given = properties(demo, tmp_path, "execd")
        entry = ["-c", "from lm_openai.start import suite; suite()", *words]
        found = subprocess.run(
            [sys.executable, *(word.replace(PROPERTIES, str(given)) for word in entry)],
            input="\n", capture_output=True, text=True, env={}, cwd=ROOT, timeout=60,
        )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
    influx.write(found.stdout)
    for folder in ("rate_limits", "completion_by_model", "cost_by_project", "collection_health"):
        query = f"SELECT * FROM openai_{folder} WHERE organization = 'execd'"
        assert influx.query(query), folder
