"""Prometheus: text that its own tools parse without errors or warnings."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from prometheus_client.parser import text_string_to_metric_families

from lm_openai.collect.datasource import definition as load
from lm_openai.errors import Failure
from lm_openai.model.definition import Datapoint
from lm_openai.model.report import Gap, Instance, Reading, Row
from lm_openai.output import prometheus
from lm_openai.resources import folders
from tests.support.promtool import lint
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
)

POOL = Instance(
    "proj_1/gpt-4o",
    "A team / gpt-4o",
    {"project_id": "proj_1", "model": "gpt-4o"},
    {"project_name": "A team"},
)

POLL = (("datasource", "completion_by_model"), ("organization", "acme"))


def samples(text):
    """Return values by name and labels; fails if a metric has two HELP lines."""
    families = list(text_string_to_metric_families(text))
    assert len({family.name for family in families}) == len(families) == text.count("# HELP ")
    assert {family.type for family in families} <= {"gauge"}
    found = [sample for family in families for sample in family.samples]
    assert all(sample.timestamp is None for sample in found)
    return {(sample.name, *sorted(sample.labels.items())): float(sample.value) for sample in found}


def as_label(text):
    """Return text as a label holds it: control characters become spaces."""
    control = [*range(32), *range(127, 160), 0x2028, 0x2029]
    return text.translate(dict.fromkeys(control, " "))


def everything(definition):
    """Return a report with a value for each datapoint of a definition."""
    dimensions = dict.fromkeys(definition.dimensions, "some")
    readings = tuple(Reading(point.name, 1) for point in definition.datapoints)
    one = Row(Instance("some", "Some", dimensions, {"project_name": "Some"}), readings)
    return report([one], definition=definition)


def test_ids_are_labels_and_names_are_only_on_the_info_metric():
    found = samples(prometheus.write(report([row(POOL, input_tokens=5)])))
    ids = (("model", "gpt-4o"), ("organization", "acme"), ("project_id", "proj_1"))
    about = {**POOL.dimensions, "organization": "acme", "alias": POOL.alias}
    about |= {"wildvalue": POOL.wildvalue, "project_name": "A team"}

    assert found == {
        ("openai_completion_by_model_input_tokens", *ids): 5,
        ("openai_completion_by_model_info", *sorted(about.items())): 1,
        ("openai_poll_success", *POLL): 1,
        ("openai_poll_timestamp_seconds", *POLL): NOON,
        ("openai_poll_unjudged", *POLL): 0,
    }


def test_values_are_in_base_units():
    one = row(cached_percent=Decimal("97.1"), amount=Decimal("0.25"), peak_age_seconds=90)
    text = prometheus.write(report([one]))

    assert '_cached_ratio{model="gpt-4o",organization="acme"} 0.971\n' in text
    assert '_amount_dollars{model="gpt-4o",organization="acme"} 0.25\n' in text
    assert '_peak_age_seconds{model="gpt-4o",organization="acme"} 90\n' in text


@pytest.mark.parametrize(
    ("name", "unit", "metric"),
    [
        ("input_tokens", "tokens", "input_tokens"),
        ("tpm_limit", "tokens", "tpm_limit_tokens"),
        ("tokens_used", "tokens", "tokens_used"),
        ("rpm_utilization", "percent", "rpm_utilization_ratio"),
        ("budget_used_percent", "percent", "budget_used_ratio"),
        ("tpm_busy_minutes", "minutes", "tpm_busy_seconds"),
        ("balance_days", "days", "balance_seconds"),
        (
            "audio_megabytes_per_minute_limit",
            "megabytes_per_minute",
            "audio_bytes_per_second_limit",
        ),
        ("amount", "dollars", "amount_dollars"),
        ("limit_known", "boolean", "limit_known"),
        ("usage_bytes", "bytes", "usage_bytes"),
        ("images", "images", "images"),
    ],
)
def test_the_name_of_a_metric_contains_its_base_unit_once(name, unit, metric):
    point = Datapoint(name, unit, "About it")
    assert prometheus.metric(definition(folder="x"), point) == f"openai_x_{metric}"


def test_two_datapoints_with_the_same_metric_name_are_refused():
    points = (Datapoint("age_days", "days", "One"), Datapoint("age_seconds", "seconds", "Two"))
    one = Row(instance(), tuple(Reading(point.name, 1) for point in points))
    with pytest.raises(Failure, match="openai_completion_by_model_age_seconds has two HELP texts"):
        prometheus.write(report([one], definition=definition(*points)))


def test_two_instances_with_the_same_labels_are_refused():
    twins = [row(Instance(identifier, "x", {"model": "m"}), input_tokens=1) for identifier in "ab"]
    with pytest.raises(Failure, match="same dimensions"):
        prometheus.write(report(twins))


def test_missing_data_sets_poll_success_to_0():
    found = samples(prometheus.write(report([row(input_tokens=1)], failures=("audio: no",))))
    success = ("openai_poll_success", *POLL)

    assert found[success] == 0


def test_a_failed_poll_has_poll_success_0_beside_the_other_polls():
    gap = Gap(definition(folder="audit"), "acme", "no connection to the API")
    found = samples(prometheus.write_all([report([row()])], [gap]))

    assert found["openai_poll_success", ("datasource", "audit"), ("organization", "acme")] == 0
    assert len([name for name, *_ in found if name == "openai_poll_timestamp_seconds"]) == 1


def test_series_of_another_grouping_are_series_of_their_own():
    rest = row(Instance("other", "other", {}), input_tokens=7)
    gap = Gap(definition(folder="audit"), "acme", "no connection to the API", "organization")
    reports = [report([rest], grouping=grouping) for grouping in ("", "user_id", "user_id,model")]
    found = samples(prometheus.write_all(reports, [gap]))

    # three reports with one value, one info and three poll metrics each, and the gap
    assert len(found) == 3 * 5 + 1
    polls = [dict(labels) for name, *labels in found if name == "openai_poll_success"]
    assert [labels.get("grouping") for labels in polls] == [
        None,
        "user_id",
        "user_id,model",
        "organization",
    ]


def test_the_help_of_a_window_total_warns_against_sums_over_time():
    points = (
        Datapoint("total", "tokens", "Total in the window", fold="sum"),
        Datapoint("both", "tokens", "Two totals", derived={"sum": ["total", "total"]}),
        Datapoint("share", "percent", "Share of both", derived={"percent": ["total", "both"]}),
        Datapoint("level", "bytes", "Level", fold="last"),
        Datapoint("limit", "tokens", "Limit"),
    )
    one = Row(instance(), tuple(Reading(point.name, 1) for point in points))
    lines = prometheus.write(report([one], definition=definition(*points, folder="x"))).splitlines()
    warned = [line.split()[2] for line in lines if "must not be summed over time" in line]

    assert warned == ["openai_x_total_tokens", "openai_x_both_tokens"]


def test_several_reports_share_one_help_line_per_metric():
    other = report([row(images=3)], definition=definition(*images(), folder="images_by_model"))
    second = report([row(input_tokens=2)], organization="umbrella")
    found = samples(prometheus.write_all([report([row(input_tokens=1)]), other, second]))
    polls = [labels for name, *labels in found if name == "openai_poll_success"]

    assert len(polls) == 3
    assert len([name for name, *_ in found if name.endswith("_input_tokens")]) == 2


def images():
    return (Datapoint("images", "images", "Images made"),)


def test_discovery_prints_only_the_info_metric():
    found = samples(prometheus.discover(report([row("gpt-4o"), row("gpt-4.1")])))

    assert [name for name, *_ in found] == ["openai_completion_by_model_info"] * 2
    assert prometheus.discover(report()) == ""


def test_difficult_ids_stay_distinct():
    found = samples(
        prometheus.write(report([row(identifier, input_tokens=1) for identifier in IDS]))
    )
    models = [dict(labels)["model"] for name, *labels in found if name.endswith("_tokens")]

    assert models == [as_label(identifier) for identifier in IDS]


@given(TEXTS, TEXTS, WHOLE, MONEY | FLOATS)
def test_any_id_name_and_number_reads_back(identifier, name, tokens, amount):
    one = instance(identifier, name, project_name=name)
    found = samples(prometheus.write(report([row(one, input_tokens=tokens, amount=amount)])))
    ids = [("model", as_label(identifier)), ("organization", "acme")]
    (about,) = [dict(labels) for metric, *labels in found if metric.endswith("_info")]

    assert {name: value for (name, *labels), value in found.items() if labels == ids} == {
        "openai_completion_by_model_input_tokens": float(tokens),
        "openai_completion_by_model_amount_dollars": float(amount),
    }
    assert about["alias"] == about["project_name"] == as_label(name)


def test_promtool_accepts_every_difficult_id_without_a_warning(tool):
    rows = [
        row(instance(one, one, project_name=one), input_tokens=1, cached_percent=5) for one in IDS
    ]
    lint(tool, prometheus.write(report(rows)))


def test_promtool_accepts_every_datasource_without_a_warning(tool):
    lint(tool, prometheus.write_all([everything(load(folder)) for folder in folders()]))


@pytest.mark.parametrize("folder", folders())
def test_each_datapoint_of_a_datasource_has_its_own_metric(folder):
    definition = load(folder)
    found = samples(prometheus.write(everything(definition)))
    names = {name for name, *_ in found if name.startswith(f"openai_{folder}_")}

    assert len(names) == len(definition.datapoints) + 1
    assert not {"instance", "job"} & set(definition.dimensions)
    assert not [name for name in names if name.endswith(("_total", "_count", "_sum", "_bucket"))]
