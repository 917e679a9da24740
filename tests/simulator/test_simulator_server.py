"""The simulator over HTTP: pages, keys, invalid requests, faults and encodings."""

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
from urllib.request import Request as UrllibRequest
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


def get(simulator, path, key=ADMIN_KEY, **query):
    headers = {"Authorization": f"Bearer {key}"}
    return requests.get(
        simulator.url + path, params=query, headers=headers, timeout=20, allow_redirects=False
    )


def buckets(simulator, path, **query):
    """Return all buckets of a query, page after page, and the number of pages."""
    page: dict[str, str] = {}
    found, pages = [], 0
    while pages < 200:
        response = get(simulator, path, **query, **page)
        assert response.status_code == 200, response.text
        body, pages = response.json(), pages + 1
        found += body["data"]
        assert body["has_more"] == (body["next_page"] is not None)
        if not body["has_more"]:
            return found, pages
        page = {"page": body["next_page"]}
    raise AssertionError("paging did not end")


def items(simulator, path, cursor, **query):
    """Return all ids of a list; `cursor` reads the next `after` from a page."""
    after: dict[str, str] = {}
    found, pages = [], 0
    while pages < 300:
        body = get(simulator, path, **query, **after).json()
        found += [item["id"] for item in body["data"]]
        pages += 1
        if not body["has_more"]:
            return found
        after = {"after": cursor(body)}
    raise AssertionError("paging did not end")


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
    def test_the_page_size_has_a_default_and_a_maximum(self, shared, width, default, maximum):
        seconds = {"1m": 60, "1h": HOUR, "1d": DAY}[width]
        query = {"start_time": NOON - (maximum + 9) * seconds, "bucket_width": width}
        get_usage = partial(get, shared, "/organization/usage/moderations", **query)
        assert len(get_usage().json()["data"]) == default
        assert len(get_usage(limit=maximum).json()["data"]) == maximum
        refused = get_usage(limit=maximum + 1)
        assert refused.status_code == 400
        assert refused.json()["error"]["code"] == "integer_above_max_value"
        assert get_usage(limit=0).json()["error"]["code"] == "integer_below_min_value"

    def test_the_first_bucket_is_clipped_to_the_minute_and_counts_towards_the_limit(self, shared):
        start = MIDNIGHT - 3 * DAY + 5 * HOUR + 42
        page = get(shared, USAGE, start_time=start, limit=2).json()["data"]
        times = [(bucket["start_time"], bucket["end_time"]) for bucket in page]
        first = MIDNIGHT - 2 * DAY
        assert times == [(start - 42, first), (first, first + DAY)]

    def test_the_last_bucket_is_clipped_to_now(self, shared):
        for end in ({}, {"end_time": MIDNIGHT + 5 * DAY}):
            page = get(shared, USAGE, start_time=MIDNIGHT - DAY, **end).json()["data"]
            assert [bucket["end_time"] for bucket in page] == [MIDNIGHT, NOON]

    def test_buckets_have_iso_times_that_the_contract_does_not_declare(self, shared):
        bucket = get(shared, USAGE, start_time=MIDNIGHT - DAY).json()["data"][0]
        assert bucket["start_time_iso"] == "2026-11-21T00:00:00+00:00"
        assert bucket["end_time_iso"] == "2026-11-22T00:00:00+00:00"

    def test_a_page_token_is_valid_only_for_its_query(self, shared):
        query = {"start_time": NOON - 4 * HOUR, "bucket_width": "1h", "limit": 2}
        token = get(shared, USAGE, **query).json()["next_page"]
        assert get(shared, USAGE, **query, page=token).status_code == 200
        changed = (
            {**query, "limit": 3},
            {**query, "start_time": NOON - 4 * HOUR + 60},
            {**query, "group_by[]": "model"},
        )
        responses = [get(shared, USAGE, **other, page=token) for other in changed]
        responses.append(get(shared, "/organization/usage/embeddings", **query, page=token))
        assert [response.status_code for response in responses] == [400] * 4
        assert all(response.json() == BAD_PAGE for response in responses)

    def test_a_modified_page_token_is_refused(self, shared):
        query = {"start_time": NOON - 4 * HOUR, "bucket_width": "1h", "limit": 2}
        token = get(shared, USAGE, **query).json()["next_page"]
        packed = bytearray(base64.b64decode(token.removeprefix("page_")))
        assert len(packed) == 20
        packed[-1] ^= 1
        moved = "page_" + base64.b64encode(packed).decode()
        for wrong in (moved, token[:-4], token.rstrip("="), "page_", "page_!!!!", "nonsense"):
            response = get(shared, USAGE, **query, page=wrong)
            assert (response.status_code, response.json()) == (400, BAD_PAGE), wrong

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

    def test_a_page_token_expires_after_its_lifetime(self):
        with Simulator(at=NOON, token_life=60) as simulator:
            query = {"start_time": NOON - 4 * HOUR, "bucket_width": "1h", "limit": 2}
            token = get(simulator, USAGE, **query).json()["next_page"]
            simulator.now += 60
            assert get(simulator, USAGE, **query, page=token).status_code == 200
            simulator.now += 1
            assert get(simulator, USAGE, **query, page=token).json() == BAD_PAGE

    def test_a_range_without_an_end_grows_with_the_clock(self, simulator):
        query = {"start_time": NOON - 2 * HOUR, "bucket_width": "1h", "limit": 2}
        token = get(simulator, USAGE, **query).json()["next_page"]
        simulator.now += HOUR
        page = get(simulator, USAGE, **query, page=token).json()
        assert page["data"][0]["start_time"] == NOON - NOON % HOUR
        assert page["data"][-1]["end_time"] == NOON + HOUR

    def test_three_spellings_of_an_array_mean_the_same(self, shared):
        query = {"start_time": MIDNIGHT}
        spellings = (
            {"group_by": ["project_id", "model"]},
            {"group_by[]": ["project_id", "model"]},
            {"group_by": "project_id,model"},
        )
        responses = [get(shared, USAGE, **query, **spelling).json() for spelling in spellings]
        assert responses[0]["data"][0]["results"][0]["model"] is not None
        assert responses[0] == responses[1] == responses[2]

    def test_costs_accept_up_to_180_daily_buckets(self, shared):
        start = MIDNIGHT - 200 * DAY
        costs = partial(get, shared, "/organization/costs", start_time=start)
        assert len(costs().json()["data"]) == 7
        assert len(costs(limit=180).json()["data"]) == 180
        assert costs(limit=181).status_code == 400
        assert costs(bucket_width="1h").status_code == 400

    def test_costs_refuse_a_start_and_an_end_on_the_same_day(self, shared):
        costs = partial(get, shared, "/organization/costs", start_time=MIDNIGHT)
        refused = costs(end_time=MIDNIGHT + DAY - 1)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "end_time")
        assert costs(end_time=MIDNIGHT + DAY).status_code == 200

    def test_costs_filter_by_a_line_item_that_contains_a_comma(self, shared):
        costs = partial(
            get,
            shared,
            "/organization/costs",
            start_time=MIDNIGHT - DAY,
            group_by="line_item",
        )
        names = {row["line_item"] for row in costs().json()["data"][0]["results"]}
        name = sorted(name for name in names if name and ", " in name)[0]
        found = costs(**{"line_items[]": name}).json()["data"][0]["results"]
        assert {row["line_item"] for row in found} == {name}


class TestInvalidRequests:
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
    def test_the_error_names_the_wrong_parameter(self, shared, path, query, code, param):
        response = get(shared, path, **query)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (400, code)
        assert param is None or error["param"] == param

    def test_an_unknown_project_is_not_found_and_members_of_an_archived_one_are_refused(
        self, shared
    ):
        archived = next(item for item in shared.organization.projects if item.archived_at)
        for path in ("users", "service_accounts"):
            response = get(shared, f"/organization/projects/{archived.id}/{path}")
            assert response.status_code == 400
        assert get(shared, "/organization/projects/proj_none/users").status_code == 404
        assert get(shared, f"/organization/projects/{archived.id}/rate_limits").status_code == 200

    def test_an_unknown_path_and_a_wrong_method_are_refused(self, shared):
        assert get(shared, "/organization/usage/everything").status_code == 404
        url = f"{shared.url}/organization/costs"
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        assert requests.post(url, json={}, headers=headers, timeout=20).status_code == 405


class TestLists:
    def test_pages_of_projects_continue_after_last_id(self, shared):
        all_ids = [project.id for project in shared.organization.projects]
        path = "/organization/projects"
        assert items(shared, path, last_id, limit=5, include_archived="true") == all_ids
        active = items(shared, path, last_id, limit=1)
        assert set(all_ids) - set(active) == {
            project.id for project in shared.organization.projects if project.archived_at
        }

    def test_a_page_has_twenty_projects_by_default(self):
        with Simulator(at=NOON, projects=45) as simulator:
            page = get(simulator, "/organization/projects").json()
            assert (len(page["data"]), page["has_more"]) == (20, True)

    def test_rate_limits_page_forward_and_backward(self, shared):
        path = f"/organization/projects/{shared.organization.projects[0].id}/rate_limits"
        rows = items(shared, path, last_id, limit=1000)
        assert items(shared, path, last_id, limit=11) == rows
        back = get(shared, path, before=rows[15], limit=5).json()
        assert [row["id"] for row in back["data"]] == rows[10:15]
        assert back["has_more"]
        start = get(shared, path, before=rows[3], limit=5).json()
        assert ([row["id"] for row in start["data"]], start["has_more"]) == (rows[:3], False)

    def test_pages_of_admin_keys_continue_after_the_last_items_id(self, shared):
        path = "/organization/admin_api_keys"
        rising = items(shared, path, lambda page: page["data"][-1]["id"], limit=1)
        falling = items(shared, path, lambda page: page["data"][-1]["id"], limit=1, order="desc")
        assert len(rising) == len(shared.organization.admin_keys)
        assert rising == falling[::-1]

    @pytest.mark.parametrize("name", ["groups", "roles"])
    def test_pages_of_groups_and_roles_continue_after_next_not_after_an_id(self, shared, name):
        path = f"/organization/{name}"
        whole = items(shared, path, lambda page: page["next"])
        assert items(shared, path, lambda page: page["next"], limit=1) == whole
        page = get(shared, path, limit=1).json()
        assert page.keys() == {"object", "data", "has_more", "next"}
        assert get(shared, path, after=page["data"][0]["id"]).status_code == 400

    def test_keys_of_owners_without_access_are_omitted_by_default(self, shared):
        key = next(key for key in shared.organization.keys if not key.owner_active)
        path = f"/organization/projects/{key.project_id}/api_keys"
        shown = items(shared, path, last_id)
        assert key.id not in shown
        assert items(shared, path, last_id, owner_project_access="inactive") == [key.id]
        everything = items(shared, path, last_id, owner_project_access="any")
        assert set(everything) == {*shown, key.id}

    def test_a_missing_spend_limit_is_not_found(self, shared):
        statuses = {
            get(shared, f"/organization/projects/{project.id}/spend_limit").status_code
            for project in shared.organization.projects
        }
        assert statuses == {200, 404}

    def test_a_project_is_renamed_at_the_time_set(self):
        with Simulator(at=NOON, rename_at=NOON + 5) as simulator:
            before = get(simulator, "/organization/projects").json()["data"]
            simulator.now += 5
            after = get(simulator, "/organization/projects").json()["data"]
            changed = [(old["name"], new["name"]) for old, new in zip(before, after) if old != new]
            assert changed == [("Marketing", "Growth & Brand")]


class TestAudit:
    path = "/organization/audit_logs"

    def events(self, simulator, **query):
        after: dict[str, str] = {}
        found, pages = [], 0
        while pages < 100:
            body = get(simulator, self.path, limit=100, **query, **after).json()
            found += body["data"]
            pages += 1
            if not body["has_more"]:
                return found
            after = {"after": body["last_id"]}
        raise AssertionError("paging did not end")

    def test_events_are_newest_first_and_pages_have_no_gap(self, shared):
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

    def test_the_payloads_field_has_the_name_of_the_type(self, shared):
        event = self.events(
            shared, **{"event_types[]": "rate_limit.updated", "effective_at[gte]": NOON - 3 * DAY}
        )[0]
        assert event["rate_limit.updated"]["changes_requested"]
        assert event["project"]["id"].startswith("proj_")

    def test_actors_are_sessions_keys_or_null(self, shared):
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

    def test_every_event_matches_the_filters(self, shared):
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

    def test_time_bounds_gte_and_lte_are_inclusive_gt_and_lt_are_not(self, shared):
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

    def test_before_returns_newer_events(self, shared):
        whole = self.events(shared, **{"effective_at[gte]": NOON - DAY})
        ids = [event["id"] for event in whole]
        page = get(shared, self.path, before=ids[20], limit=5).json()
        assert [event["id"] for event in page["data"]] == ids[15:20]
        assert page["has_more"]

    def test_some_events_appear_late_but_within_the_audit_delay(self):
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

    def test_past_events_are_the_same_at_any_later_time(self, shared):
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
    def test_the_error_names_the_missing_scope(self, shared, key, scope, path):
        response = get(shared, path, key=key)
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (403, None)
        assert f"Missing scopes: {scope}." in error["message"]
        others = {"/organization/projects", "/organization/audit_logs"} - {path}
        assert all(get(shared, other, key=key).status_code == 200 for other in others)

    def test_a_project_key_lacks_the_scope(self, shared):
        response = get(shared, f"{USAGE}?start_time=0", key="sk-proj-abcdefghijklmnop")
        assert response.status_code == 403
        assert "Missing scopes: api.usage.read." in response.json()["error"]["message"]

    def test_an_unknown_key_is_refused_and_masked_in_the_error(self, shared):
        response = get(shared, "/organization/projects", key="sk-admin-somebody-elses-9999")
        error = response.json()["error"]
        assert (response.status_code, error["code"]) == (401, "invalid_api_key")
        assert "sk-admin" in error["message"]
        assert "somebody" not in error["message"]

    def test_a_request_without_a_key_is_refused(self, shared):
        response = requests.get(f"{shared.url}/organization/projects", timeout=20)
        assert response.status_code == 401
        assert "didn't provide an API key" in response.json()["error"]["message"]


class TestFaults:
    path = "/organization/projects"

    def test_a_fault_affects_its_path_a_given_number_of_times(self, simulator):
        simulator.fault("429", path="*/projects", times=2, retry_after=1)
        statuses = [get(simulator, self.path).status_code for _ in range(3)]
        assert get(simulator, "/organization/users").status_code == 200
        assert statuses == [429, 429, 200]
        assert [request.status for request in simulator.requests] == [429, 429, 200, 200]

    def test_a_fault_given_at_the_start_can_skip_the_first_responses(self):
        with Simulator(at=NOON, faults=[Fault("500", skip=1, times=1)]) as simulator:
            statuses = [get(simulator, self.path).status_code for _ in range(3)]
        assert statuses == [200, 500, 200]

    def test_throttling_has_a_retry_after_header_only_if_it_is_set(self, simulator):
        simulator.fault("429", times=1)
        simulator.fault("429", times=1, retry_after="Sun, 22 Nov 2026 12:01:00 GMT")
        without, with_header = get(simulator, self.path), get(simulator, self.path)
        assert "Retry-After" not in without.headers
        assert with_header.headers["Retry-After"] == "Sun, 22 Nov 2026 12:01:00 GMT"
        assert "slow down" in without.json()["error"]["message"]

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
        response = get(simulator, f"{USAGE}?start_time=0&page=x")
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)

    def test_a_gateway_responds_in_html(self, simulator):
        for kind, status in (("gateway", 502), ("html", 200)):
            simulator.clear()
            simulator.fault(kind)
            response = get(simulator, self.path)
            assert (response.status_code, response.headers["Content-Type"]) == (status, "text/html")
            assert response.text.startswith("<html>")

    def test_truncated_json_cannot_be_parsed(self, simulator):
        simulator.fault("truncated")
        with pytest.raises(json.JSONDecodeError):
            json.loads(get(simulator, self.path).text)

    def test_a_connection_can_close_during_or_before_the_response(self, simulator):
        for kind in ("cut", "closed"):
            simulator.clear()
            simulator.fault(kind, times=1)
            request = UrllibRequest(simulator.url + self.path)
            request.add_header("Authorization", f"Bearer {ADMIN_KEY}")
            with pytest.raises((HTTPException, OSError)), urlopen(request) as response:
                response.read()
            assert get(simulator, self.path).status_code == 200
        assert [request.status for request in simulator.requests] == [0, 200]

    def test_a_slow_response_makes_the_client_time_out(self, simulator):
        simulator.fault("slow", seconds=5)
        url, headers = simulator.url + self.path, {"Authorization": f"Bearer {ADMIN_KEY}"}
        with pytest.raises(requests.Timeout):
            requests.get(url, headers=headers, timeout=0.2)

    def test_a_repeated_cursor_points_to_the_same_page(self, simulator):
        simulator.fault("repeated-cursor", skip=1)
        first = get(simulator, self.path, limit=2).json()
        second = get(simulator, self.path, limit=2, after=first["last_id"]).json()
        assert (second["has_more"], second["last_id"]) == (True, first["last_id"])

    def test_has_more_can_come_without_a_cursor(self, simulator):
        simulator.fault("no-cursor")
        pages = [
            get(simulator, self.path).json(),
            get(simulator, "/organization/groups").json(),
            get(simulator, f"{USAGE}?start_time={MIDNIGHT}").json(),
        ]
        assert all(page["has_more"] for page in pages)
        assert (pages[0]["last_id"], pages[1]["next"], pages[2]["next_page"]) == (None,) * 3

    def test_fields_can_be_missing(self, simulator):
        simulator.fault("missing", times=1)
        simulator.fault("missing", field="output_tokens")
        path = f"{USAGE}?start_time={MIDNIGHT}"
        assert "data" not in get(simulator, path).json()
        row = get(simulator, path).json()["data"][0]["results"][0]
        assert "output_tokens" not in row
        assert "input_tokens" in row

    def test_a_response_can_be_huge_after_decompression(self, simulator):
        simulator.fault("huge", size=3)
        response = get(simulator, self.path)
        assert len(response.content) > 3 * 1024 * 1024
        assert int(response.headers["Content-Length"]) < 1024 * 1024

    def test_a_redirect_has_the_location_set(self, simulator):
        simulator.fault("redirect", location="http://127.0.0.1:9/stolen")
        response = get(simulator, self.path)
        assert (response.status_code, response.headers["Location"]) == (
            302,
            "http://127.0.0.1:9/stolen",
        )

    def test_the_grouping_fault_affects_only_that_grouping_of_costs(self, simulator):
        simulator.fault("grouping", path="*/costs")
        costs = partial(get, simulator, "/organization/costs", start_time=MIDNIGHT - DAY)
        assert costs(**{"group_by[]": "user_id"}).status_code == 200
        assert costs(**{"group_by[]": ["user_id", "project_id"]}).status_code == 400
        simulator.fault("grouping", path="*/costs", field="api_key_id")
        assert costs(**{"group_by[]": "project_id"}).status_code == 200
        assert costs(**{"group_by[]": ["project_id", "api_key_id"]}).status_code == 400

    def test_the_replace_fault_sets_a_field_of_all_or_of_the_first_rows(self, simulator):
        simulator.fault("replace", "*/projects", times=1, field="name", value='"X"')
        simulator.fault("replace", "*/projects", times=1, field="name", value="7", rows=1)
        simulator.fault("missing", "*/projects", times=1, field="id", rows=2)
        first, second, third = (get(simulator, self.path).json()["data"] for _ in range(3))
        assert {row["name"] for row in first} == {"X"}
        assert second[0]["name"] == 7
        assert {type(row["name"]) for row in second[1:]} == {str}
        assert ["id" in row for row in third[:4]] == [False, False, True, True]

    def test_the_rate_fault_answers_429_beyond_its_requests_per_second(self, simulator):
        simulator.fault("rate", "*/projects", per_second=2)
        statuses = [get(simulator, self.path).status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]

    def test_the_hole_fault_removes_one_bucket(self, simulator):
        simulator.fault("hole", "*/costs", start=MIDNIGHT - 2 * DAY)
        page = get(simulator, "/organization/costs", start_time=MIDNIGHT - 3 * DAY, limit=3).json()
        days = [bucket["start_time"] for bucket in page["data"]]
        assert days == [MIDNIGHT - 3 * DAY, MIDNIGHT - DAY]
        assert parse_fault(f"hole:start={MIDNIGHT}").start == MIDNIGHT

    @pytest.mark.parametrize("rows", [None, 2])
    def test_a_hole_without_a_start_keeps_the_first_buckets(self, simulator, rows):
        simulator.fault("hole", "*/costs", rows=rows)
        page = get(simulator, "/organization/costs", start_time=MIDNIGHT - 5 * DAY, limit=5).json()
        assert len(page["data"]) == (rows or 0)

    def test_a_fault_is_parsed_from_one_word(self):
        assert parse_fault("429:*/costs:times=2:retry_after=1") == Fault(
            "429", path="*/costs", times=2, retry_after="1"
        )
        assert parse_fault("closed") == Fault("closed")
        assert parse_fault("slow:seconds=0.5") == Fault("slow", seconds=0.5)
        assert parse_fault("redirect:location=http://127.0.0.1:9/x") == Fault(
            "redirect", location="http://127.0.0.1:9/x"
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("truncate", "unknown fault kind 'truncate'; did you mean truncated?"),
            ("299", "unknown fault kind '299'"),
            ("500:timse=2", "unknown fault setting 'timse'; did you mean times?"),
            ("500:times=two", "fault setting times: 'two' is not a valid number"),
            ("500:kind=429", "unknown fault setting 'kind'"),
        ],
    )
    def test_the_error_for_a_wrong_fault_names_the_wrong_word(self, text, message):
        with pytest.raises(ValueError, match="fault") as refusal:
            parse_fault(text)
        assert message in str(refusal.value)


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

    def test_every_response_has_the_simulated_date_and_a_unique_request_id(self, shared):
        responses = [get(shared, "/organization/projects"), get(shared, "/nope")]
        for response in responses:
            assert parsedate_to_datetime(response.headers["Date"]).timestamp() == NOON
        assert len({response.headers["x-request-id"] for response in responses}) == 2

    def test_a_large_response_is_compressed_if_the_client_accepts_gzip(self, shared):
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

    def test_requests_are_recorded(self, simulator):
        get(simulator, "/organization/projects", limit=3)
        assert simulator.requests == [
            Request("GET", "/v1/organization/projects", {"limit": ["3"]}, 200)
        ]
        simulator.clear()
        assert simulator.requests == []

    def test_a_stop_closes_open_connections_and_a_restart_uses_the_same_port(self):
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

    def test_the_clock_argument_gives_the_time_until_now_is_set(self):
        ticks = iter(range(NOON, NOON + 9))
        simulator = Simulator(clock=lambda: next(ticks))
        first = simulator.now
        assert simulator.now > first
        simulator.now = NOON + DAY
        assert simulator.now == simulator.now == NOON + DAY


def test_run_forever_prints_url_and_key_and_stops_on_a_signal():
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


def test_the_simulator_imports_only_the_standard_library():
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
