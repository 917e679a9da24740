"""Usage DataSources: sums over every grouping, levels, missing kinds and failed requests."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.collect import datasource
from lm_openai.simulator import Simulator
from tests.support import demo_polls, replay
from tests.support.demo_polls import WEDNESDAY
from tests.support.kinds import kinds_by_folder
from tests.support.paths import ROOT
from tests.support.scripts import started

KIND_OF = kinds_by_folder()
GROUPINGS = [
    (folder, dimensions)
    for folder, kind in KIND_OF.items()
    for dimensions in dict.fromkeys(
        [*((name,) for name in USAGE_KINDS[kind].dimensions), USAGE_KINDS[kind].dimensions]
    )
]


pytestmark = pytest.mark.usefixtures("reset")


def by(*dimensions: str, window: str = "1h", **more: str) -> dict[str, str]:
    return {"openai.group.by": ",".join(dimensions), "openai.window": window, **more}


def total(document: dict[str, Any]) -> Counter[str]:
    """Return the sum of each datapoint over all instances."""
    found: Counter[str] = Counter()
    for row in document["instances"]:
        found.update(row["datapoints"])
    return found


def required(folder: str) -> set[str]:
    return set(USAGE_KINDS[KIND_OF[folder]].required)


@pytest.mark.parametrize(
    ("folder", "dimensions"),
    GROUPINGS,
    ids=lambda value: value if type(value) is str else "+".join(value),
)
def test_groups_add_up_to_the_usage_of_the_organization(
    demo: Simulator, folder: str, dimensions: tuple[str, ...], tmp_path: Path
) -> None:
    whole = demo_polls.document(folder, demo, tmp_path, "json", by("organization"))
    parts = demo_polls.document(folder, demo, tmp_path, "json", by(*dimensions))

    assert [row["id"] for row in whole["instances"]] == ["organization"]
    summed, wanted = total(parts), total(whole)
    assert {name: summed[name] for name in required(folder)} == {
        name: wanted[name] for name in required(folder)
    }
    assert all(wanted[name] > 0 for name in required(folder))
    for row in parts["instances"]:
        assert tuple(row["dimensions"]) == dimensions


@pytest.mark.parametrize("folder", KIND_OF)
def test_an_unknown_dimension_is_refused_with_a_list_of_the_known_ones(
    demo: Simulator, folder: str, tmp_path: Path
) -> None:
    outcome = demo_polls.polled(folder, demo, tmp_path, "json", by("line_item"))

    assert (outcome.status, outcome.stdout) == (2, "")
    assert "'line_item'" in outcome.stderr
    assert ", ".join(USAGE_KINDS[KIND_OF[folder]].dimensions) in outcome.stderr
    assert demo.requests == []


@pytest.mark.parametrize("folder", sorted(set(KIND_OF) - {"vector_stores_by_project"}))
def test_an_instance_used_this_week_and_idle_now_reports_0(
    demo: Simulator, folder: str, tmp_path: Path
) -> None:
    """The data of the last two hours has not arrived: the window is empty, the week is not."""
    demo.settings = demo.settings._replace(delays={KIND_OF[folder]: 7200})
    try:
        found = demo_polls.document(folder, demo, tmp_path)
    finally:
        demo.settings = demo.settings._replace(delays={})

    assert found["instances"]
    for row in found["instances"]:
        assert row["idle"] is True
        assert {row["datapoints"][name] for name in required(folder)} == {0}
        assert not set(row["datapoints"]) & {"cached_percent"}


def test_the_buckets_of_a_series_add_up_to_the_snapshot(demo: Simulator, tmp_path: Path) -> None:
    """Both read the same buckets, so that neither may change them."""
    found = demo_polls.document(
        "completion_by_model", demo, tmp_path, "json", by("model"), series=True
    )

    buckets: Counter[tuple[str, str]] = Counter()
    for sample in found["series"]:
        if sample["start"] >= found["window"]["start"]:
            for name in required("completion_by_model"):
                buckets[sample["wildvalue"], name] += sample["datapoints"][name]
    for row in found["instances"]:
        for name in required("completion_by_model"):
            assert buckets[row["wildvalue"], name] == row["datapoints"][name]
    assert sum(buckets.values()) > 0


def test_usage_without_a_user_is_the_instance_none(demo: Simulator, tmp_path: Path) -> None:
    found = demo_polls.document("completion_by_model", demo, tmp_path, "json", by("user_id"))
    unnamed = next(row for row in found["instances"] if row["id"] == "none")

    assert unnamed["alias"] == "none"
    assert unnamed["dimensions"] == {"user_id": "none"}
    assert unnamed["datapoints"]["num_model_requests"] > 0


def test_batch_values_have_readable_aliases(demo: Simulator, tmp_path: Path) -> None:
    alone = demo_polls.document("completion_by_model", demo, tmp_path, "json", by("batch"))
    both = demo_polls.document("completion_by_model", demo, tmp_path, "json", by("model", "batch"))

    assert {row["id"]: row["alias"] for row in alone["instances"]} == {
        "true": "batch",
        "false": "not batch",
    }
    assert "gpt-4.1-mini-2025-04-14 / batch" in demo_polls.values(both)


def test_an_instance_has_the_name_and_the_id_of_its_project(
    demo: Simulator, tmp_path: Path
) -> None:
    properties = by("project_id", "model")
    found = demo_polls.document("embeddings_by_model", demo, tmp_path, "json", properties)
    row = next(row for row in found["instances"] if row["alias"].startswith("Data Platform / "))

    assert row["id"] == f"{row['dimensions']['project_id']}/text-embedding-3-large"
    assert row["names"] == {"project_name": "Data Platform"}


# Declaration of a usage kind


def test_a_usage_script_has_at_most_3_lines_of_code() -> None:
    for folder in KIND_OF:
        script = (ROOT / "modules" / folder / f"{folder}.py").read_text()
        after = script.split(f'main("{folder}")\n')[1].split("\n")
        assert len([line for line in after if line.strip()]) <= 3, folder


def test_every_usage_kind_of_the_api_has_its_datasource() -> None:
    assert set(KIND_OF.values()) == set(USAGE_KINDS)
    for folder, kind in KIND_OF.items():
        source = datasource.definition(folder)
        assert set(source.dimensions) <= set(USAGE_KINDS[kind].dimensions)
        assert {datapoint.name for datapoint in source.datapoints} >= set(
            USAGE_KINDS[kind].required
        )


def test_data_age_is_measured_from_the_newest_minute_with_use(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.settings = demo.settings._replace(delays={"moderations": 600})
    try:
        found = demo_polls.document("moderations_by_model", demo, tmp_path)
    finally:
        demo.settings = demo.settings._replace(delays={})

    assert 600 <= found["data_age_seconds"]["moderations"] < 700


# Stored bytes are a level

STORES = "vector_stores_by_project"
SUPPORT = "proj_GTU37nTPj3PbhCJhfCV9UC4m"


def edited(keep: Any) -> replay.Record:
    """Return the record with only the hourly rows for which `keep(hours before newest, row)`."""
    record = replay.Record.of(STORES)
    entries = []
    for entry in record.answers:
        if entry.query.get("bucket_width") == ["1h"]:
            buckets = entry.answer["data"]
            changed = [
                {**one, "results": [row for row in one["results"] if keep(age, row)]}
                for age, one in zip(range(len(buckets) - 1, -1, -1), buckets)
            ]
            entry = entry._replace(answer={**entry.answer, "data": changed})
        entries.append(entry)
    return record._replace(answers=tuple(entries))


def stored(record: replay.Record, cache: Path) -> dict[str, dict[str, float]]:
    with replay.answering(record) as url:
        outcome = replay.collected(STORES, record, url, cache)
    assert outcome.status == 0, outcome.stderr
    return demo_polls.values(json.loads(outcome.stdout))


def newest(age: int) -> dict[str, int]:
    """Return the bytes by project id in the hour `age` hours before the newest one."""
    for entry in replay.Record.of(STORES).answers:
        if entry.query.get("bucket_width") == ["1h"] and len(entry.answer["data"]) > 20:
            rows = entry.answer["data"][-1 - age]["results"]
            return {row["project_id"]: row["usage_bytes"] for row in rows}
    raise AssertionError("no day of hours in the record")


def test_stored_bytes_come_from_the_newest_hour_with_data(tmp_path: Path) -> None:
    found = stored(edited(lambda age, row: age >= 5), tmp_path)

    assert found["Customer Support"]["usage_bytes"] == newest(5)[SUPPORT]
    assert sorted(row["usage_bytes"] for row in found.values()) == sorted(newest(5).values())


def test_a_project_that_is_an_hour_late_keeps_its_level(tmp_path: Path) -> None:
    found = stored(edited(lambda age, row: row["project_id"] != SUPPORT or age >= 1), tmp_path)

    assert found["Customer Support"]["usage_bytes"] == newest(1)[SUPPORT]


def test_a_project_without_data_for_two_hours_stores_0_bytes(tmp_path: Path) -> None:
    found = stored(edited(lambda age, row: row["project_id"] != SUPPORT or age >= 2), tmp_path)

    assert found["Customer Support"]["usage_bytes"] == 0
    assert found["Document Intelligence"]["usage_bytes"] > 0


def test_with_a_series_a_level_is_still_the_newest_and_not_an_old_one(
    tmp_path: Path,
) -> None:
    record = edited(lambda age, row: row["project_id"] != SUPPORT or age >= 2)
    with replay.answering(record) as url:
        environ = {"OPENAI_ADMIN_KEY": replay.KEY, "OPENAI_BASE_URL": url}
        sets = [f"--set={name}={value}" for name, value in record.properties.items()]
        words = ("--series", "--at", str(record.at), *sets)
        outcome = started(STORES, words, tmp_path, environ)
    found = json.loads(outcome.stdout)

    assert demo_polls.values(found)["Customer Support"]["usage_bytes"] == 0
    assert demo_polls.values(found)["Document Intelligence"]["usage_bytes"] > 0
    own = [one["datapoints"] for one in found["series"] if one["wildvalue"] == SUPPORT]
    assert own[-1]["usage_bytes"] == newest(2)[SUPPORT]


def test_a_level_without_any_data_is_unknown_and_not_0(tmp_path: Path) -> None:
    found = stored(edited(lambda age, row: False), tmp_path)

    assert set(found) == {"Customer Support", "Search & Retrieval", "Document Intelligence"}
    assert list(found.values()) == [{}, {}, {}]


def test_stored_bytes_are_never_added_up_over_time(demo: Simulator, tmp_path: Path) -> None:
    hour, week = (
        demo_polls.document(
            STORES,
            demo,
            tmp_path / window,
            "json",
            by("organization", window=window),
        )
        for window in ("1h", "7d")
    )

    assert total(hour) == total(week) != Counter()


def test_the_organizations_level_includes_projects_that_are_an_hour_late(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    """At 12:34 one project has data for 12:00 and the other only for 11:00."""
    noon = WEDNESDAY // 3600 * 3600
    earlier: dict[int, dict[str, int]] = {noon - 3600 * hours: {} for hours in range(24, 1, -1)}
    levels = {**earlier, noon - 3600: {"proj_a": 50, "proj_b": 7}, noon: {"proj_a": 60}}
    httpserver.expect_request("/v1/organization/usage/vector_stores").respond_with_handler(
        lambda request: level_response(request, levels)
    )
    record = replay.Record(WEDNESDAY, {"openai.group.by": "organization"}, ())
    outcome = replay.collected(STORES, record, httpserver.url_for("/v1"), tmp_path)

    (row,) = json.loads(outcome.stdout)["instances"]
    assert (row["id"], row["datapoints"]) == ("organization", {"usage_bytes": 67})


def level_response(request: Request, levels: dict[int, dict[str, int]]) -> Response:
    """Return hourly levels by project or of the organization; a day has its newest hour's."""
    grouped = "group_by[]" in request.args
    chosen = levels if request.args["bucket_width"] == "1h" else {max(levels): levels[max(levels)]}
    rows = {
        start: [(project, stored) for project, stored in each.items()]
        if grouped
        else [(None, sum(each.values()))]
        for start, each in chosen.items()
    }
    buckets = [
        {
            "object": "bucket",
            "start_time": start,
            "end_time": start + 3600,
            "results": [{"project_id": owner, "usage_bytes": stored} for owner, stored in each],
        }
        for start, each in rows.items()
    ]
    page = {"object": "page", "data": buckets, "has_more": False, "next_page": None}
    return Response(json.dumps(page), content_type="application/json")


# An API without decisions, and failed requests


def test_an_api_without_decisions_gives_a_note_and_no_failure(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.fault("404", "*/usage/decisions")
    found = demo_polls.document("decisions_by_model", demo, tmp_path)

    assert found["instances"] == []
    assert found["partial_failures"] == []
    assert found["notes"] == ["this API has no usage/decisions yet"]
    assert len(demo.requests) == 1


def test_any_other_kind_that_is_not_found_is_a_failure(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("404", "*/usage/*")
    outcome = demo_polls.polled("embeddings_by_model", demo, tmp_path)

    assert (outcome.status, outcome.stdout) == (1, "")
    assert "usage/embeddings" in outcome.stderr


@pytest.mark.parametrize("skipped", [0, 1])
def test_a_failed_request_prints_no_report(demo: Simulator, skipped: int, tmp_path: Path) -> None:
    """Both requests are needed: the week for the instances, the window for the values."""
    demo.fault("400", "*/usage/embeddings", skip=skipped)
    outcome = demo_polls.polled("embeddings_by_model", demo, tmp_path)

    assert (outcome.status, outcome.stdout) == (1, "")
    assert len(outcome.stderr.splitlines()) == 1


def test_ids_are_printed_if_names_cannot_be_read(demo: Simulator, tmp_path: Path) -> None:
    demo.fault("400", "*/projects")
    found = demo_polls.document("code_interpreter_by_project", demo, tmp_path)

    assert all(row["alias"] == row["id"] for row in found["instances"])
    assert found["partial_failures"] == []
    assert "no names for project_id" in found["notes"][0]
