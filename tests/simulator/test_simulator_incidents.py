"""Incidents of the demo organization: pools at a share of their limit, and what is gone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import requests

from lm_openai.simulator import ADMIN_KEY, Simulator, control, costs, parse_fault
from lm_openai.simulator.fault_plan import Plan
from lm_openai.simulator.faults import RequestInfo
from lm_openai.simulator.usage import KINDS, BucketQuery, buckets
from tests.support import demo_polls

NOON = 1795348800 + 17  # 2026-11-22T12:00:17Z
MINUTE, HOUR, DAY = 60, 3600, 86400
MIDNIGHT = NOON - NOON % DAY
START = NOON - 17 - HOUR - 300
END = START + 40 * MINUTE
HOT = f"heat:project=Data Platform:model=gpt-4o-mini:percent=85:start={START}:end={END}"
TPM = 400_000
"""Tokens a minute of the pool in HOT."""


@pytest.fixture(params=[0, 1], ids=["at once", "late"])
def simulator(request: pytest.FixtureRequest) -> Iterator[Simulator]:
    with Simulator(at=NOON, lag=request.param) as simulator:
        yield simulator


def inject(simulator: Simulator, text: str) -> None:
    simulator.inject(parse_fault(text))


def usage(simulator: Simulator, kind: str, *query: Any) -> list[dict[str, Any]]:
    wanted = BucketQuery(*query)
    return list(
        buckets(simulator.organization, kind, wanted, int(simulator.now), simulator.settings)
    )


def summed(found: list[dict[str, Any]], kind: str) -> Counter[str]:
    total: Counter[str] = Counter()
    for bucket in found:
        for row in bucket["results"]:
            total.update({field: row[field] for field in KINDS[kind].fields})
    return +total


def project(simulator: Simulator, name: str = "Data Platform") -> str:
    return next(one.id for one in simulator.organization.projects if one.name == name)


def percents(simulator: Simulator, cache: Path, folder: str = "rate_limits") -> dict[str, Any]:
    return demo_polls.values(demo_polls.document(folder, simulator, cache))


class TestHeat:
    def test_every_pool_has_the_share_of_each_limit_that_usage_shows(self, simulator, tmp_path):
        for short in ("tpm", "rpm", "ipm"):
            simulator.clear()
            known = {
                alias
                for alias, values in percents(simulator, tmp_path).items()
                if f"{short}_utilization" in values and values[f"{short}_limit"]
            }
            assert known
            for alias in known:
                name, model = alias.split(" / ")
                simulator.fault("heat", project=name, model=model, limit=short, percent=85)
            found = percents(simulator, tmp_path)
            for alias in known:
                one = 100 / found[alias][f"{short}_limit"]
                assert 85 <= found[alias][f"{short}_utilization"] < 85 + one + 1e-6, alias

    @pytest.mark.parametrize("percent", [12.5, 80, 130])
    def test_the_share_may_be_any(self, simulator, tmp_path, percent):
        simulator.fault("heat", project="Data Platform", model="gpt-4o-mini", percent=percent)
        found = percents(simulator, tmp_path)["Data Platform / gpt-4o-mini"]
        assert found["tpm_utilization"] == percent
        assert found["tpm_used"] == TPM * percent / 100

    def test_a_later_heat_of_a_pool_replaces_an_earlier_one(self, simulator, tmp_path):
        for percent in (95, 70):
            simulator.fault("heat", project="Data Platform", model="gpt-4o-mini", percent=percent)
        found = percents(simulator, tmp_path)["Data Platform / gpt-4o-mini"]
        assert found["tpm_utilization"] == 70

    def test_a_model_that_the_project_does_not_use_is_found_in_usage(self, simulator, tmp_path):
        alias = "Idle Prototype / gpt-5"
        assert alias not in percents(simulator, tmp_path)
        simulator.fault("heat", project="Idle Prototype", model="gpt-5", percent=85)
        assert percents(simulator, tmp_path)[alias]["tpm_utilization"] == 85

    def test_every_minute_from_start_to_end_has_the_same_use_and_others_their_own(self, simulator):
        live = {"batch": ("false",)}
        query = (START - 600, END + 600, "1m", ("project_id", "model"), live)
        before, wanted = usage(simulator, "completions", *query), project(simulator)
        inject(simulator, HOT)
        for old, new in zip(before, usage(simulator, "completions", *query)):
            rows = {
                (row["project_id"], row["model"]): row["input_tokens"] + row["output_tokens"]
                for row in new["results"]
            }
            if START <= new["start_time"] < END:
                assert rows[wanted, "gpt-4o-mini-2024-07-18"] == TPM * 85 // 100
            else:
                assert new == old
            others = [row for row in old["results"] if row["project_id"] != wanted]
            assert others == [row for row in new["results"] if row["project_id"] != wanted]

    def test_groups_and_widths_add_up(self, simulator):
        inject(simulator, HOT)
        start = MIDNIGHT - DAY
        whole = usage(simulator, "completions", start, None, "1d")
        for width in ("1m", "1h"):
            finer = usage(simulator, "completions", start, None, width)
            for day in whole:
                parts = [one for one in finer if 0 <= one["start_time"] - day["start_time"] < DAY]
                assert summed(parts, "completions") == summed([day], "completions")
        for size in (1, 2, 6):
            for group in combinations(KINDS["completions"].dimensions, size):
                found = usage(simulator, "completions", start, None, "1h", group)
                assert summed(found, "completions") == summed(whole, "completions")

    def test_a_day_of_heat_is_billed_as_counted(self, simulator):
        inject(simulator, HOT)
        simulator.now = MIDNIGHT + 4 * DAY
        found = usage(
            simulator, "completions", MIDNIGHT, MIDNIGHT + DAY, "1d", ("project_id", "model")
        )
        counted = next(
            row["input_uncached_tokens"]
            for row in found[0]["results"]
            if (row["project_id"], row["model"]) == (project(simulator), "gpt-4o-mini-2024-07-18")
        )
        query = BucketQuery(MIDNIGHT, MIDNIGHT + DAY, "1d", ("project_id", "line_item"))
        (day,) = costs.buckets(
            simulator.organization, query, int(simulator.now), simulator.settings
        )
        billed = next(
            row["quantity"]
            for row in day["results"]
            if (row["project_id"], row["line_item"])
            == (project(simulator), "gpt-4o-mini-2024-07-18, input")
        )
        assert billed == counted > 40 * TPM * 85 // 100

    def test_what_was_cleared_never_happened(self, simulator):
        query = ("completions", MIDNIGHT - DAY, None, "1h", ("project_id", "model"))
        before = usage(simulator, *query)
        inject(simulator, HOT)
        assert usage(simulator, *query) != before
        simulator.clear()
        assert usage(simulator, *query) == before

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (
                "project=Data Plat:model=gpt-4o:percent=80",
                "'Data Plat'; did you mean Data Platform",
            ),
            ("project=Data Platform:model=gpt-4:percent=80", "model 'gpt-4'; did you mean gpt-4"),
            ("project=Data Platform:model=gpt-4o", "percent: None"),
            ("project=Data Platform:model=gpt-4o:percent=0", "percent: 0.0"),
            ("project=Data Platform:model=gpt-4o:percent=8:limit=tpd", "limit 'tpd'; did you mean"),
            ("project=Data Platform:model=gpt-4o:percent=8:limit=ipm", "gpt-4o has no ipm limit"),
            ("project=Ana's sandbox:model=o3:percent=80", "o3 has no tpm limit in Ana's sandbox"),
            ("project=Trust and Safety:model=gpt-4o:percent=80", "gpt-4o has no tpm limit in"),
        ],
    )
    def test_what_cannot_be_heated_is_refused_by_name(self, text, words):
        with pytest.raises(ValueError, match=words.replace("'", ".")):
            inject(Simulator(at=NOON), f"heat:{text}")


class TestGone:
    def test_usage_of_a_project_ends_when_it_goes_and_the_project_is_archived(self, simulator):
        query = (MIDNIGHT - DAY, None, "1m", ("project_id",))
        before, wanted = usage(simulator, "completions", *query), project(simulator)
        simulator.fault("gone", project="Data Platform", start=START)
        seen = set()
        for old, new in zip(before, usage(simulator, "completions", *query)):
            rows = {row["project_id"]: row for row in new["results"]}
            seen.add((new["start_time"] >= START, wanted in rows))
            late = new["start_time"] >= START
            assert new["results"] == [
                row for row in old["results"] if not (late and row["project_id"] == wanted)
            ]
        assert seen >= {(False, True), (True, False)}
        assert (True, True) not in seen
        found = listed(simulator, "/projects?include_archived=true&limit=100")
        assert {row["id"]: row["archived_at"] for row in found}[wanted] == START
        assert wanted not in {row["id"] for row in listed(simulator, "/projects?limit=100")}

    def test_a_project_gone_in_the_future_is_still_there(self, simulator):
        simulator.fault("gone", project="Data Platform", start=NOON + HOUR)
        assert project(simulator) in {row["id"] for row in listed(simulator, "/projects")}

    @pytest.mark.parametrize("folder", ["rate_limits", "cost_by_project", "model_mix_by_project"])
    def test_an_instance_that_never_was_is_not_found(self, simulator, tmp_path, folder):
        name = "Data Platform"
        first = percents(simulator, tmp_path / "first", folder)
        simulator.fault("gone", project=name, start=0)
        found = percents(simulator, tmp_path / "second", folder)
        assert any(alias.startswith(name) for alias in first)
        assert not any(alias.startswith(name) for alias in found)
        assert found

    def test_a_row_is_gone_with_its_usage_and_other_rows_stay(self, simulator, tmp_path):
        simulator.fault("gone", project=project(simulator), model="gpt-4o-mini", start=0)
        found = percents(simulator, tmp_path)
        names = {alias for alias in found if alias.startswith("Data Platform")}
        assert names
        assert not any(alias.startswith("Data Platform / gpt-4o-mini") for alias in names)
        for name in ("Data Platform", "Customer Support"):
            path = f"/projects/{project(simulator, name)}/rate_limits?limit=1000"
            models = {row["model"] for row in listed(simulator, path)}
            assert ("gpt-4o-mini" in models) == (name == "Customer Support")
            assert "gpt-4o-mini-audio-preview" in models


def test_nobody_uses_anything_in_an_idle_span(simulator):
    query = ("completions", START - 600, END + 600, "1m")
    before = usage(simulator, *query)
    inject(simulator, f"idle:start={START}:end={END}")
    for old, new in zip(before, usage(simulator, *query)):
        inside = START <= new["start_time"] < END
        assert new["results"] == ([] if inside else old["results"])
    assert any(bucket["results"] for bucket in before)


class TestControl:
    def test_faults_and_the_clock_follow_requests(self, simulator):
        wanted = project(simulator)
        two = f"gone:project={wanted}:start=0\n500:*/users:times=1\n"
        assert sent(simulator, "POST", "faults", two).status_code == 200
        assert wanted not in {row["id"] for row in listed(simulator, "/projects?limit=100")}
        assert get(simulator, "/users").status_code == 500
        assert sent(simulator, "PUT", "now", "2026-11-23T00:00:05Z").status_code == 200
        assert simulator.now == MIDNIGHT + DAY + 5
        assert sent(simulator, "PUT", "now", str(NOON)).status_code == 200
        assert simulator.now == NOON
        assert sent(simulator, "DELETE", "faults").status_code == 200
        assert wanted in {row["id"] for row in listed(simulator, "/projects?limit=100")}

    def test_control_is_neither_recorded_nor_hit_by_a_fault(self, simulator):
        simulator.fault("closed")
        assert sent(simulator, "DELETE", "faults").status_code == 200
        assert get(simulator, "/users").status_code == 200
        assert [request.path for request in simulator.requests] == ["/v1/organization/users"]

    @pytest.mark.parametrize(
        ("method", "path", "text", "status", "words"),
        [
            ("POST", "faults", "heat:percnt=8", 400, "setting 'percnt'; did you mean percent?"),
            ("POST", "faults", "500\nheat:project=x", 400, "unknown fault setting project 'x'"),
            ("PUT", "now", "soon", 400, "'soon' is not a time; give ISO 8601"),
            ("PUT", "faults", "", 404, "Invalid URL (PUT /control/faults)"),
            ("GET", "now", "", 404, "Invalid URL (GET /control/now)"),
        ],
    )
    def test_a_wrong_request_is_refused(self, simulator, method, path, text, status, words):
        response = sent(simulator, method, path, text)
        assert response.status_code == status
        assert words in response.json()["error"]["message"]

    def test_another_machine_controls_nothing(self, simulator, monkeypatch):
        monkeypatch.setattr("lm_openai.simulator.server.Connection._is_local", lambda self: False)
        assert sent(simulator, "PUT", "now", "1").status_code == 404
        assert simulator.now == NOON


def test_a_percent_of_the_responses_is_changed():
    plan = Plan((parse_fault("500:*/users:percent=25"),))
    info = RequestInfo({}, "")
    assert 60 < sum(plan.take("/v1/users", info) is not None for _ in range(400)) < 140


def get(simulator: Simulator, path: str) -> requests.Response:
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    return requests.get(f"{simulator.url}/organization{path}", headers=headers, timeout=20)


def listed(simulator: Simulator, path: str) -> list[dict[str, Any]]:
    response = get(simulator, path)
    assert response.status_code == 200, response.text
    found: list[dict[str, Any]] = response.json()["data"]
    return found


def sent(simulator: Simulator, method: str, path: str, text: str = "") -> requests.Response:
    url = simulator.url.removesuffix("/v1") + control.ROOT + path
    return requests.request(method, url, data=text, timeout=20)
