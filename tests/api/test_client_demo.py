"""Client with the demo organization: it reads every endpoint and names every fault."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lm_openai.api import records
from lm_openai.api.client import Client
from lm_openai.api.endpoints import LISTS, SINGLES, USAGE_KINDS
from lm_openai.api.transport import Connection, Transport
from lm_openai.errors import ApiFailure
from lm_openai.simulator import ADMIN_KEY, NO_AUDIT_KEY, Simulator
from lm_openai.timespans import WIDTHS
from tests.support.http_api import DAY, Clock, demo_client, failure_of

NOON = 1795348800


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=NOON) as simulator:
        yield simulator


def test_counters_hold_requests_slowest_response_and_server_date(demo: Simulator) -> None:
    client = demo_client(demo)
    assert client.counters.server_date is None
    list(client.list("projects"))
    assert client.counters.requests == 1
    assert client.counters.slowest > 0
    assert client.counters.server_date == NOON


@pytest.mark.parametrize("kind", USAGE_KINDS)
def test_every_usage_kind_of_the_demo_organization_is_read(demo: Simulator, kind: str) -> None:
    client = demo_client(demo)
    today = NOON - NOON % DAY
    known = USAGE_KINDS[kind]
    by_day = list(client.usage(kind, today - 7 * DAY, NOON, "1d"))
    by_hour = list(client.usage(kind, today - 7 * DAY, NOON, "1h", known.dimensions))
    assert len(by_day) == 8
    assert len(by_hour) == 7 * 24 + 12
    name = known.required[0]
    if kind == "vector_stores":  # a level: only the newest bucket is comparable
        by_day, by_hour = by_day[-1:], by_hour[-1:]
    assert total(by_day, name) == total(by_hour, name) > 0


def total(buckets: list[records.Bucket], name: str) -> int:
    return sum(row[name] for found in buckets for row in found.results)


@pytest.mark.parametrize("width", WIDTHS)
def test_small_pages_give_the_same_buckets_as_a_large_one(demo: Simulator, width: str) -> None:
    start, by = NOON - 40 * WIDTHS[width], ("project_id", "model")
    whole = list(demo_client(demo).usage("completions", start, NOON, width, by))
    small = demo_client(demo)
    assert list(small.usage("completions", start, NOON, width, by, groups=4000)) == whole
    assert small.counters.requests > 5


def test_costs_of_the_demo_organization_add_up_by_any_dimension(demo: Simulator) -> None:
    client = demo_client(demo)
    start, end = NOON - NOON % DAY - 40 * DAY, NOON - NOON % DAY + DAY
    totals = {
        by: [sum(cost.amount for cost in costs) for _, costs in client.costs(start, end, by)]
        for by in ((), ("project_id",), ("project_id", "line_item"))
    }
    assert len(totals[()]) == 41
    assert totals[()] == totals[("project_id",)] == totals[("project_id", "line_item")]
    assert sum(totals[()]) > 0


def test_every_list_of_the_demo_organization_is_read_to_its_end(demo: Simulator) -> None:
    client = demo_client(demo)
    project = next(client.list("projects"))["id"]
    counted = {}
    for name, listing in LISTS.items():
        ids = {"project_id": project} if "{" in listing.path else {}
        extra = {"effective_at": {"gte": NOON - DAY}} if name == "audit_logs" else {}
        rows = [row["id"] for row in client.list(name, **ids, **extra)]
        small = [row["id"] for row in client.list(name, **ids, **extra, limit=7)]
        assert rows == small
        assert len(set(rows)) == len(rows)
        counted[name] = len(rows)
    assert counted["rate_limits"] > 100
    assert counted["projects"] > 7


def test_limits_and_archived_projects_of_the_demo_organization_are_read(
    demo: Simulator,
) -> None:
    client = demo_client(demo)
    projects = [records.project(row) for row in client.list("projects", include_archived=True)]
    assert {project.archived for project in projects} == {True, False}
    active = [project.id for project in projects if not project.archived]
    limits = [records.rate_limit(row) for row in client.list("rate_limits", project_id=active[0])]
    assert {None, 2147483647} < {limit.max_images_per_1_minute for limit in limits} | {
        limit.max_tokens_per_1_minute for limit in limits
    }
    assert records.spend_limit(client.record("spend_limit")).amount > 0
    archived = next(project.id for project in projects if project.archived)
    failure = failure_of(lambda: list(client.list("service_accounts", project_id=archived)))
    assert failure.kind == "archived"


@pytest.mark.parametrize("name", SINGLES)
def test_the_demo_organization_knows_every_single_record(demo: Simulator, name: str) -> None:
    client = demo_client(demo)
    project = next(client.list("projects"))["id"]
    outcome = client.together([lambda: client.record(name, project_id=project)])[0]
    assert not isinstance(outcome, ApiFailure) or outcome.kind == "not_found"
    assert not isinstance(outcome, ApiFailure) or "URL" not in outcome.detail


@pytest.mark.parametrize(
    ("key", "kind"),
    [(NO_AUDIT_KEY, "scope"), ("sk-admin-wrong", "key"), ("sk-proj-abc", "project_key")],
)
def test_the_demo_organization_refuses_keys_as_the_api_does(
    demo: Simulator, key: str, kind: str
) -> None:
    clock = Clock()
    client = demo_client(demo, key, clock=clock, sleep=clock.sleep)
    assert failure_of(lambda: list(client.list("audit_logs"))).kind == kind


@pytest.mark.parametrize(
    ("fault", "settings", "kind"),
    [
        ("repeated-cursor", {}, "contract"),
        ("missing", {"field": "has_more"}, "contract"),
        ("html", {}, "not_json"),
        ("redirect", {}, "redirect"),
        ("huge", {"size": 1}, "too_large"),
        ("quota", {}, "billing"),
        ("cut", {}, "unreachable"),
        ("gateway", {}, "down"),
        ("truncated", {}, "not_json"),
        ("429", {}, "throttled"),
    ],
)
def test_lasting_faults_of_the_demo_organization_get_the_right_kind(
    fault: str, settings: dict[str, Any], kind: str
) -> None:
    clock = Clock()
    with Simulator(at=NOON) as simulator:
        simulator.fault(fault, "*/costs", **settings)
        transport = Transport(Connection(simulator.url, ADMIN_KEY), environ={}, largest=1_000_000)
        client = Client(transport, clock=clock, sleep=clock.sleep)
        failure = failure_of(lambda: list(client.costs(NOON - 200 * DAY, NOON + DAY)))
    assert failure.kind == kind
