"""What an answer means: each failure told apart by what it says, in a sentence without a secret."""

from __future__ import annotations

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from lm_openai.api import responses
from lm_openai.api.client import Client
from lm_openai.api.responses import Rejection
from lm_openai.api.transport import HttpResponse
from lm_openai.errors import FAILURES, ApiFailure
from tests.support.http_api import DAY, SCOPE, STALE, Clock, answers, client_of, error, failure_of

COSTS = "/organization/costs"
WRONG_KEY = "Incorrect API key provided: sk-admin*fake. You can find your API key at https://x."
SESSION_KEY = "Your request must be made with a session key (that is, from the browser)."


@pytest.fixture
def client(httpserver: HTTPServer) -> Client:
    return client_of(httpserver, Clock())


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
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
        (error(400, STALE), "contract", "it refuses its own page token"),
        (error(429, code="insufficient_quota"), "billing", "insufficient_quota"),
        (error(429, code="credit_balance_exhausted"), "billing", "credit_balance_exhausted"),
        (
            error(429, code="project_spend_limit_exceeded"),
            "billing",
            "project_spend_limit_exceeded",
        ),
        (Response("<html>Sign in</html>"), "not_json", "HTTP 200 with a web page"),
        (Response("<html>Blocked</html>", 403), "not_json", "HTTP 403 with a web page"),
        (Response("", 400), "not_json", "HTTP 400 with nothing"),
        (Response("", 204), "not_json", "HTTP 204 with nothing"),
        (Response('{"error": "strange"}', 418), "refused", "strange"),
    ],
)
def test_failures_are_told_apart_by_what_they_say(
    httpserver: HTTPServer, client: Client, answer: Response, kind: str, said: str
) -> None:
    seen = answers(httpserver, "/organization/spend_limit", answer)
    failure = failure_of(lambda: client.record("spend_limit"))
    assert (failure.kind, failure.detail) == (kind, said)
    assert len(seen) == (2 if kind == "scope" else 1)


def test_a_missing_scope_is_named_for_who_wants_to_grant_it(
    httpserver: HTTPServer, client: Client
) -> None:
    answers(httpserver, COSTS, error(403, SCOPE))
    failure = failure_of(lambda: list(client.costs(0, DAY)))
    assert failure.scope == "api.usage.read"
    assert str(failure) == (
        "costs: the admin key lacks a scope (it needs api.usage.read); "
        "give the key that read scope, or use a key that has it"
    )


@pytest.mark.parametrize("key", ["sk-proj-abc", "sk-svcacct-abc", "sk-abc"])
@pytest.mark.parametrize("answer", [error(401, WRONG_KEY, "invalid_api_key"), error(403, SCOPE)])
def test_a_project_key_is_recognized_whatever_the_api_says(
    httpserver: HTTPServer, key: str, answer: Response
) -> None:
    seen = answers(httpserver, COSTS, answer)
    client = client_of(httpserver, Clock(), key=key)
    assert failure_of(lambda: list(client.costs(0, DAY))).kind == "project_key"
    assert len(seen) == 1


def test_no_reason_repeats_a_key_or_runs_on(httpserver: HTTPServer) -> None:
    key = "gateway-key-1234"
    message = f"Key {key} or sk-admin-abc_DEF-123*** is bad: {'why ' * 100}"
    answers(httpserver, COSTS, error(400, message))
    failure = failure_of(lambda: list(client_of(httpserver, Clock(), key=key).costs(0, DAY)))
    assert failure.detail.startswith("Key sk-… or sk-…")
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
def test_the_apis_wish_to_wait_is_read_as_seconds_or_date(
    headers: dict[str, str], wait: float | None, status: int
) -> None:
    verdict = responses.classify(HttpResponse(status, headers, b""), "costs", "")
    assert isinstance(verdict, Rejection)
    assert verdict.wait == wait
