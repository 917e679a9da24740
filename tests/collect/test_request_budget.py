"""Number of requests per poll, counted by a demo organization of 50 projects and 20 models.

Its completions are too many for a shared hour, which the first poll of a day finds out.
"""

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
from lm_openai.simulator import Simulator
from tests.support.replay import empty_page
from tests.support.surroundings import environment

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
    """Poll once without failures and return what the DataSource prints."""
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(settings(url, cache), io.StringIO(), out, err, AT)
    assert (run(folder, Options(format=form, at=at), around), err.getvalue()) == (0, "")
    return out.getvalue()


def settings(url: str, cache: Path) -> dict[str, str]:
    """Return the environment of a run that shares no responses with the one before."""
    return {**environment(url, cache), "LM_OPENAI_WINDOW": "1h", "LM_OPENAI_CACHE_TTL": "0s"}


def requests(demo: Simulator) -> Counter[str]:
    """Return the number of requests by path; all of them must have succeeded."""
    assert {request.status for request in demo.requests} <= {200}
    return Counter(request.path.removeprefix(PREFIX) for request in demo.requests)


@pytest.mark.parametrize(("form", "count"), [("json", 3), ("influx", 2)])
def test_completions_request_the_window_and_the_week(
    demo: Simulator, form: str, count: int, tmp_path: Path
) -> None:
    polled("completion_by_model", demo.url, tmp_path, form)

    assert requests(demo) == {"usage/completions": count}
    widths = {request.query["bucket_width"][0] for request in demo.requests}
    assert widths == {"1m", "1d"}


def test_a_second_poll_requests_the_window_again_and_not_the_week(
    demo: Simulator, tmp_path: Path
) -> None:
    polled("completion_by_model", demo.url, tmp_path)
    polled("completion_by_model", demo.url, tmp_path)

    assert requests(demo) == {"usage/completions": 4}


def test_a_poll_of_another_time_does_not_use_cached_responses_of_now(
    demo: Simulator, tmp_path: Path
) -> None:
    now = polled("completion_by_model", demo.url, tmp_path)
    polled("completion_by_model", demo.url, tmp_path, at="2026-11-08")

    assert requests(demo) == {"usage/completions": 6}
    assert polled("completion_by_model", demo.url, tmp_path) == now


def test_costs_of_the_organization_need_at_most_three_requests(
    demo: Simulator, tmp_path: Path
) -> None:
    polled("cost_by_organization", demo.url, tmp_path)

    assert sum(requests(demo).values()) <= 3
    assert requests(demo)["costs"] == 1


def budget(demo: Simulator) -> dict[str, int]:
    """Return the maximum number of requests of one rate_limits poll, by path."""
    active = [project.id for project in demo.organization.projects if not project.archived_at]
    assert len(active) < len(demo.organization.projects)
    kinds = {f"usage/{kind}": 4 if kind == "completions" else 3 for kind in MODEL_KINDS}
    return {"projects": 1, **{f"projects/{project}/rate_limits": 1 for project in active}, **kinds}


def test_rate_limits_request_each_active_project_once_and_each_kind_three_times(
    demo: Simulator, tmp_path: Path
) -> None:
    document = json.loads(polled("rate_limits", demo.url, tmp_path))

    assert len(document["instances"]) > 500
    most = budget(demo)
    assert requests(demo).keys() == most.keys()
    assert {path: count for path, count in requests(demo).items() if count > most[path]} == {}


def test_a_poll_without_a_cache_keeps_within_the_same_budget(
    demo: Simulator, tmp_path: Path
) -> None:
    no_folder = tmp_path / "file"
    no_folder.touch()

    polled("rate_limits", demo.url, no_folder)

    most = budget(demo)
    assert {path: count for path, count in requests(demo).items() if count > most[path]} == {}


def test_projects_and_limits_are_cached_for_the_next_poll(demo: Simulator, tmp_path: Path) -> None:
    first = polled("rate_limits", demo.url, tmp_path)
    demo.clear()

    second = polled("rate_limits", demo.url, tmp_path)

    assert second == first
    assert requests(demo).keys() == {f"usage/{kind}" for kind in MODEL_KINDS}


def test_a_long_list_of_limits_is_read_to_its_end(tmp_path: Path) -> None:
    """The vendor documents no maximum page size, so pages of 40 rows must work too."""
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
BY_POOL = "project_id,model"


def test_limits_of_several_projects_are_requested_in_parallel(tmp_path: Path) -> None:
    """The server sends no response before it has all requests."""
    all_here = Barrier(TOGETHER, timeout=20)

    def limits(request: Request) -> Response:
        try:
            all_here.wait()
        except BrokenBarrierError:
            return Response("requested one after the other", 400)
        return _json({"data": [], "has_more": False, "last_id": None})

    with HTTPServer(host="127.0.0.1", threaded=True) as server:
        _serve(server, TOGETHER)
        for number in range(TOGETHER):
            path = f"{PREFIX}projects/proj_{number}/rate_limits"
            server.expect_request(path).respond_with_handler(limits)
        document = json.loads(polled("rate_limits", server.url_for("/v1"), tmp_path))

    assert document["partial_failures"] == []


def test_usage_and_names_are_requested_in_parallel(tmp_path: Path) -> None:
    """The server sends no response before it has the week, the window and the list of names."""
    all_here = Barrier(3, timeout=20)

    def answer(request: Request) -> Response:
        try:
            all_here.wait()
        except BrokenBarrierError:
            return Response("requested one after the other", 400)
        if "bucket_width" in request.args:
            return _json(empty_page(dict(request.args.lists())))
        return _json({"data": [], "has_more": False, "last_id": None})

    with HTTPServer(host="127.0.0.1", threaded=True) as server:
        for path in ("usage/completions", "projects"):
            server.expect_request(f"{PREFIX}{path}").respond_with_handler(answer)
        environ = {**settings(server.url_for("/v1"), tmp_path), "LM_OPENAI_GROUP_BY": BY_POOL}
        out, err = io.StringIO(), io.StringIO()
        around = Surroundings(environ, io.StringIO(), out, err, AT)
        status = run("completion_by_model", Options(format="json"), around)

    assert (status, err.getvalue()) == (0, "")
    assert len(server.log) == 3


def _serve(server: HTTPServer, projects: int) -> None:
    """Serve an organization of `projects` projects without any usage."""
    rows = [{"id": f"proj_{number}", "name": None, "created_at": 1} for number in range(projects)]
    listed = {"data": rows, "has_more": False, "last_id": rows[-1]["id"]}
    server.expect_request(f"{PREFIX}projects").respond_with_json(listed)
    for kind in MODEL_KINDS:
        usage = server.expect_request(f"{PREFIX}usage/{kind}")
        usage.respond_with_handler(lambda request: _json(empty_page(dict(request.args.lists()))))


def _json(document: object) -> Response:
    return Response(json.dumps(document), content_type="application/json")


def test_headroom_by_project_and_by_model_together_need_no_more_requests_than_one(
    demo: Simulator, tmp_path: Path
) -> None:
    polled("rate_limits", demo.url, tmp_path / "alone")
    alone = requests(demo)
    demo.clear()
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(settings(demo.url, tmp_path / "both"), io.StringIO(), out, err, AT)
    assert (run_many.run(("rate_limits", "rate_limits_by_model"), Options(), around), "") == (
        0,
        err.getvalue(),
    )

    assert requests(demo) == alone
