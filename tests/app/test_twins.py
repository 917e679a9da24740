"""Names of projects in every format: twins are distinct, and no name breaks a line."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from pytest_httpserver import HTTPServer

from lm_openai.app import show
from lm_openai.app.options import Options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.output.registry import FORMATS
from tests.support.small_organization import Small, Use, limit, serve, unix
from tests.support.surroundings import environment

NOW = unix("12:34:56")
PROJECTS = (
    ("proj_aaa111", "Prod", False),
    ("proj_bbb222", "Prod", False),
    ("proj_ccc333", "half \ud83d", False),
    ("proj_ddd444", "bell\x07\ttab\nend", False),
)
ALIASES = {
    "proj_aaa111/gpt-4o": "Prod / gpt-4o (aaa111)",
    "proj_bbb222/gpt-4o": "Prod / gpt-4o (bbb222)",
    "proj_ccc333/gpt-4o": "half   / gpt-4o",
    "proj_ddd444/gpt-4o": "bell  tab end / gpt-4o",
}
UNPRINTABLE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Poll(NamedTuple):
    url: str
    home: Path

    def __call__(self, form: str, discover: bool = False, *instances: str) -> str:
        """Return what one poll of the rate limits prints."""
        out, err = io.StringIO(), io.StringIO()
        options = Options(format=form, discover=discover, instances=instances)
        run("rate_limits", options, self.around(out, err))
        assert err.getvalue() == ""
        return out.getvalue()

    def around(self, out: io.StringIO, err: io.StringIO) -> Surroundings:
        return Surroundings(environment(self.url, self.home), io.StringIO(), out, err, NOW)


@pytest.fixture
def poll(httpserver: HTTPServer, tmp_path: Path) -> Poll:
    counts = {"input_tokens": 90, "output_tokens": 10, "num_model_requests": 1}
    ids = [identifier for identifier, *_ in PROJECTS]
    uses = tuple(Use("completions", NOW - 300, one, "gpt-4o", counts) for one in ids)
    limits = {one: [limit("gpt-4o", 10, 1000)] for one in ids}
    return Poll(serve(httpserver, Small(NOW, uses, limits, PROJECTS, {}, 1440, [])), tmp_path)


@pytest.mark.parametrize("form", FORMATS)
def test_every_discovery_tells_twins_apart_and_prints_each_name_on_one_line(
    form: str, poll: Poll
) -> None:
    text = poll(form, True)

    assert not UNPRINTABLE.search(text.replace("\t", "") if form == "nagios" else text)
    text.encode()
    for alias in ALIASES.values():
        assert " ".join(alias.split()) in re.sub(" +", " ", text)
    assert "ud83d" not in text


@pytest.mark.parametrize("form", FORMATS)
def test_every_collection_prints_each_name_on_one_line(form: str, poll: Poll) -> None:
    text = poll(form)

    assert not UNPRINTABLE.search(text)
    text.encode()
    assert "ud83d" not in text


def test_logicmonitor_gets_a_display_name_for_each_instance(poll: Poll) -> None:
    lines = [line.split("##") for line in poll("logicmonitor", True).splitlines()]

    assert sorted(line[1] for line in lines) == sorted(
        " ".join(alias.split()) for alias in ALIASES.values()
    )
    (half,) = [line for line in lines if line[2].startswith("proj_ccc333")]
    assert "auto.openai.project.name=half%20%20&" in half[-1]


def test_the_text_of_nagios_and_the_tables_name_each_twin(poll: Poll) -> None:
    out = io.StringIO()
    show.run(["rate_limits"], Options(), poll.around(out, io.StringIO()), everything=True)

    for text in (poll("nagios"), out.getvalue()):
        assert "Prod / gpt-4o (aaa111)" in text
        assert "Prod / gpt-4o (bbb222)" in text


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("Prod / gpt-4o", ["proj_aaa111/gpt-4o", "proj_bbb222/gpt-4o"]),
        ("Prod*", ["proj_aaa111/gpt-4o", "proj_bbb222/gpt-4o"]),
        ("*rod / gpt-4o", ["proj_aaa111/gpt-4o", "proj_bbb222/gpt-4o"]),
        ("Prod / gpt-4o (bbb222)", ["proj_bbb222/gpt-4o"]),
        ("proj_aaa111/gpt-4o", ["proj_aaa111/gpt-4o"]),
    ],
)
def test_instance_selects_twins_by_their_own_alias_and_one_by_the_alias_shown(
    word: str, found: list[str], poll: Poll
) -> None:
    rows = json.loads(poll("json", False, word))["instances"]

    assert {row["id"]: row["alias"] for row in rows} == {one: ALIASES[one] for one in found}
    assert {row["names"]["project_name"] for row in rows} == {"Prod"}


def test_a_twin_keeps_its_name_while_the_other_is_absent(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    """Its label and the name by which a service requests it must not depend on its twin."""
    counts = {"input_tokens": 90, "output_tokens": 10, "num_model_requests": 1}
    uses = (Use("completions", NOW - 300, "proj_bbb222", "gpt-4o", counts),)
    limits = {one: [limit("gpt-4o", 10, 1000)] for one, *_ in PROJECTS}
    url = serve(httpserver, Small(NOW, uses, limits, PROJECTS, {}, 1440, []))
    poll = Poll(url, tmp_path)

    aliases = [row["alias"] for row in json.loads(poll("json"))["instances"]]
    named = json.loads(poll("json", False, "Prod / gpt-4o (bbb222)"))["instances"]
    silent = json.loads(poll("json", False, "Prod / gpt-4o (aaa111)"))["instances"]

    assert aliases == ["Prod / gpt-4o (bbb222)"]
    assert [row["id"] for row in named] == ["proj_bbb222/gpt-4o"]
    assert [(row["id"], row["idle"]) for row in silent] == [("proj_aaa111/gpt-4o", True)]
