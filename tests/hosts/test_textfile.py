"""The node exporter's textfile collector reads the files of several groupings, and a failure."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.hosts.conftest import NodeExporter
from tests.support.promtool import lint
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

AT = 1795005296  # 2026-11-18 12:34:56 UTC
FILES = [
    ("usage_by_consumer", ""),
    ("usage_by_consumer", "project_id"),
    ("usage_by_consumer", "model"),
    ("usage_by_consumer", "project_id,model"),
    ("usage_by_consumer", "model,project_id"),
    ("usage_by_consumer", "organization"),
    ("cost_by_project", ""),
    ("cost_by_project", "line_item"),
]
"""DataSource and openai.group.by; the first two are one grouping, so only one has a file."""
OWN = FILES[1]
Series = dict[str, float]


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=AT, projects=3, models=8) as simulator:
        yield simulator


def poll(
    file: tuple[str, str], demo: Simulator, exporter: NodeExporter, home: Path, key: str = ADMIN_KEY
) -> tuple[int, str]:
    """Poll with --output, like cron; return the exit status and the file's text."""
    folder, grouping = file
    sets = ["openai.org.name=acme", "openai.top=1", "openai.timeout=100"]
    sets += [f"openai.group.by={grouping}"] if grouping else []
    target = exporter.folder / f"{folder}-{grouping.replace(',', '-')}.prom"
    options = Options(format="prometheus", sets=tuple(sets), output=str(target))
    around = Surroundings(
        environment(demo.url, home / "cache", key), io.StringIO(), io.StringIO(), io.StringIO(), AT
    )
    return run(folder, options, around), target.read_text()


def series(text: str) -> Series:
    """Return the values by series in a file."""
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def success(scraped: Series) -> Series:
    """Return the values of openai_poll_success by its labels."""
    start = "openai_poll_success{"
    return {key.removeprefix(start): scraped[key] for key in scraped if key.startswith(start)}


def test_files_of_several_groupings_do_not_collide_and_a_failed_poll_replaces_its_own(
    demo: Simulator, node_exporter: NodeExporter, tool: Callable[[str], str], tmp_path: Path
) -> None:
    texts = {file: poll(file, demo, node_exporter, tmp_path)[1] for file in FILES if file != OWN}
    scraped = node_exporter.scrape()
    number = sum(len(series(text)) for text in texts.values())

    assert scraped["node_textfile_scrape_error"] == 0
    assert len(node_exporter.files()) == len(texts)
    assert len([key for key in scraped if key.startswith("openai_")]) == number
    polls = [
        f'datasource="usage_by_consumer",{grouping}organization="acme"}}'
        for grouping in (
            "",
            'grouping="model",',
            'grouping="project_id,model",',
            'grouping="model,project_id",',
            'grouping="organization",',
        )
    ]
    polls += [
        f'datasource="cost_by_project",{grouping}organization="acme"}}'
        for grouping in ("", 'grouping="line_item",')
    ]
    assert success(scraped) == dict.fromkeys(polls, 1)

    status, text = poll(FILES[2], demo, node_exporter, tmp_path, key="sk-admin-revoked")
    scraped = node_exporter.scrape()
    assert status == 1
    assert scraped["node_textfile_scrape_error"] == 0
    assert success(scraped) == {**dict.fromkeys(polls, 1), polls[1]: 0}
    assert not [key for key in scraped if 'model="' in key and "project" not in key]
    for written in (*texts.values(), text):
        lint(tool, written)


def test_the_own_grouping_in_a_property_changes_no_series(
    demo: Simulator, node_exporter: NodeExporter, tmp_path: Path
) -> None:
    default, named = (poll(file, demo, node_exporter, tmp_path)[1] for file in (FILES[0], OWN))

    assert named == default
    assert "grouping" not in default
