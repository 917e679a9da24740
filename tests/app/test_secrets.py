"""No secret appears in output, error messages, tracebacks or files."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from lm_openai.config.sources import secrets
from lm_openai.output.registry import FORMATS
from lm_openai.redaction import learn, redact, sentence, strike
from lm_openai.simulator import ADMIN_KEY, Simulator
from lm_openai.storage.cache import Cache
from tests.support.paths import ROOT
from tests.support.replay import Outcome
from tests.support.scripts import started

AT = "1795005296"
FOLDERS = ("completion_by_model", "cost_by_organization", "rate_limits")
KEY = "sk-admin-Zq8vN3x0secretPart7Lw2"
PART = "secretPart"
PASSWORD = "pr0xyPassw0rd"
PROXY = f"http://watcher:{PASSWORD}@127.0.0.1:9"


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=int(AT), projects=4, models=8) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def echoing_server() -> Iterator[HTTPServer]:
    """Server that repeats the key and the URL of a request in its response."""
    with HTTPServer(host="127.0.0.1") as server:
        for path, respond in ECHOES.items():
            server.expect_request(re.compile(f"/{path}/.*")).respond_with_handler(respond)
        yield server


def _echo(request: Request) -> str:
    return f"you sent {request.headers['Authorization']} to {request.url}"


def _error(status: int, **more: Any) -> Any:
    return lambda request: Response(
        json.dumps({"error": {"message": _echo(request), "type": "x", "code": None, **more}}),
        status,
        content_type="application/json",
    )


ECHOES = {
    "refused": _error(400),
    "unknown-key": _error(401),
    "wrong-key": _error(401, code="invalid_api_key"),
    "forbidden": _error(403),
    "missing": _error(404),
    "throttled": _error(429),
    "no-credit": _error(429, code="insufficient_quota"),
    "down": _error(500),
    "page": lambda request: Response(f"<html>{_echo(request)}</html>", 502),
    "text": lambda request: Response(_echo(request)),
    "key-for-code": lambda request: _error(400, code=request.headers["Authorization"])(request),
    "redirect": lambda request: Response(
        "", 302, {"Location": f"http://me:{KEY}@127.0.0.1:9/v1?key={KEY}"}
    ),
    "key-for-data": lambda request: Response(json.dumps({"data": _echo(request)})),
    "key-for-count": lambda request: Response(
        json.dumps(
            {
                "data": [{"start_time": _echo(request), "end_time": 1, "results": []}],
                "has_more": False,
            }
        )
    ),
}


def assert_secret(outcome: Outcome, home: Path) -> None:
    """Assert that no secret is in the output, in a file below `home` or in a file's name."""
    text = outcome.stdout + outcome.stderr
    assert text.strip()
    paths = list(home.rglob("*"))
    text += "".join(str(path.relative_to(home)) for path in paths)
    text += "".join(path.read_bytes().decode("latin-1") for path in paths if path.is_file())
    for word in (KEY, PART, PASSWORD, ADMIN_KEY):
        assert word not in text


@pytest.mark.parametrize("echo", ECHOES)
def test_a_key_in_an_api_response_is_not_printed(
    echo: str, echoing_server: HTTPServer, tmp_path: Path
) -> None:
    environ = {"OPENAI_ADMIN_KEY": KEY, "OPENAI_BASE_URL": echoing_server.url_for(f"/{echo}")}
    words = ("-v", "--timeout", "1", "--at", AT)

    outcome = started("rate_limits", words, tmp_path, environ)

    assert (outcome.stdout, outcome.status) == ("", 1)
    assert_secret(outcome, tmp_path)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_a_good_poll_prints_and_stores_no_key(
    folder: str, form: str, demo: Simulator, tmp_path: Path
) -> None:
    environ = {"OPENAI_ADMIN_KEY": ADMIN_KEY, "OPENAI_BASE_URL": demo.url}

    outcome = started(folder, ("-v", "--format", form, "--at", AT), tmp_path, environ)

    assert outcome.stdout
    assert_secret(outcome, tmp_path)


def test_cache_files_are_named_by_a_digest_and_only_the_owner_can_access_them(
    demo: Simulator, tmp_path: Path
) -> None:
    environ = {"OPENAI_ADMIN_KEY": ADMIN_KEY, "OPENAI_BASE_URL": demo.url}
    outcome = started("rate_limits", ("--at", AT), tmp_path, environ)

    kept = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(kept) > 3
    assert {path.stat().st_mode & 0o077 for path in kept} == {0}
    assert_secret(outcome, tmp_path)


@pytest.mark.parametrize("form", ["json", "nagios", "zabbix"])
@pytest.mark.parametrize("way", ["openai.proxy.url", "openai.proxy.pass", "HTTP_PROXY"])
def test_the_password_of_a_proxy_is_a_secret(way: str, form: str, tmp_path: Path) -> None:
    environ = {
        "OPENAI_ADMIN_KEY": KEY,
        "OPENAI_BASE_URL": "http://api.invalid/v1",
        "LM_OPENAI_API_URL_INSECURE": "true",
    }
    lines = {
        "openai.proxy.url": f"openai.proxy.url={PROXY}",
        "openai.proxy.pass": f"openai.proxy.url=http://watcher@127.0.0.1:9\n"
        f"openai.proxy.pass={PASSWORD}",
        "HTTP_PROXY": "",
    }[way]
    if way == "HTTP_PROXY":
        environ |= {"HTTP_PROXY": PROXY, "http_proxy": PROXY}
    words = ("-v", "--timeout", "2", "--properties", "-", "--format", form)

    outcome = started("completion_by_model", words, tmp_path, environ, stdin=lines)

    assert outcome.status in (1, 3)
    assert "proxy" in outcome.stdout + outcome.stderr
    assert_secret(outcome, tmp_path)


MISTAKES = {
    "a key without an equals sign": f"openai.admin.key{KEY}\n",
    "a key under a wrong name": f"openai.admin.keys={KEY}\n",
    "a key with a space": f"openai.admin.key={KEY} {KEY}\n",
    "a key in broken JSON": f'{{"openai.admin.key": "{KEY}"',
    "a key in a list": f'{{"openai.admin.key": ["{KEY}"]}}',
    "a key instead of a key file": f"openai.admin.key.file={KEY}\n",
    "a password in an invalid URL": f"openai.api.url=htp://me:{PASSWORD}@host\n",
    "a password in a URL with a query": f"openai.api.url=https://host/v1?key={PASSWORD}\n",
    "a password in an invalid proxy URL": f"openai.proxy.url=http://me:{PASSWORD}@\n",
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_properties_is_reported_without_the_secret(
    mistake: str, tmp_path: Path
) -> None:
    outcome = started(
        "completion_by_model", ("-v", "--properties", "-"), tmp_path, {}, MISTAKES[mistake]
    )

    assert (outcome.stdout, outcome.status) == ("", 2)
    assert_secret(outcome, tmp_path)


@pytest.mark.parametrize("word", ["openai.admin.key={}", "openai.admin.keyy={}", "openai.x{}"])
def test_a_secret_on_the_command_line_is_refused_without_showing_it(
    word: str, tmp_path: Path
) -> None:
    outcome = started("completion_by_model", ("-v", "--set", word.format(KEY)), tmp_path)

    assert (outcome.stdout, outcome.status) == ("", 2)
    assert_secret(outcome, tmp_path)


BROKEN = """
import lm_openai.{module} as broken
def fault(*given, **more):
    raise RuntimeError("a fault near {key} and {password}")
broken.{name} = fault
from lm_openai.start import main
main("completion_by_model", {words!r})
"""


@pytest.mark.parametrize("form", ["json", "nagios", "zabbix"])
@pytest.mark.parametrize(
    ("module", "name"), [("collect.pipeline", "poll"), ("config.properties", "load")]
)
def test_an_unexpected_exception_is_a_sentence_and_its_traceback_has_no_secret(
    module: str, name: str, form: str, tmp_path: Path
) -> None:
    program = BROKEN.format(
        module=module,
        name=name,
        key=KEY,
        password=PASSWORD,
        words=["-v", "--format", form],
    )
    environ = {
        "HOME": str(tmp_path),
        "OPENAI_ADMIN_KEY": KEY,
        "LM_OPENAI_PROXY_PASS": PASSWORD,
        "PYTHONPATH": str(ROOT),
    }
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environ, timeout=60
    )
    outcome = Outcome(ran.stdout, ran.stderr, ran.returncode)

    text = outcome.stdout if form in ("nagios", "zabbix") else outcome.stderr
    assert outcome.status == (3 if form == "nagios" else 1)
    assert "a fault in lm-openai (RuntimeError: a fault near *** and ***)" in text
    assert ("Traceback" in outcome.stderr) == (form != "zabbix")
    assert_secret(outcome, tmp_path)


def test_without_v_an_unexpected_exception_is_one_line(tmp_path: Path) -> None:
    program = BROKEN.format(
        module="collect.pipeline", name="poll", key=KEY, password=PASSWORD, words=[]
    )
    environ = {"HOME": str(tmp_path), "OPENAI_ADMIN_KEY": KEY, "PYTHONPATH": str(ROOT)}

    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environ, timeout=60
    )

    assert (ran.stdout, ran.returncode) == ("", 1)
    assert ran.stderr.count("\n") == 1
    assert KEY not in ran.stderr


def test_text_that_looks_like_a_key_is_redacted_even_if_it_is_not_known() -> None:
    assert redact(f"near {KEY}, and sk-admin-… stays") == "near sk-…, and sk-admin-… stays"


def test_the_longest_secret_is_redacted_first() -> None:
    environ = {"OPENAI_ADMIN_KEY": "abc", "LM_OPENAI_PROXY_PASS": "abcdef", "https_proxy": PROXY}
    learn(secrets(environ))

    assert redact(f"abcdef abc {PASSWORD}") == "*** *** ***"


@pytest.mark.parametrize("around", ["{}", "user:{}", "u:{}", "us:{}!", "é{}?>"])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_of_a_text_that_contains_a_secret_does_not_show_it(
    around: str, encode: Callable[[bytes], bytes]
) -> None:
    secret = "p?>ssw0rd~~~>>>???"
    encoded = encode(around.format(secret).encode()).decode()
    learn([secret])

    for clean in (redact, strike):
        shown = clean(f"Basic {encoded}.").removeprefix("Basic ").removesuffix(".")
        start, hidden, end = shown.partition("***")
        assert hidden
        # a letter of base64 that also depends on the neighbor of the secret stays
        assert len(start) * 6 <= len(around.partition("{")[0].encode()) * 8 + 8
        assert len(end.rstrip("=")) * 6 <= len(around.partition("}")[2]) * 8 + 8


def test_data_keeps_a_password_that_may_be_a_word_or_a_number_of_the_output() -> None:
    learn(["12345678", "completion", "abc", "hunter-2"])

    assert (
        strike("abc completion_by_model 12345678 hunter-2")
        == "abc completion_by_model 12345678 ***"
    )
    assert redact("abc completion_by_model 12345678 hunter-2") == "*** ***_by_model *** ***"


def test_a_sentence_from_outside_is_one_short_line_without_signs_that_do_not_show() -> None:
    learn([KEY])
    text = f"a\x1b]0;owned\x07\nOK: fine \u202e {KEY[:9]}\x00{KEY[9:]} {'x' * 700}"

    shown = sentence(text, 60)

    assert shown == f"a ]0;owned OK: fine *** {'x' * 35}…"
    assert sentence(f"{'x' * 20_000} {KEY}") == "a text of 20032 characters"


def test_a_cache_file_holds_no_secret(tmp_path: Path) -> None:
    learn([KEY])
    cache = Cache(str(tmp_path), "me", lambda: 0)

    cache.put("names", {KEY: [f"a {KEY}"]}, 60)

    assert cache.get("names") == {"***": ["a ***"]}


def test_a_fault_of_a_command_is_a_sentence_and_its_traceback_has_no_secret(tmp_path: Path) -> None:
    program = f"""
import lm_openai.metrics.monthly_costs as broken
def fault(*given, **more):
    raise RuntimeError("a fault near {KEY}")
broken.read = fault
from lm_openai.app.cli import main
main(["costs", "--month", "2026-11"])
"""
    environ = {"HOME": str(tmp_path), "OPENAI_ADMIN_KEY": KEY, "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environ, timeout=60
    )

    assert (ran.stdout, ran.returncode) == ("", 1)
    assert ran.stderr == (
        "a fault in lm-openai (RuntimeError: a fault near ***); please report it with the output "
        "of -v\n"
    )


def test_what_python_itself_prints_has_no_secret(tmp_path: Path) -> None:
    program = f"""
import threading
from lm_openai.redaction import guard_streams, learn
learn(["{KEY}"])
guard_streams()
def fault():
    raise RuntimeError("{KEY}")
thread = threading.Thread(target=fault)
thread.start()
thread.join()
print("{KEY}")
fault()
"""
    environ = {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-"],
        input=program,
        capture_output=True,
        text=True,
        env=environ,
        timeout=60,
    )

    assert ran.stdout == "***\n"
    assert ran.stderr.count("RuntimeError: ***") == 2
    assert KEY not in ran.stderr
