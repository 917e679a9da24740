"""A broken threshold file of the site affects only the checks of the DataSource that it names."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_openai.app import run_many
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.simulator import Simulator
from tests.support.demo_polls import WEDNESDAY, document, polled
from tests.support.surroundings import environment

COSTS = "OpenAI_Cost_ByOrganization"
CHECKS = ("cost_by_organization", "organization")
NAMELESS = {
    "not JSON": '{"datasource": "OpenAI_Cost_ByOrganization", ',
    "an unknown DataSource": json.dumps({"datasource": "OpenAI_Cost_ByOrganisation"}),
    "no DataSource": json.dumps({"thresholds": []}),
}


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY, projects=4, models=6) as simulator:
        yield simulator


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / "thresholds.d" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def low(**limit: object) -> str:
    """Return a file that lowers a threshold of the organization's costs below every amount."""
    threshold = {"datapoint": "amount", "operator": ">", **limit}
    return json.dumps({"datasource": COSTS, "thresholds": [threshold]})


@pytest.mark.parametrize("kind", NAMELESS)
@pytest.mark.parametrize("folder", CHECKS)
def test_a_file_that_names_no_datasource_is_a_note_of_every_check(
    folder: str, kind: str, demo: Simulator, tmp_path: Path
) -> None:
    usual = polled(folder, demo, tmp_path, "nagios")
    path = write(tmp_path, "a.json", NAMELESS[kind])

    outcome = polled(folder, demo, tmp_path, "nagios")
    (note,) = [line for line in outcome.stdout.splitlines() if line.startswith("note: ")]

    assert outcome.status == usual.status < 3
    assert note.startswith(f"note: {path}: ")
    assert note.endswith(" has no effect on any threshold")
    (also,) = document(folder, demo, tmp_path)["notes"]
    assert note == f"note: {also}".replace(";", ",")


@pytest.mark.parametrize("kind", NAMELESS)
def test_good_files_beside_a_broken_one_stay_in_force(
    kind: str, demo: Simulator, tmp_path: Path
) -> None:
    write(tmp_path, "a.json", NAMELESS[kind])
    write(tmp_path, "b.json", low(critical=0))

    outcome = polled("cost_by_organization", demo, tmp_path, "nagios")

    assert outcome.status == 2
    assert "(critical over 0)" in outcome.stdout


def test_a_broken_entry_stops_only_the_check_that_it_names(demo: Simulator, tmp_path: Path) -> None:
    path = write(tmp_path, "a.json", low(critical="80%"))

    named, other = (polled(folder, demo, tmp_path, "nagios") for folder in CHECKS)

    assert named.status == 3
    assert f'{path}: thresholds[0].critical: "80%" is not a number' in named.stdout
    assert other.status == 0
    assert "note: " not in other.stdout


def test_of_several_datasources_only_the_named_one_has_no_report(
    demo: Simulator, tmp_path: Path
) -> None:
    write(tmp_path, "a.json", low(critical="80%"))
    environ = environment(demo.url, tmp_path)
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environ, io.StringIO(), out, err, WEDNESDAY)

    status = run_many.run(CHECKS, Options(format="json"), around)

    assert status == 0
    assert json.loads(out.getvalue())["datasource"]["name"] == "OpenAI_Organization"
    assert "OpenAI Cost By Organization: " in err.getvalue()
    assert '"80%" is not a number' in err.getvalue()


@pytest.mark.parametrize("folder", ["usage_by_consumer", "cost_by_project"])
def test_an_override_by_a_name_that_could_not_be_read_leaves_its_datapoint_unknown(
    folder: str, demo: Simulator, tmp_path: Path
) -> None:
    datapoint = "tokens" if folder == "usage_by_consumer" else "amount_yesterday"
    override = {"match": {"project": "Data Plat*"}, "datapoint": datapoint, "operator": ">"}
    site = json.dumps({"datasource": folder, "overrides": [{**override, "critical": 1}]})
    for cache in (tmp_path / "1", tmp_path / "2"):
        cache.mkdir()
        write(cache, "a.json", site)

    usual = polled(folder, demo, tmp_path / "1", "nagios")
    demo.fault("scope", "*/organization/projects")
    part = polled(folder, demo, tmp_path / "2", "nagios")
    demo.clear()

    assert usual.status == 2
    assert part.status == 3
