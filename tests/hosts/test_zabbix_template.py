"""Zabbix templates as data: ids, limits on items, expressions and overrides."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm_openai.hosts import zabbix, zabbix_limits
from lm_openai.hosts.jobs import Job, jobs
from lm_openai.hosts.zabbix_names import KEY, span
from lm_openai.model.thresholds import Override, Threshold
from lm_openai.output.zabbix import ALIAS_LENGTH, OF_INSTANCE, OF_POLL

AGENT, EXTERNAL = zabbix.TEMPLATES
PROJECTS = Override(
    (("project_id", "batch-*"),), "tpm_used", {"warning": Decimal(9), "consecutive": 2}, "site"
)


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    found: dict[str, Any] = zabbix.document(AGENT, jobs())["zabbix_export"]
    return found


def uuids(part: Any) -> Iterator[str]:
    """Yield the ids in a part of a template, but not those of groups, which are Zabbix's own."""
    if isinstance(part, dict):
        yield from [part["uuid"]] if "uuid" in part else []
        part = [value for name, value in part.items() if name != "groups"]
    if isinstance(part, list):
        for inner in part:
            yield from uuids(inner)


def job(*rows: Threshold, overrides: tuple[Override, ...] = ()) -> Job:
    """Return the job of rate limits with these thresholds only."""
    [found] = jobs(["rate_limits"])
    rules = found.rules._replace(
        thresholds={row.datapoint: row for row in rows}, overrides=overrides
    )
    return found._replace(rules=rules)


def rule(one: Job) -> dict[str, Any]:
    [found] = zabbix.document(AGENT, [one])["zabbix_export"]["templates"][0]["discovery_rules"]
    return dict(found)


def test_every_id_is_its_own_and_differs_between_the_templates(template: dict[str, Any]) -> None:
    own = list(uuids(template))
    others = list(uuids(zabbix.document(EXTERNAL, jobs())))

    assert max(Counter([*own, *others]).values()) == 1
    assert {UUID(one).version for one in own} == {4}


def test_an_item_of_an_instance_stays_the_same_when_a_limit_changes() -> None:
    items = [rule(job(row))["item_prototypes"] for row in (limits(80), limits(70))]

    assert items[0] == items[1]


def limits(warning: int, operator: str = ">=", consecutive: int = 3) -> Threshold:
    return Threshold("tpm_used", operator, Decimal(warning), None, Decimal(95), consecutive)


def test_a_master_has_as_many_dependent_items_as_the_collector_counts(
    template: dict[str, Any],
) -> None:
    items = template["templates"][0]["items"]
    rules = {one["key"]: one for one in template["templates"][0]["discovery_rules"]}
    for one in jobs():
        folder = one.definition.folder
        [master] = [
            item["key"] for item in items if item["key"].startswith(f"openai.get[{folder},")
        ]
        plain = [item for item in items if item.get("master_item", {}).get("key") == master]
        prototypes = [
            item
            for key, found in rules.items()
            if key.startswith(f"openai.get[{folder},")
            for item in found["item_prototypes"]
        ]
        each = len(one.definition.datapoints) + OF_INSTANCE
        assert len(prototypes or plain[OF_POLL:]) == each
        assert len(plain) == OF_POLL + (0 if prototypes else each)


def test_names_fit_the_columns_of_the_database(template: dict[str, Any]) -> None:
    """A graph's name has 128 characters, of which an alias gets 50."""
    for found in template["templates"][0]["discovery_rules"]:
        for graph in found.get("graph_prototypes", ()):
            assert len(re.sub(r"\{\{.*?\)\}", 50 * "x", graph["name"])) <= 128
        for trigger in found.get("trigger_prototypes", ()):
            assert len(trigger["name"].replace("{#WILDALIAS}", ALIAS_LENGTH * "x")) <= 255


@pytest.mark.parametrize(
    ("operator", "opens", "closes"),
    [
        (">", "min(V,#3)>M", "last(V)<=M"),
        (">=", "min(V,#3)>=M", "last(V)<M"),
        ("<", "max(V,#3)<M", "last(V)>=M"),
        ("<=", "max(V,#3)<=M", "last(V)>M"),
        ("=", "last(V,#1)=M and last(V,#2)=M and last(V,#3)=M", "last(V)<>M"),
        ("!=", "last(V,#1)<>M and last(V,#2)<>M and last(V,#3)<>M", "last(V)=M"),
    ],
)
def test_each_operator_counts_polls_in_a_row(operator: str, opens: str, closes: str) -> None:
    value = f"/{AGENT.name}/openai.value[rate_limits,{{#WILDVALUE}},tpm_used]"
    macro = '{$OPENAI.RATE_LIMITS.TPM_USED.WARNING:"{#PROJECT_ID}"}'
    found = rule(job(limits(80, operator)))["trigger_prototypes"][-1]
    texts = [
        found[name].replace(value, "V").replace(macro, "M")
        for name in ("expression", "recovery_expression")
    ]

    assert texts[0].startswith(f"{opens} and count(V,750s)>=3 and ")
    assert texts[1].startswith(f"{closes} or (")


def test_a_worse_level_hides_a_better_one() -> None:
    critical, warning = rule(job(limits(80)))["trigger_prototypes"]

    assert critical["dependencies"] == []
    assert [one["name"] for one in warning["dependencies"]] == [critical["name"]]


def test_an_override_has_triggers_for_the_matching_instances_alone() -> None:
    found = rule(job(limits(80), overrides=(PROJECTS,)))
    triggers = {one["name"].rpartition("}: ")[2]: one for one in found["trigger_prototypes"]}
    own = [name for name, one in triggers.items() if one.get("discover") == "NO_DISCOVER"]
    [step] = found["overrides"]
    off, on = (
        {name for name in triggers if re.search(operation["value"], f": {name}")}
        for operation in step["operations"]
    )

    assert own == [f"tpm_used {level} [project=batch-*]" for level in ("critical", "warning")]
    assert (off, on) == (set(triggers), set(own))
    assert [one["macro"] for one in step["filter"]["conditions"]] == [
        "{#PROJECT_ID}",
        "{#PROJECT_NAME}",
    ]
    assert step["filter"]["formula"] == "(A or B)"
    assert "last" not in triggers[own[1]]["expression"].partition(" and ")[0]


def test_overrides_whose_globs_differ_in_signs_alone_have_macros_of_their_own() -> None:
    globs = ("batch-*", "batch.*", "Batch-*")
    overrides = tuple(PROJECTS._replace(match=(("project_id", glob),)) for glob in globs)
    tuned = job(limits(80), overrides=overrides)
    template = zabbix.document(AGENT, [tuned])["zabbix_export"]["templates"][0]
    macros = [row["macro"] for row in template["macros"] if row["macro"].endswith(".WARNING}")]
    stem = "{$OPENAI.RATE_LIMITS.TPM_USED"

    assert macros == [
        f"{stem}.WARNING}}",
        f"{stem}.PROJECT_BATCH__.WARNING}}",
        f"{stem}.PROJECT_BATCH__.2.WARNING}}",
        f"{stem}.PROJECT_BATCH__.3.WARNING}}",
    ]
    [own] = template["discovery_rules"]
    for macro in macros:
        assert any(macro[:-1] in one["expression"] for one in own["trigger_prototypes"])


@given(
    st.text(alphabet="ab.*?[]!^ ", min_size=1, max_size=8),
    st.text(alphabet="ab.*?[]!^ ", max_size=8),
)
def test_a_filter_fits_what_the_collectors_glob_fits(glob: str, text: str) -> None:
    found = re.search(zabbix_limits._pattern(glob), text) is not None

    assert found == (text == glob or fnmatchcase(text, glob))


def test_a_span_holds_that_many_polls() -> None:
    """With polls every 300 s, the one before starts half an interval earlier."""
    assert (span(1, 300), span(3, 300), span(2, 5)) == ("150s", "750s", "8s")


def test_all_files_are_json_or_commands() -> None:
    texts = zabbix.files(jobs())

    assert [name for name in texts if name.endswith(".json") and json.loads(texts[name])]
    assert "Timeout=30\n" in texts["lm-openai.conf"]
    assert texts[KEY].startswith("#!/bin/sh\n")
