"""Zabbix: rows with the same macros, and one compact document that the agent accepts."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given

from lm_openai.collect.datasource import definition as load
from lm_openai.errors import Failure
from lm_openai.model.report import Breach, Instance, Missing, Unjudged
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


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("{$SNMP_COMMUNITY}", "{ $SNMP_COMMUNITY}"),
        ("a {#MODEL} b", "a { #MODEL} b"),
        ("{HOST.CONN}", "{ HOST.CONN}"),
        ("{{ITEM.VALUE}.regsub(a)}", "{ { ITEM.VALUE}.regsub(a)}"),
        ("{?last(/a/b)}", "{ ?last(/a/b)}"),
        ("{team} {}", "{team} {}"),
    ],
)
def test_the_server_finds_no_macro_in_a_name(name: str, shown: str) -> None:
    member = Instance("proj_1", name, {"project_id": "proj_1"}, {"project_name": name})

    (found,) = json.loads(zabbix.discover(report([row(member)])))

    assert (found["{#WILDALIAS}"], found["{#PROJECT_NAME}"]) == (shown, shown)


def test_discovery_without_instances_is_an_empty_array():
    assert zabbix.discover(report()) == "[]\n"


def test_the_document_is_compact_and_holds_values_by_wildvalue():
    text = zabbix.write(
        report(
            [
                row(
                    "gpt-4o",
                    threshold("input_tokens", ">", 1, None, 2, consecutive=3),
                    input_tokens=3,
                )
            ],
            failures=("audio: no",),
            ages={"completions": 60},
        )
    )

    assert text == (
        '{"datasource":"completion_by_model","organization":"acme",'
        f'"time":{NOON},"values":{{"gpt-4o":{{"input_tokens":3}}}},"states":{{"gpt-4o":3}},'
        '"breaches":{"gpt-4o":[{"datapoint":"input_tokens","level":3,"limit":2,"polls":3}]},'
        '"unjudged":{},'
        '"partial_failures":["audio: no"],"data_age_seconds":{"completions":60}}\n'
    )


def test_breaches_are_listed_by_wildvalue_with_those_of_a_known_part():
    tokens = threshold("input_tokens", ">=", 1, 5, 9, consecutive=2)
    requests = threshold("num_model_requests", "<", 100)
    amount = threshold("amount", ">", 1, None, 2)
    bad = row("a", tokens, requests, input_tokens=5, num_model_requests=99)
    partly = row("b")._replace(
        unjudged=(
            Unjudged("amount", amount, Missing("not today", Decimal("2.5")), Breach(3, amount)),
            Unjudged("input_tokens", tokens, Missing("not today")),
        )
    )
    document = json.loads(zabbix.write(report([bad, partly, row("c", tokens, input_tokens=0)])))

    assert document["breaches"] == {
        "a": [
            {"datapoint": "input_tokens", "level": 2, "limit": 5, "polls": 2},
            {"datapoint": "num_model_requests", "level": 1, "limit": 100, "polls": 1},
        ],
        "b": [{"datapoint": "amount", "level": 3, "limit": 2, "polls": 1}],
    }
    assert document["states"] == {"a": 2, "b": 3, "c": 0}
    assert document["unjudged"] == {"b": ["amount", "input_tokens"]}


def test_more_instances_than_the_items_of_a_master_are_refused():
    """Rate limits have 19 datapoints and a state: 1499 x 20 + 4 = 29984, 1500 x 20 + 4 = 30004."""
    limits = load("rate_limits")
    rows = [row(f"model-{number}", tpm_used=number) for number in range(1500)]
    for print_it in (zabbix.write, zabbix.discover):
        assert print_it(report(rows[:1499], definition=limits))
        with pytest.raises(Failure, match=r"1500 instances need .* kB and 30004 dependent items, "):
            print_it(report(rows, definition=limits))


def test_a_document_too_large_for_the_agent_names_the_properties_that_reduce_it():
    rows = [row(f"model-{number}", input_tokens=number) for number in range(20_000)]
    for print_it in (zabbix.write, zabbix.discover):
        with pytest.raises(Failure) as raised:
            print_it(report(rows))
        assert "20000 instances" in str(raised.value)
        assert "split them over more master items with --part I/N" in str(raised.value)
        assert "openai.projects.include or .exclude" in str(raised.value)
        assert "openai.models.include or .exclude" in str(raised.value)


def test_a_document_just_under_the_limit_is_printed():
    rows = [row(f"model-{number:080}", input_tokens=number) for number in range(2_100)]
    assert 400_000 < len(zabbix.write(report(rows)).encode()) <= zabbix.SIZE < 512 * 1024


def test_a_failure_is_one_line_that_is_neither_json_nor_a_number():
    text = zabbix.failed("the API throttles\nthis organization; poll less often", "OpenAI")

    assert text == "the API throttles this organization; poll less often\n"
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(text)


def test_a_long_alias_leaves_room_for_an_item_name():
    alias = f"{'n' * 400} / gpt-4o-mini (6jJXna)"
    rows = json.loads(zabbix.discover(report([row(instance("a", alias))])))

    assert len(rows[0]["{#WILDALIAS}"]) <= 150
    assert rows[0]["{#WILDALIAS}"].endswith("nnn / gpt-4o-mini (6jJXna)")


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
