"""How a report reads as InfluxDB line protocol, for Telegraf and whatever else takes it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from lm_openai.errors import Failure
from lm_openai.model.definition import Datapoint
from lm_openai.model.report import Gap, Instance, Report, Values
from lm_openai.model.units import Number, plain
from lm_openai.output.text import identities, one_line

Record = tuple[Instance, Values, int]


def write(report: Report) -> str:
    """One line per row at the poll's time; with a series, one per sample at its bucket's start.

    Then the poll's own line holds only what has no bucket, so that no total stands beside its
    parts. Raises Failure, before anything is printed, for a number that Influx would refuse.
    """
    if report.with_series:
        return "".join(_with_series(report))
    return "".join(_lines(report, _rows(report), report.definition.datapoints))


def write_all(reports: Iterable[Report], gaps: Iterable[Gap] = ()) -> str:
    """Return the lines of all reports; a poll that failed has none."""
    return "".join(map(write, reports))


def discover(report: Report) -> str:
    """The instances: measurement `openai_<folder>_info` with wildvalue, alias and names."""
    heads = _heads(report, "_info")
    return "".join(
        f"{heads[row.instance.id]} {','.join(_about(row.instance))} {_nanoseconds(report.time)}\n"
        for row in report.rows
    )


def _with_series(report: Report) -> Iterator[str]:
    samples = (
        (sample.instance, sample.values, sample.start)
        for sample in report.series
        if sample.start is not None
    )
    bucketed = [one for one in report.definition.datapoints if one.fold or one.derived]
    polled = [one for one in report.definition.datapoints if not (one.fold or one.derived)]
    yield from _lines(report, samples, bucketed)
    yield from _lines(report, _rows(report), polled)


def _rows(report: Report) -> Iterator[Record]:
    for row in report.rows:
        values = {reading.datapoint: reading.value for reading in row.readings}
        yield row.instance, values, report.time


def _lines(
    report: Report, records: Iterable[Record], datapoints: Iterable[Datapoint]
) -> Iterator[str]:
    heads = _heads(report)
    for instance, values, seconds in records:
        fields = [_field(one, values[one.name]) for one in datapoints if one.name in values]
        if fields:
            fields += (f"{key}={quoted(name)}" for key, name in instance.names.items())
            yield f"{heads[instance.id]} {','.join(fields)} {_nanoseconds(seconds)}\n"


def _heads(report: Report, suffix: str = "") -> dict[str, str]:
    """Measurement and tags by instance id."""
    return {
        identifier: ",".join(
            [f"openai_{report.definition.folder}{suffix}"]
            + [f"{key}={tag(value)}" for key, value in found.items()]
        )
        for identifier, found in identities(report).items()
    }


def _about(instance: Instance) -> Iterator[str]:
    yield f"wildvalue={quoted(instance.wildvalue)}"
    yield f"alias={quoted(instance.alias)}"
    yield from (f"{key}={quoted(name)}" for key, name in instance.names.items())


def _field(datapoint: Datapoint, value: Number) -> str:
    text = plain(value)
    whole = datapoint.measure.type == "int"
    if whole and ("." in text or not -(2**63) <= int(text) < 2**63):
        raise Failure(f"{datapoint.name}={text} is not a 64-bit integer: Influx would refuse it")
    if not whole and abs(float(text)) == float("inf"):
        raise Failure(f"{datapoint.name}={text} is not a 64-bit float: Influx would refuse it")
    return f"{datapoint.name}={text}{'i' if whole else ''}"


def tag(value: str) -> str:
    """A tag's value as a line holds it."""
    # no reader takes a backslash before a blank, a comma or the end, escaped or not
    return re.sub(r"([,= ])", r"\\\1", value.replace("\\", "/"))


def quoted(text: str) -> str:
    """A string field's value as a line holds it."""
    return '"' + one_line(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _nanoseconds(seconds: int) -> int:
    return seconds * 1_000_000_000
