"""A server that echoes the admin key wherever HTTP has a place for text; nothing may show it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from lm_openai.app.cli import main as suite
from lm_openai.output.audit_formats import FORMATS as AUDIT_FORMATS
from lm_openai.output.registry import FORMATS
from lm_openai.start import main
from tests.support.hostile import Hostile, header, response

NOW = 1795005296
KEYS = {
    "of OpenAI": "sk-admin-Zq8vN3x0secretPart7Lw2",
    "of a gateway": 'gw+Zq8/vN3"x0\\secret=Part7%41Lw2',
}
ESCAPES = "\x1b]0;owned\x07\nOK: all fine \u202e"
Place = Callable[[str], bytes]


def forms(key: str) -> tuple[str, ...]:
    """Return the key as a server may spell it."""
    return (
        key,
        key.upper(),
        quote(key, safe=""),
        "".join(f"%{ord(letter):02x}" for letter in key),
        base64.b64encode(key.encode()).decode(),
        base64.b64encode(f"watcher:{key}".encode()).decode(),
        base64.urlsafe_b64encode(f"x{key}".encode()).decode(),
    )


def pulled_apart(key: str) -> str:
    """Return the key with characters in it that do not show."""
    return f"{key[:9]}\x00{key[9:15]}\u200b{key[15:]}"


def said(key: str) -> str:
    """Return a text of one line with the key in all forms."""
    return " ".join(forms(key))


def sent(request: str) -> str:
    """Return the key of a request."""
    return header(request, "authorization").removeprefix("Bearer ")


def error(status: str, *headers: str, **fields: str) -> Place:
    """Place for text in the fields of an error, in which `KEY` stands for it."""

    def answer(key: str) -> bytes:
        filled = {
            name: text.replace("KEY", f"{said(key)} {pulled_apart(key)}{ESCAPES}")
            for name, text in fields.items()
        }
        content = json.dumps({"error": {"message": "no", **filled}})
        return response(content.encode(), status, *headers)

    return answer


def in_header(name: str, status: str = "503 Down", body: bytes = b"{}") -> Place:
    return lambda key: response(body, status, f"{name}: {said(key)}")


def raw(text: str) -> Place:
    """Response as written, with the key in all forms for `KEY`, and with one form for `WORD`."""
    return lambda key: text.replace("KEY", said(key)).replace("WORD", key).encode()


def moved(location: str) -> Place:
    return raw(f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n")


def chunked(status: str, rest: str) -> Place:
    return raw(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n{rest}\r\n\r\n")


def body(text: str, status: str = "200 OK") -> Place:
    return lambda key: response(text.replace("KEY", said(key)).encode(), status)


def data(make: Callable[[str], Any]) -> Place:
    """Page of rows, each with the key in one form, and once with an escape for each letter."""

    def answer(key: str) -> bytes:
        rows = [make(form) for form in forms(key)]
        page = json.dumps({"object": "page", "data": rows, "has_more": False, "next_page": None})
        escaped = "".join(f"\\u{ord(letter):04x}" for letter in key)
        page = page.replace(json.dumps(key)[1:-1], escaped, 1)
        return response(page.encode())

    return answer


ONCE = {
    "reason of 404": raw("HTTP/1.1 404 KEY\r\nContent-Length: 2\r\n\r\n{}"),
    "reason of 200": raw("HTTP/1.1 200 KEY\r\nContent-Length: 2\r\n\r\n{}"),
    "location": in_header("Location", "302 Found"),
    "path of location": moved("/login/WORD/x"),
    "host of location": moved("https://WORD/"),
    "broken location": moved("http://[WORD"),
    "content type": in_header("Content-Type", "200 OK"),
    "content encoding": in_header("Content-Encoding", "200 OK"),
    "cookie": in_header("Set-Cookie", "404 No"),
    "challenge": in_header("WWW-Authenticate", "401 No"),
    "name of a header": raw("HTTP/1.1 404 No\r\nWORD: 1\r\nContent-Length: 2\r\n\r\n{}"),
    "line that is no header": raw("HTTP/1.1 404 No\r\nA: b\r\nWORD KEY\r\n\r\n{}"),
    "text": body("KEY", "404 No"),
    "page": body("<html>KEY</html>"),
    "message of 400": error("400 Bad", message="KEY"),
    "message of 401": error("401 No", message="KEY"),
    "message of 403": error("403 No", message="KEY"),
    "message of 404": error("404 No", message="KEY"),
    "scope": error("403 No", message="Missing scopes: KEY"),
    "code of 400": error("400 Bad", code="KEY", message=""),
    "code of 401": error("401 Bad", code="KEY", type="KEY", param="KEY"),
    "billing code": error("429 Slow", code="KEY_limit_exceeded"),
    "type": error("400 Bad", code="", type="KEY", message=""),
    "parameter": error("400 Bad", param="KEY"),
    "trailer": chunked("404 No", "2\r\n{}\r\n0\r\nX: KEY"),
    "interim response": raw("HTTP/1.1 103 KEY\r\nLink: KEY\r\n\r\n" * 2),
    "id of a row": data(lambda text: {"id": text, "name": "x"}),
    "name of a row": data(lambda text: {"id": f"proj_{len(text)}", "name": text}),
    "wrong row": data(lambda text: {"id": text, "model": 3}),
    "row that is text": data(lambda text: text),
    "name of a field": data(lambda text: {text: text}),
    "status of a row": data(lambda text: {"id": "a", "name": "b", "status": text}),
    "cursor": body('{"object":"list","data":[],"has_more":true,"last_id":"KEY","next_page":"KEY"}'),
    "data": body('{"data": "KEY"}'),
    "flag": body('{"data": [], "has_more": "KEY"}'),
    "time": data(lambda text: {"start_time": text, "end_time": text, "results": []}),
    "amount": data(
        lambda text: {
            "start_time": NOW // 86400 * 86400,
            "end_time": NOW // 86400 * 86400 + 86400,
            "results": [{"amount": {"value": text, "currency": text}, "project_id": text}],
        }
    ),
    "model": data(
        lambda text: {
            "start_time": NOW // 3600 * 3600,
            "end_time": NOW // 3600 * 3600 + 3600,
            "results": [
                {"model": text, "project_id": text, "num_model_requests": 1, "input_tokens": 1}
            ],
        }
    ),
}
"""Places whose response is not retried."""

RETRIED = {
    "reason of 500": raw("HTTP/1.1 500 KEY\r\nContent-Length: 2\r\n\r\n{}"),
    "status line": raw("KEY\r\n\r\n"),
    "status": raw("HTTP/1.1 WORD KEY\r\n\r\n"),
    "retry after": in_header("Retry-After"),
    "retry after of 429": in_header("Retry-After", "429 Slow"),
    "date": in_header("Date"),
    "length": in_header("Content-Length", "200 OK"),
    "transfer encoding": in_header("Transfer-Encoding", "200 OK"),
    "message of 500": error("500 Down", message="KEY"),
    "message of 429": error("429 Slow", message="KEY"),
    "broken JSON": body('{"KEY'),
    "size of a chunk": chunked("200 OK", "WORD\r\nKEY"),
}
PLACES = {**ONCE, **RETRIED}


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    with Hostile(lambda request: b"") as server:
        yield server


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], hostile: Hostile, home: Path
) -> Callable[..., str]:
    """Function that runs a command with a key and returns everything that it printed or stored."""

    def text(key: str, command: Callable[[], None]) -> str:
        monkeypatch.setenv("OPENAI_ADMIN_KEY", key)
        monkeypatch.setenv("OPENAI_BASE_URL", hostile.url)
        with pytest.raises(SystemExit):
            command()
        printed = "".join(capfd.readouterr())
        assert printed.strip()
        files = [path for path in home.rglob("*") if path.is_file()]
        stored = [str(path) + path.read_bytes().decode("latin-1") for path in files]
        return printed + "".join(stored)

    return text


def shown(key: str, text: str) -> list[str]:
    """Return the parts of the key that the text shows, 12 characters in any form."""
    length = 12
    pieces = {
        form[start : start + length].lower()
        for form in forms(key)
        for start in range(9, len(form) - length)
    }
    return [piece for piece in sorted(pieces) if piece in text.lower()]


def assert_hidden(key: str, text: str) -> None:
    assert shown(key, text) == []
    assert "\x1b]0;" not in text
    assert "\nOK: all fine" not in text


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("place", ONCE)
def test_no_format_shows_a_key_that_a_response_echoes(
    place: str, form: str, hostile: Hostile, run: Callable[..., str]
) -> None:
    turn = ([*ONCE].index(place) + [*FORMATS].index(form)) % 2
    key, folder = [*zip(KEYS.values(), ("rate_limits", "spend_limits_by_project"))][turn]
    hostile.answer = lambda request: PLACES[place](sent(request))
    words = ("-v", "--format", form, "--timeout", "2")
    assert_hidden(key, run(key, lambda: main(folder, words)))


@pytest.mark.parametrize("form", ["json", "nagios"])
@pytest.mark.parametrize("place", RETRIED)
def test_a_request_that_is_retried_shows_no_key(
    place: str, form: str, hostile: Hostile, run: Callable[..., str]
) -> None:
    key = KEYS["of OpenAI"]
    hostile.answer = lambda request: PLACES[place](sent(request))
    words = ("-v", "--format", form, "--timeout", "1")
    assert_hidden(key, run(key, lambda: main("cost_by_project", words)))


COMMANDS = {
    "doctor": ("doctor", "--timeout", "2"),
    "doctor as JSON": ("doctor", "--timeout", "2", "--format", "json"),
    "costs": ("costs", "--month", "2026-11", "--timeout", "2"),
    "costs as CSV": ("costs", "--month", "2026-11", "--timeout", "2", "--format", "csv"),
    "show": ("show", "costs_by_project", "cost_by_project", "--timeout", "2"),
    "several": ("collect", "cost_by_project", "images_by_model", "--timeout", "2", "-v"),
    **{f"audit as {form}": ("audit", "-v", "--format", form) for form in AUDIT_FORMATS},
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", ["message of 404", "path of location", "amount", "name of a row"])
def test_no_command_shows_a_key(
    place: str, command: str, hostile: Hostile, run: Callable[..., str]
) -> None:
    key = KEYS["of OpenAI"]
    hostile.answer = lambda request: PLACES[place](sent(request))
    assert_hidden(key, run(key, lambda: suite(COMMANDS[command])))
