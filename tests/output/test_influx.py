"""Influx: every line parses back to the same ids, names and numbers, or no line is printed."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from line_protocol_parser import parse_line

from lm_openai.collect.datasource import definition as load
from lm_openai.errors import Failure
from lm_openai.model.report import Instance
from lm_openai.output import influx
from lm_openai.resources import folders
from tests.support.samples import (
    FLOATS,
    IDS,
    MONEY,
    NOON,
    TEXTS,
    WHOLE,
    definition,
    instance,
    report,
    row,
    sample,
)

NANOSECONDS = NOON * 10**9


def parsed(text):
    return [parse_line(line) for line in text.split("\n")[:-1]]


CONTROL = [*range(32), *range(127, 160), 0x2028, 0x2029]


def on_one_line(text):
    """Return a name as a string field holds it: without control characters."""
    return text.translate(dict.fromkeys(CONTROL, " "))


def as_tag(identifier):
    """Return an id as a tag holds it: without control characters and backslashes."""
    return on_one_line(identifier).replace("\\", "/")


def test_ids_are_tags_and_names_are_fields():
    one = instance("gpt-4.1", project_name='The "A" team')
    (line,) = parsed(influx.write(report([row(one, input_tokens=5, amount=Decimal("0.25"))])))

    assert line["measurement"] == "openai_completion_by_model"
    assert line["tags"] == {"model": "gpt-4.1", "organization": "acme"}
    assert line["fields"] == {"input_tokens": 5, "amount": 0.25, "project_name": 'The "A" team'}
    assert line["time"] == NANOSECONDS


def test_the_rest_and_the_total_of_another_grouping_are_series_of_their_own():
    other = row(Instance("other", "other", {}), input_tokens=5)
    own, by_user = (report([other], grouping=grouping) for grouping in ("", "user_id"))
    first, second = parsed(influx.write_all([own, by_user]))

    assert first["tags"] == {"organization": "acme"}
    assert second["tags"] == {"grouping": "user_id", "organization": "acme"}


def test_the_type_of_a_field_comes_from_the_unit_and_not_from_the_value():
    text = influx.write(report([row(input_tokens=3.0, amount=Decimal("3"), cached_percent=50)]))

    assert " input_tokens=3i,amount=3,cached_percent=50 " in text


@pytest.mark.parametrize(
    "values",
    [
        {"amount": float("nan")},
        {"amount": float("inf")},
        {"amount": Decimal("1e400")},
        {"input_tokens": 2**63},
        {"input_tokens": -(2**63) - 1},
        {"input_tokens": 0.5},
        {"input_tokens": float("nan")},
    ],
)
def test_a_number_that_influx_would_reject_prints_no_line_at_all(values):
    with pytest.raises(Failure):
        influx.write(report([row("first", input_tokens=1), row("second", **values)]))


def test_an_instance_without_dimensions_has_only_the_tag_organization():
    one = Instance("organization", "organization", {})
    text = influx.write(report([row(one, input_tokens=1)]))

    assert text == f"openai_completion_by_model,organization=acme input_tokens=1i {NANOSECONDS}\n"


def test_an_empty_dimension_is_left_out():
    one = Instance("x", "x", {"model": "", "project_id": "proj_1"})
    (line,) = parsed(influx.write(report([row(one, input_tokens=1)])))

    assert line["tags"] == {"organization": "acme", "project_id": "proj_1"}


def test_an_instance_without_a_value_has_no_line():
    assert influx.write(report([row(instance("a", project_name="b"))])) == ""


def test_two_instances_with_the_same_dimensions_are_refused():
    twins = [row(Instance(identifier, "x", {"model": "m"}), input_tokens=1) for identifier in "ab"]
    with pytest.raises(Failure, match="'a' and 'b' have the same dimensions"):
        influx.write(report(twins))


def test_a_series_is_written_at_bucket_times_and_unbucketed_values_at_poll_time():
    text = influx.write(
        report(
            [row("a", input_tokens=30, cached_percent=50, amount=Decimal("1.5"))],
            series=(
                sample("a", NOON - 120, input_tokens=10, cached_percent=40, amount=1),
                sample("a", NOON - 60, input_tokens=20),
            ),
            with_series=True,
        )
    )

    assert [(line["fields"], line["time"]) for line in parsed(text)] == [
        ({"input_tokens": 10, "cached_percent": 40}, NANOSECONDS - 120 * 10**9),
        ({"input_tokens": 20}, NANOSECONDS - 60 * 10**9),
        ({"amount": 1.5}, NANOSECONDS),
    ]


def test_a_series_without_a_bucket_prints_no_window_total_instead():
    assert influx.write(report([row("a", input_tokens=0)], with_series=True)) == ""


def test_discovery_lists_wildvalues_aliases_and_names():
    one = instance("gpt-4.1", "GPT 4.1", project_name="A")
    (line,) = parsed(influx.discover(report([row(one)])))

    assert line["measurement"] == "openai_completion_by_model_info"
    assert line["fields"] == {
        "wildvalue": one.wildvalue,
        "alias": "GPT 4.1",
        "project_name": "A",
    }


def test_difficult_ids_stay_distinct():
    lines = parsed(influx.write(report([row(identifier, input_tokens=1) for identifier in IDS])))

    assert [line["tags"]["model"] for line in lines] == [as_tag(identifier) for identifier in IDS]


@given(TEXTS, TEXTS, TEXTS, WHOLE, MONEY | FLOATS)
def test_a_line_with_any_id_name_and_number_parses_back(
    identifier, name, organization, tokens, amount
):
    one = instance(identifier, name, project_name=name)
    text = influx.write(
        report([row(one, input_tokens=tokens, amount=amount)], organization=organization)
    )
    (line,) = parsed(text)

    assert line["tags"] == {"model": as_tag(identifier), "organization": as_tag(organization)}
    assert line["fields"]["input_tokens"] == tokens
    assert line["fields"]["amount"] == float(amount)
    assert line["fields"]["project_name"] == on_one_line(name)


@pytest.mark.parametrize("folder", folders())
def test_no_datasource_has_a_tag_or_a_field_named_time(folder):
    definition = load(folder)
    names = {*definition.dimensions, *(datapoint.name for datapoint in definition.datapoints)}

    assert "time" not in names
    assert len(definition.datapoints) == len({point.name for point in definition.datapoints})


def test_the_measurement_contains_the_folder():
    found = report([row(input_tokens=1)], definition=definition(folder="images_by_model"))
    assert influx.write(found).startswith("openai_images_by_model,")
