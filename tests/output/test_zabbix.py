"""Zabbix: rows with the same macros, one compact document, and never more than the agent takes."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given

from lm_openai.errors import Failure
from lm_openai.model.report import Instance
from lm_openai.output import logicmonitor, zabbix
from tests.support.samples import MONEY, NOON, TEXTS, WHOLE, instance, report, row, threshold

POOL = Instance(
    "proj_1/gpt-4o",
    "A team / gpt-4o",
    {"project_id": "proj_1", "model": "gpt-4o"},
    {"project_name": "A team"},
)


def test_discovery_rows_have_upper_case_macros_and_all_the_same():
    rows = json.loads(zabbix.discover(report([row(POOL), row("gpt-4.1")])))

    assert rows[0] == {
        "{#WILDVALUE}": POOL.wildvalue,
        "{#WILDALIAS}": "A team / gpt-4o",
        "{#PROJECT_ID}": "proj_1",
        "{#MODEL}": "gpt-4o",
        "{#PROJECT_NAME}": "A team",
        "{#ORGANIZATION}": "acme",
    }
    assert rows[1].keys() == rows[0].keys()
    assert rows[1]["{#PROJECT_ID}"] == ""


def test_nothing_discovered_is_an_empty_array():
    assert zabbix.discover(report()) == "[]\n"


def test_the_document_is_compact_and_holds_values_by_wildvalue():
    text = zabbix.write(
        report(
            [row("gpt-4o", threshold("input_tokens", ">", 1, None, 2), input_tokens=3)],
            failures=("audio: no",),
            ages={"completions": 60},
        )
    )

    assert text == (
        '{"datasource":"completion_by_model","organization":"acme",'
        f'"time":{NOON},"values":{{"gpt-4o":{{"input_tokens":3}}}},"states":{{"gpt-4o":3}},'
        '"partial_failures":["audio: no"],"data_age_seconds":{"completions":60}}\n'
    )


def test_a_document_that_the_agent_would_refuse_names_the_globs():
    rows = [row(f"model-{number}", input_tokens=number) for number in range(20_000)]
    for print_it in (zabbix.write, zabbix.discover):
        with pytest.raises(Failure) as raised:
            print_it(report(rows))
        assert "20000 instances" in str(raised.value)
        assert "openai.projects.include or .exclude" in str(raised.value)
        assert "openai.models.include or .exclude" in str(raised.value)


def test_a_document_just_under_the_limit_passes():
    rows = [row(f"model-{number}", input_tokens=number) for number in range(9_000)]
    assert 400_000 < len(zabbix.write(report(rows)).encode()) <= zabbix.SIZE < 512 * 1024


def test_a_failure_is_one_line_that_is_neither_json_nor_a_number():
    text = zabbix.failed("the API throttles\nthis organization; poll less often", "OpenAI")

    assert text == "the API throttles this organization; poll less often\n"
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(text)


def test_a_long_alias_leaves_room_for_an_item_name():
    rows = json.loads(zabbix.discover(report([row(instance("a", "n" * 400))])))
    assert len(rows[0]["{#WILDALIAS}"]) <= 180


@pytest.mark.parametrize("writer", [zabbix, logicmonitor])
@pytest.mark.parametrize("form", ["write", "discover"])
def test_two_instances_of_one_wildvalue_are_refused_and_none_is_lost(writer, form):
    """A model may be named as another one's wildvalue; to hit the same digest takes an intent."""
    twin = Instance(instance("a.b").wildvalue, "twin", {})

    with pytest.raises(Failure, match=r"'a\.b' and 'a-b-.*' both are a-b-.*exclude one of them"):
        getattr(writer, form)(report([row("a.b", input_tokens=1), row(twin, input_tokens=2)]))


@given(TEXTS, TEXTS, WHOLE, MONEY)
def test_whatever_an_id_holds_values_are_found_under_the_discovered_wildvalue(
    identifier, name, tokens, amount
):
    found = report([row(instance(identifier, name), input_tokens=tokens, amount=amount)])
    (discovered,) = json.loads(zabbix.discover(found))
    document = json.loads(zabbix.write(found), parse_float=Decimal, parse_int=Decimal)

    assert discovered["{#MODEL}"] == identifier
    assert document["values"][discovered["{#WILDVALUE}"]] == {
        "input_tokens": tokens,
        "amount": amount,
    }
