"""The suite command: its help, names of DataSources, wrong usage and the reasons for thresholds."""

from __future__ import annotations

import click
import pytest

from lm_openai import resources
from lm_openai.app import cli, parameters
from lm_openai.app.commands import chosen, suite
from lm_openai.collect import datasource


def output(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.invoke(suite, words) == 0
    return capsys.readouterr().out


def test_the_help_shows_whole_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert "..." not in output(["--help"], capsys).partition("Commands:")[2]


@pytest.mark.parametrize("name", sorted(suite.commands))
def test_every_option_has_a_help_text(name: str) -> None:
    """An option with choices needs no help text."""
    options = [entry for entry in suite.commands[name].params if isinstance(entry, click.Option)]

    assert [
        option.opts
        for option in options
        if not option.help and not isinstance(option.type, click.Choice)
    ] == []


def test_the_help_of_a_script_explains_where_the_key_comes_from(
    capsys: pytest.CaptureFixture[str],
) -> None:
    cli.script("rate_limits", ["--help"])

    assert parameters.KEY in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["collect", "all", "nope"], "unknown DataSource 'nope'; expected one of api_keys_by_key"),
        (["collect", "rate_limits", "nope"], "unknown DataSource 'nope'; expected one of "),
        (["collect", "rate_limit"], "unknown DataSource 'rate_limit'; did you mean rate_limits?"),
        (["discover", "costs_by_user"], "unknown DataSource 'costs_by_user'; did you mean cost_by"),
        (
            ["thresholds", "OpenAI_RateLimits_ByProjct"],
            "unknown DataSource 'OpenAI_RateLimits_ByProjct'; did you mean OpenAI_RateLimits_ByPro",
        ),
        (["simulate", "--port", "99999"], "lm-openai: Invalid value for '--port': 99999 is not "),
    ],
)
def test_an_unknown_datasource_or_port_is_refused_by_name(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.invoke(suite, words) == 2

    out, err = capsys.readouterr()
    assert err.startswith(sentence)
    assert (out, err.count("\n")) == ("", 1)


@pytest.mark.parametrize("folder", resources.folders())
def test_a_datasource_is_named_by_folder_logicmodule_name_or_title(folder: str) -> None:
    known = datasource.definition(folder)
    words = [folder, known.name, known.title, known.title.upper(), folder.replace("_", "-")]

    assert [datasource.folder_of(word) for word in words] == [folder] * 5


def test_each_command_accepts_a_title(capsys: pytest.CaptureFixture[str]) -> None:
    by_folder, by_name, by_title = (
        output(["thresholds", word], capsys)
        for word in ("rate_limits", "OpenAI_RateLimits_ByProject", "OpenAI Rate Limits By Project")
    )
    assert by_folder == by_name == by_title
    assert chosen(["OpenAI Organization", "organization"]) == ("organization",)


@pytest.mark.parametrize("folder", resources.folders())
def test_a_datasource_without_thresholds_gives_a_reason(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _, rest = output(["thresholds", folder], capsys).partition("\n")

    assert rest or first.startswith("No default limits: ")
