"""JSON: one line that follows the schema and keeps every digit."""

from __future__ import annotations

import json
from decimal import Decimal

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as some

from lm_openai.errors import Failure, WrongUsage
from lm_openai.output import json as written
from lm_openai.output.registry import FORMATS, named
from lm_openai.resources import schema
from tests.support.samples import (
    FLOATS,
    MONEY,
    NOON,
    TEXTS,
    WHOLE,
    instance,
    report,
    row,
    sample,
    threshold,
)

LIMITS = threshold("cached_percent", "<", 50, 30, 20, consecutive=3, reason="cache misses cost")


def full():
    return report(
        [
            row("gpt-4.1", LIMITS, input_tokens=12, cached_percent=Decimal("25.5")),
            row(instance("gpt-4o", "GPT 4o", project_name="Größe"), idle=True, input_tokens=0),
        ],
        ages={"completions": 240},
        failures=("audio: the API throttles",),
        notes=("a name is missing",),
        series=(sample("gpt-4.1", NOON - 60, input_tokens=12),),
        with_series=True,
    )


def test_a_report_and_a_discovery_follow_their_schema():
    validator = jsonschema.Draft202012Validator(schema("report"))
    for text in (written.write(full()), written.discover(full()), written.write(report())):
        validator.validate(json.loads(text))


def test_the_schema_rejects_an_unknown_member_or_a_wrong_value():
    document = json.loads(written.write(full()))
    for wrong in (
        {**document, "more": 1},
        {**document, "unix_time": "1"},
        {**document, "instances": [{**document["instances"][0], "more": 1}]},
        {**document, "series": [{"wildvalue": "a b", "start": "now", "datapoints": {}}]},
    ):
        assert not jsonschema.Draft202012Validator(schema("report")).is_valid(wrong)


def test_a_document_holds_every_part_of_the_report():
    document = json.loads(written.write(full()))
    first, second = document["instances"]

    assert document["time"] == "2026-09-22T12:00:00Z"
    assert document["unix_time"] == NOON
    assert document["window"] == {"start": "2026-09-22T11:00:00Z", "end": "2026-09-22T12:00:00Z"}
    assert document["data_age_seconds"] == {"completions": 240}
    assert document["partial_failures"] == ["audio: the API throttles"]
    assert document["units"]["amount"] == "dollars"
    assert document["series"][0]["start"] == "2026-09-22T11:59:00Z"
    assert (first["state"], second["state"], second["idle"]) == ("error", "ok", True)
    assert first["breaches"] == [
        {
            "datapoint": "cached_percent",
            "level": "error",
            "operator": "<",
            "limit": 30,
            "value": 25.5,
            "consecutive": 3,
            "reason": "cache misses cost",
        }
    ]
    assert second["names"] == {"project_name": "Größe"}


def test_a_document_without_series_has_no_series_member():
    assert "series" not in json.loads(written.write(report([row(input_tokens=1)])))


def test_money_keeps_digits_that_a_float_would_lose():
    text = written.write(report([row(amount=Decimal("0.12345678901234567890123"))]))

    assert '"amount": 0.12345678901234567890123}' in text


def test_nan_is_never_printed():
    with pytest.raises(Failure):
        written.write(report([row(amount=float("nan"))]))


@given(TEXTS, TEXTS, WHOLE, MONEY | FLOATS)
def test_any_id_name_and_number_reads_back_from_one_line(identifier, name, tokens, amount):
    one = instance(identifier, name, project_name=name)
    text = written.write(report([row(one, input_tokens=tokens, amount=amount)]))
    read = json.loads(text, parse_float=Decimal)["instances"][0]

    assert text.splitlines() == [text[:-1]]
    assert (read["id"], read["alias"], read["names"]) == (identifier, name, {"project_name": name})
    assert read["wildvalue"] == one.wildvalue
    assert read["datapoints"]["input_tokens"] == tokens
    assert float(read["datapoints"]["amount"]) == float(amount)


@given(
    some.recursive(
        TEXTS | some.booleans() | WHOLE,
        lambda inner: some.lists(inner) | some.dictionaries(TEXTS, inner),
    )
)
def test_any_value_reads_back_with_and_without_spaces(value):
    assert json.loads(written.text(value)) == value
    assert json.loads(written.text(value, gap="")) == value


def test_a_lone_surrogate_is_escaped_so_that_it_can_be_encoded():
    assert written.text("\ud800").encode() == b'"\\ud800"'


def test_each_format_has_a_writer_and_an_unknown_name_is_refused():
    for format in FORMATS:
        assert callable(named(format).writer().write)
        assert callable(named(format).writer().discover)
    with pytest.raises(WrongUsage, match="unknown format 'xml'"):
        named("xml")


def test_several_reports_are_one_json_document_per_line_or_all_influx_lines():
    several = [report([row(input_tokens=1)]), full()]

    assert [json.loads(line) for line in written.write_all(several).splitlines()] == [
        json.loads(written.write(one)) for one in several
    ]
    influx = named("influx").writer()
    assert influx.write_all(several) == influx.write(several[0]) + influx.write(several[1])


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_writes_a_report_without_instances_and_ends_each_line(format):
    for text in (named(format).writer().write(report()), named(format).writer().discover(report())):
        assert text == "" or text.endswith("\n")


def test_a_lone_surrogate_in_an_id_is_printed_escaped() -> None:
    (found,) = json.loads(written.write(report([row("\ud800x")])))["instances"]

    assert (found["id"], found["wildvalue"][:3]) == ("\ud800x", "-x-")
