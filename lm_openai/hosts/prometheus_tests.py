"""Unit tests of the alert rules for promtool, whose verdicts come from the suite's own evaluation.

Every judged datapoint of every DataSource goes through a breach, an outage and a recovery, as does
an instance that each override matches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from lm_openai.collect.evaluation import effective
from lm_openai.hosts.jobs import HEALTH, OUTAGE_POLLS, Alert, Job
from lm_openai.hosts.prometheus_overrides import quoted
from lm_openai.hosts.prometheus_rules import (
    EVALUATION,
    FAILED,
    SUCCESS,
    TIME,
    alert_name,
    failed_wait,
    wait,
)
from lm_openai.model.report import Instance
from lm_openai.model.thresholds import Override, Threshold, matched_fields
from lm_openai.model.units import in_base_units, plain
from lm_openai.output.prometheus import metric
from lm_openai.timespans import short

Test = dict[str, Any]
Labels = dict[str, str]

BAD, ONCE = "acme", "hooli"
"""Organization whose values are bad for long enough, and one whose polls fail after the first."""
FREQUENT = 300
"""Interval in seconds of the DataSources that an outage of minutes affects."""
SLACK, OUTAGE, AFTER = 5, 30, 15
"""Minutes of a breach beyond the last wait, of the outage and of the recovery."""


class Case(NamedTuple):
    """An instance of a DataSource, its threshold of one datapoint, and its value in a breach."""

    alert: Alert
    instance: Instance
    threshold: Threshold
    bad: Decimal
    good: Decimal

    @property
    def level(self) -> int:
        """Return the number of levels that alert: all up to the highest that has a limit."""
        return sum(limit is not None for limit in self.threshold.limits)


def breaches(job: Job, rules: str) -> Test:
    """Return the tests of a DataSource's rule file `rules`; without thresholds there are none."""
    return _document(rules, [*_breaches(job)])


def outages(jobs: Sequence[Job], rules: str) -> Test:
    """Return the tests of all rule files together, for which `rules` is a glob."""
    return _document(rules, [*_outages(jobs)])


def _document(rules: str, tests: list[Test]) -> Test:
    found = {"rule_files": [rules], "evaluation_interval": short(EVALUATION), "tests": tests}
    return found if tests else {}


def cases(job: Job) -> Iterator[Case]:
    """Yield a case for each judged datapoint, and for each override of it."""
    for number, alert in enumerate(job.alerts):
        examples = (_example(job, *one) for one in enumerate(alert.overrides))
        for instance in (_named(job, {}, {}, f"usual-{number}"), *examples):
            threshold = effective(job.rules, instance).get(alert.datapoint.name)
            values = _values(threshold) if threshold and threshold.on else None
            if threshold and values:
                yield Case(alert, instance, threshold, *values)


def _breaches(job: Job) -> Iterator[Test]:
    found = list(cases(job))
    if not found:
        return
    longest = max(wait(job, case.threshold.consecutive) for case in found) // EVALUATION
    end = longest + SLACK
    series = [*_health(job, BAD, f"1x{end} 0x{OUTAGE} 1x{AFTER}")]
    series += [*_health(job, ONCE, f"1x2 0x{end + OUTAGE + AFTER}")]
    for case in found:
        bad, good = (_number(case, value) for value in (case.bad, case.good))
        series += _instance(job, case, BAD, f"{bad}x{end} stale _x{OUTAGE - 1} {good}x{AFTER}")
        series += _instance(job, case, ONCE, f"{bad}x2 stale")
    checks = [check for case in found for check in _checks(job, case, end)]
    yield _test(job.definition.title, series, checks)


def _checks(job: Job, case: Case, end: int) -> Iterator[Test]:
    seconds = wait(job, case.threshold.consecutive)
    labels = _dimensions(case.instance)
    name = alert_name(job, case.alert.datapoint.name)
    bad = _count(name, {**labels, "organization": BAD})
    once = _count(name, {**labels, "organization": ONCE})
    if seconds:
        yield _expected(bad, seconds // EVALUATION - 1, 0)
        yield _expected(once, end, 0)
    for minute in (end, end + OUTAGE):
        yield _expected(bad, minute, case.level)
    yield _expected(bad, end + OUTAGE + 2, 0)


def _outages(jobs: Sequence[Job]) -> Iterator[Test]:
    """Yield tests of failing polls: of one DataSource, of all, of a collector that is dead."""
    health = [job for job in jobs if job.definition.folder == HEALTH]
    others = [job for job in jobs if job.definition.folder != HEALTH and job.interval <= FREQUENT]
    if health and others:
        yield _one(health[0], others[0])
        yield _dead(health[0], others)
        yield _unreachable(health[0], others)


def _one(health: Job, job: Job) -> Test:
    minute = failed_wait(job) // EVALUATION
    end = minute + AFTER
    series = [*_health(health, BAD, f"1x{end}"), *_health(job, BAD, f"0x{end}")]
    checks = [
        _expected(_count(FAILED, {}), minute - 1, 0),
        _expected(_count(FAILED, {"datasource": job.definition.folder}), minute + 1, 1),
    ]
    return _test("one DataSource fails", series, checks)


def _dead(health: Job, others: Sequence[Job]) -> Test:
    """Return the test of a collector that stopped and left its files: health alone alerts."""
    minute = max(map(failed_wait, (health, *others))) // EVALUATION + AFTER
    series: list[Test] = []
    for job in (health, *others):
        series += _health(job, BAD, f"1x{minute}")
        series += _series(TIME, _poll(job, BAD), f"0x{minute}")
    checks = [
        _expected(_count(FAILED, {"datasource": HEALTH}), minute, 1),
        _expected(_count(FAILED, {}), minute, 1),
    ]
    return _test("the collector is dead", series, checks)


def _unreachable(health: Job, others: Sequence[Job]) -> Test:
    """Return the test of an outage of which health has a threshold: no poll alerts in addition."""
    first = next(cases(health))
    before = wait(health, OUTAGE_POLLS) // EVALUATION
    minutes = max(map(failed_wait, (health, *others))) // EVALUATION + OUTAGE
    bad, good = (_number(first, value) for value in (first.bad, first.good))
    series = [*_instance(health, first, BAD, f"{good}x{before} {bad}x{minutes} {good}x{AFTER}")]
    for job in (health, *others):
        late = before if job is health else before - 5
        series += _health(job, BAD, f"1x{late} 0x{minutes + 10} 1x{AFTER}")
    name = alert_name(health, first.alert.datapoint.name)
    checks = [_expected(_count(name, {}), before + minutes, first.level)]
    for minute in range(before, before + minutes + AFTER, 5):
        checks.append(_expected(_count(FAILED, {}), minute, 0))
    return _test("the API is unreachable", series, checks)


def _test(name: str, series: list[Test], checks: list[Test]) -> Test:
    return {
        "name": name,
        "interval": short(EVALUATION),
        "input_series": series,
        "promql_expr_test": checks,
    }


def _expected(expression: str, minute: int, value: int) -> Test:
    return {
        "expr": expression,
        "eval_time": short(minute * 60),
        "exp_samples": [{"value": value}],
    }


def _count(name: str, labels: Labels) -> str:
    """Return the number of firing alerts."""
    selector = _labels({"alertname": name, "alertstate": "firing", **labels})
    return f"count(ALERTS{{{selector}}}) or vector(0)"


def _instance(job: Job, case: Case, organization: str, values: str) -> Iterator[Test]:
    labels = {**_dimensions(case.instance), "organization": organization}
    yield from _series(metric(job.definition, case.alert.datapoint), labels, values)
    if job.definition.dimensions:
        span = re.sub(r"[0-9.]+x", "1x", values)
        info = f"openai_{job.definition.folder}_info"
        named = {**labels, "alias": case.instance.alias, **case.instance.names}
        yield from _series(info, named, span)


def _dimensions(instance: Instance) -> Labels:
    return dict(sorted(instance.dimensions.items()))


def _health(job: Job, organization: str, values: str) -> Iterator[Test]:
    yield from _series(SUCCESS, _poll(job, organization), values)


def _poll(job: Job, organization: str) -> Labels:
    return {"datasource": job.definition.folder, "organization": organization}


def _series(name: str, labels: Labels, values: str) -> Iterator[Test]:
    yield {"series": f"{name}{{{_labels(labels)}}}", "values": values}


def _labels(labels: Labels) -> str:
    return ",".join(f"{name}={quoted(value)}" for name, value in labels.items())


def _number(case: Case, value: Decimal) -> str:
    return plain(in_base_units(value, case.alert.datapoint.measure))


def _values(threshold: Threshold) -> tuple[Decimal, Decimal] | None:
    """Return a value of the threshold's highest level and one without a level; None if none is."""
    limits = [limit for limit in threshold.limits if limit is not None]
    top = max(number for number, limit in enumerate(threshold.limits, 1) if limit is not None)
    near = [limit + step for limit in limits for step in (0, 1, -1)]
    bad = [value for value in reversed(near) if threshold.level(value) == top]
    good = [value for value in near if not threshold.level(value)]
    return (bad[0], good[0]) if bad and good else None


def _example(job: Job, number: int, override: Override) -> Instance:
    """Return an instance that matches the override: by name in dimensions that have names."""
    texts = {matched_fields(dimension)[-1]: _text(glob) for dimension, glob in override.match}
    ids = {name: text for name, text in texts.items() if name in job.definition.dimensions}
    names = {name: text for name, text in texts.items() if name not in ids}
    return _named(job, ids, names, f"other-{number}")


def _named(job: Job, ids: Labels, names: Labels, word: str) -> Instance:
    dimensions = {name: f"{word}-{name}" for name in job.definition.dimensions} | ids
    alias = " / ".join(dimensions.values()) or "organization"
    return Instance(alias, alias, dimensions, names)


def _text(glob: str) -> str:
    """Return a text that matches the glob."""
    return re.sub(r"\[([^]!])[^]]*\]|[*?]", lambda wild: wild[1] or "x", glob)
