"""Reports as local check lines of Checkmk: a service per instance, and one per DataSource."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from lm_openai.model.report import Gap, Instance, Report, Row
from lm_openai.output.nagios import (
    NAMED,
    OK,
    STATES,
    UNKNOWN,
    about,
    clean,
    counted,
    missing,
)
from lm_openai.output.perfdata import item
from lm_openai.output.text import refuse_duplicates
from lm_openai.timespans import iso

NO_METRICS = "-"


def write(report: Report) -> str:
    """Return a line for the DataSource, then one for each instance, ordered by id.

    The states are computed here, since Checkmk's own comparison knows neither `<` and `=` beside
    `>=` nor missing data. Raises Failure if two instances would be one service.
    """
    refuse_duplicates(report)
    rows = sorted(report.rows, key=lambda row: row.instance.id)
    return "".join((_collector(report), *(_instance(report, row) for row in rows)))


def write_all(reports: Iterable[Report], gaps: Iterable[Gap] = ()) -> str:
    """Return the lines of all reports, and a line for each failed poll."""
    lines = [failed(gap.sentence, gap.definition.title) for gap in gaps]
    return "".join((*map(write, reports), *lines))


def failed(sentence: str, title: str) -> str:
    """Return the line of the DataSource's service: state 3 and the reason."""
    return _line(UNKNOWN, title, NO_METRICS, sentence)


def discover(report: Report) -> str:
    """Return one line per instance: the service's name in quotes, and the alias."""
    refuse_duplicates(report)
    title = report.definition.title
    return "".join(
        f'"{_service(title, row.instance)}" {clean(row.instance.alias)}\n' for row in report.rows
    )


def _collector(report: Report) -> str:
    """Return the line of the poll itself, with its time.

    It is unknown if a state could not be judged, never worse.
    """
    blind = report.unjudged or (report.failures and not report.rows)
    metrics = f"instances={len(report.rows)};;;0|unjudged={report.unjudged};;;0"
    bad = sum(row.state != "ok" for row in report.rows)
    text = counted(len(report.rows), "instance") + (f", {bad} not ok" if bad else "")
    text += f", polled at {iso(report.time)}{missing(report)}"
    return _line(UNKNOWN if blind else OK, report.definition.title, metrics, text)


def _instance(report: Report, row: Row) -> str:
    name = _service(report.definition.title, row.instance)
    metrics = "|".join(_metrics(report, row)) or NO_METRICS
    return _line(STATES[row.state], name, metrics, about(report.definition, row, NAMED))


def _metrics(report: Report, row: Row) -> Iterator[str]:
    for reading in row.readings:
        datapoint = report.definition.datapoint(reading.datapoint)
        yield f"{reading.datapoint}={item(reading, datapoint, with_uom=False)}"


def _service(title: str, instance: Instance) -> str:
    """Return an instance's name for Checkmk, which keeps history and rules by it.

    It has the wildvalue, since an alias changes when a project is renamed, and may hold quotes. The
    alias begins the text.
    """
    return f"{title} {instance.wildvalue}"


def _line(state: int, service: str, metrics: str, text: str) -> str:
    r"""Return one line; the two characters `\n` would begin a new line of the text."""
    return f'{state} "{service}" {metrics} {clean(text)}\n'.replace("\\n", "/n")
