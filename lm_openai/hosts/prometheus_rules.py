"""Rules of Prometheus: recording rules that outlast a failed poll, and alerts on them.

`openai_poll:failing` has a value while the last poll cannot be judged. Meanwhile
`openai:<metric>:last` repeats the last value, which only alerts that fire already read. A failed
poll therefore neither resolves an alert nor counts towards its polls in a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lm_openai.hosts.jobs import HEALTH, HOST_SECONDS, OUTAGE_POLLS, PROPERTIES, Alert, Job
from lm_openai.hosts.prometheus_overrides import POLL, Branch, branches, quoted, selection
from lm_openai.model.definition import Datapoint
from lm_openai.model.thresholds import LEVELS, Threshold
from lm_openai.model.units import in_base_units, plain
from lm_openai.output.prometheus import metric
from lm_openai.timespans import short

Rule = dict[str, Any]

EVALUATION = 60
"""Seconds between two evaluations; a value lives for five minutes, so it must be less."""
FAILING, FAILED, ABSENT = "openai_poll:failing", "OpenAIPollFailed", "OpenAIPollsAbsent"
SUCCESS, TIME = "openai_poll_success", "openai_poll_timestamp_seconds"
MEMORY, ABSENCE = 86_400, 1_800
"""Seconds for which a poll that is no longer scraped counts as failing, and without any data until
that alerts."""
TARGET = tuple(label for label in POLL if label != "grouping")
FIRING = 'alertstate="firing"'
_ADDED = ("alertname", "alertstate", "datasource", "override", "severity")
"""Labels that an alert has in addition to those of its metric."""
_HUMAN = {"seconds": " | humanizeDuration", "ratio": " | humanizePercentage"}
_CAUSE = (
    "{{ if eq $value 1.0 }}its last poll failed, at least in part"
    "{{ else if eq $value 2.0 }}its last poll is too old, so its timer does not run"
    "{{ else }}Prometheus does not receive its last poll{{ end }}"
)


def document(job: Job) -> dict[str, Any]:
    """Return the rule file of one DataSource, a group whose rules run one after the other."""
    rules = [_failing(job)]
    for alert in job.alerts:
        found = [branch for branch in branches(alert) if branch.threshold.on]
        rules += [_last(job, alert, branch) for branch in found]
        for branch in found:
            rules += _alerts(job, alert, branch)
    return _group(job.definition.folder, [*rules, _poll_failed(job)])


def common() -> dict[str, Any]:
    """Return the rule file of all DataSources together."""
    return _group("any", [_absent()])


def alert_name(job: Job, datapoint: str) -> str:
    """Return the name of the alerts of one datapoint, which differ in their severity."""
    return f"{job.definition.name}_{datapoint}"


def wait(job: Job, polls: int) -> int:
    """Return the seconds after the first bad poll until as many polls in a row were bad.

    One minute more than their intervals, because a poll may end that much later than another.
    """
    return (polls - 1) * job.interval + HOST_SECONDS if polls > 1 else 0


def failed_wait(job: Job) -> int:
    """Return the seconds of failing polls until that alerts; health is the first to alert."""
    first = wait(job, OUTAGE_POLLS)
    return first if job.definition.folder == HEALTH else first + job.interval + HOST_SECONDS


def late(job: Job) -> int:
    """Return the age in seconds at which a poll is late, with time for the poll and a scrape."""
    return job.interval + 2 * HOST_SECONDS


def _group(name: str, rules: list[Rule]) -> dict[str, Any]:
    return {"groups": [{"name": f"openai_{name}", "interval": short(EVALUATION), "rules": rules}]}


def _failing(job: Job) -> Rule:
    """Return the rule for 1, 2 or 3: the last poll failed in part or whole, is late, or is gone."""
    success, time = f"{SUCCESS}{_of(job)}", f"{TIME}{_of(job)}"
    expression = (
        f"({success} == bool 0) == 1\n"
        f"or\n(time() - {time} > {late(job)}) * 0 + 2\n"
        f"or\n(present_over_time({success}[{short(MEMORY)}]) unless {success}) * 3"
    )
    return {"record": FAILING, "expr": expression, "labels": _labels(job)}


def _last(job: Job, alert: Alert, branch: Branch) -> Rule:
    held = _held(job, alert, branch)
    fresh = f"{_metric(job, alert)}{selection(job, branch)}"
    either = "or ignoring (override)" if alert.overrides else "or"
    kept = f"({held} and on ({', '.join(POLL)}) {FAILING}{_of(job)})"
    rule = {"record": _record(job, alert), "expr": f"{fresh}\n{either}\n{kept}"}
    return {**rule, "labels": _override(branch)} if branch.name else rule


def _alerts(job: Job, alert: Alert, branch: Branch) -> Iterator[Rule]:
    """Yield the alert of each level, the worst first: it arrives before those that it inhibits."""
    for severity, limit in reversed([*zip(LEVELS, branch.threshold.limits)]):
        if limit is None:
            continue
        name = alert_name(job, alert.datapoint.name)
        value = plain(in_base_units(limit, alert.datapoint.measure))
        sign = {"=": "=="}.get(branch.threshold.operator, branch.threshold.operator)
        firing = f"ALERTS{{alertname={quoted(name)},{FIRING},severity={quoted(severity)}}}"
        expression = (
            f"{_held(job, alert, branch)} {sign} {value}\n"
            f"and ignoring ({', '.join(_ADDED)})\n"
            f"({_metric(job, alert)} or {firing})"
        )
        seconds = wait(job, branch.threshold.consecutive)
        yield {
            "alert": name,
            "expr": expression,
            **({"for": short(seconds)} if seconds else {}),
            "labels": {"severity": severity, **_labels(job), **_override(branch)},
            "annotations": _annotations(job, alert, branch.threshold, severity),
        }


def _poll_failed(job: Job) -> Rule:
    """Return the alert for a DataSource without data; a firing alert of health explains it."""
    folder = job.definition.folder
    cause = f'ALERTS{{alertname!="{FAILED}",{FIRING},datasource="{HEALTH}"}}'
    if folder != HEALTH:
        # a poll that failed in an outage stays failed until the next one
        span = short(job.interval + HOST_SECONDS)
        cause = f'max_over_time(ALERTS{{{FIRING},datasource="{HEALTH}"}}[{span}])'
    return {
        "alert": FAILED,
        "expr": f"{FAILING}{_of(job)}\nunless on ({', '.join(TARGET)})\n{cause}",
        "for": short(failed_wait(job)),
        "labels": {"severity": "error", **_labels(job)},
        "annotations": {
            "summary": f"{{{{ $labels.organization }}}}: {job.definition.title} has no complete "
            f"data: {_CAUSE}",
            "reason": f"Alerts that need this data keep their state. For the cause, run "
            f"{job.script} --properties {PROPERTIES}, or read the journal of its service.",
        },
    }


def _absent() -> Rule:
    return {
        "alert": ABSENT,
        "expr": f"absent({SUCCESS} or {FAILING})",
        "for": short(ABSENCE),
        "labels": {"severity": "error"},
        "annotations": {
            "summary": "Prometheus has no data about any OpenAI organization",
            "reason": "Check that the timers or lm-openai serve run, and that their target is up.",
        },
    }


def _annotations(job: Job, alert: Alert, threshold: Threshold, severity: str) -> dict[str, str]:
    value = _value(alert.datapoint)
    limit = threshold.limits[LEVELS.index(severity)]
    assert limit is not None
    unit = alert.datapoint.measure.uom or f" {alert.datapoint.unit}".replace("_", " ")
    unit = "" if alert.datapoint.unit in ("count", "boolean") else unit
    polls = f" in {threshold.consecutive} polls in a row" if threshold.consecutive > 1 else ""
    return {
        "summary": f"{_instance(job)}: {alert.datapoint.name} is {value}",
        "value": value,
        "threshold": f"{severity} {threshold.operator} {plain(limit)}{unit}{polls}",
        "reason": threshold.reason.replace("{{", '{{ "{{" }}'),
    }


def _value(datapoint: Datapoint) -> str:
    """Return the template of a value in a unit that people read."""
    word = datapoint.measure.prometheus
    return (
        f"{{{{ $value{_HUMAN[word]} }}}}" if word in _HUMAN else f"{{{{ $value }}}} {word}".strip()
    )


def _instance(job: Job) -> str:
    """Return the template of the organization and the instance's name, or its ids without one."""
    organization, dimensions = "{{ $labels.organization }}", job.definition.dimensions
    if not dimensions:
        return organization
    labels = (*POLL, *dimensions)
    selector = ",".join(f"{label}=%q" for label in labels)
    series = f"last_over_time(openai_{job.definition.folder}_info{{{selector}}}[1h])"
    words = " ".join(f"$labels.{label}" for label in labels)
    ids = " / ".join(f"{{{{ $labels.{dimension} }}}}" for dimension in dimensions)
    query = f"with printf {quoted(series)} {words} | query"
    alias = '{{ . | first | label "alias" }}'
    return f"{organization}: {{{{ {query} }}}}{alias}{{{{ else }}}}{ids}{{{{ end }}}}"


def _labels(job: Job) -> dict[str, str]:
    return {"datasource": job.definition.folder}


def _override(branch: Branch) -> dict[str, str]:
    return {"override": branch.name} if branch.name else {}


def _of(job: Job) -> str:
    return f"{{datasource={quoted(job.definition.folder)}}}"


def _metric(job: Job, alert: Alert) -> str:
    return metric(job.definition, alert.datapoint)


def _record(job: Job, alert: Alert) -> str:
    return f"openai:{_metric(job, alert).removeprefix('openai_')}:last"


def _held(job: Job, alert: Alert, branch: Branch) -> str:
    record = _record(job, alert)
    return f"{record}{{override={quoted(branch.name)}}}" if alert.overrides else record
