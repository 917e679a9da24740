"""Reports as tables for a terminal: a digest, what needs attention, each DataSource's rows."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lm_openai.model.definition import Definition
from lm_openai.model.report import LEVELS, Gap, Report, Row
from lm_openai.model.units import Number
from lm_openai.output.digest import digest, measured, readable
from lm_openai.output.ranking import attention, nearness, ranked, severity
from lm_openai.output.text import idle_word, limit, one_line, row_word, value_word

ROWS, COLUMNS, URGENT, ADVICE = 8, 5, 5, 2
"""Most rows of a table, chief columns, rows that need attention, and reasons below them."""
GAP, NAME, STATE = 2, 24, 10
"""Columns between two cells, and of a name and a state at least; numbers are never cut."""
COLORS = {"warning": "yellow", "unknown": "magenta", "error": "red", "critical": "bold red"}


class Screen(NamedTuple):
    """Width in columns, whether colors are shown, and whether every row is."""

    width: int
    color: bool
    everything: bool = False


def write(
    title: str, reports: Sequence[Report], gaps: Sequence[Gap], following: str, screen: Screen
) -> str:
    """Return the whole text: title, digest, attention, what to do next, then a table for each."""
    console = Console(
        file=io.StringIO(),
        width=screen.width,
        force_terminal=screen.color,
        no_color=not screen.color,
        color_system="standard" if screen.color else None,
        highlight=False,
        emoji=False,
        markup=False,
        legacy_windows=False,
    )
    console.print(Text(title, style="bold"))
    _print_digest(console, reports)
    _print_attention(console, reports, gaps, screen)
    console.print(following, end="")
    order = sorted(reports, key=lambda report: -max(map(severity, report.rows), default=0))
    for report in order:
        _print_report(console, report, screen)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


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


def state(definition: Definition, row: Row) -> str:
    """Return the state with a datapoint that caused it, or `ok`, `idle` or `blocked`."""
    if row.state == "ok":
        return idle_word(definition, row) if row.idle else "ok"
    known = row.readings if row.state == LEVELS[row.level] else ()
    causes = [reading.datapoint for reading in known if reading.level == row.level]
    causes = causes or [one.datapoint for one in row.unjudged]
    word = row_word(definition, row)
    if word:
        return f"{row.state}: {word}"
    return f"{row.state}: {causes[0]}" + (f" +{len(causes) - 1}" if len(causes) > 1 else "")


def _print_digest(console: Console, reports: Sequence[Report]) -> None:
    lines = list(digest(reports))
    table = Table.grid(padding=(0, GAP))
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    labels = [label for label, _ in lines]
    for place, (label, sentence) in enumerate(lines):
        table.add_row("" if label in labels[:place] else label, Text(sentence))
    if lines:
        console.print()
        console.print(table)


def _print_attention(
    console: Console, reports: Sequence[Report], gaps: Sequence[Gap], screen: Screen
) -> None:
    """Print the rows in a bad state, failed polls, and the reasons of the worst thresholds."""
    bad = attention(reports)
    console.print(f"\nNeeds attention: {_counted(len(bad))}", style="bold")
    for gap in gaps:
        console.print(
            Text(f"  unknown: {gap.definition.folder} was not polled: {one_line(gap.sentence)}")
        )
    shown = bad if screen.everything else bad[:URGENT]
    if shown:
        console.print(Padding(_urgent(shown, screen.width - 2), (0, 0, 0, 2)))
    if len(bad) > len(shown):
        console.print(f"  … and {len(bad) - len(shown)} more; --all shows every row")
    for folder, reason in list(_reasons(bad))[:ADVICE]:
        console.print(Padding(Text(f"{folder}: {reason}"), (0, 0, 0, 2)))


def _urgent(rows: Sequence[tuple[Row, Report]], width: int) -> Table:
    """Return a table of states, instances and causes that is at most `width` wide."""
    names = [row.instance.alias for row, _ in rows]
    causes = [_cause(report, row) for row, report in rows]
    first = max(map(len, COLORS))
    left = width - first - 2 * GAP
    last = min(max(text.cell_len for text in causes), left - min(_widest(names), NAME))
    table = _grid(first, max(1, min(_widest(names), left - last)), max(1, last))
    for (row, _), name, cause in zip(rows, names, causes):
        table.add_row(_colored(row.state, row.state), _after_gap(Text(name)), _after_gap(cause))
    return table


def _cause(report: Report, row: Row) -> Text:
    """Return the folder and the reading that decides the state, with its limit."""
    definition = report.definition
    for reading in sorted(row.readings, key=nearness, reverse=True):
        if reading.breach and reading.level == row.level and row.state != "unknown":
            value = measured(definition, reading.datapoint, reading.value)
            bound = measured(definition, reading.datapoint, _whole(limit(reading.breach)))
            operator = reading.breach.threshold.operator
            words = [
                row_word(definition, row),
                f"{reading.datapoint} {value} (limit {operator} {bound})",
            ]
            return Text(f"{definition.folder}: {', '.join(filter(None, words))}")
    reasons = [
        f"{one.datapoint} not judged: {one_line(one.missing.reason)}" for one in row.unjudged
    ]
    return Text(f"{definition.folder}: {reasons[0] if reasons else row.state}")


def _whole(bound: Decimal) -> Number:
    """Return a limit without decimal places if it has none."""
    return int(bound) if bound == int(bound) else bound


def _reasons(bad: Iterable[tuple[Row, Report]]) -> Iterator[tuple[str, str]]:
    """Yield (folder, reason) of the thresholds that were reached, the worst first, each once."""
    seen = set()
    for row, report in bad:
        for reading in sorted(row.readings, key=lambda reading: -reading.level):
            folder = report.definition.folder
            if reading.breach and reading.level == row.level and folder not in seen:
                seen.add(folder)
                yield f"{folder} {reading.datapoint}", reading.breach.threshold.reason


def _print_report(console: Console, report: Report, screen: Screen) -> None:
    definition = report.definition
    head = Text(f"\n{definition.folder}", style="bold")
    console.print(
        head.append(f"  {definition.title}: {_counted(len(report.rows))}", style="not bold")
    )
    points = chief(definition, report.rows)
    first = definition.graphs[0].datapoints if definition.graphs else ()
    rows = ranked(report.rows, first, points)
    shown = rows if screen.everything else rows[:ROWS]
    if shown:
        console.print(Padding(_table(definition, points, shown, screen.width - 2), (0, 0, 0, 2)))
    if len(rows) > len(shown):
        console.print(f"  … and {len(rows) - len(shown)} more")
    for sentence in (*report.failures, *report.notes):
        console.print(Padding(Text(one_line(sentence)), (0, 0, 0, 2)))


def _table(definition: Definition, points: Sequence[str], rows: Sequence[Row], width: int) -> Table:
    """Return a table that is at most `width` wide.

    The last datapoints are left out rather than a number cut.
    """
    columns = [
        [_heading(definition, name), *(_cell(definition, row, name) for row in rows)]
        for name in points
    ]
    names = ["", *(row.instance.alias for row in rows)]
    states = [Text("state"), *(_colored(row.state, state(definition, row)) for row in rows)]
    widths = [max(map(cell_len, column)) for column in columns]
    while len(widths) > 1 and _left(width, widths) < NAME + STATE:
        del widths[-1], columns[-1]
    left = _left(width, widths)
    last = min(max(text.cell_len for text in states), max(STATE, left - _widest(names)))
    table = _grid(max(1, min(_widest(names), left - last)), *widths, last)
    for row, name, text, *cells in zip((None, *rows), names, states, *columns):
        fitting = text if row is None or text.cell_len <= last else _colored(row.state, row.state)
        numbers = (Text(cell, justify="right") for cell in cells)
        table.add_row(Text(name), *numbers, _after_gap(fitting))
    return table


def _left(width: int, numbers: Sequence[int]) -> int:
    """Return the columns that the numbers leave to the name and the state."""
    return width - sum(numbers) - GAP * (len(numbers) + 1)


def _widest(names: Iterable[str]) -> int:
    return max(map(cell_len, names))


def _grid(first: int, *widths: int) -> Table:
    """Return a table with columns of these widths, a gap before each; longer text is cut."""
    table = Table.grid()
    for width in (first, *(GAP + width for width in widths)):
        table.add_column(no_wrap=True, overflow="ellipsis", width=width)
    return table


def _after_gap(text: Text) -> Text:
    return Text(" " * GAP).append_text(text)


def _cell(definition: Definition, row: Row, name: str) -> str:
    for reading in row.readings:
        if reading.datapoint == name:
            return value_word(definition, reading) or readable(reading.value)
    return "-"


def _heading(definition: Definition, name: str) -> str:
    sign = {"percent": " %", "dollars": " $", "bytes": " B"}
    return name + sign.get(definition.datapoint(name).unit, "")


def _colored(level: str, text: str) -> Text:
    return Text(text, style=COLORS.get(level, ""))


def _counted(count: int) -> str:
    return f"{count} instance{'' if count == 1 else 's'}"
