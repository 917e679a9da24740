"""--datapoint: a check of some datapoints, in every format and on the fast path."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_openai import files
from lm_openai.app import answers, options, run_many, runner
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.errors import WrongUsage
from lm_openai.output.registry import FORMATS
from lm_openai.simulator import Simulator
from lm_openai.storage.ready import Question
from tests.support.demo_polls import WEDNESDAY
from tests.support.replay import Outcome, replayed
from tests.support.surroundings import environment

FOLDER = "rate_limits"
DAY = ("rpd_utilization", "batch_tpd_utilization")
MINUTE = ("rpm_utilization", "tpm_utilization", "ipm_utilization")
WORD = re.compile(r"[a-z]+(?:_[a-z]+)+|[a-z]+[A-Z][A-Za-z]+")


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY, projects=2, models=3) as simulator:
        yield simulator


def document(cache: Path, *names: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(replayed(FOLDER, cache, datapoints=names).stdout)
    return found


def test_values_breaches_and_states_are_those_of_the_named_datapoints(tmp_path: Path) -> None:
    whole, part = document(tmp_path), document(tmp_path, *DAY)

    assert part["units"].keys() == set(DAY)
    assert len(whole["instances"]) == len(part["instances"])
    for row, own in zip(whole["instances"], part["instances"]):
        values = {name: row["datapoints"][name] for name in DAY if name in row["datapoints"]}
        assert own["datapoints"] == values
        assert own["breaches"] == [one for one in row["breaches"] if one["datapoint"] in DAY]
    assert "critical" in {row["state"] for row in whole["instances"]}
    assert "critical" not in {row["state"] for row in part["instances"]}


def test_a_missing_datapoint_is_unknown_only_where_it_is_named(tmp_path: Path) -> None:
    failing = "/organization/usage/completions"
    minute = replayed(FOLDER, tmp_path, failing=failing, datapoints=MINUTE)
    known = replayed(FOLDER, tmp_path, failing=failing, datapoints=("limit_known",))
    states = [
        {row["state"] for row in json.loads(one.stdout)["instances"]} for one in (minute, known)
    ]
    assert "unknown" in states[0]
    assert states[1] == {"ok"}
    assert all(not row["unjudged"] for row in json.loads(known.stdout)["instances"])


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_prints_the_named_datapoints_alone(form: str, tmp_path: Path) -> None:
    whole = replayed(FOLDER, tmp_path, form).stdout
    part = replayed(FOLDER, tmp_path, form, datapoints=("tpm_utilization",)).stdout
    others = {"rpm_limit", "rpmLimit", "rpd_utilization", "rpdUtilization", "peak_age_seconds"}

    assert others & {*words(whole)}
    assert "tpm_utilization" in part or "tpmUtilization" in part
    assert not others & {*words(part)}


def words(text: str) -> list[str]:
    return WORD.findall(text)


@pytest.mark.parametrize("form", ["json", "influx"])
def test_a_series_has_the_named_datapoints_alone(form: str, tmp_path: Path) -> None:
    text = replayed(
        "completion_by_model", tmp_path, form, series=True, datapoints=("input_tokens",)
    ).stdout
    assert "input_tokens" in text
    assert "output_tokens" not in text


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tpm_utilisation", "; did you mean tpm_utilization?"),
        ("", "; its page lists them: modules/rate_limits"),
    ],
)
def test_an_unknown_datapoint_is_refused_with_the_nearest(
    name: str, near: str, tmp_path: Path
) -> None:
    outcome = replayed(FOLDER, tmp_path, datapoints=("rpm_limit", name))
    title = "OpenAI Rate Limits By Project"
    sentence = f"--datapoint {name!r}: {title} has no such datapoint{near}\n"
    assert outcome == Outcome("", sentence, runner.WRONG)


def test_discovery_and_several_datasources_refuse_it(tmp_path: Path) -> None:
    outcome = replayed(FOLDER, tmp_path, discover=True, datapoints=DAY)
    sentence = "--datapoint selects values, and --discover prints none; leave one out\n"
    assert outcome == Outcome("", sentence, runner.WRONG)
    with pytest.raises(WrongUsage, match="--datapoint accepts only one DataSource"):
        run_many.check(Options(datapoints=DAY))


def test_one_poll_answers_for_each_instance_and_other_datapoints_are_another_question(
    demo: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_looked", {})
    environ = environment(demo.url, tmp_path)
    out = io.StringIO()
    around = Surroundings(environ, io.StringIO(), out, io.StringIO(), WEDNESDAY)
    runner.run(FOLDER, Options(format="nagios", discover=True), around)
    first, second, *_ = (line.split("\t")[0] for line in out.getvalue().splitlines())

    def argv(instance: str, *names: str) -> list[str]:
        chosen = [word for name in names for word in ("--datapoint", name)]
        return ["--format", "nagios", "--instance", instance, *chosen]

    def ready(words: list[str]) -> str | None:
        asked = Question(FOLDER, words, environ, lambda: WEDNESDAY)
        found = asked.found()
        asked.release()
        return found and found[1].decode()

    asked = Question(FOLDER, argv(first, *DAY), environ, lambda: WEDNESDAY)
    assert asked.found() is None
    parsed = options.parse(argv(first, *DAY))
    assert parsed == Options(format="nagios", instances=(first,), datapoints=DAY)
    answers.run(FOLDER, parsed, around, asked)

    assert "batch_tpd_utilization" in str(ready(argv(second, *DAY)))
    assert "tpm_utilization" not in str(ready(argv(second, *DAY)))
    assert ready(argv(second)) is None
    assert ready(argv(second, *MINUTE)) is None
