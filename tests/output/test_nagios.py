"""Nagios: a first line that is never cut, perfdata that every reader can parse, correct states."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lm_openai.model.report import Breach, Gap, Missing, Unjudged
from lm_openai.model.thresholds import OPERATORS
from lm_openai.output import nagios
from tests.support.samples import (
    FLOATS,
    IDS,
    MONEY,
    TEXTS,
    WHOLE,
    definition,
    instance,
    report,
    row,
    threshold,
)

ITEM = re.compile(r"'([^'=|]+)'=(-?[0-9]+(?:\.[0-9]+)?)(s|B|%)?((?:;[^; ]*){0,4})")
HIGH = threshold("cached_percent", ">=", 80, 90, 95)
LOW = threshold("cached_percent", "<", 50, None, 20)


def split(text):
    """Return the status line's text, its perfdata by label, and the lines below."""
    first, *below = text.rstrip("\n").split("\n")
    status, _, perfdata = first.partition(" | ")
    items = ITEM.findall(perfdata)
    assert " ".join(f"'{label}'={value}{uom}{rest}" for label, value, uom, rest in items) == (
        perfdata
    )
    assert len({label for label, *_ in items}) == len(items)
    return (
        status,
        {label: (value, uom, *rest.split(";")[1:]) for label, value, uom, rest in items},
        below,
    )


def alerts(range_, value):
    """Return True if the range alerts, as the Monitoring Plugins guidelines define it."""
    inside = range_.startswith("@")
    start, _, end = range_.removeprefix("@").rpartition(":")
    low = Decimal("-Infinity") if start == "~" else Decimal(start or 0)
    high = Decimal("Infinity") if not end else Decimal(end)
    return (low <= value <= high) == inside


def test_a_status_line_has_state_text_and_perfdata():
    text = nagios.write(
        report([row("gpt-4.1", HIGH, input_tokens=12, cached_percent=Decimal("92.5"))])
    )

    assert text == (
        "OPENAI COMPLETION BY MODEL CRITICAL - gpt-4.1: cached_percent 92.5% "
        "(error at or over 90%), input_tokens 12 | "
        "'gpt-4.1 input_tokens'=12;;;0 'gpt-4.1 cached_percent'=92.5%;@80:;@90:;0;100\n"
        "[CRITICAL] gpt-4.1: cached_percent 92.5% (error at or over 90%), input_tokens 12\n"
    )


@pytest.mark.parametrize(
    ("value", "state"), [(79, 0), (80, 1), (90, 2), (95, 2), (Decimal("79.999999"), 0)]
)
def test_the_status_of_warning_is_1_and_of_error_and_critical_2(value, state):
    assert nagios.status(report([row("a", HIGH, cached_percent=value)])) == state


def test_missing_data_that_leaves_every_threshold_judged_is_text_only():
    part = report([row("a", input_tokens=1)], failures=("names: the API | throttles",))

    assert nagios.status(part) == 0
    assert "some data is missing: names: the API _ throttles" in split(nagios.write(part))[0]


def test_a_report_that_may_lack_instances_is_unknown_unless_something_is_critical():
    part = report([row("a", input_tokens=1)], failures=("audio: no",), incomplete=True)
    warning = part._replace(rows=(row("a", HIGH, cached_percent=81),))
    critical = part._replace(rows=(row("a", HIGH, cached_percent=99),))

    assert [nagios.status(one) for one in (part, warning, critical)] == [3, 3, 2]


def test_a_threshold_without_its_datapoint_is_not_judged_and_says_why():
    lost = Unjudged("cached_percent", HIGH, Missing("usage/completions could not be read"))
    part = report([row("a", input_tokens=1)._replace(unjudged=(lost,))])

    first, below = nagios.write(part).splitlines()
    assert nagios.status(part) == 3
    assert "UNKNOWN - a: cached_percent not judged: usage/completions could not be read" in first
    assert below.startswith("[UNKNOWN] a: cached_percent not judged")


def test_a_level_that_the_known_part_alone_reaches_stays():
    lost = Unjudged("cached_percent", HIGH, Missing("no", 96), Breach(3, HIGH))
    part = report([row("a", input_tokens=1)._replace(unjudged=(lost,))])

    assert nagios.status(part) == 2
    assert "a: cached_percent at least 96% (critical at or over 95%)" in nagios.write(part)
    assert "'a cached_percent'" not in nagios.write(part)


def test_no_instance_is_ok_with_complete_data_and_unknown_with_missing_data():
    empty, failed = report(), report(failures=("completions: no connection",))

    assert nagios.status(empty) == 0
    assert nagios.write(empty) == "OPENAI COMPLETION BY MODEL OK - no instance in use\n"
    assert nagios.status(failed) == 3
    assert "UNKNOWN" in nagios.write(failed)


def test_a_failed_poll_is_one_line_with_the_reason():
    text = nagios.failed("no key:\nset  it | now", "OpenAI Audit")

    assert text == "OPENAI AUDIT UNKNOWN - no key: set it _ now\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("18705.120019750441"), "18705.12"),
        (Decimal("89.999"), "89.99"),
        (Decimal("-92.461081"), "-92.46"),
        (Decimal("0.0000251"), "0.0000251"),
        (10**30, str(10**30)),
    ],
)
def test_the_text_is_short_and_perfdata_is_exact(value, text):
    status, perfdata, _ = split(nagios.write(report([row("a", amount=value)])))

    assert status.endswith(f"a: amount {text}")
    assert Decimal(perfdata["a amount"][0]) == value


def test_an_idle_instance_is_shown_as_idle():
    text = nagios.write(report([row("gpt-4o", idle=True, input_tokens=0)]))

    assert text.startswith("OPENAI COMPLETION BY MODEL OK - gpt-4o: idle | 'gpt-4o input_tokens'=0")


def test_the_worst_come_first_and_the_idle_last():
    rows = [
        row("idle", idle=True, input_tokens=0),
        row("fine", HIGH, cached_percent=1),
        row("warning", HIGH, cached_percent=81),
        row("critical", HIGH, cached_percent=99),
    ]
    status, perfdata, below = split(nagios.write(report(rows)))

    assert status == (
        "OPENAI COMPLETION BY MODEL CRITICAL - 2 of 4 instances: "
        "critical: cached_percent 99% (critical at or over 95%); "
        "warning: cached_percent 81% (warning at or over 80%)"
    )
    assert [label.split()[0] for label in perfdata] == ["critical", "warning", "fine", "idle"]
    assert [line.split(":")[0] for line in below] == [
        "[CRITICAL] critical",
        "[WARNING] warning",
        "[OK] fine",
        "[OK] idle",
    ]


def test_the_text_counts_the_instances_whose_perfdata_does_not_fit():
    rows = [
        row(f"模型-{number}", HIGH, input_tokens=number, amount=number, cached_percent=number % 100)
        for number in range(1000)
    ]
    text = nagios.write(report(rows, failures=("x" * 3000,)))
    status, perfdata, below = split(text)
    left = re.search(r"perfdata of ([0-9]+) instances left out", status)

    assert 7_000 < len(text.split("\n")[0].encode()) < 8_000
    assert left
    assert int(left[1]) + len(perfdata) // 3 == 1000
    assert f"and {1000 - nagios.LISTED} instances more, none of them worse" in below
    assert len(below) == nagios.LISTED + 2


def test_the_state_depends_on_all_instances_and_not_only_on_the_named_ones():
    rows = [row(f"{number:0200}", input_tokens=number, amount=1) for number in range(500)]
    assert nagios.status(report([*rows, row("last", HIGH, cached_percent=99)])) == 2


def test_labels_do_not_depend_on_which_instance_is_worst():
    calm = [row(instance(identifier, "dev"), HIGH, cached_percent=1) for identifier in "ab"]
    alarmed = [calm[0], row(instance("b", "dev"), HIGH, cached_percent=99)]
    labels = [set(split(nagios.write(report(rows)))[1]) for rows in (calm, alarmed)]

    assert labels == [{"dev a cached_percent", "dev b cached_percent"}] * 2


def test_the_critical_range_is_the_error_limit_or_critical_if_error_is_off():
    both = nagios.write(report([row("a", HIGH, cached_percent=1)]))
    without = nagios.write(report([row("a", LOW, cached_percent=60)]))

    assert split(both)[1]["a cached_percent"] == ("1", "%", "@80:", "@90:", "0", "100")
    assert split(without)[1]["a cached_percent"] == ("60", "%", "50:", "20:", "0", "100")


@given(
    some.sampled_from(sorted(OPERATORS)),
    some.decimals(-1000, 1000, places=3),
    some.decimals(-1000, 1000, places=3),
)
def test_a_range_alerts_for_exactly_the_values_that_breach_the_threshold(operator, bound, value):
    for one in (value, bound):
        limits = threshold("amount", operator, bound)
        assert alerts(nagios.range_of(limits, 1), one) == bool(limits.level(one))


def test_a_level_that_is_off_has_no_range():
    assert nagios.range_of(LOW, 2) == ""


def test_difficult_aliases_stay_distinct():
    rows = [row(identifier, input_tokens=number) for number, identifier in enumerate(IDS)]
    _, perfdata, below = split(nagios.write(report(rows)))

    assert sorted(int(value) for value, *_ in perfdata.values()) == list(range(len(IDS)))
    assert len(below) == len(IDS)


@given(some.lists(TEXTS, min_size=1, max_size=5), WHOLE, MONEY | FLOATS)
def test_perfdata_with_any_alias_splits_and_its_numbers_read_back(aliases, tokens, amount):
    rows = [
        row(instance(f"id-{number}", alias), input_tokens=tokens, amount=amount)
        for number, alias in enumerate(aliases)
    ]
    text = nagios.write(report(rows))
    status, perfdata, below = split(text)

    assert "|" not in status + "".join(below)
    assert not re.search(r"  |[\x00-\x09\x0b-\x1f]", text)
    assert len(below) == len(aliases)
    assert len(perfdata) == 2 * len(aliases)
    for label, (value, *_) in perfdata.items():
        expected = tokens if label.endswith(" input_tokens") else amount
        assert float(value) == float(expected)


@given(TEXTS)
def test_discovery_prints_wildvalue_and_alias_on_one_line(alias):
    text = nagios.discover(report([row(instance("gpt-4.1", alias))]))
    wildvalue, tab, _ = text.rstrip("\n").partition("\t")

    assert (wildvalue, tab) == (instance("gpt-4.1").wildvalue, "\t")
    assert len(text.splitlines()) == 1


def test_several_datasources_print_one_state_which_is_the_worst():
    fine = report([row("a", input_tokens=1)])
    warning = report([row("a", HIGH, cached_percent=81)])
    critical = report([row("a", HIGH, cached_percent=99)])
    failure = Gap(definition(title="OpenAI Audit"), "acme", "no connection to the API")

    assert nagios.status_all([fine]) == 0
    assert nagios.status_all([fine, warning]) == 1
    assert nagios.status_all([warning], [failure]) == 3
    assert nagios.status_all([critical, warning], [failure]) == 2
    assert nagios.status_all([]) == 3
    assert nagios.write_all([fine, warning, critical], [failure]).splitlines() == [
        "OPENAI CRITICAL - 3 of 4 DataSources not OK: OpenAI Completion By Model CRITICAL, "
        "OpenAI Audit UNKNOWN, OpenAI Completion By Model WARNING",
        "OPENAI COMPLETION BY MODEL CRITICAL - a: cached_percent 99% (critical at or over 95%)",
        "OPENAI AUDIT UNKNOWN - no connection to the API",
        "OPENAI COMPLETION BY MODEL WARNING - a: cached_percent 81% (warning at or over 80%)",
        "OPENAI COMPLETION BY MODEL OK - a: input_tokens 1",
    ]
    assert nagios.write_all([fine]).startswith("OPENAI OK - 1 DataSource\n")
