"""Order of rows for people: severity, then nearness to a threshold."""

from __future__ import annotations

from decimal import Decimal

import pytest

from lm_openai.model.report import Missing, Row, Unjudged
from lm_openai.output.ranking import attention, nearest, nearness, ranked
from tests.support.samples import reading, report, row, threshold

HIGH = threshold("tpm_utilization", ">=", 80, 90, 95)
REQUESTS = threshold("rpm_utilization", ">=", 80, 90, 95)
IMAGES = threshold("ipm_utilization", ">=", 80, 90, 95)
DAY = threshold("rpd_utilization", ">=", 80, 90, 95)
HEADROOM = ("tpm_utilization", "rpm_utilization", "ipm_utilization")


@pytest.mark.parametrize(
    ("operator", "limits", "value", "expected"),
    [
        (">=", (80, 90, 95), 40, 0.5),
        (">=", (80, 90, 95), Decimal(120), 1.5),
        (">", (None, None, 50), 25.0, 0.5),
        (">=", (80, 90, 95), -10, 0.0),
        (">", (0, None, None), 5, 0.0),
        ("<=", (14, 7, 3), 28, 0.5),
        ("<", (80, None, None), 80, 1.0),
        ("<=", (14, 7, 3), -2, 0.0),
        ("=", (1, None, None), 1, 0.0),
        (">=", (None, None, None), 99, 0.0),
    ],
)
def test_nearness_is_the_value_as_a_part_of_the_lowest_limit(operator, limits, value, expected):
    assert nearness(reading("x", value, threshold("x", operator, *limits))) == expected


def test_a_value_without_a_threshold_has_no_nearness():
    assert nearness(reading("x", 99)) == 0.0
    assert nearest(row("a", x=99)) is None


def test_the_nearest_reading_is_chosen_over_the_greatest_value():
    low = threshold("days", "<=", 14, 7, 3)
    found = nearest(row("a", HIGH, low, tpm_utilization=40, days=20))
    assert found is not None
    assert found.datapoint == "days"


def names(rows):
    return [one.instance.id for one in rows]


def test_severity_comes_first_and_unknown_is_worse_than_a_warning():
    rows = [
        row("ok", HIGH, tpm_utilization=79),
        row("warning", HIGH, tpm_utilization=89),
        Row(row("unknown").instance, (), False, (Unjudged("tpm_utilization", HIGH, Missing("")),)),
        row("critical", HIGH, tpm_utilization=99),
        row("error", HIGH, tpm_utilization=92),
    ]
    assert names(ranked(rows, HEADROOM, HEADROOM)) == [
        "critical",
        "error",
        "unknown",
        "warning",
        "ok",
    ]


def test_headroom_is_ordered_by_tokens_then_requests_then_images_then_the_rest():
    limits = (HIGH, REQUESTS, IMAGES, DAY)
    rows = [
        row("day", *limits, tpm_utilization=0, rpm_utilization=0, rpd_utilization=70),
        row("images", *limits, tpm_utilization=0, rpm_utilization=0, ipm_utilization=60),
        row("none", *limits),
        row("requests", *limits, tpm_utilization=0, rpm_utilization=1, ipm_utilization=5),
        row("tokens", *limits, tpm_utilization=2, rpm_utilization=0),
        row("more tokens", *limits, tpm_utilization=3, rpm_utilization=0),
    ]
    assert names(ranked(rows, HEADROOM, ())) == [
        "more tokens",
        "tokens",
        "requests",
        "images",
        "day",
        "none",
    ]


def test_without_thresholds_the_greatest_first_value_leads_and_idle_rows_are_last():
    rows = [row("small", x=1, y=9), row("idle", idle=True, x=0), row("large", x=5, y=0)]
    assert names(ranked(rows, (), ("x", "y"))) == ["large", "small", "idle"]


def test_attention_holds_every_row_that_is_not_ok_the_worst_and_nearest_first():
    first = report([row("a", HIGH, tpm_utilization=85), row("b", HIGH, tpm_utilization=10)])
    second = report([row("c", HIGH, tpm_utilization=96), row("d", HIGH, tpm_utilization=120)])
    assert [one.instance.id for one, _ in attention([first, second])] == ["d", "c", "a"]
