"""Shipped files for Prometheus and Alertmanager, checked by their own tools without servers."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from lm_openai.hosts import prometheus, prometheus_tests, yaml_text
from lm_openai.hosts.jobs import Job, jobs
from lm_openai.hosts.prometheus_overrides import pattern
from lm_openai.model.thresholds import Override
from tests.support.paths import ROOT
from tests.support.systemd_units import settings, verify

SHIPPED = ROOT / "packaging/prometheus"
UNIT = SHIPPED / "systemd/lm-openai-textfile@.service"

Tool = Callable[[str], str]


def judged(tool: Tool, program: str, *words: str | Path) -> str:
    """Return the output of promtool or amtool; fails if it rejects a file."""
    ran = subprocess.run([tool(program), *words], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def written(folder: Path, shipped: tuple[Job, ...]) -> Path:
    """Write the shipped files for jobs into an empty folder."""
    for path, text in prometheus.files(shipped).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return folder


def test_the_tools_accept_every_file(tool: Tool, tmp_path: Path) -> None:
    rules = [*(SHIPPED / "rules").glob("*.yml")]
    assert "duplicate" not in judged(tool, "promtool", "check", "rules", *rules)
    shutil.copy(SHIPPED / "prometheus.yml", tmp_path)
    shutil.copytree(SHIPPED / "rules", tmp_path / "openai")
    assert f"{len(rules)} rule files" in judged(
        tool, "promtool", "check", "config", tmp_path / "prometheus.yml"
    )
    judged(tool, "amtool", "check-config", SHIPPED / "alertmanager.yml")


def test_the_shipped_unit_tests_of_the_rules_pass(tool: Tool) -> None:
    judged(tool, "promtool", "test", "rules", *(SHIPPED / "tests").glob("*.yml"))


def test_every_threshold_has_a_rule_of_its_level_and_a_unit_test() -> None:
    for job in jobs():
        rules = document(f"rules/openai_{job.definition.folder}.yml")["groups"][0]["rules"]
        levels = {
            (rule["alert"], rule["labels"]["severity"], rule["labels"].get("override", ""))
            for rule in rules
            if "threshold" in rule.get("annotations", {})
        }
        tested = [*prometheus_tests.cases(job)]
        for alert in job.alerts:
            name = f"{job.definition.name}_{alert.datapoint.name}"
            cases = [case for case in tested if case.alert == alert]
            assert len(cases) == len(alert.overrides) + alert.threshold.on
            found = [level for level in levels if level[0] == name]
            assert len(found) == sum(case.level for case in cases)
        assert bool(tested) == (SHIPPED / f"tests/openai_{job.definition.folder}.yml").exists()


def site_overrides() -> tuple[Override, ...]:
    """Return overrides by name and id, of which several match one instance."""
    percent, name = "tpm_utilization", "project_id"
    rows: list[tuple[dict[str, str], dict[str, Any]]] = [
        ({name: "batch-*"}, {"critical": Decimal(99), "consecutive": 1}),
        ({"model": "o[13]"}, {"warning": Decimal(50), "error": Decimal(60)}),
        ({name: 'x"y\\z.(a+b)|c^$'}, {"warning": None, "error": None, "critical": None}),
        ({name: "batch-*"}, {"warning": Decimal(97), "error": Decimal(98)}),
        ({name: "batch-*", "model": "gpt-5*"}, {"warning": None}),
    ]
    return tuple(Override((*match.items(),), percent, change, "site") for match, change in rows)


def test_a_sites_overrides_by_id_and_name_are_judged_as_the_suite_judges(
    tool: Tool, tmp_path: Path
) -> None:
    (job,) = jobs(["rate_limits"])
    tuned = job._replace(rules=job.rules._replace(overrides=site_overrides()))
    folder = written(tmp_path, (tuned,))
    cases = [*prometheus_tests.cases(tuned)]
    assert {case.threshold.limits for case in cases if case.threshold.consecutive == 1} >= {
        (Decimal(97), Decimal(98), Decimal(99)),
        (None, Decimal(98), Decimal(99)),
    }
    judged(tool, "promtool", "check", "rules", folder / "rules/openai_rate_limits.yml")
    judged(tool, "promtool", "test", "rules", folder / "tests/openai_rate_limits.yml")


@pytest.mark.parametrize(
    "glob",
    ["a*", "?b", "[ab]*", "[!a]?", "a.b", "a[b", "[^a]", "^$", "(a|b)+", "[]", "a[!]", "[]a]"],
)
def test_a_pattern_matches_what_the_glob_matches(glob: str) -> None:
    words = ["", "ab", "a.b", "axb", "a[b", "[^a]", "^a", "^$", "(a|b)+"]
    texts = [*words, *"ab^|", *pairs()]
    for text in texts:
        wanted = text == glob or fnmatchcase(text, glob)
        assert bool(re.fullmatch(pattern(glob), text)) == wanted, text


def pairs() -> Iterator[str]:
    yield from map("".join, product("ab^[]", repeat=2))


def test_yaml_reads_back_what_was_written() -> None:
    value = {
        "a": ["on", "1m", "x: y", "", "tab\tand\nline", 'quote"', "ü", "#", "- x", "5", "~"],
        "no": {"b": [], "c": {}, "d": [{"e": 1, "f": ["g", ["h"]]}]},
        "long": "first\n  second\nthird",
    }
    assert yaml.safe_load(yaml_text.document(value)) == value


def document(name: str) -> Any:
    return yaml.safe_load((SHIPPED / name).read_text())


def test_the_service_writes_the_textfile_with_as_few_rights_as_the_resident_one() -> None:
    own, resident = settings(UNIT), settings(ROOT / "packaging/systemd/lm-openai.service")
    hardened = {name: value for name, value in own.items() if name in prometheus.HARDENING}
    assert hardened == {name: resident[name] for name in prometheus.HARDENING}
    restricting = ("Protect", "Restrict", "Private", "System", "NoNew", "Memory", "Lock", "Cap")
    assert not [name for name in resident if name.startswith(restricting) and name not in own]
    assert own["StateDirectory"] == ["lm-openai/prometheus"]


def test_systemd_accepts_the_units(tool: Tool, tmp_path: Path) -> None:
    timers = [f"lm-openai-textfile@{job.definition.folder}.timer" for job in jobs()]
    verify(tool, tmp_path, UNIT.parent.iterdir(), "/usr/lib/lm-openai/%i.py", timers)
    for timer in timers:
        assert settings(UNIT.parent / timer)["OnUnitActiveSec"][0][-1] in "smhd"
