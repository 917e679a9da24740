"""LogicMonitor: keys that a Collector can split, and discovery lines that keep the real name."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from urllib.parse import parse_qsl

from hypothesis import given

from lm_openai.model.report import Breach, Instance, Missing, Unjudged
from lm_openai.output import logicmonitor
from tests.support.replay import replayed
from tests.support.samples import FLOATS, MONEY, TEXTS, WHOLE, instance, report, row, threshold

BAD_IN_WILDVALUE = re.compile(r"[=:\\#\s.]")


def fields(line):
    """Split a line as the platform does: at each pair of hashes, from the left."""
    return line.split("##")


def test_values_are_keyed_by_wildvalue_and_camel_case_name():
    text = logicmonitor.write(
        report([row("gpt-4o", num_model_requests=7, amount=Decimal("0.00002510"))])
    )

    assert text == "gpt-4o.numModelRequests=7\ngpt-4o.amount=0.0000251\ngpt-4o.unjudged=0\n"


def test_an_unknown_value_has_no_line():
    assert logicmonitor.write(report([row("gpt-4o")])) == "gpt-4o.unjudged=0\n"


def test_a_poll_that_failed_for_every_instance_has_no_text():
    failed = report([row("gpt-4o")])._replace(failures=("no connection to the API",))
    assert logicmonitor.write(failed) == ""


def test_unjudged_counts_the_thresholds_whose_level_is_unknown():
    """One threshold is certainly critical, since the known part reaches it; two are not judged."""
    limit = threshold("input_tokens", ">", 1, None, 2)
    at_least = Unjudged("amount", limit, Missing("not today", 3), Breach(3, limit))
    others = [Unjudged(name, limit, Missing("not today")) for name in ("input_tokens", "requests")]
    partly = row("gpt-4o", num_model_requests=7)._replace(unjudged=(at_least, *others))
    text = logicmonitor.write(report([partly, row("gpt-4.1-mini", num_model_requests=1)]))
    wildvalue = instance("gpt-4.1-mini").wildvalue

    assert text == (
        "gpt-4o.numModelRequests=7\ngpt-4o.unjudged=2\n"
        f"{wildvalue}.numModelRequests=1\n{wildvalue}.unjudged=0\n"
    )


def test_a_failed_usage_kind_shows_in_unjudged_as_in_json(tmp_path):
    failing = "/organization/usage/completions"
    text, document = (
        replayed("rate_limits", tmp_path / form, form, failing=failing).stdout
        for form in ("logicmonitor", "json")
    )
    found = dict(line.split(".unjudged=") for line in text.splitlines() if ".unjudged=" in line)
    wanted = {
        one["wildvalue"]: len([open_ for open_ in one["unjudged"] if "level" not in open_])
        for one in json.loads(document)["instances"]
    }

    assert {key: int(number) for key, number in found.items()} == wanted
    assert sum(wanted.values()) > 0


def test_discovery_prints_name_id_and_properties():
    one = Instance(
        "proj_1/gpt-4o",
        "The A team / gpt-4o",
        {"project_id": "proj_1", "model": "gpt-4o"},
        {"project_name": "The A team"},
    )
    line = logicmonitor.discover(report([row(one)])).rstrip("\n")

    assert line == (
        f"{one.wildvalue}##The A team / gpt-4o##proj_1/gpt-4o####"
        "auto.openai.project.id=proj_1&auto.openai.model=gpt-4o"
        "&auto.openai.project.name=The%20A%20team&auto.openai.organization=acme"
    )


def test_without_a_description_six_hashes_precede_the_properties():
    line = logicmonitor.discover(report([row("gpt-4o")]))

    assert line == "gpt-4o##gpt-4o######auto.openai.model=gpt-4o&auto.openai.organization=acme\n"


def test_a_property_without_a_value_is_left_out():
    one = Instance("a", "a", {"model": "", "project_id": "p"}, {"project_name": ""})
    line = logicmonitor.discover(report([row(one)], organization=""))

    assert line == "a##a######auto.openai.project.id=p\n"


def test_a_long_alias_is_cut_to_255_characters():
    line = logicmonitor.discover(report([row(instance("a", "n" * 400 + " / gpt-4o (6jJXna)"))]))
    alias = fields(line)[1]

    assert len(alias) <= 255
    assert alias.endswith("nnn / gpt-4o (6jJXna)")


def test_a_name_that_ends_in_a_hash_keeps_it():
    line = logicmonitor.discover(report([row(instance("a", "C#"))]))
    assert fields(line)[1].strip() == "C#"


@given(TEXTS, WHOLE, MONEY | FLOATS)
def test_numbers_of_any_id_read_back(identifier, tokens, amount):
    one = instance(identifier)
    text = logicmonitor.write(report([row(one, input_tokens=tokens, amount=amount)]))
    found = dict(line.split("=", 1) for line in text.splitlines())
    wildvalues = {key.split(".")[0] for key in found}

    assert wildvalues == {one.wildvalue}
    assert not BAD_IN_WILDVALUE.search(one.wildvalue)
    assert int(found[f"{one.wildvalue}.inputTokens"]) == tokens
    assert float(found[f"{one.wildvalue}.amount"]) == float(amount)


@given(TEXTS, TEXTS)
def test_a_discovery_line_with_any_name_splits_into_its_parts(identifier, name):
    one = instance(identifier, name, project_name=name)
    text = logicmonitor.discover(report([row(one)]))
    wildvalue, alias, description, nothing, properties = fields(text.rstrip("\n"))
    found = dict(parse_qsl(properties, strict_parsing=True))

    assert text.splitlines() == [text[:-1]]
    assert (wildvalue, nothing) == (one.wildvalue, "")
    assert alias.strip()
    assert description == "" or identifier != name
    assert found == {
        "auto.openai.model": identifier,
        "auto.openai.project.name": name,
        "auto.openai.organization": "acme",
    }
