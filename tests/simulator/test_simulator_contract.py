"""The simulator compared with the vendor's SDK and with the vendor's published contract."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from lm_openai.simulator import ADMIN_KEY, NO_AUDIT_KEY, Simulator
from lm_openai.simulator.audit_types import KNOWN, UNKNOWN

# the oldest supported jsonschema has no registry of schemas
pytestmark = pytest.mark.slow

NOON = 1795348800
DAY = 86400
START = NOON - NOON % DAY - 2 * DAY
RESULT_OBJECTS = {"file_search_calls": "file_searches", "web_search_calls": "web_searches"}
DIMENSIONS = {
    "completions": "project_id user_id api_key_id model batch service_tier api_source",
    "decisions": "project_id user_id api_key_id model batch service_tier api_source",
    "embeddings": "project_id user_id api_key_id model",
    "moderations": "project_id user_id api_key_id model",
    "images": "project_id user_id api_key_id model size source",
    "audio_speeches": "project_id user_id api_key_id model",
    "audio_transcriptions": "project_id user_id api_key_id model",
    "vector_stores": "project_id",
    "code_interpreter_sessions": "project_id",
    "file_search_calls": "project_id user_id api_key_id vector_store_id",
    "web_search_calls": "project_id user_id api_key_id model context_level api_source",
}


class Contract:
    """Published contract that responses are checked against."""

    def __init__(self, specification: dict[str, Any]) -> None:
        self.paths = specification["paths"]
        _allow_known_differences(specification["components"]["schemas"])
        resource = DRAFT202012.create_resource(specification)
        self.registry: Registry[Any] = Registry().with_resource("urn:spec", resource)

    def violations(self, path: str, status: int, body: Any) -> list[str]:
        reference = "#/components/schemas/ErrorResponse"
        if status == 200:
            reference = self._response_schema(path.removeprefix("/v1"))
        validator = Draft202012Validator({"$ref": f"urn:spec{reference}"}, registry=self.registry)
        return [
            f"{path}: {error.json_path} {error.message}" for error in validator.iter_errors(body)
        ]

    def _response_schema(self, path: str) -> str:
        """Return the schema of a path; decisions, a newer endpoint, has that of completions."""
        path = path.replace("/usage/decisions", "/usage/completions")
        for template, operations in self.paths.items():
            if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                content = operations["get"]["responses"]["200"]["content"]
                return str(content["application/json"]["schema"]["$ref"])
        raise AssertionError(f"the contract has no path for {path}")


def _allow_known_differences(schemas: dict[str, Any]) -> None:
    """Allow string amounts, unknown audit types and decisions, which the API sends today."""
    amount = schemas["CostsResult"]["properties"]["amount"]["properties"]
    amount["value"] = {"type": "string", "pattern": r"^-?\d+\.\d+$"}
    schemas["AuditLogEventType"]["enum"] += [UNKNOWN, *KNOWN]
    kinds = schemas["UsageCompletionsResult"]["properties"]["object"]
    kinds["enum"] = [*kinds["enum"], "organization.usage.decisions.result"]


class Recorder:
    """Response hook of the SDK's HTTP client that keeps every response."""

    def __init__(self) -> None:
        self.responses: list[tuple[str, int, Any]] = []

    def __call__(self, response: Any) -> None:
        response.read()
        path = urlsplit(str(response.request.url)).path
        self.responses.append((path, response.status_code, json.loads(response.text)))


@pytest.fixture(scope="module")
def contract(oracle):
    return Contract(oracle("openai-admin.openapi.json"))


@pytest.fixture(scope="module")
def simulator():
    with Simulator(at=NOON) as simulator:
        yield simulator


@pytest.fixture
def recorder(contract):
    """Recorder of a test's responses; each one must match the contract."""
    recorder = Recorder()
    yield recorder
    assert recorder.responses
    violations = [
        found for response in recorder.responses for found in contract.violations(*response)
    ]
    assert violations == []


@pytest.fixture
def organization(simulator, recorder):
    with client(simulator, recorder) as sdk:
        yield sdk.admin.organization


def client(simulator, recorder, key=ADMIN_KEY, strict=True):
    transport = openai.DefaultHttpxClient(event_hooks={"response": [recorder]}, trust_env=False)
    return openai.OpenAI(
        admin_api_key=key,
        base_url=simulator.url,
        max_retries=0,
        http_client=transport,
        _strict_response_validation=strict,
    )


class TestUsage:
    @pytest.mark.parametrize("kind", DIMENSIONS)
    def test_each_kind_ungrouped_and_by_every_dimension(self, organization, recorder, kind):
        endpoint = getattr(organization.usage, kind)
        endpoint(start_time=START, limit=31)
        for dimension in DIMENSIONS[kind].split():
            endpoint(start_time=START, group_by=[dimension], limit=31)
        endpoint(start_time=START, group_by=DIMENSIONS[kind].split(), limit=31)
        results = [rows_of(body) for _, _, body in recorder.responses]
        name = RESULT_OBJECTS.get(kind, kind)
        for rows in results:
            assert {row["object"] for row in rows} == {f"organization.usage.{name}.result"}
        for dimension, rows in zip(DIMENSIONS[kind].split(), results[1:]):
            assert any(row[dimension] is not None for row in rows), dimension
            others = set(DIMENSIONS[kind].split()) - {dimension}
            assert all(row[other] is None for row in rows for other in others)

    def test_paging_works_as_the_documentation_shows(self, organization, recorder):
        query = {
            "start_time": NOON - 3600,
            "bucket_width": "1m",
            "group_by": ["model"],
            "limit": 25,
            "batch": False,
        }
        page = organization.usage.completions(**query)
        starts = [bucket.start_time for bucket in page.data]
        for _ in range(9):
            if not page.has_more:
                break
            page = organization.usage.completions(**query, page=page.next_page)
            starts += [bucket.start_time for bucket in page.data]
        assert starts == list(range(NOON - 3600, NOON, 60))
        assert len(recorder.responses) == 3

    def test_filters_reach_the_server(self, organization, simulator):
        project = simulator.organization.projects[0].id
        found = organization.usage.completions(
            start_time=START, project_ids=[project], group_by=["project_id"]
        )
        assert {row.project_id for bucket in found.data for row in bucket.results} == {project}
        images = organization.usage.images(
            start_time=START, sources=["image.generation"], group_by=["source"]
        )
        assert {row.source for bucket in images.data for row in bucket.results} == {
            "image.generation"
        }

    def test_token_fields_add_up_as_the_contract_states(self, organization, recorder):
        organization.usage.completions(start_time=START, group_by=["model"], limit=31)
        rows = rows_of(recorder.responses[0][2])
        assert rows
        for row in rows:
            assert row["input_tokens"] == (
                row["input_uncached_tokens"]
                + row["input_cached_tokens"]
                + row["input_cache_write_tokens"]
            )
            assert row["input_uncached_tokens"] == summed(row, "input_{}_tokens")
            assert row["input_cached_tokens"] == summed(row, "input_cached_{}_tokens")
            assert row["output_tokens"] == summed(row, "output_{}_tokens")


class TestCosts:
    def test_costs_by_every_dimension(self, organization, recorder):
        dimensions = ("project_id", "line_item", "api_key_id", "user_id", "api_source")
        organization.usage.costs(start_time=START - 30 * DAY, limit=180)
        for dimension in dimensions:
            organization.usage.costs(start_time=START, group_by=[dimension], limit=180)
        organization.usage.costs(start_time=START, group_by=["project_id", "line_item"])
        for _, _, body in recorder.responses:
            rows = rows_of(body)
            assert {row["object"] for row in rows} == {"organization.costs.result"}
            assert all(row["organization_id"] for row in rows)
        for dimension, (_, _, body) in zip(dimensions, recorder.responses[1:]):
            assert any(row[dimension] is not None for row in rows_of(body)), dimension

    def test_amounts_are_strings_in_dollars(self, organization, recorder):
        organization.usage.costs(start_time=START, group_by=["line_item"])
        amounts = [row["amount"] for row in rows_of(recorder.responses[0][2])]
        assert {type(amount["value"]) for amount in amounts} == {str}
        assert {amount["currency"] for amount in amounts} == {"usd"}

    def test_a_start_and_an_end_on_one_day_are_a_bad_request(self, organization):
        with pytest.raises(openai.BadRequestError):
            organization.usage.costs(start_time=NOON, end_time=NOON + 60)


class TestLists:
    def test_projects_page_by_page(self, organization, simulator, recorder):
        found = list(organization.projects.list(limit=5, include_archived=True))
        assert [project.id for project in found] == [
            project.id for project in simulator.organization.projects
        ]
        assert len(recorder.responses) == 3
        active = list(organization.projects.list(limit=100))
        assert {project.status for project in active} == {"active"}
        assert organization.projects.retrieve(found[0].id).name == found[0].name

    def test_all_lists_of_a_project(self, organization, simulator):
        project = simulator.organization.projects[0].id
        below = organization.projects
        limits = list(below.rate_limits.list_rate_limits(project, limit=7))
        assert len(limits) == len(list(below.rate_limits.list_rate_limits(project)))
        assert list(below.api_keys.list(project, limit=1, owner_project_access="any"))
        assert list(below.service_accounts.list(project, limit=1))
        assert list(below.users.list(project, limit=1))
        assert below.model_permissions.retrieve(project).mode == "deny_list"
        assert below.data_retention.retrieve(project).type == "organization_default"

    def test_every_project_matches_the_contract(self, organization, simulator):
        for project in simulator.organization.projects:
            list(organization.projects.rate_limits.list_rate_limits(project.id, limit=1000))
            list(organization.projects.api_keys.list(project.id, owner_project_access="any"))
            list(organization.projects.spend_alerts.list(project.id))

    def test_spend_limits_and_alerts(self, organization, simulator):
        assert organization.spend_limit.retrieve().threshold_amount > 0
        assert len(list(organization.spend_alerts.list(limit=1))) == 2
        with_limit, without = [], []
        for project in simulator.organization.projects:
            try:
                organization.projects.spend_limit.retrieve(project.id)
                with_limit.append(list(organization.projects.spend_alerts.list(project.id)))
            except openai.NotFoundError:
                without.append(project.id)
        assert all(with_limit)
        assert without

    def test_the_organizations_own_lists(self, organization, simulator):
        count = {
            "users": len(list(organization.users.list(limit=5))),
            "admin_keys": len(list(organization.admin_api_keys.list(limit=1))),
            "invites": len(list(organization.invites.list(limit=1))),
            "groups": len(list(organization.groups.list(limit=1))),
            "roles": len(list(organization.roles.list(limit=1))),
            "certificates": len(list(organization.certificates.list(limit=1))),
        }
        assert count == {
            "users": len(simulator.organization.users),
            "admin_keys": len(simulator.organization.admin_keys),
            "invites": 4,
            "groups": 3,
            "roles": 3,
            "certificates": 2,
        }
        assert organization.data_retention.retrieve().type == "modified_abuse_monitoring"

    def test_members_of_an_archived_project_are_a_bad_request(self, organization, simulator):
        archived = next(
            project for project in simulator.organization.projects if project.archived_at
        )
        for members in (organization.projects.users, organization.projects.service_accounts):
            with pytest.raises(openai.BadRequestError):
                members.list(archived.id)


class TestAudit:
    def test_the_feed_has_every_known_type_newest_first(self, organization):
        since = {"gte": NOON - 2 * DAY}
        feed = organization.audit_logs.list(limit=100, effective_at=since, event_types=list(KNOWN))
        events = list(islice(feed, 2000))
        assert {event.type for event in events} == set(KNOWN)
        assert events == sorted(events, key=lambda event: -event.effective_at)

    def test_a_type_unknown_to_the_sdk_passes_only_if_it_is_not_strict(self, simulator, recorder):
        with client(simulator, recorder, strict=False) as sdk:
            logs = sdk.admin.organization.audit_logs
            assert next(iter(logs.list(event_types=[UNKNOWN]))).type == UNKNOWN
        with client(simulator, recorder) as sdk, pytest.raises(openai.APIResponseValidationError):
            sdk.admin.organization.audit_logs.list(event_types=[UNKNOWN])

    def test_filters_reach_the_server(self, organization):
        feed = organization.audit_logs.list(
            event_types=["rate_limit.updated"], effective_at={"gte": NOON - 5 * DAY}, limit=2
        )
        events = list(islice(feed, 20))
        assert {event.type for event in events} == {"rate_limit.updated"}
        assert events[0].rate_limit_updated.changes_requested is not None


class TestRefusals:
    def test_a_wrong_key_is_an_authentication_error(self, simulator, recorder):
        with client(simulator, recorder, key="sk-admin-wrong-0000") as sdk:
            with pytest.raises(openai.AuthenticationError) as refused:
                sdk.admin.organization.projects.list()
            assert refused.value.code == "invalid_api_key"
            assert str(refused.value.request_id).startswith("req_")

    def test_a_missing_scope_is_a_permission_denied_error(self, simulator, recorder):
        denied = pytest.raises(openai.PermissionDeniedError, match=r"api\.audit_logs\.read")
        with client(simulator, recorder, key=NO_AUDIT_KEY) as sdk, denied:
            sdk.admin.organization.audit_logs.list()

    def test_an_unknown_project_is_not_found(self, organization):
        with pytest.raises(openai.NotFoundError):
            organization.projects.retrieve("proj_none")

    def test_the_sdk_retries_after_throttling(self, simulator, recorder):
        simulator.fault("429", path="*/data_retention", times=2, retry_after=0.01)
        with client(simulator, recorder) as sdk:
            patient = sdk.with_options(max_retries=2)
            assert patient.admin.organization.data_retention.retrieve().type
        assert [status for _, status, _ in recorder.responses] == [429, 429, 200]

    def test_the_contract_check_finds_violations(self, contract):
        assert contract.violations("/v1/organization/projects", 200, {"object": "list"})
        assert contract.violations("/v1/organization/costs", 400, {"error": {"message": "no"}})


def rows_of(page):
    return [row for bucket in page["data"] for row in bucket["results"]]


def summed(row, pattern):
    return sum(row[pattern.format(modality)] for modality in ("text", "audio", "image"))
