"""Settings that select by id or name: each takes effect or is named as one that selects nothing.

The demo organization has the projects Marketing and Data Platform, an idle one and an archived one.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_openai import resources
from lm_openai.app import run_many
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.simulator import Simulator
from tests.support import demo_polls
from tests.support.demo_polls import WEDNESDAY
from tests.support.surroundings import environment

ALL_OFF = {
    "projects": ("Marketng", "'Marketng' matches no project; did you mean Marketing?"),
    "models": (
        "gpt-4.1-nanno",
        "'gpt-4.1-nanno' matches no model in the rate limits or in the usage of the last 7 days; "
        "did you mean gpt-4.1-nano?",
    ),
}
WITHOUT = {
    "projects": {
        "audit_by_event_type",
        "collection_health",
        "cost_by_line_item",
        "cost_by_organization",
        "cost_by_user",
        "organization",
        "rate_limits_by_model",
        "reconciliation_by_model",
    },
    "models": {
        "api_keys_by_key",
        "audit_by_event_type",
        "code_interpreter_by_project",
        "collection_health",
        "cost_by_api_key",
        "cost_by_line_item",
        "cost_by_organization",
        "cost_by_project",
        "cost_by_user",
        "file_search_by_vector_store",
        "organization",
        "spend_limits_by_project",
        "usage_by_consumer",
        "vector_stores_by_project",
    },
}
"""DataSources whose numbers have no project or no model, by filter."""


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY, lag=0) as simulator:
        yield simulator


def project(demo: Simulator, case: str) -> Any:
    if case == "archived":
        return next(each for each in demo.organization.projects if each.archived_at)
    return next(each for each in demo.organization.projects if each.case == case)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one cache for many polls, so that the models are requested once."""
    return tmp_path_factory.mktemp("cache")


@pytest.mark.parametrize("what", ALL_OFF)
@pytest.mark.parametrize("folder", resources.folders())
def test_a_filter_that_selects_nothing_is_never_ok(
    demo: Simulator, folder: str, what: str, cache: Path
) -> None:
    """Every DataSource names it with the nearest name, or says that it has no effect there."""
    glob, sentence = ALL_OFF[what]
    settings = {f"openai.{what}.include": glob}
    nagios, document, instances = (
        demo_polls.polled(folder, demo, cache, form, settings, discover=discover)
        for form, discover in (("nagios", False), ("json", False), ("json", True))
    )

    if folder in WITHOUT[what]:
        assert f"openai.{what}.include={glob} has no effect: " in nagios.stdout
        assert json.loads(document.stdout)["notes"]
        return
    assert nagios.status == 3
    assert "UNKNOWN - no instance is left: " in nagios.stdout
    assert f"openai.{what}.include: {sentence}".replace(";", ",") in nagios.stdout
    for outcome in (document, instances):
        assert (outcome.status, outcome.stdout) == (1, "")
        assert sentence in outcome.stderr


@pytest.mark.parametrize("what", ALL_OFF)
def test_a_filter_that_excludes_everything_is_not_ok(
    demo: Simulator, what: str, tmp_path: Path
) -> None:
    settings = {f"openai.{what}.exclude": "*"}

    outcome = demo_polls.polled("completion_by_model", demo, tmp_path, "nagios", settings)

    assert outcome.status == 3
    assert f"no instance is left: openai.{what}.exclude=* leaves no {what[:-1]}" in outcome.stdout


@pytest.mark.parametrize("case", ["idle", "archived"])
def test_a_known_project_without_use_is_no_fault(
    demo: Simulator, case: str, tmp_path: Path
) -> None:
    settings = {"openai.projects.include": project(demo, case).name}

    outcome = demo_polls.polled("images_by_model", demo, tmp_path, "nagios", settings)

    assert outcome.status == 0
    assert "OK - no instance in use" in outcome.stdout
    assert f"note: filter openai.projects.include={project(demo, case).name}" in outcome.stdout
    assert "matches no" not in outcome.stdout


def test_a_known_model_of_another_kind_is_no_fault(demo: Simulator, tmp_path: Path) -> None:
    """The usage of embeddings has no such model; that of completions and the limits have it."""
    settings = {"openai.models.include": "gpt-4o*"}

    outcome = demo_polls.polled("embeddings_by_model", demo, tmp_path, "nagios", settings)

    assert outcome.status == 0
    assert "matches no" not in outcome.stdout


@pytest.mark.parametrize(
    ("folder", "settings", "note"),
    [
        (
            "completion_by_model",
            {"openai.completion_by_model.projects.include": "Marketng,Data*"},
            "openai.completion_by_model.projects.include: 'Marketng' matches no project; "
            "did you mean Marketing?",
        ),
        (
            "rate_limits",
            {"openai.models.exclude": "gtp-4o"},
            "openai.models.exclude: 'gtp-4o' matches no model in the rate limits or in the usage "
            "of the last 7 days; did you mean gpt-4o?",
        ),
        (
            "model_mix_by_project",
            {"openai.models.approved": "gpt-4o*,gtp-4o"},
            "openai.models.approved: 'gtp-4o' matches no model in the rate limits or in the usage "
            "of the last 7 days; did you mean gpt-4o?",
        ),
        (
            "cost_by_project",
            {"openai.budget.project.Marketing": "100"},
            "openai.budget.project.Marketing: 'Marketing' is not the id of a project; "
            "did you mean {marketing} (Marketing)?",
        ),
        (
            "usage_by_consumer",
            {"openai.tokens.budget.project.Marketing": "100"},
            "openai.tokens.budget.project.Marketing: 'Marketing' is not the id of a project; "
            "did you mean {marketing} (Marketing)?",
        ),
        (
            "usage_by_consumer",
            {"openai.tokens.budget.project.{marketing}": "100", "openai.group.by": "model"},
            "openai.tokens.budget.project.{marketing}: no effect, since instances of "
            "OpenAI Usage By Consumer have no project; see openai.group.by",
        ),
    ],
)
def test_one_text_among_others_is_named_and_changes_no_state(
    demo: Simulator, folder: str, settings: dict[str, str], note: str, tmp_path: Path
) -> None:
    (marketing,) = (each.id for each in demo.organization.projects if each.name == "Marketing")
    named = {name.format(marketing=marketing): text for name, text in settings.items()}

    found = demo_polls.document(folder, demo, tmp_path, "json", named)

    assert note.format(marketing=marketing) in found["notes"]
    assert found["instances"]
    assert found["partial_failures"] == []


@pytest.mark.parametrize(
    ("match", "sentence"),
    [
        ({"project": "Marketng"}, "'Marketng' matches no project; did you mean Marketing?"),
        (
            {"model": "gtp-4o", "project": "Data*"},
            "'gtp-4o' matches no model in the rate limits or in the usage of the last 7 days; "
            "did you mean gpt-4o?",
        ),
    ],
)
def test_an_override_that_matches_nothing_is_named_in_reports_and_by_the_doctor(
    demo: Simulator, match: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    path = override(tmp_path, "OpenAI_RateLimits_ByProject", "tpm_utilization", match)

    found = demo_polls.document("rate_limits", demo, tmp_path)

    assert f"{path}, override of tpm_utilization: {sentence}" in found["notes"]


def override(cache: Path, datasource: str, datapoint: str, match: dict[str, str]) -> Path:
    """Write a site's threshold file with one override; return its path."""
    path = cache / "thresholds.d" / "site.json"
    path.parent.mkdir()
    entry = {"match": match, "datapoint": datapoint, "warning": 50}
    path.write_text(json.dumps({"datasource": datasource, "overrides": [entry]}))
    return path


def test_settings_that_match_are_not_named(demo: Simulator, tmp_path: Path) -> None:
    """The project is idle, the model has limit rows and no use, and the user made no request."""
    match = {"project": project(demo, "idle").name, "model": "gpt-4.1-long-context"}
    override(tmp_path, "OpenAI_RateLimits_ByProject", "tpm_utilization", match)
    settings = {"openai.projects.include": f"Data*,{project(demo, 'idle').id}"}

    found = demo_polls.document("rate_limits", demo, tmp_path, "json", settings)

    assert not any("matches no" in note for note in found["notes"])


def test_a_filter_by_name_needs_the_names(demo: Simulator, tmp_path: Path) -> None:
    """Without the list of projects nobody knows which ids are meant."""
    demo.fault("400", "*/projects")
    try:
        settings = {"openai.projects.include": "Data*"}
        outcome = demo_polls.polled("completion_by_model", demo, tmp_path, "nagios", settings)
    finally:
        demo.clear()

    assert outcome.status == 3
    assert "UNKNOWN - projects: " in outcome.stdout


def test_other_datasources_of_a_run_are_polled(demo: Simulator, tmp_path: Path) -> None:
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environment(demo.url, tmp_path), io.StringIO(), out, err, WEDNESDAY)
    options = Options(format="nagios", sets=("openai.projects.include=Marketng",))

    status = run_many.run(("completion_by_model", "organization"), options, around)

    assert status == 3
    assert "OPENAI UNKNOWN - 1 of 2 DataSources not OK: " in out.getvalue()
    assert "OPENAI ORGANIZATION OK" in out.getvalue()
