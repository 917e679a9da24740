"""A limit of 0 reads `blocked` where people read it, and stays a number for machines."""

from __future__ import annotations

from lm_openai.collect import datasource
from lm_openai.output import nagios
from tests.support.samples import report, row, threshold

LIMITS = datasource.definition("rate_limits")


def below(found):
    """Return the instances' lines."""
    return nagios.write(found).splitlines()[1:-1]


def test_a_limit_of_0_reads_blocked_and_its_perfdata_stays_0():
    used = row("gpt-4o", rpm_limit=0, rpm_used=3, rpm_utilization=100.0, tpm_limit=30_000)
    text = nagios.write(report([used], definition=LIMITS))

    assert below(report([used], definition=LIMITS)) == [
        "[OK] gpt-4o: rpm_limit blocked, rpm_used 3, rpm_utilization 100%, tpm_limit 30000"
    ]
    assert "rpm_limit'=0" in text or "rpm_limit=0" in text


def test_an_unused_pool_with_a_limit_of_0_is_blocked_and_another_is_idle():
    rows = [
        row("o3", idle=True, rpm_limit=0, tpm_limit=0),
        row("gpt-4o", idle=True, rpm_limit=500, rpm_used=0, rpm_utilization=0.0),
    ]
    assert below(report(rows, definition=LIMITS)) == ["[OK] gpt-4o: idle", "[OK] o3: blocked"]


def test_the_use_of_a_blocked_pool_still_shows_its_breach():
    high = threshold("rpm_utilization", ">=", 80, 90, 95)
    used = row("o3", high, rpm_limit=0, rpm_utilization=100.0)

    (line,) = below(report([used], definition=LIMITS))

    assert line.startswith("[CRITICAL] o3: rpm_utilization 100% (critical at or over 95%)")
    assert line.endswith("rpm_limit blocked")


def test_every_limit_of_the_api_has_the_word():
    for folder, end in (("rate_limits", "_limit"), ("rate_limits_by_model", "_ceiling")):
        points = datasource.definition(folder).datapoints
        limits = {point.name for point in points if point.name.endswith(end)}
        assert {point.name for point in points if point.zero == "blocked"} == limits
        assert len(limits) > 4
