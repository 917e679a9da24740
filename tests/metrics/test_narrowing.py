"""Filters: they narrow usage to what they select, and select rows of everything else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_openai import resources
from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.collect import datasource
from lm_openai.simulator import Simulator
from tests.support import demo_polls
from tests.support.demo_polls import WEDNESDAY
from tests.support.kinds import kinds_by_folder

KIND_OF = kinds_by_folder()
DAY = {"openai.window": "24h"}
PROJECTS = {**DAY, "openai.projects.include": "Data*"}
MODELS = {**DAY, "openai.models.include": "gpt-4*"}
MIX = "model_mix_by_project"
WITH_MODELS = [
    folder for folder, kind in KIND_OF.items() if "model" in USAGE_KINDS[kind].dimensions
]
READ_WHOLE = sorted(
    set(resources.folders()) - {*KIND_OF, MIX, "collection_health", "audit_by_event_type"}
)

pytestmark = pytest.mark.usefixtures("reset")


def document(
    folder: str, demo: Simulator, cache: Path, filters: dict[str, str], *dimensions: str
) -> dict[str, Any]:
    grouping = {"openai.group.by": ",".join(dimensions)} if dimensions else {}
    settings = {"openai.top": "100", **filters, **grouping}
    return demo_polls.document(folder, demo, cache, "json", settings)


def sums(found: dict[str, Any], *dimensions: str) -> dict[tuple[str, ...], dict[str, int]]:
    """Return the sum of each datapoint by some dimensions; shares cannot be added."""
    result: dict[tuple[str, ...], Counter[str]] = {}
    for row in found["instances"]:
        group = tuple(row["dimensions"][name] for name in dimensions)
        counts = {
            name: value
            for name, value in row["datapoints"].items()
            if not name.endswith("_percent")
        }
        result.setdefault(group, Counter()).update(counts)
    return {group: dict(counts) for group, counts in result.items()}


def rows_of(found: dict[str, Any], field: str, start: str) -> dict[str, Any]:
    """Return the document with only the rows whose name or id in a dimension starts so."""
    kept = [
        row
        for row in found["instances"]
        if {**row["dimensions"], **row["names"]}.get(field, "").startswith(start)
    ]
    return {**found, "instances": kept}


def busiest(demo: Simulator, folder: str, cache: Path) -> str:
    """Return the name of the project with the most use."""
    rows = document(folder, demo, cache, DAY, "project_id")["instances"]
    return str(max(rows, key=lambda row: max(row["datapoints"].values()))["names"]["project_name"])


@pytest.mark.parametrize("folder", [*KIND_OF, MIX])
def test_a_filter_of_projects_narrows_every_number_to_their_usage(
    demo: Simulator, folder: str, tmp_path: Path
) -> None:
    own = datasource.definition(folder).dimensions
    both = tuple(dict.fromkeys((*own, "project_id")))
    project = busiest(demo, folder, tmp_path)
    wanted = rows_of(document(folder, demo, tmp_path, DAY, *both), "project_name", project)

    found = document(folder, demo, tmp_path, {**DAY, "openai.projects.include": project})

    assert sums(found, *own) == sums(wanted, *own)
    assert any(map(sum, (counts.values() for counts in sums(found, *own).values())))


@pytest.mark.parametrize("folder", KIND_OF)
def test_the_organizations_usage_is_narrowed_too(
    demo: Simulator, folder: str, tmp_path: Path
) -> None:
    project = busiest(demo, folder, tmp_path)
    by_project = document(folder, demo, tmp_path, DAY, "project_id")
    narrowed = {**DAY, "openai.projects.exclude": project}

    found = document(folder, demo, tmp_path, narrowed, "organization")

    whole, hidden = sums(by_project), sums(rows_of(by_project, "project_name", project))
    left = {name: value - hidden[()][name] for name, value in whole[()].items()}
    assert sums(found).get((), dict.fromkeys(left, 0)) == left


@pytest.mark.parametrize("folder", WITH_MODELS)
def test_a_filter_of_models_narrows_usage_by_project(
    demo: Simulator, folder: str, tmp_path: Path
) -> None:
    by_both = document(folder, demo, tmp_path, DAY, "project_id", "model")
    model = by_both["instances"][0]["dimensions"]["model"]
    narrowed = {**DAY, "openai.models.include": model}

    found = document(folder, demo, tmp_path, narrowed, "project_id")

    assert sums(found, "project_id") == sums(rows_of(by_both, "model", model), "project_id")


def test_a_filter_of_models_narrows_the_mix(demo: Simulator, tmp_path: Path) -> None:
    """The requests that a filter includes and those that it excludes add up to all."""
    approved = {"openai.models.approved": "gpt-4o*"}
    whole, included, rest = (
        sums(document(MIX, demo, tmp_path, {**approved, **filters}), "project_id")
        for filters in (
            {},
            {"openai.models.include": "gpt-4*"},
            {"openai.models.exclude": "gpt-4*"},
        )
    )

    for project, counts in whole.items():
        parts = Counter(included.get(project, {}))
        parts.update(rest.get(project, {}))
        assert dict(parts) == counts
    assert all(counts["requests_approved"] == 0 for counts in rest.values())
    assert included != whole


@pytest.mark.parametrize(
    ("filters", "field", "start"),
    [
        (PROJECTS, "project_name", "Data Platform"),
        (MODELS, "model", "gpt-4"),
    ],
)
@pytest.mark.parametrize("folder", READ_WHOLE)
def test_elsewhere_a_filter_selects_rows_and_changes_no_number(
    demo: Simulator, folder: str, filters: dict[str, str], field: str, start: str, tmp_path: Path
) -> None:
    dimension = field.replace("_name", "_id")
    whole = document(folder, demo, tmp_path, DAY)
    wanted = {
        row["id"]: row["datapoints"]
        for row in whole["instances"]
        if dimension not in row["dimensions"]
        or {**row["dimensions"], **row["names"]}.get(field, "").startswith(start)
    }

    found = document(folder, demo, tmp_path, filters)

    shown = {row["id"]: row["datapoints"] for row in found["instances"]}
    # `other` holds all consumers that are not listed, those that a filter hides too
    shown.pop("other", None)
    wanted.pop("other", None)
    assert shown == wanted


@pytest.fixture(scope="module")
def large() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY, lag=0, projects=60, models=4) as simulator:
        yield simulator


def test_a_large_organization_is_requested_by_the_ids_of_the_selected_projects(
    large: Simulator, tmp_path: Path
) -> None:
    """60 projects with 8 groups each and 61 minutes are more rows than a page holds."""
    by_both = document("completion_by_model", large, tmp_path, {}, "project_id", "model")
    wanted = rows_of(by_both, "project_name", "Data Platform")
    large.clear()

    found = document("completion_by_model", large, tmp_path, {"openai.projects.include": "Data*"})

    assert sums(found, "model") == sums(wanted, "model")
    (one,) = {row["dimensions"]["project_id"] for row in wanted["instances"]}
    minutes = [
        request.query
        for request in large.requests
        if request.path.endswith("usage/completions") and request.query["bucket_width"] == ["1m"]
    ]
    assert minutes
    assert all(query["project_ids[]"] == [one] for query in minutes)


def test_a_small_organization_is_requested_as_by_polls_without_a_filter(
    demo: Simulator, tmp_path: Path
) -> None:
    document("completion_by_model", demo, tmp_path, {"openai.projects.include": "Data*"})

    assert not any("project_ids[]" in request.query for request in demo.requests)
