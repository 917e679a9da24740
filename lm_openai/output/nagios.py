"""How reports read as the output of a Nagios or Icinga plugin."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_DOWN, Decimal

from lm_openai.model.definition import Datapoint, Definition
from lm_openai.model.report import LEVELS, Gap, Reading, Report, Row
from lm_openai.model.thresholds import Threshold
from lm_openai.model.units import Number, plain
from lm_openai.output.text import limit, one_line

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
STATES = (OK, WARNING, CRITICAL, CRITICAL)
"""By level: the middle one, error, is CRITICAL."""
WORSE = (OK, WARNING, UNKNOWN, CRITICAL)
"""From good to bad: what could not be looked at may hide anything but a known CRITICAL."""

LINE = 7_900
"""Bytes of the first line; Nagios 4 cuts perfdata at byte 8,180."""
NAMED, LISTED = 5, 50
"""Instances that the status line names, and instances that have a line below it."""
ALIAS, SENTENCE = 80, 600
"""Characters of an alias and of a sentence; the whole is what JSON prints."""

RANGES = {
    ">": "~:{}",
    ">=": "@{}:",
    "<": "{}:",
    "<=": "@~:{}",
    "=": "@{0}:{0}",
    "!=": "{0}:{0}",
}
# in words, since Nagios takes < and > out of what it mails
PHRASES = {
    ">": "over",
    ">=": "at or over",
    "<": "under",
    "<=": "at or under",
    "=": "equal to",
    "!=": "other than",
}


def write(report: Report) -> str:
    """The status line with all perfdata, then one line per instance, the worst first.

    Perfdata stands on the first line only, one blank between items: Nagios and Icinga read a
    second block differently.
    """
    rows = _worst(report)
    return "".join(f"{line}\n" for line in (_first(report, rows), *_below(report, rows)))


def status(report: Report) -> int:
    """Exit status 0 to 3: error and critical are CRITICAL, an unanswered part at least WARNING.

    No instance at all is OK when everything was answered, since a kind that nobody uses is no
    fault, and UNKNOWN when it was not.
    """
    if not report.rows and report.failures:
        return UNKNOWN
    return max(STATES[report.level], WARNING if report.failures else OK)


def failed(sentence: str, title: str) -> str:
    """A poll that could not look: UNKNOWN with its reason; the exit status is 3."""
    return f"{title.upper()} UNKNOWN - {_clean(sentence)}\n"


def discover(report: Report) -> str:
    """One line per instance: the wildvalue for `--instance`, a tab, the alias."""
    return "".join(
        f"{row.instance.wildvalue}\t{_clean(row.instance.alias)}\n" for row in report.rows
    )


def write_all(reports: Sequence[Report], gaps: Sequence[Gap] = ()) -> str:
    """Return one state for several DataSources, then a status line of each, the worst first.

    There is no perfdata: it would not fit, and labels of two DataSources would collide.
    """
    found = [(status(one), one.definition.title, _headline(one, _worst(one))) for one in reports]
    for gap in gaps:
        title = gap.definition.title
        found.append((UNKNOWN, title, failed(gap.sentence, title).rstrip("\n")))
    found.sort(key=lambda one: -WORSE.index(one[0]))
    bad = [f"{title} {WORDS[state]}" for state, title, _ in found if state != OK]
    said = _count(len(found), "DataSource")
    if bad:
        said = f"{len(bad)} of {said} not OK: {', '.join(bad)}"
    head = f"OPENAI {WORDS[status_all(reports, gaps)]} - {said}"
    return "".join(f"{line}\n" for line in (head, *(line for _, _, line in found)))


def status_all(reports: Sequence[Report], gaps: Sequence[Gap] = ()) -> int:
    """Return the worst state; a failed poll is UNKNOWN, and only CRITICAL is worse."""
    states = [status(report) for report in reports] + [UNKNOWN for _ in gaps]
    return max(states, key=WORSE.index, default=UNKNOWN)


def range_of(threshold: Threshold, level: int) -> str:
    """A level's limit (1 warning, 2 error, 3 critical) as a Nagios range, "" when it is off.

    Exactly the same values alarm, as the Monitoring Plugins guidelines read a range.
    """
    bound = threshold.limits[level - 1]
    return "" if bound is None else RANGES[threshold.operator].format(plain(bound))


def _worst(report: Report) -> list[Row]:
    """The rows, worst first and idle last."""
    return sorted(report.rows, key=lambda row: (-row.level, row.idle))


def _first(report: Report, rows: Sequence[Row]) -> str:
    """The status line; an instance whose perfdata does not fit is left out whole, and counted."""
    text = _headline(report, rows)
    blocks = list(filter(None, _perfdata(report, rows)))
    kept = list(_fitting(blocks, LINE - len(text.encode()) - 80))
    if len(kept) < len(blocks):
        left = _count(len(blocks) - len(kept), "instance")
        text += f"; perfdata of {left} left out, see --instance"
    return f"{text} | {' '.join(kept)}" if kept else text


def _fitting(blocks: Iterable[str], room: int) -> Iterator[str]:
    for block in blocks:
        room -= len(block.encode()) + 1
        if room < 0:
            return
        yield block


def _headline(report: Report, rows: Sequence[Row]) -> str:
    bad = [row for row in rows if row.level]
    if not rows:
        said = "no instance in use"
    elif len(rows) == 1:
        said = _about(report.definition, rows[0], NAMED)
    elif bad:
        said = f"{len(bad)} of {_count(len(rows), 'instance')}: " + "; ".join(
            _about(report.definition, row, 1) for row in bad[:NAMED]
        )
        said += f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    else:
        idle = sum(row.idle for row in rows)
        said = _count(len(rows), "instance") + (f", {idle} idle" if idle else "")
    if report.failures:
        said += f"; not everything was answered: {_clean(report.failures[0])[:SENTENCE]}"
    return f"{report.definition.title.upper()} {WORDS[status(report)]} - {said}"


def _below(report: Report, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows[:LISTED]:
        yield f"[{WORDS[STATES[row.level]]}] {_about(report.definition, row, len(row.readings))}"
    if len(rows) > LISTED:
        yield f"and {_count(len(rows) - LISTED, 'instance')} more, none worse"
    yield from (f"not answered: {_clean(sentence)}" for sentence in report.failures)
    yield from (f"note: {_clean(sentence)}" for sentence in report.notes)


def _about(definition: Definition, row: Row, number: int) -> str:
    """An instance and as many of its readings, the worst first; of an idle one, that word."""
    readings = sorted(row.readings, key=lambda reading: -reading.level)
    said = [_said(definition, reading) for reading in readings[:number]]
    if row.idle and not row.level:
        said = ["idle"]
    alias = _clean(row.instance.alias)[:ALIAS].rstrip() or row.instance.wildvalue
    return f"{alias}: {', '.join(said) or 'no value'}"


def _said(definition: Definition, reading: Reading) -> str:
    uom = definition.datapoint(reading.datapoint).measure.uom
    said = f"{reading.datapoint} {_readable(reading.value)}{uom}"
    if not reading.breach:
        return said
    phrase = PHRASES[reading.breach.threshold.operator]
    return f"{said} ({LEVELS[reading.level]} {phrase} {plain(limit(reading.breach))}{uom})"


def _readable(value: Number) -> str:
    """From 1 up two places, cut and not rounded: 89.999 is not shown as a 90 that would alarm."""
    exact = Decimal(plain(value))
    if 1 <= abs(exact) < 10**15:
        exact = exact.quantize(Decimal("0.01"), ROUND_DOWN)
    return plain(exact)


def _perfdata(report: Report, rows: Iterable[Row]) -> Iterator[str]:
    """The items of each row in one text; labels hang on the report, not on the order of `rows`."""
    labels = _labels(report.rows)
    declared = {datapoint.name: datapoint for datapoint in report.definition.datapoints}
    for row in rows:
        label = labels[row.instance.id]
        yield " ".join(
            f"'{label} {reading.datapoint}'={_item(reading, declared[reading.datapoint])}"
            for reading in row.readings
        )


def _item(reading: Reading, datapoint: Datapoint) -> str:
    """`value[UOM];warning;critical;min;max`, of error and critical the nearer."""
    warning = critical = ""
    if reading.threshold:
        warning = range_of(reading.threshold, 1)
        critical = range_of(reading.threshold, 2) or range_of(reading.threshold, 3)
    parts = (warning, critical, _bound(datapoint.min), _bound(datapoint.max))
    return ";".join((plain(reading.value) + datapoint.measure.uom, *parts)).rstrip(";")


def _labels(rows: Iterable[Row]) -> dict[str, str]:
    """A label per instance id; aliases that look alike get their wildvalue as well."""
    names = {row.instance.id: _label(row) for row in rows}
    alike = Counter(names.values())
    labels: dict[str, str] = {}
    taken: set[str] = set()
    for row in rows:
        name = names[row.instance.id]
        label = name if alike[name] == 1 else f"{name} {row.instance.wildvalue}"
        while label in taken:
            label += "_"
        taken.add(label)
        labels[row.instance.id] = label
    return labels


def _label(row: Row) -> str:
    name = re.sub("[='\"]", "_", _clean(row.instance.alias))[:ALIAS].rstrip()
    return name or row.instance.wildvalue


def _bound(value: Number | None) -> str:
    return "" if value is None else plain(value)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _clean(text: str) -> str:
    """Text on one line, with single blanks and without the sign that begins perfdata."""
    return " ".join(one_line(text).replace("|", "_").split())
