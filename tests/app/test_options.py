"""The fast parser of argv agrees with click, or leaves argv to click."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_openai.app import cli, runner
from lm_openai.app.options import Options, parse
from lm_openai.output.command_line import OPTIONS
from lm_openai.output.registry import FORMATS
from tests.support.paths import ROOT

FOLDER = "completion_by_model"

PLAIN: dict[str, Options] = {
    "": Options(),
    "--format json": Options(),
    "--format=nagios": Options(format="nagios"),
    "--format json --format zabbix": Options(format="zabbix"),
    "--discover --format logicmonitor": Options(discover=True, format="logicmonitor"),
    "--properties a --properties -": Options(properties=("a", "-")),
    "--properties=": Options(properties=("",)),
    "--set openai.window=1h --set=openai.top=3": Options(sets=("openai.window=1h", "openai.top=3")),
    "--thresholds a.json --thresholds=b.json": Options(thresholds=("a.json", "b.json")),
    "--instance gpt-* --instance *": Options(instances=("gpt-*", "*")),
    "--series": Options(series=True),
    "--series --no-series": Options(series=False),
    "--no-series --series": Options(series=True),
    "--at 1795005296": Options(at="1795005296"),
    "--at -5": Options(at="-5"),
    "--at --discover": Options(at="--discover"),
    "--timeout 5 -v": Options(timeout="5", verbose=True),
    "-v -v": Options(verbose=True),
}
OTHERS = (
    "--help",
    "--version",
    "--bogus",
    "--at",
    "--discover=yes",
    "--no-series=1",
    "--format xml",
    "--format",
    "--forma json",
    "extra",
    "-",
    "--",
    "-- --discover",
    "-vv",
    "-x",
    "-v=1",
    "--v",
    "-discover",
    "--format JSON",
    "--Discover",
)
PIECES = st.sampled_from(
    [
        *(option.flag for option in OPTIONS),
        *(option.negative for option in OPTIONS if option.negative),
        *(f"{option.flag}=x" for option in OPTIONS),
        *FORMATS,
        "--format=influx",
        "--help",
        "-vv",
        "--",
        "-",
        "",
        "x",
        "a=b",
        "=",
        "--=",
        "---",
        "-v=",
        "--set=",
    ]
)


@pytest.fixture(scope="module")
def clicked() -> Any:
    """Function that parses argv with click; None for help, version and wrong usage."""
    seen: list[Options] = []

    def read(words: list[str]) -> Options | None:
        seen.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "run", lambda folder, options, around: seen.append(options))
            patch.setattr(runner, "fail", lambda *given: runner.WRONG)
            patch.setattr(click, "echo", lambda *given, **more: None)
            cli.script(FOLDER, words)
        return seen[0] if seen else None

    return read


@pytest.mark.parametrize("words", PLAIN)
def test_both_parsers_read_plain_forms_alike(words: str, clicked: Any) -> None:
    assert parse(words.split()) == clicked(words.split()) == PLAIN[words]


@pytest.mark.parametrize("words", OTHERS)
def test_unknown_forms_are_left_to_click(words: str) -> None:
    assert parse(words.split()) is None


@given(words=st.lists(PIECES, max_size=5))
def test_click_agrees_with_every_result_of_the_fast_parser(words: list[str], clicked: Any) -> None:
    fast = parse(words)

    assert fast is None or fast == clicked(words)


@given(words=st.lists(PIECES, max_size=4))
def test_the_fast_parser_leaves_no_plain_form_to_click(words: list[str], clicked: Any) -> None:
    """Only click's own forms are left, such as `-vv` and `--`."""
    slow = clicked(words)

    if slow is not None and parse(words) is None:
        assert {"-vv", "--", "-v="} & set(words)


def test_every_option_is_in_the_help() -> None:
    text = run("--help").stdout

    for option in OPTIONS:
        assert option.flag in text
        assert option.negative in text
    assert "--version" in text


def test_a_plain_poll_is_parsed_without_importing_click() -> None:
    program = """
import sys
sys.path.insert(0, sys.argv.pop())
from lm_openai.app import options
print(options.parse(sys.argv[1:]).at, sorted({"click", "argparse", "json"} & set(sys.modules)))
"""
    words = ("--format", "nagios", "--at", "9", "--set=a=b", "-v")

    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, *words, ROOT], capture_output=True, text=True
    )

    assert ran.stdout == "9 []\n"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "modules" / FOLDER / f"{FOLDER}.py"
    return subprocess.run([sys.executable, script, *words], capture_output=True, text=True)


@pytest.mark.parametrize("word", ["--help", "--version", "--critcal"])
def test_a_start_without_a_poll_loads_neither_the_client_nor_tls(word: str) -> None:
    script = ROOT / "modules" / FOLDER / f"{FOLDER}.py"
    ran = subprocess.run(
        [sys.executable, "-X", "importtime", script, word], capture_output=True, text=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines()}

    assert "lm_openai.app.cli" in loaded
    assert not {"lm_openai.api.client", "lm_openai.collect.poll", "requests", "ssl"} & loaded


def test_help_and_version_exit_with_0() -> None:
    assert [run(word).returncode for word in ("--help", "--version")] == [0, 0]
    assert run("--version").stdout.startswith("lm-openai ")
