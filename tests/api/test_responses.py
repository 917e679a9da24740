"""Classification of responses: kind, retries and reason of each failure, without secrets."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from lm_openai.api import responses
from lm_openai.api.client import Client
from lm_openai.api.responses import Rejection
from lm_openai.api.transport import HttpResponse
from lm_openai.errors import FAILURES, ApiFailure
from tests.support.http_api import DAY, SCOPE, STALE, Clock, client_of, error, failure_of, serve

COSTS = "/organization/costs"
WRONG_KEY = "Incorrect API key provided: sk-admin*fake. You can find your API key at https://x."
SESSION_KEY = "Your request must be made with a session key (that is, from the browser)."


@pytest.mark.parametrize(
    ("response", "kind", "detail"),
    [
        (error(401, WRONG_KEY, "invalid_api_key"), "key", ""),
        (error(401, "You didn't provide an API key"), "key", "You didn't provide an API key"),
        (error(401, SCOPE), "scope", "it needs api.usage.read"),
        (error(403, SCOPE), "scope", "it needs api.usage.read"),
        (error(403, SESSION_KEY), "project_key", ""),
        (error(403, "Country not supported."), "refused", "Country not supported"),
        (error(404, "The project p was not found"), "not_found", "The project p was not found"),
        (Response('{"code":404,"message":"p was not found"}', 404), "not_found", "p was not found"),
        (error(400, "The project p is archived."), "archived", ""),
        (error(400, "nope", "project_archived"), "archived", ""),
        (error(400, "Unsupported\n group_by."), "refused", "Unsupported group_by"),
        (error(400, STALE), "contract", "the API refused its own page token"),
        (error(429, code="insufficient_quota"), "billing", "insufficient_quota"),
        (error(429, code="credit_balance_exhausted"), "billing", "credit_balance_exhausted"),
        (
            error(429, code="project_spend_limit_exceeded"),
            "billing",
            "project_spend_limit_exceeded",
        ),
        (Response("<html>Sign in</html>"), "not_json", "HTTP 200 with a web page"),
        (Response("<html>Blocked</html>", 403), "not_json", "HTTP 403 with a web page"),
        (Response("", 400), "not_json", "HTTP 400 with an empty body"),
        (Response("", 204), "not_json", "HTTP 204 with an empty body"),
        (Response('{"error": "strange"}', 418), "refused", "strange"),
        (Response('{"error": {"code": ["a"], "type": "b"}}', 400), "refused", "b"),
        (
            Response('{"error": {"message": {"a": 1}}}', 400),
            "not_json",
            "HTTP 400 with broken JSON",
        ),
        (error(400, "sk-" * 10_000), "refused", "a text of 30000 characters"),
    ],
)
def test_status_code_and_message_decide_the_kind_of_failure(
    httpserver: HTTPServer, client: Client, response: Response, kind: str, detail: str
) -> None:
    seen = serve(httpserver, "/organization/spend_limit", response)
    failure = failure_of(lambda: client.record("spend_limit"))
    assert (failure.kind, failure.detail) == (kind, detail)
    assert len(seen) == (2 if kind == "scope" else 1)


def test_the_failure_for_a_missing_scope_names_the_scope(
    httpserver: HTTPServer, client: Client
) -> None:
    serve(httpserver, COSTS, error(403, SCOPE))
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    assert failure.scope == "api.usage.read"
    assert str(failure) == (
        "costs: the admin key lacks a scope (it needs api.usage.read); "
        "give the key that read scope, or use a key that has it"
    )


@pytest.mark.parametrize("key", ["sk-proj-abc", "sk-svcacct-abc", "sk-abc"])
@pytest.mark.parametrize("response", [error(401, WRONG_KEY, "invalid_api_key"), error(403, SCOPE)])
def test_a_project_key_is_recognized_in_401_and_403_responses(
    httpserver: HTTPServer, key: str, response: Response
) -> None:
    seen = serve(httpserver, COSTS, response)
    client = client_of(httpserver, Clock(), key=key)
    assert failure_of(lambda: list(client.costs(0, DAY))).kind == "project_key"
    assert len(seen) == 1


def test_a_reason_shows_no_key_and_is_at_most_200_characters_long(httpserver: HTTPServer) -> None:
    key = "gateway-key-1234"
    message = f"Key {key} or sk-admin-abc_DEF-123*** is bad: {'why ' * 100}"
    serve(httpserver, COSTS, error(400, message))
    failure = failure_of(lambda: list(client_of(httpserver, Clock(), key=key).costs(0, DAY)))
    assert failure.detail.startswith("Key *** or sk-…")
    assert len(failure.detail) <= 200


def test_every_kind_of_failure_reads_as_one_sentence() -> None:
    for kind, row in FAILURES.items():
        sentence = str(ApiFailure(kind, "costs", "a reason"))
        assert sentence == f"costs: {row.meaning} (a reason); {row.cure}"
        assert "\n" not in sentence
        assert not sentence.endswith(".")


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry-after": "7"}, 7),
        ({"retry-after": "1.5"}, 1.5),
        (
            {
                "retry-after": "Sun, 22 Nov 2026 12:00:20 GMT",
                "date": "Sun, 22 Nov 2026 12:00:00 GMT",
            },
            20,
        ),
        (
            {
                "retry-after": "Sun, 22 Nov 2026 11:00:00 GMT",
                "date": "Sun, 22 Nov 2026 12:00:00 GMT",
            },
            None,
        ),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:20 GMT"}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_read_as_seconds_or_as_a_date(
    headers: dict[str, str], wait: float | None, status: int
) -> None:
    rejection = responses.classify(HttpResponse(status, headers, b""), "costs", "")
    assert isinstance(rejection, Rejection)
    assert rejection.wait == wait
