"""Report as InfluxDB line protocol, for Telegraf and every other reader of that format."""

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
    """Return one line per row at the poll's time, or with a series one per sample.

    A sample's line has the time of its bucket's start. With a series, the line at the poll's time
    holds only the datapoints that have no buckets, so that no total is stored beside its parts.
    Raises Failure, before anything is printed, for a number that Influx would reject.
    """
    if report.with_series:
        return "".join(_with_series(report))
    return "".join(_lines(report, _rows(report), report.definition.datapoints))


def write_all(reports: Iterable[Report], gaps: Iterable[Gap] = ()) -> str:
    """Return the lines of all reports; a poll that failed has none."""
    return "".join(map(write, reports))


def discover(report: Report) -> str:
    """Return one line per instance: `openai_<folder>_info` with wildvalue, alias and names."""
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
    """Return measurement and tags by instance id."""
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
        raise Failure(f"{datapoint.name}={text} is not a 64-bit integer: Influx would reject it")
    if not whole and abs(float(text)) == float("inf"):
        raise Failure(f"{datapoint.name}={text} is not a 64-bit float: Influx would reject it")
    return f"{datapoint.name}={text}{'i' if whole else ''}"


def tag(value: str) -> str:
    """Return a tag's value, escaped for a line; a backslash becomes a slash."""
    # no reader accepts a backslash before a space, a comma or the end, escaped or not
    return re.sub(r"([,= ])", r"\\\1", value.replace("\\", "/"))


def quoted(text: str) -> str:
    """Return a string field's value, quoted and escaped for a line."""
    return '"' + one_line(text).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _nanoseconds(seconds: int) -> int:
    return seconds * 1_000_000_000
