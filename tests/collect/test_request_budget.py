"""How often a poll asks, counted by a demo organization of 50 projects and 20 models."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from threading import Barrier, BrokenBarrierError

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from lm_openai.app import run_many
from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.metrics.usage import MODEL_KINDS
from lm_openai.simulator import ADMIN_KEY, Simulator

AT = 1795005296  # 2026-11-18 12:34:56 UTC
PROJECTS, MODELS = 50, 20
PREFIX = "/v1/organization/"


@pytest.fixture(scope="module")
def started() -> Iterator[Simulator]:
    with Simulator(at=AT, projects=PROJECTS, models=MODELS) as simulator:
        yield simulator


@pytest.fixture
def demo(started: Simulator) -> Simulator:
    started.clear()
    return started


def polled(folder: str, url: str, cache: Path, form: str = "json", at: str = "") -> str:
    """What the DataSource prints of a poll that was answered in full."""
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(settings(url, cache), io.StringIO(), out, err, AT)
    assert (run(folder, Options(format=form, at=at), around), err.getvalue()) == (0, "")
    return out.getvalue()


def settings(url: str, cache: Path) -> dict[str, str]:
    """The environment of a run."""
    return {
        "OPENAI_ADMIN_KEY": ADMIN_KEY,
        "OPENAI_BASE_URL": url,
        "LM_OPENAI_CACHE_DIR": str(cache),
        "LM_OPENAI_ETC": str(cache),
        "LM_OPENAI_WINDOW": "1h",
    }


def asked(demo: Simulator) -> Counter[str]:
    """Requests by path; every one of them was answered."""
    assert {request.status for request in demo.requests} <= {200}
    return Counter(request.path.removeprefix(PREFIX) for request in demo.requests)


@pytest.mark.parametrize("form", ["json", "influx"])
def test_completions_ask_for_the_window_and_for_the_week(
    demo: Simulator, form: str, tmp_path: Path
) -> None:
    polled("completion_by_model", demo.url, tmp_path, form)

    assert asked(demo) == {"usage/completions": 2}
    widths = {request.query["bucket_width"][0] for request in demo.requests}
    assert widths == {"1m", "1d"}


def test_the_week_is_asked_once_an_hour_and_the_window_each_time(
    demo: Simulator, tmp_path: Path
) -> None:
    polled("completion_by_model", demo.url, tmp_path)
    polled("completion_by_model", demo.url, tmp_path)

    assert asked(demo) == {"usage/completions": 3}


def test_a_poll_of_another_time_never_meets_the_answers_of_this_one(
    demo: Simulator, tmp_path: Path
) -> None:
    now = polled("completion_by_model", demo.url, tmp_path)
    polled("completion_by_model", demo.url, tmp_path, at="2026-11-08")

    assert asked(demo) == {"usage/completions": 4}
    assert polled("completion_by_model", demo.url, tmp_path) == now


def test_costs_of_the_organization_take_at_most_three_requests(
    demo: Simulator, tmp_path: Path
) -> None:
    polled("cost_by_organization", demo.url, tmp_path)

    assert sum(asked(demo).values()) <= 3
    assert asked(demo)["costs"] == 1


def budget(demo: Simulator) -> dict[str, int]:
    """The most that one poll of rate_limits may ask, by path."""
    active = [project.id for project in demo.organization.projects if not project.archived_at]
    assert len(active) < len(demo.organization.projects)
    kinds = {f"usage/{kind}": 4 if kind == "completions" else 3 for kind in MODEL_KINDS}
    return {"projects": 1, **{f"projects/{one}/rate_limits": 1 for one in active}, **kinds}


def test_rate_limits_ask_each_active_project_once_and_each_kind_three_times(
    demo: Simulator, tmp_path: Path
) -> None:
    document = json.loads(polled("rate_limits", demo.url, tmp_path))

    assert len(document["instances"]) > 500
    most = budget(demo)
    assert asked(demo).keys() == most.keys()
    assert {path: count for path, count in asked(demo).items() if count > most[path]} == {}


def test_the_budget_holds_where_no_answer_can_be_kept(demo: Simulator, tmp_path: Path) -> None:
    no_folder = tmp_path / "file"
    no_folder.touch()

    polled("rate_limits", demo.url, no_folder)

    most = budget(demo)
    assert {path: count for path, count in asked(demo).items() if count > most[path]} == {}


def test_projects_and_limits_are_kept_for_the_next_poll(demo: Simulator, tmp_path: Path) -> None:
    first = polled("rate_limits", demo.url, tmp_path)
    demo.clear()

    second = polled("rate_limits", demo.url, tmp_path)

    assert second == first
    assert asked(demo).keys() == {f"usage/{kind}" for kind in MODEL_KINDS}


def test_a_long_list_of_limits_is_read_to_its_end(tmp_path: Path) -> None:
    """The vendor states no longest page, so that 40 rows a page must do as well."""
    rows = [
        {
            "id": f"rl-m{number:03}",
            "model": f"m{number:03}",
            "max_requests_per_1_minute": 0,
            "max_tokens_per_1_minute": 0,
        }
        for number in range(100)
    ]

    def limits(request: Request) -> Response:
        after = request.args.get("after", "")
        page = [row for row in rows if str(row["id"]) > after][:40]
        return _json({"data": page, "has_more": page[-1] != rows[-1], "last_id": page[-1]["id"]})

    with HTTPServer(host="127.0.0.1") as server:
        _serve(server, 1)
        server.expect_request(f"{PREFIX}projects/proj_0/rate_limits").respond_with_handler(limits)
        document = json.loads(polled("rate_limits", server.url_for("/v1"), tmp_path))

    assert len(document["instances"]) == len(rows)


TOGETHER = 8


def test_limits_of_several_projects_are_asked_at_the_same_time(tmp_path: Path) -> None:
    """No project is answered before all of them have asked."""
    all_here = Barrier(TOGETHER, timeout=20)

    def limits(request: Request) -> Response:
        try:
            all_here.wait()
        except BrokenBarrierError:
            return Response("asked one after the other", 400)
        return _json({"data": [], "has_more": False, "last_id": None})

    with HTTPServer(host="127.0.0.1", threaded=True) as server:
        _serve(server, TOGETHER)
        for number in range(TOGETHER):
            path = f"{PREFIX}projects/proj_{number}/rate_limits"
            server.expect_request(path).respond_with_handler(limits)
        document = json.loads(polled("rate_limits", server.url_for("/v1"), tmp_path))

    assert document["partial_failures"] == []


def _serve(server: HTTPServer, projects: int) -> None:
    """An organization of so many projects, none of which was used."""
    rows = [{"id": f"proj_{number}", "name": None, "created_at": 1} for number in range(projects)]
    listed = {"data": rows, "has_more": False, "last_id": rows[-1]["id"]}
    server.expect_request(f"{PREFIX}projects").respond_with_json(listed)
    for kind in MODEL_KINDS:
        empty = {"data": [], "has_more": False, "next_page": None}
        server.expect_request(f"{PREFIX}usage/{kind}").respond_with_json(empty)


def _json(document: object) -> Response:
    return Response(json.dumps(document), content_type="application/json")


def test_headroom_by_project_and_by_model_ask_no_more_together_than_one_of_them(
    demo: Simulator, tmp_path: Path
) -> None:
    polled("rate_limits", demo.url, tmp_path / "alone")
    alone = asked(demo)
    demo.clear()
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(settings(demo.url, tmp_path / "both"), io.StringIO(), out, err, AT)
    assert (run_many.run(("rate_limits", "rate_limits_by_model"), Options(), around), "") == (
        0,
        err.getvalue(),
    )

    assert asked(demo) == alone
