"""The demo: one poll of every DataSource against the demo organization, as tables for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from tempfile import TemporaryDirectory

from lm_openai import resources
from lm_openai.app.options import Options
from lm_openai.app.runner import put
from lm_openai.app.session import Session, Surroundings
from lm_openai.collect import datasource
from lm_openai.errors import Failure
from lm_openai.model.definition import Definition
from lm_openai.model.report import LEVELS, Report, Row
from lm_openai.model.units import Number
from lm_openai.output.text import one_line

ROWS, COLUMNS, NAME = 8, 5, 34
ATTENTION = 2  # error and critical; warnings show only in their tables
NEXT = """
Next:
  lm-openai list                              list every DataSource and what it shows
  export OPENAI_ADMIN_KEY=sk-admin-...        set the key, which an organization owner creates
  lm-openai doctor                            check that key and the connection to the API
  lm-openai collect completion_by_model       poll your organization; --format nagios, influx, ...
  lm-openai simulate                          serve this demo organization for other tools
"""


def run(around: Surroundings) -> int:
    """Print a table per DataSource; return 0 if no poll had a failure, else 1."""
    from lm_openai.simulator import ADMIN_KEY, Simulator

    with Simulator() as simulator, TemporaryDirectory() as cache:
        environ = {
            "OPENAI_ADMIN_KEY": ADMIN_KEY,
            "OPENAI_BASE_URL": simulator.url,
            "LM_OPENAI_CACHE_DIR": cache,
            "LM_OPENAI_ETC": cache,
            "LM_OPENAI_ORG_NAME": "demo",
        }
        put("A made-up organization, polled through its API just now.\n", around.stdout)
        polled = [
            _polled(folder, around._replace(environ=environ)) for folder in resources.folders()
        ]
    reports = [report for report in polled if report]
    put("".join((*attention(reports), NEXT)), around.stdout)
    return int(len(reports) < len(polled) or any(report.failures for report in reports))


def _polled(folder: str, around: Surroundings) -> Report | None:
    source = datasource.load(folder)
    try:
        report = Session(Options(), around).report(source)
    except Failure as failure:
        put(f"\n{source.definition.title}\n  {failure}\n", around.stdout)
        return None
    put("".join(table(report)), around.stdout)
    return report


def table(report: Report) -> Iterator[str]:
    """Yield the lines of one DataSource's table.

    Its rows are instances, the worst and largest first; its columns are the chief datapoints.
    """
    points = chief(report.definition, report.rows)
    rows = sorted(report.rows, key=lambda row: (-row.level, row.idle, -_weight(row, points)))
    head = ["", *(_heading(report.definition, name) for name in points), "state"]
    lines = [[_short(row.instance.alias), *_cells(row, points), state(row)] for row in rows[:ROWS]]
    yield f"\n{report.definition.title}: {len(report.rows)} {_noun(len(report.rows))}\n"
    yield from (f"  {line}\n" for line in aligned([head, *lines]))
    if len(rows) > ROWS:
        yield f"  … and {len(rows) - ROWS} more\n"
    yield from (f"  {sentence}\n" for sentence in (*report.failures, *report.notes))


def attention(reports: Iterable[Report]) -> Iterator[str]:
    """Yield the lines about instances in error or critical state, the worst first."""
    bad = [(row, report) for report in reports for row in report.rows if row.level >= ATTENTION]
    yield f"\nNeeds attention: {len(bad)} {_noun(len(bad))}\n"
    for row, report in sorted(bad, key=lambda pair: -pair[0].level):
        yield f"  {state(row)} of {row.instance.alias} ({report.definition.title})\n"


def chief(definition: Definition, rows: Iterable[Row]) -> list[str]:
    """Return the chief datapoints, at most COLUMNS, among those that a row has.

    They are the first two of the first graph, then the first of each other graph, then the rest.
    """
    present = {reading.datapoint for row in rows for reading in row.readings}
    drawn = [[name for name in graph.datapoints if name in present] for graph in definition.graphs]
    first = [name for names in drawn[:1] for name in names[:2]]
    others = [name for names in drawn[1:] for name in names[:1]]
    rest = [name for names in drawn for name in names]
    return list(dict.fromkeys([*first, *others, *rest]))[:COLUMNS]


def state(row: Row) -> str:
    """Return the worst level with the datapoints that reached it, or `ok`, or `idle`."""
    if not row.level:
        return "idle" if row.idle else "ok"
    reached = [reading.datapoint for reading in row.readings if reading.level == row.level]
    return f"{LEVELS[row.level]}: {', '.join(reached)}"


def aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield lines with aligned columns: names to the left, numbers to the right."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    for name, *cells, last in lines:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:]))
        yield "  ".join((name.ljust(widths[0]), *numbers, last)).rstrip()


def readable(value: Number) -> str:
    """Return a number for people: digits in groups of three, Decimal to 0.01, float to 0.1."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, Decimal) else f"{value:,.1f}"


def _cells(row: Row, points: Iterable[str]) -> list[str]:
    values = {reading.datapoint: reading.value for reading in row.readings}
    return [readable(values[name]) if name in values else "-" for name in points]


def _heading(definition: Definition, name: str) -> str:
    sign = {"percent": " %", "dollars": " $", "bytes": " B"}
    return name + sign.get(definition.datapoint(name).unit, "")


def _weight(row: Row, points: Sequence[str]) -> float:
    values = {reading.datapoint: reading.value for reading in row.readings}
    return float(values.get(points[0], 0)) if points else 0.0


def _short(alias: str) -> str:
    text = one_line(alias)
    return text if len(text) <= NAME else text[: NAME - 1] + "…"


def _noun(count: int) -> str:
    return "instance" if count == 1 else "instances"
