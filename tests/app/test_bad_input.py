"""Every bad input gives one line before any request is sent, with the exit status of its host."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lm_openai.output.registry import FORMATS
from lm_openai.simulator import ADMIN_KEY, Simulator
from lm_openai.start import main
from tests.support.replay import Outcome
from tests.support.scripts import started

FOLDER = "rate_limits"
KEY = "sk-admin-given"
Start = Callable[..., Outcome]


class Bad(NamedTuple):
    """Bad arguments, files or variables, and a part of the error message.

    `FILE` among `words` is replaced by the path of a file that contains `text`.
    """

    words: tuple[str, ...]
    message: str
    text: str = ""
    environ: dict[str, str] = {}


def setting(text: str, message: str) -> Bad:
    """Return a bad property on the command line."""
    return Bad(("--set", text), message)


def tuning(text: str, message: str) -> Bad:
    """Return a bad threshold file."""
    return Bad(("--thresholds", "FILE"), message, text)


def limits(**threshold: object) -> str:
    """Return the text of a file with one threshold for rate_limits."""
    given = {"datapoint": "tpm_utilization", **threshold}
    return json.dumps({"datasource": "OpenAI_RateLimits_ByProject", "thresholds": [given]})


BAD = {
    "no key": Bad((), "no admin key: an organization owner creates one", environ={"": ""}),
    "a key as an option": Bad(("--key", "sk-admin-x"), "No such option"),
    "a key as an option of that name": Bad(("--admin-key=sk-admin-x",), "No such option"),
    "a key as a bare word": Bad(("sk-admin-x",), "Got unexpected extra argument"),
    "a key in --set": setting(
        "openai.admin.key=sk-admin-x",
        "openai.admin.key: a secret is refused in --set, because command lines show in the process",
    ),
    "a password in --set": setting(
        "openai.api.url=https://me:pass@host", "openai.api.url: a secret is refused in --set"
    ),
    "properties in broken JSON": Bad(
        ("--properties", "FILE"), "are not valid JSON (line 1: Expecting", '{"openai.window": }'
    ),
    "a property without an equals sign": Bad(
        ("--properties", "FILE"),
        "line 2: '=' is missing after the property name",
        "# comment\nopenai.window 1h\n",
    ),
    "a missing properties file": Bad(
        ("--properties", "/nowhere/at-all"), "cannot be read: No such file or directory"
    ),
    "an unknown property in a file": Bad(
        ("--properties", "FILE"),
        "is not a known property; did you mean openai.window?",
        "openai.windw=1h",
    ),
    "an unknown property": setting(
        "openai.headroom.loopback=5m", "did you mean openai.headroom.lookback?"
    ),
    "a property without the openai. prefix": setting("window=1h", "did you mean openai.window?"),
    "a property without a value": setting("openai.window", "--set needs name=value"),
    "an unknown variable": Bad(
        (),
        "variable LM_OPENAI_WINDOWS is not a known setting; did you mean LM_OPENAI_WINDOW?",
        environ={"OPENAI_ADMIN_KEY": KEY, "LM_OPENAI_WINDOWS": "1h"},
    ),
    "an empty glob": setting("openai.projects.include=,", "comma-separated globs"),
    "a glob with an unclosed bracket": setting(
        "openai.models.exclude=gpt-[45", "openai.models.exclude (from --set): 'gpt-[45' is invalid"
    ),
    "a window without unit": setting("openai.window=15", "a window such as 15m, 1h"),
    "a window of 1.5 hours": setting("openai.window=90m", "whole hours above 1h"),
    "a window of a year": setting("openai.window=365d", "a window such as 15m, 1h"),
    "a lookback of zero": setting("openai.headroom.lookback=0s", "the minimum is 60 seconds"),
    "a URL without scheme": setting(
        "openai.api.url=api.openai.com/v1", "openai.api.url (from --set)"
    ),
    "a URL of another scheme": setting("openai.api.url=ftp://host/v1", "it must start with http"),
    "a URL with a query": setting("openai.api.url=https://host/v1?a=b", "without query"),
    "a flag that is not a boolean": setting("openai.limits.unused=maybe", "true or false"),
    "an --at that is not a time": Bad(
        ("--at", "yesterday"), "--at 'yesterday': give a date such as 2026-01-31"
    ),
    "a date that does not exist": Bad(("--at", "2026-02-30"), "--at '2026-02-30': give a date"),
    "a time after 2099": Bad(("--at", "4102444800"), "from 2000 to 2099"),
    "a time before 2000": Bad(("--at", "946684799"), "from 2000 to 2099"),
    "a timeout in words": Bad(("--timeout", "soon"), "--timeout 'soon': give a whole number"),
    "a timeout of zero": Bad(("--timeout", "0"), "--timeout '0': the minimum is 1"),
    "an option without its value": Bad(("--at",), "Option '--at' requires an argument"),
    "a value for a switch": Bad(("--discover=yes",), "Option '--discover' does not take a"),
    "a missing threshold file": Bad(
        ("--thresholds", "/nowhere/at-all"), "/nowhere/at-all: cannot be read"
    ),
    "thresholds that are not JSON": tuning(
        "warning: 80", "FILE: line 1, column 1: not JSON (Expecting value)"
    ),
    "thresholds that break the schema": tuning(
        limits(operator=">=", warning="80%"), 'FILE: thresholds[0].warning: "80%" is not a number'
    ),
    "thresholds of an unknown datapoint": tuning(
        limits(operator=">=", warning=80).replace("tpm_util", "tmp_util"),
        'has no datapoint "tmp_utilization"; did you mean tpm_utilization?',
    ),
    "limits that fall from level to level": tuning(
        limits(warning=90, critical=80),
        "limits of tpm_utilization are >= 90 90 80; they must not fall from level to level",
    ),
    "thresholds of another DataSource": tuning(
        limits(warning=90).replace("RateLimits_ByProject", "Images_ByModel"),
        "is for OpenAI_Images_ByModel, not for OpenAI_RateLimits_ByProject",
    ),
}


@pytest.fixture
def start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Start:
    """Function that runs the script's entry point in this process."""

    def run(bad: Bad, *words: str) -> Outcome:
        for name, value in (bad.environ or {"OPENAI_ADMIN_KEY": KEY}).items():
            if name:
                monkeypatch.setenv(name, value)
        # nothing listens on port 9, so any request would change the error message
        if "openai.api.url" not in "".join(bad.words):
            monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
        path = tmp_path / "file"
        path.write_text(bad.text)
        written = [str(path) if word == "FILE" else word for word in bad.words]
        with pytest.raises(SystemExit) as exited:
            main(FOLDER, [*words, *written])
        out, err = capsys.readouterr()
        return Outcome(out, err, int(exited.value.code or 0))

    return run


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_is_one_line_and_nothing_on_stdout(
    name: str, start: Start, tmp_path: Path
) -> None:
    outcome = start(BAD[name])

    assert (outcome.stdout, outcome.status) == ("", 2)
    assert outcome.stderr.count("\n") == 1
    assert BAD[name].message.replace("FILE", str(tmp_path / "file")) in outcome.stderr


@pytest.mark.parametrize("name", BAD)
def test_nagios_gets_the_line_on_stdout_with_status_unknown(
    name: str, start: Start, tmp_path: Path
) -> None:
    outcome = start(BAD[name], "--format", "nagios")

    assert (outcome.stderr, outcome.status) == ("", 3)
    assert outcome.stdout.startswith("OPENAI RATE LIMITS BY PROJECT UNKNOWN - ")
    assert outcome.stdout.count("\n") == 1
    message = BAD[name].message.replace("FILE", str(tmp_path / "file"))
    assert message.replace(";", ",") in outcome.stdout


@pytest.mark.parametrize("name", BAD)
def test_zabbix_gets_the_line_as_its_value_with_an_empty_stderr(name: str, start: Start) -> None:
    outcome = start(BAD[name], "--format=zabbix", "-v")

    assert (outcome.stderr, outcome.status) == ("", 2)
    assert outcome.stdout.count("\n") == 1
    assert not outcome.stdout.startswith(("{", "[", "0", "1"))


def test_a_key_file_that_others_can_read_is_refused_with_the_fix(
    start: Start, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    path.chmod(0o644)

    outcome = start(Bad(("--set", f"openai.admin.key.file={path}"), "", environ={"": ""}))

    assert (outcome.stdout, outcome.status) == ("", 2)
    assert (
        f"{path} can be accessed by every user of this host; this process runs as user"
        in outcome.stderr
    )
    assert KEY not in outcome.stderr


def test_an_unknown_format_is_refused_with_all_known_formats(start: Start) -> None:
    outcome = start(Bad(("--format", "xml"), ""))

    assert (outcome.stdout, outcome.status) == ("", 2)
    assert all(f"'{form}'" in outcome.stderr for form in FORMATS)


@pytest.mark.parametrize("form", ["logicmonitor", "nagios", "zabbix", "prometheus"])
def test_a_series_is_refused_for_a_format_without_series(start: Start, form: str) -> None:
    outcome = start(Bad(("--format", form, "--series"), ""))

    assert outcome.status == (3 if form == "nagios" else 2)
    printed = outcome.stdout if form in ("nagios", "zabbix") else outcome.stderr
    assert f"--series works with json and influx, not {form}" in printed


def test_a_dimension_that_the_endpoint_lacks_is_refused_with_the_allowed_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENAI_ADMIN_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(SystemExit) as exited:
        main("images_by_model", ["--set", "openai.group.by=batch"])

    assert (exited.value.code, capsys.readouterr().err) == (
        2,
        "openai.group.by: images has no dimension 'batch'; allowed are project_id, user_id, "
        "api_key_id, model, size, source, or organization alone\n",
    )


REAL = (
    "no key",
    "a key in --set",
    "an unknown property",
    "thresholds that are not JSON",
    "an --at that is not a time",
)


@pytest.mark.parametrize("name", REAL)
def test_a_script_process_prints_the_same_message(name: str, tmp_path: Path) -> None:
    bad = BAD[name]
    (tmp_path / "file").write_text(bad.text)
    words = tuple(str(tmp_path / "file") if word == "FILE" else word for word in bad.words)
    environ = {} if bad.environ else {"OPENAI_ADMIN_KEY": KEY}

    outcome = started(FOLDER, words, tmp_path, environ)

    assert (outcome.stdout, outcome.status) == ("", 2)
    assert bad.message.replace("FILE", str(tmp_path / "file")) in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_instance_accepts_wildvalue_alias_and_id_and_refuses_unknown_names(
    tmp_path: Path,
) -> None:
    with Simulator(at=1795005296, projects=4, models=8) as demo:
        environ = {"OPENAI_ADMIN_KEY": ADMIN_KEY, "OPENAI_BASE_URL": demo.url}
        words = ("--at", "1795005296", "--instance")
        whole = json.loads(started(FOLDER, words[:2], tmp_path, environ).stdout)
        one = whole["instances"][0]
        given = ("gpt-0", one["wildvalue"], one["alias"], one["id"])
        found = [started(FOLDER, (*words, word), tmp_path, environ) for word in given]
        nagios = started(FOLDER, ("--format", "nagios", *words, "gpt-0"), tmp_path, environ)

    assert (found[0].stdout, found[0].status) == ("", 2)
    assert "has no instance 'gpt-0': no such name was seen in the last 35 days" in found[0].stderr
    for outcome in found[1:]:
        assert [row["id"] for row in json.loads(outcome.stdout)["instances"]] == [one["id"]]
    assert nagios.status == 3
