"""Checkmk: local check lines that its own reader understands, with lasting names."""

from __future__ import annotations

from decimal import Decimal
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lm_openai import resources
from lm_openai.errors import Failure
from lm_openai.model.report import Gap, Missing, Unjudged
from lm_openai.output import checkmk
from tests.support import replay
from tests.support.checkmk import Metric, services
from tests.support.samples import (
    FLOATS,
    TEXTS,
    WHOLE,
    definition,
    instance,
    report,
    row,
    threshold,
)

TITLE = "OpenAI Completion By Model"
HIGH = threshold("cached_percent", ">=", 80, 90, 95)
LOW = threshold("cached_percent", "<", 50, None, 20)


def test_a_poll_is_a_service_of_its_own_and_one_for_each_instance():
    text = checkmk.write(
        report([row("gpt-4o", HIGH, input_tokens=12, cached_percent=Decimal("92.5")), row("a")])
    )

    assert text == (
        f'0 "{TITLE}" instances=2;;;0|unjudged=0;;;0 2 instances, 1 not ok, '
        "polled at 2026-09-22T12:00:00Z\n"
        f'0 "{TITLE} a" - a: no value\n'
        f'2 "{TITLE} gpt-4o" input_tokens=12;;;0|cached_percent=92.5;80;90;0;100 '
        "gpt-4o: cached_percent 92.5% (error at or over 90%), input_tokens 12\n"
    )


@pytest.mark.parametrize(
    ("limit", "value", "state", "upper", "lower"),
    [
        (HIGH, 79, 0, (80, 90), None),
        (HIGH, 80, 1, (80, 90), None),
        (HIGH, 90, 2, (80, 90), None),
        (LOW, 50, 0, None, (50, 20)),
        (LOW, 49, 1, None, (50, 20)),
        (LOW, 19, 2, None, (50, 20)),
        (threshold("cached_percent", ">", 5), 6, 1, (5, inf), None),
        (threshold("cached_percent", "=", 5), 5, 1, None, None),
    ],
)
def test_state_and_levels_are_those_of_the_threshold(limit, value, state, upper, lower):
    found = services(checkmk.write(report([row("a", limit, cached_percent=value)])))

    assert found[f"{TITLE} a"].state == state
    assert found[f"{TITLE} a"].metrics == {"cached_percent": Metric(value, upper, lower, (0, 100))}
    assert found[TITLE].state == 0


def test_what_cannot_be_judged_is_unknown_and_says_why():
    lost = Unjudged("cached_percent", HIGH, Missing("usage/completions could not be read"))
    part = report(
        [row("a", input_tokens=1)._replace(unjudged=(lost,)), row("b", HIGH, cached_percent=1)],
        failures=("completions: no answer",),
    )
    found = services(checkmk.write(part))

    assert {name: one.state for name, one in found.items()} == {
        TITLE: 3,
        f"{TITLE} a": 3,
        f"{TITLE} b": 0,
    }
    assert "cached_percent not judged: usage/completions" in found[f"{TITLE} a"].text
    assert found[TITLE].text.endswith("some data is missing: completions: no answer")
    assert found[TITLE].metrics["unjudged"].value == 1


def test_no_instance_is_ok_with_complete_data_and_unknown_with_missing_data():
    assert services(checkmk.write(report()))[TITLE].state == 0
    assert services(checkmk.write(report(failures=("no connection",))))[TITLE].state == 3


def test_several_datasources_are_together_and_a_failed_one_is_state_3():
    other = definition(folder="rate_limits", title="OpenAI Rate Limits")
    text = checkmk.write_all([report([row("a")])], [Gap(other, "acme", "no key:\n set | it; now")])
    found = services(text)

    assert [(name, one.state) for name, one in found.items()] == [
        (TITLE, 0),
        (f"{TITLE} a", 0),
        ("OpenAI Rate Limits", 3),
    ]
    assert found["OpenAI Rate Limits"] == (3, "no key: set _ it, now", {})


def test_two_instances_that_would_be_one_service_are_refused():
    twin = instance("a b").wildvalue

    with pytest.raises(Failure, match="would overwrite each other"):
        checkmk.write(report([row("a b"), row(twin)]))


def test_the_name_stays_when_the_alias_changes():
    names = [
        [*services(checkmk.write(report([row(instance("proj_1/gpt 4", alias))])))]
        for alias in ("Ana's / gpt", 'B "x" \\n')
    ]

    assert names[0] == names[1]


@given(
    some.lists(some.tuples(TEXTS, TEXTS), unique_by=lambda pair: pair[0], max_size=4), WHOLE, FLOATS
)
def test_every_text_and_number_arrives(pairs, whole, fraction):
    rows = [
        row(instance(identifier, alias), amount=fraction, input_tokens=whole)
        for identifier, alias in pairs
    ]
    found = services(checkmk.write(report(rows, failures=tuple(alias for _, alias in pairs))))

    assert len(found) == len(pairs) + 1
    for one in rows:
        service = found[f"{TITLE} {one.instance.wildvalue}"]
        assert service.metrics["input_tokens"].value == float(whole)
        assert service.metrics["amount"].value == pytest.approx(fraction)
        assert "\n" not in service.text


@pytest.mark.parametrize("folder", resources.folders())
def test_every_recorded_output_is_understood(folder):
    text = replay.expected(folder, "checkmk", False).read_text()

    assert len(services(text)) == len(text.splitlines()) > 0
