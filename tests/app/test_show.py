"""The commands `show` and `demo`: what is printed first, order, width, colors, failures."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from lm_openai import resources
from lm_openai.app import show
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.simulator import ADMIN_KEY, NO_USAGE_KEY, Simulator
from tests.support.paths import ROOT
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

AT = 1_795_005_296  # 2026-11-18 12:34:56 UTC
WORST = ["critical", "error", "unknown", "warning", "ok"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def organization() -> Iterator[Simulator]:
    with Simulator(at=AT) as simulator:
        yield simulator


Show = Callable[..., str]


@pytest.fixture
def shown(organization: Simulator, tmp_path: Path) -> Show:
    """Function that shows DataSources of the organization and returns the text."""

    def run(
        *folders: str,
        everything: bool = False,
        key: str = ADMIN_KEY,
        status: int = 0,
        out: io.StringIO | None = None,
        **environ: str,
    ) -> str:
        environ = {
            **environment(organization.url, tmp_path, key),
            "LM_OPENAI_ORG_NAME": "acme",
            **environ,
        }
        out = out or io.StringIO()
        err = io.StringIO()
        around = Surroundings(environ, io.StringIO(), out, err, AT)
        assert show.run(folders, Options(), around, everything) == status
        assert err.getvalue() == ""
        return out.getvalue()

    return run


def table(text: str, folder: str) -> list[str]:
    """Return the lines of one DataSource's table, from its title on."""
    part = text.partition(f"\n{folder}  OpenAI ")[2]
    return part.split("\n\n")[0].splitlines()


@pytest.mark.parametrize("columns", ["80", "100", "160"])
def test_the_first_40_lines_say_spending_drivers_limits_attention_and_what_to_do(
    columns: str, shown: Show
) -> None:
    first = "\n".join(shown(COLUMNS=columns).splitlines()[:40])

    assert re.search(r"\nSpending +\$[\d.,]+ today, \$[\d.,]+ yesterday, \$[\d.,]+", first)
    assert re.search(r"\nDriven by +Voice Assistant \$[\d.,]+ \([\d.]+ %\); ", first)
    assert re.search(r"\nNear its limit +Ana's sandbox / o3: blocked; ", first)
    assert "\n  critical  " in first
    assert "\nNext:\n" in first
    assert "--all" in first.partition("\nNext:\n")[2]


def test_every_datasource_has_a_table_with_its_folder(shown: Show) -> None:
    text = shown()

    assert [folder for folder in resources.folders() if not table(text, folder)] == []


def test_only_the_named_datasources_are_polled(shown: Show) -> None:
    text = shown("images_by_model")

    assert table(text, "images_by_model")
    assert len(re.findall(r"(?m)^\w+  OpenAI ", text)) == 1


def test_tables_and_rows_begin_with_the_worst_state(shown: Show) -> None:
    text = shown(everything=True, COLUMNS="200")
    states = [
        [line.split("  ")[-1].split(":")[0] for line in table(text, folder)[2:]]
        for folder in re.findall(r"(?m)^(\w+)  OpenAI ", text)
    ]
    order = [
        [WORST.index(state if state in WORST else "ok") for state in column] for column in states
    ]

    assert all(column == sorted(column) for column in order)
    heads = [column[0] for column in order if column]
    assert heads == sorted(heads)
    assert heads[0] == 0


def test_all_shows_every_row_and_every_row_that_needs_attention(shown: Show) -> None:
    some, every = shown("rate_limits"), shown("rate_limits", everything=True)
    count = int(re.findall(r"Project: (\d+) instances", every)[0])

    assert len(table(every, "rate_limits")) == count + 2
    assert table(some, "rate_limits")[-1] == f"  … and {count - 8} more"
    assert "more" not in every


@pytest.mark.parametrize("columns", [60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(columns: int, shown: Show) -> None:
    text = shown(COLUMNS=str(columns), everything=True)

    assert max(cell_len(line) for line in text.splitlines()) <= columns
    assert re.search(r"\d…", "\n".join(table(text, "cost_by_project"))) is None


def test_a_wider_terminal_shows_more_datapoints(shown: Show) -> None:
    narrow, wide = (
        table(shown("cost_by_project", COLUMNS=width), "cost_by_project")[1]
        for width in ("60", "160")
    )

    assert len(narrow.split()) < len(wide.split())


def test_a_blocked_limit_reads_blocked(shown: Show) -> None:
    text = shown("rate_limits", COLUMNS="160")

    assert "Near its limit  Ana's sandbox / o3: blocked; " in text
    assert re.search(r"  critical  Ana's sandbox / o3 +rate_limits: blocked, rpm_utiliz", text)
    assert table(text, "rate_limits")[2].endswith("  critical: blocked")


def test_colors_are_for_terminals_that_want_them(shown: Show) -> None:
    assert "\x1b[" not in shown("rate_limits")
    assert "\x1b[1;31mcritical" in shown("rate_limits", out=Terminal(), COLUMNS="90")
    for off in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b[" not in shown("rate_limits", out=Terminal(), COLUMNS="90", **off)


def test_what_could_not_be_read_is_named_and_the_status_is_1(shown: Show) -> None:
    text = shown("images_by_model", "organization", key=NO_USAGE_KEY, status=1)

    assert "  unknown: images_by_model was not polled: usage/images: " in text
    assert table(text, "organization")


def test_an_organization_without_trouble_needs_no_attention(shown: Show) -> None:
    assert "Needs attention: 0 instances\n\nNext:\n" in shown("images_by_model")


def test_the_demo_is_the_same_on_a_made_up_organization(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "lm_openai.start", "demo", "cost_by_organization"],
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert ran.stdout.startswith("A made-up organization, polled through its API just now.\n")
    assert "\nOrganization demo on 20" in ran.stdout
    assert table(ran.stdout, "cost_by_organization")
    assert "lm-openai doctor" in ran.stdout.partition("\nNext:\n")[2]


def test_nothing_but_the_tables_imports_rich() -> None:
    program = (
        "import sys, lm_openai.app.commands, lm_openai.app.show, lm_openai.app.runner; "
        "print('rich' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "False\n"
