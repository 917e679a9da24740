"""Reports as Prometheus text, for the textfile collector of the node exporter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lm_openai.errors import Failure
from lm_openai.model.definition import Datapoint, Definition
from lm_openai.model.report import Gap, Report
from lm_openai.model.units import Number, in_base_units, plain
from lm_openai.output.text import identities, one_line, poll_tags

WINDOW_TOTAL = ". Each sample is the total of its window and must not be summed over time."


class Point(NamedTuple):
    """One line of output, and the HELP text of its metric."""

    metric: str
    help: str
    labels: dict[str, str]
    value: Number


def write(report: Report) -> str:
    """Return one report; see `write_all`."""
    return write_all([report])


def write_all(reports: Iterable[Report], gaps: Iterable[Gap] = ()) -> str:
    """Return several reports as one text in which each metric has one HELP and TYPE line."""
    points = [point for report in reports for point in _points(report)]
    points += (_success(gap, 0) for gap in gaps)
    return _text(points)


def discover(report: Report) -> str:
    """Return the metric `openai_<folder>_info` alone, one line per instance."""
    return _text(_info(report))


def metric(definition: Definition, datapoint: Datapoint) -> str:
    """Return the name of the datapoint's metric.

    The word for the base unit replaces the word for the unit; if the name has neither, the base
    unit is appended.
    """
    base, name = datapoint.measure.prometheus, f"_{datapoint.name}_"
    if datapoint.measure.factor != 1:
        name = name.replace(f"_{datapoint.unit}_", f"_{base}_")
    if base and f"_{base}_" not in name:
        name += base
    return f"openai_{definition.folder}_{name.strip('_')}"


def _points(report: Report) -> Iterator[Point]:
    declared = {
        datapoint.name: (datapoint, metric(report.definition, datapoint))
        for datapoint in report.definition.datapoints
    }
    labels = identities(report)
    for row in report.rows:
        for reading in row.readings:
            datapoint, name = declared[reading.datapoint]
            value = in_base_units(reading.value, datapoint.measure)
            yield Point(name, _about(datapoint), labels[row.instance.id], value)
    yield from _info(report)
    yield from _health(report)


def _about(datapoint: Datapoint) -> str:
    return datapoint.description + (WINDOW_TOTAL if datapoint.window_total else "")


def _info(report: Report) -> Iterator[Point]:
    name = f"openai_{report.definition.folder}_info"
    about = f"Names of the instances of {report.definition.title}"
    labels = identities(report)
    for row in report.rows:
        wildvalue, alias = row.instance.wildvalue, row.instance.alias
        own = {**labels[row.instance.id], "wildvalue": wildvalue, "alias": alias}
        yield Point(name, about, {**own, **row.instance.names}, 1)


def _health(report: Report) -> Iterator[Point]:
    success = _success(report, int(not report.failures))
    about = "Unix time of the last poll"
    yield success
    yield Point("openai_poll_timestamp_seconds", about, success.labels, report.time)
    about = "Number of thresholds that the last poll could not judge because data is missing"
    yield Point("openai_poll_unjudged", about, success.labels, report.unjudged)


def _success(poll: Report | Gap, value: int) -> Point:
    about = "1 if the last poll succeeded completely, 0 if some data is missing"
    labels = {"datasource": poll.definition.folder, **poll_tags(poll)}
    return Point("openai_poll_success", about, labels, value)


def _text(points: Iterable[Point]) -> str:
    heads: dict[str, str] = {}
    lines: dict[str, list[str]] = {}
    for point in points:
        if heads.setdefault(point.metric, point.help) != point.help:
            raise Failure(f"{point.metric} has two HELP texts in one DataSource; report this")
        line = f"{point.metric}{{{_labels(point.labels)}}} {plain(point.value)}\n"
        lines.setdefault(point.metric, []).append(line)
    return "".join(
        f"# HELP {name} {_unbroken(about)}\n# TYPE {name} gauge\n{''.join(lines[name])}"
        for name, about in heads.items()
    )


def _labels(labels: dict[str, str]) -> str:
    return ",".join(f'{name}="{_quotable(value)}"' for name, value in labels.items())


def _quotable(value: str) -> str:
    return _unbroken(value).replace('"', '\\"')


def _unbroken(text: str) -> str:
    return one_line(text).replace("\\", "\\\\")
