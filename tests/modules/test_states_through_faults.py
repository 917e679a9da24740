"""No state improves because less is known: each endpoint of each DataSource fails in turn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_openai import resources
from lm_openai.collect import datasource
from lm_openai.config import threshold_files
from lm_openai.model.report import STATES
from lm_openai.simulator import Simulator
from lm_openai.timespans import DAY
from tests.support import demo_polls, replay
from tests.support.demo_polls import WEDNESDAY
from tests.support.replay import Record

# A state depends on no version of a package, and the file needs minutes on two cores.
pytestmark = pytest.mark.slow

HISTORY = ("rate_limits", "rate_limits_by_model")
"""DataSources whose instances may have used a kind that failed before any poll read it."""
NAGIOS = {"ok": 0, "warning": 1, "unknown": 3, "error": 2, "critical": 2}


def faults() -> Iterator[tuple[str, str]]:
    """Yield (folder, path) for each endpoint of each DataSource that has thresholds."""
    for folder in resources.folders():
        rules = threshold_files.load(datasource.definition(folder))
        if rules.thresholds or rules.overrides:
            for path in sorted({known.path for known in Record.of(folder).answers}):
                yield folder, path


def document(folder: str, cache: Path, failing: str = "") -> dict[str, Any] | None:
    """Return the report as JSON, None if the poll failed as a whole."""
    outcome = replay.replayed(folder, cache, failing=failing)
    assert outcome.status in (0, 1), outcome.stderr
    found: dict[str, Any] | None = json.loads(outcome.stdout) if outcome.stdout else None
    return found


def improves(before: str, after: str) -> bool:
    """Return True if a state got better; unknown is never better."""
    return after != "unknown" and STATES.index(after) < STATES.index(before)


@pytest.mark.parametrize(("folder", "path"), list(faults()))
def test_a_failed_endpoint_improves_no_state(folder: str, path: str, tmp_path: Path) -> None:
    whole = document(folder, tmp_path / "whole")
    part = document(folder, tmp_path / "part", path)

    assert whole
    if part is None:
        return
    after = {row["id"]: row for row in part["instances"]}
    for row in whole["instances"]:
        if row["id"] not in after:
            assert part["unjudged"] > 0, f"{row['id']} vanished and the report is not unknown"
        else:
            assert not improves(row["state"], after[row["id"]]["state"]), row["id"]
            lost = row["datapoints"].keys() - after[row["id"]]["datapoints"].keys()
            assert lost <= after[row["id"]].get("missing", {}).keys(), f"{row['id']}: not named"
            if folder in HISTORY:
                continue
            doubted = {one["datapoint"] for one in after[row["id"]]["unjudged"]}
            assert doubted <= row["datapoints"].keys(), f"{row['id']}: what cannot exist is unknown"


def test_a_spend_limit_with_an_unknown_interval_improves_no_state(tmp_path: Path) -> None:
    folder = "spend_limits_by_project"
    with Simulator(at=WEDNESDAY + 8 * DAY, projects=6, models=12) as demo:
        whole = demo_polls.document(folder, demo, tmp_path / "1")
        demo.fault("replace", "*/spend_limit", field="interval", value='"week"')
        part = demo_polls.document(folder, demo, tmp_path / "2")

    limited = {
        row["id"]: row["state"] for row in whole["instances"] if "threshold" in row["datapoints"]
    }
    assert "error" in limited.values()
    after = {row["id"]: row for row in part["instances"]}
    assert not [key for key, state in limited.items() if improves(state, after[key]["state"])]
    assert "'week'" in str([row["missing"] for row in after.values() if row.get("missing")])


@pytest.mark.parametrize("word", ["*", "R*", "Research"])
def test_rows_that_vanish_leave_unknown_if_a_name_was_requested(word: str, tmp_path: Path) -> None:
    """The lost row may be one that the name means; with its id the state is that of the rows."""
    path = "/organization/projects/proj_beta/spend_limit"
    folder = "spend_limits_by_project"
    usual = replay.replayed(folder, tmp_path / "1", "nagios", instances=(word,))
    assert usual.status == 2

    part = replay.replayed(folder, tmp_path / "2", "nagios", failing=path, instances=(word,))
    other = replay.replayed(
        folder, tmp_path / "3", "nagios", failing=path, instances=("organization",)
    )

    assert part.status == 3
    assert other.status < 3


@pytest.mark.parametrize(("folder", "path"), list(faults()))
def test_the_exit_status_for_nagios_follows_the_states(
    folder: str, path: str, tmp_path: Path
) -> None:
    part = document(folder, tmp_path / "json", path)
    nagios = replay.replayed(folder, tmp_path / "nagios", "nagios", failing=path)

    states = [row["state"] for row in part["instances"]] if part else ["unknown"]
    if part and (part["unjudged"] > 0 or (part["partial_failures"] and not states)):
        states.append("unknown")
    worst = max(states, key=STATES.index, default="ok")
    assert nagios.status == NAGIOS[worst], nagios.stdout[:300]
