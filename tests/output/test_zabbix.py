"""Zabbix: rows with the same macros, and one compact document that the agent accepts."""

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


def test_all_discovery_rows_have_the_same_upper_case_macros():
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


def test_discovery_without_instances_is_an_empty_array():
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
        f'"time":{NOON},"values":{{"gpt-4o":{{"input_tokens":3}}}},"states":{{"gpt-4o":3}},"unjudged":{{}},'
        '"partial_failures":["audio: no"],"data_age_seconds":{"completions":60}}\n'
    )


def test_a_document_too_large_for_the_agent_names_the_properties_that_reduce_it():
    rows = [row(f"model-{number}", input_tokens=number) for number in range(20_000)]
    for print_it in (zabbix.write, zabbix.discover):
        with pytest.raises(Failure) as raised:
            print_it(report(rows))
        assert "20000 instances" in str(raised.value)
        assert "openai.projects.include or .exclude" in str(raised.value)
        assert "openai.models.include or .exclude" in str(raised.value)


def test_a_document_just_under_the_limit_is_printed():
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
def test_two_instances_with_the_same_wildvalue_are_refused(writer, form):
    """A model can be named like the wildvalue of another; equal digests happen only on purpose."""
    twin = Instance(instance("a.b").wildvalue, "twin", {})

    with pytest.raises(
        Failure, match=r"'a\.b' and 'a-b-.*' have the same wildvalue a-b-.*exclude one of them"
    ):
        getattr(writer, form)(report([row("a.b", input_tokens=1), row(twin, input_tokens=2)]))


@given(TEXTS, TEXTS, WHOLE, MONEY)
def test_values_of_any_id_are_found_by_the_discovered_wildvalue(identifier, name, tokens, amount):
    found = report([row(instance(identifier, name), input_tokens=tokens, amount=amount)])
    (discovered,) = json.loads(zabbix.discover(found))
    document = json.loads(zabbix.write(found), parse_float=Decimal, parse_int=Decimal)

    assert discovered["{#MODEL}"] == identifier
    assert document["values"][discovered["{#WILDVALUE}"]] == {
        "input_tokens": tokens,
        "amount": amount,
    }
