"""Nagios: a first line that is never cut, perfdata that every reader can parse, correct states."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as some

from lm_openai.model.definition import Datapoint, Graph
from lm_openai.model.report import Breach, Gap, Missing, Unjudged
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

ITEM = re.compile(r"([A-Za-z0-9_-]+)=(-?[0-9]+(?:\.[0-9]+)?)(s|B|%)?((?:;[-0-9.]*:?){0,4})")
HIGH = threshold("cached_percent", ">=", 80, 90, 95)
LOW = threshold("cached_percent", "<", 50, None, 20)
POLLED = "Polled at 2026-09-22T12:00:00Z."


def split(text):
    """Return the status line's text, its perfdata by label, and the instances' lines below."""
    first, *below, polled = text.rstrip("\n").split("\n")
    assert polled == POLLED
    status, _, perfdata = first.partition(" | ")
    items = ITEM.findall(perfdata)
    assert " ".join(f"{label}={value}{uom}{rest}" for label, value, uom, rest in items) == (
        perfdata
    )
    assert len({label for label, *_ in items}) == len(items)
    return (
        status,
        {label: (value, uom, *rest.split(";")[1:]) for label, value, uom, rest in items},
        below,
    )


def test_a_status_line_has_state_text_and_perfdata():
    text = nagios.write(
        report([row("gpt-4.1", HIGH, input_tokens=12, cached_percent=Decimal("92.5"))])
    )

    assert text == (
        "OPENAI COMPLETION BY MODEL CRITICAL - gpt-4.1: cached_percent 92.5% "
        "(error at or over 90%), input_tokens 12 | "
        "gpt-4_1_input_tokens=12;;;0 gpt-4_1_cached_percent=92.5%;80;90;0;100\n"
        "[CRITICAL] gpt-4.1: cached_percent 92.5% (error at or over 90%), input_tokens 12\n"
        f"{POLLED}\n"
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

    first, below, _ = nagios.write(part).splitlines()
    assert nagios.status(part) == 3
    assert "UNKNOWN - a: cached_percent not judged: usage/completions could not be read" in first
    assert below.startswith("[UNKNOWN] a: cached_percent not judged")


def test_a_level_that_the_known_part_alone_reaches_stays():
    lost = Unjudged("cached_percent", HIGH, Missing("no", 96), Breach(3, HIGH))
    part = report([row("a", input_tokens=1)._replace(unjudged=(lost,))])

    assert nagios.status(part) == 2
    assert "a: cached_percent at least 96% (critical at or over 95%)" in nagios.write(part)
    assert split(nagios.write(part))[1].keys() == {"a_input_tokens"}


def test_no_instance_is_ok_with_complete_data_and_unknown_with_missing_data():
    empty, failed = report(), report(failures=("completions: no connection",))

    assert nagios.status(empty) == 0
    assert split(nagios.write(empty)) == (
        "OPENAI COMPLETION BY MODEL OK - no instance in use",
        {},
        [],
    )
    assert nagios.status(failed) == 3
    assert "UNKNOWN" in nagios.write(failed)


def test_a_failed_poll_is_one_line_with_the_reason():
    text = nagios.failed("no key:\nset  it | now", "OpenAI Audit")

    assert text == "OPENAI AUDIT UNKNOWN - no key: set it _ now\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("860.796"), "860.796"),
        (Decimal("18705.1200195"), "18705.12002"),
        (Decimal("-92.4610815"), "-92.461082"),
        (Decimal("0.0000251"), "0.0000251"),
        (10**30, str(10**30)),
    ],
)
def test_money_in_the_text_has_six_places_and_perfdata_is_exact(value, text):
    status, perfdata, _ = split(nagios.write(report([row("a", amount=value)])))

    assert status.endswith(f"a: amount {text}")
    assert Decimal(perfdata["a_amount"][0]) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("12.345", "12.34%"),  # half even
        ("12.355", "12.36%"),
        ("79.99", "79.99%"),
        ("79.996", "79.996%"),  # 80.00 would be a warning
        ("89.9999996", "89.9999996% (warning at or over 80%)"),  # and 90.00 an error
        ("90.004", "90% (error at or over 90%)"),
    ],
)
def test_a_rounded_value_stays_on_its_side_of_each_limit(value, text):
    status, *_ = split(nagios.write(report([row("a", HIGH, cached_percent=Decimal(value))])))

    assert status.endswith(f"a: cached_percent {text}")


def test_a_rounded_low_value_stays_below_its_limit():
    status, *_ = split(nagios.write(report([row("a", LOW, cached_percent=Decimal("49.996"))])))

    assert status.endswith("a: cached_percent 49.996% (warning under 50%)")


def test_an_idle_instance_is_shown_as_idle():
    text = nagios.write(report([row("gpt-4o", idle=True, input_tokens=0)]))

    assert text.startswith("OPENAI COMPLETION BY MODEL OK - gpt-4o: idle | gpt-4o_input_tokens=0")


def test_the_worst_come_first_and_the_idle_last():
    rows = [
        row("idle", idle=True, input_tokens=0),
        row("fine", HIGH, cached_percent=1),
        row("near", HIGH, cached_percent=79),
        row("warning", HIGH, cached_percent=81),
        row("critical", HIGH, cached_percent=99),
    ]
    status, _, below = split(nagios.write(report(rows)))

    assert status == (
        "OPENAI COMPLETION BY MODEL CRITICAL - 2 of 5 instances: "
        "critical: cached_percent 99% (critical at or over 95%), "
        "warning: cached_percent 81% (warning at or over 80%)"
    )
    assert [line.split(":")[0] for line in below] == [
        "[CRITICAL] critical",
        "[WARNING] warning",
        "[OK] near",
        "[OK] fine",
        "[OK] idle",
    ]


def test_an_ok_line_names_the_reading_nearest_to_a_limit():
    rows = [
        row("a", HIGH, threshold("amount", ">", 1000, 2000), cached_percent=20, amount=700),
        row("b", HIGH, cached_percent=60),  # 75 % of 80, more than 70 % of 1000
        row("c", idle=True, input_tokens=0),
    ]
    status, *_ = split(nagios.write(report(rows)))

    assert status == (
        "OPENAI COMPLETION BY MODEL OK - 3 instances, 1 idle, "
        "nearest to a limit: b: cached_percent 60%, warning at or over 80%"
    )


def test_the_readings_of_an_instance_begin_with_the_nearest_to_a_limit():
    only = row("a", HIGH, threshold("amount", ">", 1000), input_tokens=5, amount=700.5,
               cached_percent=60)  # fmt: skip
    status, *_ = split(nagios.write(report([only])))

    assert status.endswith("OK - a: cached_percent 60%, amount 700.5, input_tokens 5")


def test_perfdata_is_in_the_order_of_ids_whatever_the_values():
    def labels(*percents):
        rows = [row(name, HIGH, cached_percent=p) for name, p in zip(("z", "a", "m"), percents)]
        return list(split(nagios.write(report(rows)))[1])

    assert labels(99, 1, 50) == labels(1, 99, 85) == labels(1, 2, 3)
    assert labels(1, 2, 3) == ["a_cached_percent", "m_cached_percent", "z_cached_percent"]


def many(count=1000):
    """Return rows whose perfdata does not fit; their nearness to a limit follows no order."""
    return [
        row(f"m-{number}", HIGH, input_tokens=number, cached_percent=number * 7919 % count / 12)
        for number in range(count)
    ]


def test_the_text_counts_the_instances_whose_perfdata_does_not_fit():
    text = nagios.write(report(many(), failures=("模" * 3000,)))
    status, perfdata, below = split(text)
    left = re.search(r", perfdata of ([0-9]+) instances left out", status)

    assert 6_500 < len(text.split("\n")[0].encode()) < 8_000
    assert left
    assert int(left[1]) + len(perfdata) // 2 == 1000
    assert f"and {1000 - nagios.LISTED} instances more, none of them worse" in below
    assert len(below) == nagios.LISTED + 2


def test_the_instances_left_out_of_perfdata_are_those_farthest_from_a_limit():
    rows = many()
    _, perfdata, _ = split(nagios.write(report(rows)))
    percent = {one.instance.id: one.readings[1].value for one in rows}
    kept = {label.removesuffix("_cached_percent") for label in perfdata if "cached" in label}

    left_out = percent.keys() - kept
    assert 50 < len(kept) < 1000
    # instances within 5 % of the limit of 80 are equally near
    assert min(percent[name] for name in kept) > max(percent[name] for name in left_out) - 4


def test_a_small_change_does_not_change_which_instances_are_kept():
    rows = [row(f"m-{number}", HIGH, cached_percent=41 + number % 2) for number in range(1000)]
    moved = [row(f"m-{number}", HIGH, cached_percent=42 - number % 2) for number in range(1000)]
    before, after = (split(nagios.write(report(one)))[1].keys() for one in (rows, moved))

    assert before == after


def test_without_thresholds_the_busiest_instances_are_kept():
    rows = [row(f"m-{number:04}", input_tokens=1) for number in range(1000)]
    busy = row("z", input_tokens=2)
    _, perfdata, _ = split(nagios.write(report([*rows, busy])))

    assert "z_input_tokens" in perfdata


def test_a_longer_text_removes_no_perfdata():
    rows = many()
    calm, failed = report(rows), report(rows, failures=("x" * 500,))

    assert split(nagios.write(calm))[1] == split(nagios.write(failed))[1]


def test_without_instance_perfdata_has_the_judged_and_the_graphed_datapoints():
    drawn = definition(graphs=(Graph("Tokens", ("input_tokens",)),))
    rows = [row("a", HIGH, input_tokens=1, amount=2, cached_percent=3)]
    whole = report(rows, definition=drawn)

    assert split(nagios.write(whole))[1].keys() == {"a_input_tokens", "a_cached_percent"}
    assert split(nagios.write(whole._replace(only=("a*",))))[1].keys() == {
        "a_input_tokens",
        "a_amount",
        "a_cached_percent",
    }


def test_the_state_depends_on_all_instances_and_not_only_on_the_named_ones():
    rows = [row(f"{number:0200}", input_tokens=number, amount=1) for number in range(500)]
    assert nagios.status(report([*rows, row("last", HIGH, cached_percent=99)])) == 2


def labels(*rows, only=()):
    """Return the beginnings of the labels, in the order of the instances' ids."""
    _, perfdata, _ = split(nagios.write(report(rows, only=only)))
    assert all(label.endswith("input_tokens") for label in perfdata)
    return [label.removesuffix("input_tokens") for label in perfdata]


def tokens(identifier, alias=None):
    return row(instance(identifier, alias), input_tokens=1)


@pytest.mark.parametrize(
    ("alias", "label"),
    [
        ("Alpha / gpt-4o", "Alpha_gpt-4o_"),
        ("gpt-4.1", "gpt-4_1_"),
        ("ft:gpt-4o:org::id", "ft_gpt-4o_org_id_"),
        ("it's; a=b | c", "it_s_a_b_c_"),
        ("Söhne GmbH & Größe", "Sohne_GmbH_Gro_e_hne-id_"),
        ("模型", "hne-id_"),
        ("a" * 81, "a" * 80 + "_hne-id_"),
    ],
)
def test_the_labels_are_frozen(alias, label):
    """Never change them: a host would begin new series and the old graphs would end."""
    assert labels(tokens("s-hne-id", alias), tokens("other")) == ["other_", label]


def test_one_exact_instance_has_bare_datapoint_names():
    one = tokens("proj_1/gpt-4o", "Alpha / gpt-4o")

    for name in ("proj_1/gpt-4o", "Alpha / gpt-4o", one.instance.wildvalue):
        assert labels(one, only=(name,)) == [""]
    assert labels(one, only=("Alpha*",)) == ["Alpha_gpt-4o_"]
    assert labels(one, only=("proj_1/gpt-4o", "x")) == ["Alpha_gpt-4o_"]


def test_twins_both_carry_a_piece_of_their_id_and_no_other_label_changes():
    prod, other = tokens("proj_aaa111", "Prod"), tokens("proj_zzz", "Dev")
    twin = tokens("proj_bbb222", "Prod!")

    assert labels(prod, other) == ["Prod_", "Dev_"]
    assert labels(prod, twin, other) == ["Prod_aaa111_", "Prod_bbb222_", "Dev_"]
    assert labels(twin, other) == ["Prod_", "Dev_"]


def test_twins_with_equal_ends_of_their_ids_stay_distinct():
    first, second, third = labels(
        tokens("1-abcdef", "Prod"), tokens("2-abcdef", "Prod"), tokens("3", "Prod_abcdef")
    )

    assert len({first, second, third}) == 3


def test_a_label_is_never_that_of_another_datapoint():
    points = (
        Datapoint("api_keys", "count", "Keys"),
        Datapoint("admin_api_keys", "count", "Keys of admins"),
    )
    both = [row(alias, api_keys=1, admin_api_keys=2) for alias in ("x", "x_admin")]
    _, perfdata, _ = split(nagios.write(report(both, definition=definition(*points))))

    assert len(perfdata) == 4


def test_labels_do_not_depend_on_which_instance_is_worst():
    calm = [row(instance(identifier, "dev"), HIGH, cached_percent=1) for identifier in "ab"]
    alarmed = [calm[0], row(instance("b", "dev"), HIGH, cached_percent=99)]
    found = [list(split(nagios.write(report(rows)))[1]) for rows in (calm, alarmed)]

    assert found == [["dev_a_cached_percent", "dev_b_cached_percent"]] * 2


def test_the_critical_limit_is_that_of_error_or_of_critical_if_error_is_off():
    both = nagios.write(report([row("a", HIGH, cached_percent=1)]))
    without = nagios.write(report([row("a", LOW, cached_percent=60)]))

    assert split(both)[1]["a_cached_percent"] == ("1", "%", "80", "90", "0", "100")
    assert split(without)[1]["a_cached_percent"] == ("60", "%", "50:", "20:", "0", "100")


@pytest.mark.parametrize(
    ("operator", "text"),
    [(">", "5"), (">=", "5"), ("<", "5:"), ("<=", "5:"), ("=", ""), ("!=", "")],
)
def test_a_limit_is_a_plain_number_with_a_colon_for_low_values(operator, text):
    text_of = nagios.write(report([row("a", threshold("amount", operator, 5), amount=5)]))

    assert split(text_of)[1]["a_amount"][2:] == ((text,) if text else ())


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
    assert ";" not in status + "".join(below)
    assert not re.search(r"  |[\x00-\x09\x0b-\x1f]", text)
    assert len(below) == len(aliases)
    assert len(perfdata) == 2 * len(aliases)
    for label, (value, *_) in perfdata.items():
        expected = tokens if label.endswith("_input_tokens") else amount
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
        POLLED,
    ]
    assert nagios.write_all([fine]).startswith("OPENAI OK - 1 DataSource\n")
    assert "Polled" not in nagios.write_all([], [failure])
