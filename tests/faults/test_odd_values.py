"""Odd but valid values in responses and files: a sentence or the right output, never a fault."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lm_openai.app.cli import main as suite
from lm_openai.config import json_files
from lm_openai.config.properties import load
from lm_openai.errors import WrongUsage
from lm_openai.output.audit_formats import FORMATS as AUDIT_FORMATS
from lm_openai.simulator import ADMIN_KEY, Simulator, parse_fault
from lm_openai.start import main
from tests.support.hostile import Hostile, response

AT = 1795005296
Run = Callable[[Callable[[], None]], tuple[str, str]]
ODD = (
    "1e999",
    "-1e999",
    "1e99999999999999999999",
    '"1e99999999999999999999"',
    "12345678901234567890123456",
    "-12345678901234567890123456",
    "99999999999999999",
    "-5",
    "1.5",
    "{}",
)
FIELDS = {
    "start_time": "completion_by_model",
    "end_time": "cost_by_project",
    "input_tokens": "usage_by_consumer",
    "input_cached_tokens": "completion_by_model",
    "value": "cost_by_organization",
    "quantity": "reconciliation_by_model",
    "max_tokens_per_1_minute": "rate_limits",
    "threshold_amount": "spend_limits_by_project",
    "expires_at": "api_keys_by_key",
    "last_used_at": "api_keys_by_key",
    "effective_at": "audit_by_event_type",
    "line_item": "cost_by_line_item",
    "api_key_id": "cost_by_api_key",
    "model": "completion_by_model",
    "name": "rate_limits",
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Function that runs a command in this process and returns its stdout and stderr."""
    monkeypatch.setenv("OPENAI_ADMIN_KEY", ADMIN_KEY)

    def outcome(command: Callable[[], None]) -> tuple[str, str]:
        with pytest.raises(SystemExit):
            command()
        return capfd.readouterr()

    return outcome


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Function that serves the demo organization with a fault."""
    running: list[Simulator] = []

    def serve(fault: str) -> None:
        running.append(Simulator(at=AT, projects=2, models=3, faults=[parse_fault(fault)]))
        monkeypatch.setenv("OPENAI_BASE_URL", running[0].__enter__().url)

    yield serve
    for simulator in running:
        simulator.__exit__(None, None, None)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("field", FIELDS)
def test_an_odd_value_is_a_sentence_or_valid_output(
    field: str, odd: str, served: Callable[[str], None], run: Run
) -> None:
    served(f"replace:field={field}:value={odd}")

    words = ("--at", str(AT), "--timeout", "10")
    printed, reasons = run(lambda: main(FIELDS[field], words))

    assert printed or reasons
    assert "a fault in" not in printed + reasons
    for line in printed.splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


@pytest.mark.parametrize("form", AUDIT_FORMATS)
def test_a_number_without_end_in_an_audit_event_is_printed_as_its_text(
    form: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = (
        f'{{"id":"e1","type":"a.b","effective_at":{AT},"a.b":{{"n":1e999,"m":-1E+400,"x":1.5}}}}'
    )
    page = f'{{"object":"list","data":[{event}],"has_more":false,"first_id":"e1","last_id":"e1"}}'

    with Hostile(lambda request: response(page.encode())) as hostile:
        monkeypatch.setenv("OPENAI_BASE_URL", hostile.url)
        printed, reasons = run(lambda: suite(["audit", "--format", form, "--at", str(AT + 60)]))

    assert (reasons, printed.count("\n")) == ("", 1)
    plain = printed.replace('\\\\"', '"').replace('\\"', '"')
    assert '"n":"1e999","m":"-1E+400","x":1.5' in plain


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "[" * 400 + "]" * 400,
        '{"datasource":' + "[" * 900 + "]" * 900 + "}",
        '{"datasource": "OpenAI_RateLimits_ByProject", "thresholds": [{"warning": 1e999999}]}',
        '{"datasource": "OpenAI_RateLimits_ByProject", "thresholds": [{"warning": 1e-999999}]}',
        '{"warning": 1e99999999999999999999}',
        '{"warning": ' + "9" * 5000 + "}",
        '{"warning": ' + "9" * 4000 + "}",
        '{"warning": 0.' + "9" * 4000 + "}",
    ],
    ids=range(10),
)
def test_an_odd_thresholds_file_is_refused_with_its_path(
    text: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "site.json"
    path.write_text(text)

    printed, reasons = run(lambda: main("rate_limits", ["--thresholds", str(path)]))

    assert printed == ""
    assert reasons.startswith(f"{path}: ")
    assert len(reasons) < 300


@pytest.mark.parametrize(
    "number", ["90", "-90.50", "0", "0.0", "1e3", "1E-9", "123456789012345678.5"]
)
def test_a_usual_number_in_a_file_is_exact(number: str) -> None:
    found: Any = json_files.parse(number.encode(), json_files.Place("file"))

    assert str(found) == number.replace("e3", "E+3")


VALUE = "hunter2Hunter"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (f"openai.admin.key{VALUE}=", "openai.admin.key…"),
        ("openai.admin.keyhunter=", "openai.admin.key…"),
        (f"openai.proxy.pass{VALUE}=x", "openai.proxy.pass…"),
        (f"openai.api.url{VALUE}=x", "openai.api.url…"),
        (f"openai.adminkey{VALUE}=", "openai.adminkeyhunter…"),
        (f"openai.{VALUE}=", "openai.hunter…"),
        (f"OPENAI.ADMIN.KEY{VALUE}=", "OPENAI.…"),
        (f'{{"openai.admin.key{VALUE}": ""}}', "openai.admin.key…"),
    ],
)
def test_a_value_that_is_joined_to_its_name_is_not_shown(
    written: str, shown: str, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "host"
    path.write_text(written)

    printed, reasons = run(lambda: main("rate_limits", ["--properties", str(path)]))

    assert printed == ""
    assert reasons.startswith(f"{shown} (from {path}) is not a known property")
    assert VALUE[6:] not in reasons


def test_a_value_that_is_joined_to_the_name_of_a_variable_is_not_shown() -> None:
    for name in ("LM_OPENAI_ADMIN_KEYHUNTER", "LM_OPENAI_ADMIN_KEYhunter2Hunter"):
        with pytest.raises(WrongUsage) as caught:
            load({name: ""})
        assert "LM_OPENAI_ADMIN_KEY… is not a known setting" in str(caught.value)
        assert "unter" not in str(caught.value).lower()
