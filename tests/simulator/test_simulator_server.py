"""The demo organization over HTTP: pages, keys, wrong questions, faults and encodings."""

from __future__ import annotations

import base64
import io
import json
import socket
import subprocess
import sys
from contextlib import closing
from email.utils import parsedate_to_datetime
from functools import partial
from http.client import HTTPException
from urllib.parse import quote, urlsplit
from urllib.request import Request as UsageQuery
from urllib.request import urlopen

import pytest
import requests

from lm_openai.simulator import (
    ADMIN_KEY,
    NO_AUDIT_KEY,
    NO_MANAGEMENT_KEY,
    NO_USAGE_KEY,
    Fault,
    Request,
    Simulator,
    parse_fault,
)

NOON = 1795348800 + 17  # 2026-11-22T12:00:17Z
HOUR = 3600
DAY = 86400
MIDNIGHT = NOON - NOON % DAY
BAD_PAGE = {
    "error": {
        "message": "The page token is invalid, have you modified the query parameters?",
        "type": "invalid_request_error",
        "code": "invalid_request_error",
    }
}
USAGE = "/organization/usage/completions"


@pytest.fixture(scope="module")
def shared():
    with Simulator(at=NOON) as simulator:
        yield simulator


@pytest.fixture
def simulator():
    with Simulator(at=NOON) as simulator:
        yield simulator


def ask(simulator, path, key=ADMIN_KEY, **query):
    headers = {"Authorization": f"Bearer {key}"}
    return requests.get(
        simulator.url + path, params=query, headers=headers, timeout=20, allow_redirects=False
    )


def buckets(simulator, path, **query):
    """All buckets of a query, page after page, and the number of pages."""
    page: dict[str, str] = {}
    found, pages = [], 0
    while pages < 200:
        answer = ask(simulator, path, **query, **page)
        assert answer.status_code == 200, answer.text
        body, pages = answer.json(), pages + 1
        found += body["data"]
        assert body["has_more"] == (body["next_page"] is not None)
        if not body["has_more"]:
            return found, pages
        page = {"page": body["next_page"]}
    raise AssertionError("the pages have no end")


def items(simulator, path, cursor, **query):
    """All ids of a list; `cursor` takes the next `after` from a page."""
    after: dict[str, str] = {}
    found, pages = [], 0
    while pages < 300:
        body = ask(simulator, path, **query, **after).json()
        found += [item["id"] for item in body["data"]]
        pages += 1
        if not body["has_more"]:
            return found
        after = {"after": cursor(body)}
    raise AssertionError("the pages have no end")


def last_id(page):
    return page["last_id"]


class TestBuckets:
    def test_one_big_page_equals_many_small_ones(self, shared):
        query = {
            "start_time": NOON - 2 * HOUR - 11,
            "bucket_width": "1m",
            "group_by[]": ["project_id", "model"],
        }
        big, one = buckets(shared, USAGE, **query, limit=1440)
        small, many = buckets(shared, USAGE, **query, limit=7)
        assert (one, many) == (1, 18)
        assert big == small

    @pytest.mark.parametrize(
        ("width", "default", "maximum"), [("1m", 60, 1440), ("1h", 24, 168), ("1d", 7, 31)]
    )
    def test_a_page_has_its_default_and_refuses_more_than_its_maximum(
        self, shared, width, default, maximum
    ):
        seconds = {"1m": 60, "1h": HOUR, "1d": DAY}[width]
        query = {"start_time": NOON - (maximum + 9) * seconds, "bucket_width": width}
        ask_usage = partial(ask, shared, "/organization/usage/moderations", **query)
        assert len(ask_usage().json()["data"]) == default
        assert len(ask_usage(limit=maximum).json()["data"]) == maximum
        refused = ask_usage(limit=maximum + 1)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "integer_above_max_value"
        assert ask_usage(limit=0).json()["error"]["code"] == "integer_below_min_value"

    def test_the_first_bucket_is_clipped_to_the_minute_and_counts_towards_the_limit(self, shared):
        start = MIDNIGHT - 3 * DAY + 5 * HOUR + 42
        page = ask(shared, USAGE, start_time=start, limit=2).json()["data"]
        times = [(bucket["start_time"], bucket["end_time"]) for bucket in page]
        first = MIDNIGHT - 2 * DAY
        assert times == [(start - 42, first), (first, first + DAY)]

    def test_the_last_bucket_is_clipped_to_now(self, shared):
        for end in ({}, {"end_time": MIDNIGHT + 5 * DAY}):
            page = ask(shared, USAGE, start_time=MIDNIGHT - DAY, **end).json()["data"]
            assert [bucket["end_time"] for bucket in page] == [MIDNIGHT, NOON]

    def test_buckets_carry_times_that_the_contract_does_not_declare(self, shared):
        bucket = ask(shared, USAGE, start_time=MIDNIGHT - DAY).json()["data"][0]
        assert bucket["start_time_iso"] == "2026-11-21T00:00:00+00:00"
        assert bucket["end_time_iso"] == "2026-11-22T00:00:00+00:00"

    def test_a_page_token_belongs_to_its_query(self, shared):
        query = {"start_time": NOON - 4 * HOUR, "bucket_width": "1h", "limit": 2}
        token = ask(shared, USAGE, **query).json()["next_page"]
        assert ask(shared, USAGE, **query, page=token).status_code == 200
        changed = (
            {**query, "limit": 3},
            {**query, "start_time": NOON - 4 * HOUR + 60},
            {**query, "group_by[]": "model"},
        )
        answers = [ask(shared, USAGE, **other, page=token) for other in changed]
        answers.append(ask(shared, "/organization/usage/embeddings", **query, page=token))
        assert [answer.status_code for answer in answers] == [400] * 4
        assert all(answer.json() == BAD_PAGE for answer in answers)

    def test_a_page_token_that_was_touched_is_refused(self, shared):
        query = {"start_time": NOON - 4 * HOUR, "bucket_width": "1h", "limit": 2}
        token = ask(shared, USAGE, **query).json()["next_page"]
        packed = bytearray(base64.b64decode(token.removeprefix("page_")))
        assert len(packed) == 20
        packed[-1] ^= 1
        moved = "page_" + base64.b64encode(packed).decode()
        for wrong in (moved, token[:-4], token.rstrip("="), "page_", "page_!!!!", "nonsense"):
            answer = ask(shared, USAGE, **query, page=wrong)
            assert (answer.status_code, answer.json()) == (400, BAD_PAGE), wrong

    def test_a_token_with_plus_and_slash_needs_percent_encoding(self, shared):
        for start in range(NOON - 40 * HOUR, NOON - 20 * HOUR, 60):
            query = f"start_time={start}&bucket_width=1h&limit=2"
            token = self.raw(shared, query).json()["next_page"]
            if "+" in token:
                break
        else:
            raise AssertionError("no token with a plus sign")
        assert self.raw(shared, f"{query}&page={quote(token, safe='')}").status_code == 200
        assert self.raw(shared, f"{query}&page={token}").status_code == 400

    def raw(self, simulator, query):
        url = f"{simulator.url}{USAGE}?{query}"
        return requests.get(url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=20)

    def test_page_tokens_can_run_out(self):
        with Simulator(at=NOON, token_life=60) as simulator:
            query = {"start_time": NOON - 4 * HOUR, "bucket_width": "1h", "limit": 2}
            token = ask(simulator, USAGE, **query).json()["next_page"]
            simulator.now += 60
            assert ask(simulator, USAGE, **query, page=token).status_code == 200
            simulator.now += 1
            assert ask(simulator, USAGE, **query, page=token).json() == BAD_PAGE

    def test_a_running_range_goes_on_while_the_clock_moves(self, simulator):
        query = {"start_time": NOON - 2 * HOUR, "bucket_width": "1h", "limit": 2}
        token = ask(simulator, USAGE, **query).json()["next_page"]
        simulator.now += HOUR
        page = ask(simulator, USAGE, **query, page=token).json()
        assert page["data"][0]["start_time"] == NOON - NOON % HOUR
        assert page["data"][-1]["end_time"] == NOON + HOUR

    def test_three_spellings_of_an_array_mean_the_same(self, shared):
        query = {"start_time": MIDNIGHT}
        spellings = (
            {"group_by": ["project_id", "model"]},
            {"group_by[]": ["project_id", "model"]},
            {"group_by": "project_id,model"},
        )
        answers = [ask(shared, USAGE, **query, **spelling).json() for spelling in spellings]
        assert answers[0]["data"][0]["results"][0]["model"] is not None
        assert answers[0] == answers[1] == answers[2]

    def test_costs_take_one_to_180_days_and_only_days(self, shared):
        start = MIDNIGHT - 200 * DAY
        costs = partial(ask, shared, "/organization/costs", start_time=start)
        assert len(costs().json()["data"]) == 7
        assert len(costs(limit=180).json()["data"]) == 180
        assert costs(limit=181).status_code == 400
        assert costs(bucket_width="1h").status_code == 400

    def test_costs_refuse_a_start_and_an_end_on_the_same_day(self, shared):
        costs = partial(ask, shared, "/organization/costs", start_time=MIDNIGHT)
        refused = costs(end_time=MIDNIGHT + DAY - 1)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "end_time")
        assert costs(end_time=MIDNIGHT + DAY).status_code == 200

    def test_costs_filter_by_a_line_item_with_its_comma(self, shared):
        costs = partial(
            ask,
            shared,
            "/organization/costs",
            start_time=MIDNIGHT - DAY,
            group_by="line_item",
        )
        names = {row["line_item"] for row in costs().json()["data"][0]["results"]}
        name = sorted(name for name in names if name and ", " in name)[0]
        found = costs(**{"line_items[]": name}).json()["data"][0]["results"]
        assert {row["line_item"] for row in found} == {name}


class TestWrongQuestions:
    @pytest.mark.parametrize(
        ("path", "query", "code", "param"),
        [
            (USAGE, {}, "missing_required_parameter", "start_time"),
            (USAGE, {"start_time": "yesterday"}, "invalid_type", "start_time"),
            (USAGE, {"start_time": 60, "end_time": 60}, "invalid_value", "end_time"),
            (USAGE, {"start_time": 0, "bucket_width": "5m"}, "invalid_value", "bucket_width"),
            (USAGE, {"start_time": 0, "group_by[]": "line_item"}, "invalid_value", "group_by[0]"),
            (USAGE, {"start_time": 0, "batch": "maybe"}, "invalid_value", "batch[0]"),
            (USAGE, {"start_time": 0, "groupby": "model"}, "unknown_parameter", "groupby"),
            (
                "/organization/costs",
                {"start_time": 0, "models": "o1"},
                "unknown_parameter",
                "models",
            ),
            ("/organization/projects", {"limit": 101}, "integer_above_max_value", "limit"),
            ("/organization/projects", {"after": "proj_x"}, "invalid_value", "after"),
            ("/organization/projects", {"include_archived": "1"}, "invalid_value", None),
            ("/organization/groups", {"limit": 1001}, "integer_above_max_value", "limit"),
            ("/organization/groups", {"order": "up"}, "invalid_value", "order"),
            ("/organization/audit_logs", {"limit": 101}, "integer_above_max_value", "limit"),
            ("/organization/audit_logs", {"event_types[]": "no.such"}, "invalid_value", None),
            ("/organization/audit_logs", {"effective_at[after]": 1}, "unknown_parameter", None),
        ],
    )
    def test_it_is_refused_by_the_name_of_what_is_wrong(self, shared, path, query, code, param):
        answer = ask(shared, path, **query)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, code)
        assert param is None or error["param"] == param

    def test_an_unknown_project_is_not_found_and_an_archived_one_has_no_members(self, shared):
        archived = next(item for item in shared.organization.projects if item.archived_at)
        for path in ("users", "service_accounts"):
            answer = ask(shared, f"/organization/projects/{archived.id}/{path}")
            assert answer.status_code == 400
        assert ask(shared, "/organization/projects/proj_none/users").status_code == 404
        assert ask(shared, f"/organization/projects/{archived.id}/rate_limits").status_code == 200

    def test_an_unknown_address_and_another_method_are_refused(self, shared):
        assert ask(shared, "/organization/usage/everything").status_code == 404
        url = f"{shared.url}/organization/costs"
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        assert requests.post(url, json={}, headers=headers, timeout=20).status_code == 405


class TestLists:
    def test_pages_of_projects_join_by_last_id(self, shared):
        everyone = [project.id for project in shared.organization.projects]
        path = "/organization/projects"
        assert items(shared, path, last_id, limit=5, include_archived="true") == everyone
        living = items(shared, path, last_id, limit=1)
        assert set(everyone) - set(living) == {
            project.id for project in shared.organization.projects if project.archived_at
        }

    def test_twenty_projects_are_a_page(self):
        with Simulator(at=NOON, projects=45) as simulator:
            page = ask(simulator, "/organization/projects").json()
            assert (len(page["data"]), page["has_more"]) == (20, True)

    def test_rate_limits_go_both_ways(self, shared):
        path = f"/organization/projects/{shared.organization.projects[0].id}/rate_limits"
        rows = items(shared, path, last_id, limit=1000)
        assert items(shared, path, last_id, limit=11) == rows
        back = ask(shared, path, before=rows[15], limit=5).json()
        assert [row["id"] for row in back["data"]] == rows[10:15]
        assert back["has_more"]
        start = ask(shared, path, before=rows[3], limit=5).json()
        assert ([row["id"] for row in start["data"]], start["has_more"]) == (rows[:3], False)

    def test_pages_of_admin_keys_join_by_the_last_items_id(self, shared):
        path = "/organization/admin_api_keys"
        rising = items(shared, path, lambda page: page["data"][-1]["id"], limit=1)
        falling = items(shared, path, lambda page: page["data"][-1]["id"], limit=1, order="desc")
        assert len(rising) == len(shared.organization.admin_keys)
        assert rising == falling[::-1]

    @pytest.mark.parametrize("name", ["groups", "roles"])
    def test_pages_of_the_fourth_kind_join_by_next_which_is_no_id(self, shared, name):
        path = f"/organization/{name}"
        whole = items(shared, path, lambda page: page["next"])
        assert items(shared, path, lambda page: page["next"], limit=1) == whole
        page = ask(shared, path, limit=1).json()
        assert page.keys() == {"object", "data", "has_more", "next"}
        assert ask(shared, path, after=page["data"][0]["id"]).status_code == 400

    def test_keys_of_owners_without_access_are_left_out_unless_asked_for(self, shared):
        key = next(key for key in shared.organization.keys if not key.owner_active)
        path = f"/organization/projects/{key.project_id}/api_keys"
        shown = items(shared, path, last_id)
        assert key.id not in shown
        assert items(shared, path, last_id, owner_project_access="inactive") == [key.id]
        everything = items(shared, path, last_id, owner_project_access="any")
        assert set(everything) == {*shown, key.id}

    def test_a_project_without_spend_limit_is_not_found(self, shared):
        statuses = {
            ask(shared, f"/organization/projects/{project.id}/spend_limit").status_code
            for project in shared.organization.projects
        }
        assert statuses == {200, 404}

    def test_a_project_takes_its_other_name_at_its_time(self):
        with Simulator(at=NOON, rename_at=NOON + 5) as simulator:
            before = ask(simulator, "/organization/projects").json()["data"]
            simulator.now += 5
            after = ask(simulator, "/organization/projects").json()["data"]
            changed = [(old["name"], new["name"]) for old, new in zip(before, after) if old != new]
            assert changed == [("Marketing", "Growth & Brand")]


class TestAudit:
    path = "/organization/audit_logs"

    def events(self, simulator, **query):
        after: dict[str, str] = {}
        found, pages = [], 0
        while pages < 100:
            body = ask(simulator, self.path, limit=100, **query, **after).json()
            found += body["data"]
            pages += 1
            if not body["has_more"]:
                return found
            after = {"after": body["last_id"]}
        raise AssertionError("the pages have no end")

    def test_events_come_newest_first_and_pages_join(self, shared):
        since = {"effective_at[gte]": NOON - 2 * DAY}
        whole = self.events(shared, **since)
        assert [event["effective_at"] for event in whole] == sorted(
            (event["effective_at"] for event in whole), reverse=True
        )
        assert len({event["id"] for event in whole}) == len(whole) > 100
        assert items(shared, self.path, last_id, limit=13, **since) == [
            event["id"] for event in whole
        ]

    def test_every_known_type_and_one_unknown_occurs_within_two_days(self, shared):
        from lm_openai.simulator.audit_types import KNOWN, UNKNOWN

        types = {
            event["type"] for event in self.events(shared, **{"effective_at[gt]": NOON - 2 * DAY})
        }
        assert types == {*KNOWN, UNKNOWN}
        assert len(KNOWN) == 61

    def test_the_payload_is_named_after_the_type_with_its_dots(self, shared):
        event = self.events(
            shared, **{"event_types[]": "rate_limit.updated", "effective_at[gte]": NOON - 3 * DAY}
        )[0]
        assert event["rate_limit.updated"]["changes_requested"]
        assert event["project"]["id"].startswith("proj_")

    def test_actors_are_sessions_keys_or_nobody(self, shared):
        events = self.events(shared, **{"effective_at[gte]": NOON - 3 * DAY})
        kinds = {event["actor"] and event["actor"]["type"] for event in events}
        assert kinds == {"session", "api_key", None}

    def test_once_a_day_logins_fail_in_a_burst(self, shared):
        failed = self.events(
            shared,
            **{"event_types[]": "login.failed", "effective_at[gte]": MIDNIGHT - DAY},
            **{"effective_at[lt]": MIDNIGHT},
        )
        times = [event["effective_at"] for event in failed]
        assert any(times[place] - times[place + 9] < 120 for place in range(len(times) - 9))

    def test_filters_hold_for_every_event(self, shared):
        since = {"effective_at[gte]": NOON - 3 * DAY}
        whole = self.events(shared, **since)
        event = next(item for item in whole if item["type"] == "api_key.created")
        project, resource = event["project"]["id"], event["api_key.created"]["id"]
        actor = next(item for item in whole if (item["actor"] or {}).get("type") == "session")
        user = actor["actor"]["session"]["user"]

        def ids(**query):
            return {item["id"] for item in self.events(shared, **since, **query)}

        assert ids(**{"project_ids[]": project}) == {
            item["id"] for item in whole if item.get("project", {}).get("id") == project
        }
        assert event["id"] in ids(**{"resource_ids[]": resource})
        assert actor["id"] in ids(**{"actor_ids[]": user["id"]})
        assert ids(**{"actor_ids[]": user["id"]}) == ids(**{"actor_emails[]": user["email"]})
        assert ids(**{"resource_ids[]": "nothing"}) == set()

    def test_bounds_include_and_exclude_as_they_say(self, shared):
        whole = self.events(shared, **{"effective_at[gte]": NOON - DAY})
        newest, edge = whole[0]["effective_at"], whole[20]["effective_at"]

        def oldest_and_newest(**query):
            found = self.events(shared, **query)
            return found[-1]["effective_at"], found[0]["effective_at"]

        assert oldest_and_newest(**{"effective_at[gte]": edge}) == (edge, newest)
        assert oldest_and_newest(**{"effective_at[gt]": edge})[0] > edge
        bounded = {"effective_at[gte]": NOON - DAY, "effective_at[lte]": edge}
        assert oldest_and_newest(**bounded)[1] == edge
        bounded = {"effective_at[gte]": NOON - DAY, "effective_at[lt]": edge}
        assert oldest_and_newest(**bounded)[1] < edge

    def test_before_walks_back_to_newer_events(self, shared):
        whole = self.events(shared, **{"effective_at[gte]": NOON - DAY})
        ids = [event["id"] for event in whole]
        page = ask(shared, self.path, before=ids[20], limit=5).json()
        assert [event["id"] for event in page["data"]] == ids[15:20]
        assert page["has_more"]

    def test_some_events_show_late_and_none_later_than_promised(self):
        with Simulator(at=NOON, audit_delay=900) as simulator:
            final = {
                event["id"]: event["effective_at"]
                for event in self.events(simulator, **{"effective_at[gte]": NOON - 2 * DAY})
            }
            late = []
            for moment in range(NOON - DAY, NOON - HOUR, HOUR):
                simulator.now = moment
                since = {"effective_at[gte]": moment - 3 * HOUR}
                seen = {event["id"] for event in self.events(simulator, **since)}
                late += [
                    moment - effective_at
                    for name, effective_at in final.items()
                    if moment - 3 * HOUR <= effective_at <= moment and name not in seen
                ]
        assert late
        assert max(late) < 900

    def test_the_feed_is_the_same_whoever_asks_and_whenever(self, shared):
        until = {"effective_at[gte]": NOON - DAY, "effective_at[lte]": NOON - HOUR}
        with Simulator(at=NOON + 20 * DAY, epoch=MIDNIGHT) as later:
            assert self.events(later, **until) == self.events(shared, **until)


class TestKeys:
    @pytest.mark.parametrize(
        ("key", "scope", "path"),
        [
            (NO_AUDIT_KEY, "api.audit_logs.read", "/organization/audit_logs"),
            (NO_USAGE_KEY, "api.usage.read", "/organization/costs?start_time=0"),
            (NO_MANAGEMENT_KEY, "api.management.read", "/organization/projects"),
        ],
    )
    def test_a_key_without_a_scope_is_told_which(self, shared, key, scope, path):
        answer = ask(shared, path, key=key)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (403, None)
        assert f"Missing scopes: {scope}." in error["message"]
        others = {"/organization/projects", "/organization/audit_logs"} - {path}
        assert all(ask(shared, other, key=key).status_code == 200 for other in others)

    def test_a_project_key_lacks_the_scope(self, shared):
        answer = ask(shared, f"{USAGE}?start_time=0", key="sk-proj-abcdefghijklmnop")
        assert answer.status_code == 403
        assert "Missing scopes: api.usage.read." in answer.json()["error"]["message"]

    def test_any_other_key_is_refused_and_shown_masked_only(self, shared):
        answer = ask(shared, "/organization/projects", key="sk-admin-somebody-elses-9999")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (401, "invalid_api_key")
        assert "sk-admin" in error["message"]
        assert "somebody" not in error["message"]

    def test_no_key_is_refused(self, shared):
        answer = requests.get(f"{shared.url}/organization/projects", timeout=20)
        assert answer.status_code == 401
        assert "didn't provide an API key" in answer.json()["error"]["message"]


class TestFaults:
    path = "/organization/projects"

    def test_a_count_of_faults_ends_and_other_paths_are_spared(self, simulator):
        simulator.fault("429", path="*/projects", times=2, retry_after=1)
        statuses = [ask(simulator, self.path).status_code for _ in range(3)]
        assert ask(simulator, "/organization/users").status_code == 200
        assert statuses == [429, 429, 200]
        assert [request.status for request in simulator.requests] == [429, 429, 200, 200]

    def test_faults_can_be_given_at_the_start_and_leave_the_first_answers_alone(self):
        with Simulator(at=NOON, faults=[Fault("500", skip=1, times=1)]) as simulator:
            statuses = [ask(simulator, self.path).status_code for _ in range(3)]
        assert statuses == [200, 500, 200]

    def test_throttling_says_when_to_come_back_only_if_told_to(self, simulator):
        simulator.fault("429", times=1)
        simulator.fault("429", times=1, retry_after="Sun, 22 Nov 2026 12:01:00 GMT")
        silent, telling = ask(simulator, self.path), ask(simulator, self.path)
        assert "Retry-After" not in silent.headers
        assert telling.headers["Retry-After"] == "Sun, 22 Nov 2026 12:01:00 GMT"
        assert "slow down" in silent.json()["error"]["message"]

    @pytest.mark.parametrize(
        ("kind", "status", "code"),
        [
            ("quota", 429, "insufficient_quota"),
            ("500", 500, None),
            ("503", 503, "server_is_overloaded"),
            ("401", 401, "invalid_api_key"),
            ("scope", 401, None),
            ("expired-page", 400, "invalid_request_error"),
        ],
    )
    def test_errors_have_the_shape_of_the_api(self, simulator, kind, status, code):
        simulator.fault(kind)
        answer = ask(simulator, f"{USAGE}?start_time=0&page=x")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)

    def test_a_gateway_answers_in_html(self, simulator):
        for kind, status in (("gateway", 502), ("html", 200)):
            simulator.clear()
            simulator.fault(kind)
            answer = ask(simulator, self.path)
            assert (answer.status_code, answer.headers["Content-Type"]) == (status, "text/html")
            assert answer.text.startswith("<html>")

    def test_truncated_json_is_no_json(self, simulator):
        simulator.fault("truncated")
        with pytest.raises(json.JSONDecodeError):
            json.loads(ask(simulator, self.path).text)

    def test_a_connection_ends_in_the_middle_or_before_the_answer(self, simulator):
        for kind in ("cut", "closed"):
            simulator.clear()
            simulator.fault(kind, times=1)
            asked = UsageQuery(simulator.url + self.path)
            asked.add_header("Authorization", f"Bearer {ADMIN_KEY}")
            with pytest.raises((HTTPException, OSError)), urlopen(asked) as answer:
                answer.read()
            assert ask(simulator, self.path).status_code == 200
        assert [request.status for request in simulator.requests] == [0, 200]

    def test_a_slow_answer_comes_after_the_time_it_was_told(self, simulator):
        simulator.fault("slow", seconds=5)
        url, headers = simulator.url + self.path, {"Authorization": f"Bearer {ADMIN_KEY}"}
        with pytest.raises(requests.Timeout):
            requests.get(url, headers=headers, timeout=0.2)

    def test_a_repeated_cursor_never_ends(self, simulator):
        simulator.fault("repeated-cursor", skip=1)
        first = ask(simulator, self.path, limit=2).json()
        second = ask(simulator, self.path, limit=2, after=first["last_id"]).json()
        assert (second["has_more"], second["last_id"]) == (True, first["last_id"])

    def test_more_pages_without_a_cursor(self, simulator):
        simulator.fault("no-cursor")
        pages = [
            ask(simulator, self.path).json(),
            ask(simulator, "/organization/groups").json(),
            ask(simulator, f"{USAGE}?start_time={MIDNIGHT}").json(),
        ]
        assert all(page["has_more"] for page in pages)
        assert (pages[0]["last_id"], pages[1]["next"], pages[2]["next_page"]) == (None,) * 3

    def test_fields_can_be_missing(self, simulator):
        simulator.fault("missing", times=1)
        simulator.fault("missing", field="output_tokens")
        path = f"{USAGE}?start_time={MIDNIGHT}"
        assert "data" not in ask(simulator, path).json()
        row = ask(simulator, path).json()["data"][0]["results"][0]
        assert "output_tokens" not in row
        assert "input_tokens" in row

    def test_an_answer_can_be_huge_after_decompression(self, simulator):
        simulator.fault("huge", size=3)
        answer = ask(simulator, self.path)
        assert len(answer.content) > 3 * 1024 * 1024
        assert int(answer.headers["Content-Length"]) < 1024 * 1024

    def test_a_redirect_leads_elsewhere(self, simulator):
        simulator.fault("redirect", location="http://127.0.0.1:9/stolen")
        answer = ask(simulator, self.path)
        assert (answer.status_code, answer.headers["Location"]) == (
            302,
            "http://127.0.0.1:9/stolen",
        )

    def test_an_unsupported_grouping_of_costs_concerns_that_grouping_only(self, simulator):
        simulator.fault("grouping", path="*/costs")
        costs = partial(ask, simulator, "/organization/costs", start_time=MIDNIGHT - DAY)
        assert costs(**{"group_by[]": "user_id"}).status_code == 200
        assert costs(**{"group_by[]": ["user_id", "project_id"]}).status_code == 400

    def test_a_fault_reads_from_one_word(self):
        assert parse_fault("429:*/costs:times=2:retry_after=1") == Fault(
            "429", path="*/costs", times=2, retry_after="1"
        )
        assert parse_fault("closed") == Fault("closed")
        assert parse_fault("slow:seconds=0.5") == Fault("slow", seconds=0.5)
        assert parse_fault("redirect:location=http://127.0.0.1:9/x") == Fault(
            "redirect", location="http://127.0.0.1:9/x"
        )

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("truncate", "unknown fault 'truncate': did you mean truncated?"),
            ("299", "unknown fault '299'"),
            ("500:timse=2", "unknown setting of a fault 'timse': did you mean times?"),
            ("500:times=two", "times=two of a fault is not a number"),
            ("500:kind=429", "unknown setting of a fault 'kind'"),
        ],
    )
    def test_unknown_words_are_refused_by_name(self, text, says):
        with pytest.raises(ValueError, match="fault") as refusal:
            parse_fault(text)
        assert says in str(refusal.value)


class TestWire:
    def test_a_connection_is_kept_alive(self, shared):
        target = urlsplit(shared.url)
        with closing(socket.create_connection((target.hostname, target.port), 10)) as connection:
            replies = []
            for _ in range(2):
                request = f"GET /v1/nope HTTP/1.1\r\nHost: {target.netloc}\r\n\r\n"
                connection.sendall(request.encode())
                replies.append(connection.recv(65536).split(b"\r\n")[0])
        assert replies == [b"HTTP/1.1 404 Not Found"] * 2

    def test_every_answer_has_the_simulators_date_and_a_request_id_of_its_own(self, shared):
        answers = [ask(shared, "/organization/projects"), ask(shared, "/nope")]
        for answer in answers:
            assert parsedate_to_datetime(answer.headers["Date"]).timestamp() == NOON
        assert len({answer.headers["x-request-id"] for answer in answers}) == 2

    def test_a_large_answer_is_compressed_for_those_who_ask(self, shared):
        url = f"{shared.url}/organization/users"
        plain, packed = (
            requests.get(
                url,
                headers={"Authorization": f"Bearer {ADMIN_KEY}", "Accept-Encoding": coding},
                timeout=20,
            )
            for coding in ("identity", "gzip")
        )
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert plain.json() == packed.json()

    def test_requests_are_recorded_as_they_came(self, simulator):
        ask(simulator, "/organization/projects", limit=3)
        assert simulator.requests == [
            Request("GET", "/v1/organization/projects", {"limit": ["3"]}, 200)
        ]
        simulator.clear()
        assert simulator.requests == []

    def test_it_stops_even_for_connections_that_are_open_and_starts_on_the_same_port(self):
        simulator = Simulator(at=NOON)
        with simulator, requests.Session() as session:
            session.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
            url = f"{simulator.url}/organization/projects"
            assert session.get(url, timeout=20).status_code == 200
            simulator.stop()
            with pytest.raises(requests.ConnectionError):
                session.get(url, timeout=20)
            simulator.start()
            assert session.get(url, timeout=20).status_code == 200
            assert simulator.url in url

    def test_its_clock_follows_the_one_it_was_given_until_it_is_set(self):
        ticks = iter(range(NOON, NOON + 9))
        simulator = Simulator(clock=lambda: next(ticks))
        first = simulator.now
        assert simulator.now > first
        simulator.now = NOON + DAY
        assert simulator.now == simulator.now == NOON + DAY


def test_it_runs_until_a_signal_and_prints_how_to_reach_it():
    program = (
        "import sys\n"
        "from lm_openai.simulator import Simulator, run_forever\n"
        f"run_forever(Simulator(at={NOON}), sys.stdout)\n"
        "print('stopped cleanly')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert isinstance(process.stdout, io.TextIOBase)
    url = process.stdout.readline().strip().removeprefix("OPENAI_BASE_URL=")
    key = process.stdout.readline().strip().removeprefix("OPENAI_ADMIN_KEY=")
    headers = {"Authorization": f"Bearer {key}"}
    assert requests.get(f"{url}/organization/projects", headers=headers, timeout=20).ok
    process.terminate()
    rest, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert rest.endswith("stopped cleanly\n")


def test_it_needs_nothing_but_the_standard_library():
    program = (
        "import sys\n"
        "before = set(sys.modules)\n"
        "import lm_openai.simulator\n"
        "found = {name for name in set(sys.modules) - before}\n"
        "own = {name for name in found if name.split('.')[0] == 'lm_openai'}\n"
        "outside = {name.split('.')[0] for name in found - own} - sys.stdlib_module_names\n"
        "print(sorted(outside))\n"
        "print(sorted(n for n in own if not n.startswith('lm_openai.simulator')))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["[]", "['lm_openai']"]
