"""Reports as the output of a Nagios or Icinga plugin."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_DOWN, Decimal

from lm_openai.model.definition import Datapoint, Definition
from lm_openai.model.report import LEVELS, Gap, Reading, Report, Row, Unjudged
from lm_openai.model.report import STATES as REPORT_STATES
from lm_openai.model.thresholds import ERROR, Threshold
from lm_openai.model.units import Number, plain
from lm_openai.output.text import idle_word, limit, one_line, value_word

OK, WARNING, CRITICAL, UNKNOWN = range(4)
WORDS = ("OK", "WARNING", "CRITICAL", "UNKNOWN")
STATES = {
    "ok": OK,
    "warning": WARNING,
    "unknown": UNKNOWN,
    "error": CRITICAL,
    "critical": CRITICAL,
}
"""Plugin states by the report's states; error is CRITICAL."""
WORSE = (OK, WARNING, UNKNOWN, CRITICAL)
"""States from good to bad; UNKNOWN may hide any state, so only CRITICAL is worse."""

LINE = 7_900
"""Maximum bytes of the first line; Nagios 4 cuts perfdata at byte 8,180."""
NAMED, LISTED = 5, 50
"""Maximum instances that the status line names, and that have a line below it."""
ALIAS, SENTENCE = 80, 600
"""Maximum characters of an alias and of a sentence; JSON prints them whole."""

RANGES = {
    ">": "~:{}",
    ">=": "@{}:",
    "<": "{}:",
    "<=": "@~:{}",
    "=": "@{0}:{0}",
    "!=": "{0}:{0}",
}
# in words, since Nagios removes < and > from its mails
PHRASES = {
    ">": "over",
    ">=": "at or over",
    "<": "under",
    "<=": "at or under",
    "=": "equal to",
    "!=": "other than",
}


def write(report: Report) -> str:
    """Return the status line with all perfdata, then one line per instance, the worst first.

    Only the first line has perfdata, with one space between items: Nagios and Icinga read a
    second block differently.
    """
    rows = _worst(report)
    return "".join(f"{line}\n" for line in (_first(report, rows), *_below(report, rows)))


def status(report: Report) -> int:
    """Return the exit status, 0 to 3: error and critical are CRITICAL.

    It is UNKNOWN if a threshold cannot be judged because data is missing and nothing is CRITICAL.
    """
    return STATES[report.state]


def failed(sentence: str, title: str) -> str:
    """Return the status line of a failed poll: UNKNOWN and the reason; the exit status is 3."""
    return f"{title.upper()} UNKNOWN - {_clean(sentence)}\n"


def discover(report: Report) -> str:
    """Return one line per instance: the wildvalue for `--instance`, a tab, the alias."""
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
    text = _count(len(found), "DataSource")
    if bad:
        text = f"{len(bad)} of {text} not OK: {', '.join(bad)}"
    head = f"OPENAI {WORDS[status_all(reports, gaps)]} - {text}"
    return "".join(f"{line}\n" for line in (head, *(line for _, _, line in found)))


def status_all(reports: Sequence[Report], gaps: Sequence[Gap] = ()) -> int:
    """Return the worst state; a failed poll is UNKNOWN, and only CRITICAL is worse."""
    states = [status(report) for report in reports] + [UNKNOWN for _ in gaps]
    return max(states, key=WORSE.index, default=UNKNOWN)


def range_of(threshold: Threshold, level: int) -> str:
    """Return a level's limit (1 warning, 2 error, 3 critical) as a Nagios range, "" if it is off.

    The range alerts for exactly the values that reach the level, as defined by the Monitoring
    Plugins guidelines.
    """
    bound = threshold.limits[level - 1]
    return "" if bound is None else RANGES[threshold.operator].format(plain(bound))


def _worst(report: Report) -> list[Row]:
    """Return the rows, the worst first and the idle last."""
    return sorted(report.rows, key=lambda row: (-REPORT_STATES.index(row.state), row.idle))


def _first(report: Report, rows: Sequence[Row]) -> str:
    """Return the status line.

    Perfdata of an instance that does not fit is left out as a whole; the text counts these
    instances.
    """
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
    bad = [row for row in rows if row.state != "ok"]
    if not rows:
        text = "no instance in use"
    elif len(rows) == 1:
        text = _about(report.definition, rows[0], NAMED)
    elif bad:
        text = f"{len(bad)} of {_count(len(rows), 'instance')}: " + "; ".join(
            _about(report.definition, row, 1) for row in bad[:NAMED]
        )
        text += f"; and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    else:
        idle = sum(row.idle for row in rows)
        text = _count(len(rows), "instance") + (f", {idle} idle" if idle else "")
    if report.failures:
        text += f"; some data is missing: {_clean(report.failures[0])[:SENTENCE]}"
    return f"{report.definition.title.upper()} {WORDS[status(report)]} - {text}"


def _below(report: Report, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows[:LISTED]:
        number = len(row.readings) + len(row.unjudged)
        yield f"[{WORDS[STATES[row.state]]}] {_about(report.definition, row, number)}"
    if len(rows) > LISTED:
        yield f"and {_count(len(rows) - LISTED, 'instance')} more, none of them worse"
    yield from (f"missing data: {_clean(sentence)}" for sentence in report.failures)
    yield from (f"note: {_clean(sentence)}" for sentence in report.notes)


def _about(definition: Definition, row: Row, number: int) -> str:
    """Return an alias and `number` readings, the worst first; an idle one is just `idle`."""
    texts = list(_texts(definition, row))[:number]
    if row.idle and row.state == "ok":
        texts = [idle_word(definition, row)]
    alias = _clean(row.instance.alias)[:ALIAS].rstrip() or row.instance.wildvalue
    return f"{alias}: {', '.join(texts) or 'no value'}"


def _texts(definition: Definition, row: Row) -> Iterator[str]:
    """Yield certain breaches, what cannot be judged, then all other readings."""
    readings = sorted(row.readings, key=lambda reading: -reading.level)
    severe = [reading for reading in readings if reading.level >= ERROR]
    yield from (_reading_text(definition, reading) for reading in severe)
    unjudged = sorted(row.unjudged, key=lambda one: one.breach is None)
    yield from (_unjudged_text(definition, one) for one in unjudged)
    yield from (_reading_text(definition, reading) for reading in readings[len(severe) :])


def _unjudged_text(definition: Definition, unjudged: Unjudged) -> str:
    """Return why a threshold is not judged, or the level that the known part reaches."""
    if unjudged.breach is None or unjudged.missing.at_least is None:
        return f"{unjudged.datapoint} not judged: {_clean(unjudged.missing.reason)}"
    known = Reading(
        unjudged.datapoint, unjudged.missing.at_least, unjudged.threshold, unjudged.breach
    )
    name, text = _reading_text(definition, known).split(" ", 1)
    return f"{name} at least {text}"


def _reading_text(definition: Definition, reading: Reading) -> str:
    uom = definition.datapoint(reading.datapoint).measure.uom
    shown = value_word(definition, reading) or f"{_readable(reading.value)}{uom}"
    text = f"{reading.datapoint} {shown}"
    if not reading.breach:
        return text
    phrase = PHRASES[reading.breach.threshold.operator]
    return f"{text} ({LEVELS[reading.level]} {phrase} {plain(limit(reading.breach))}{uom})"


def _readable(value: Number) -> str:
    """Return the value as text; from 1 up, with at most two decimal places.

    They are cut and not rounded, so that 89.999 does not look like 90, which may be a limit.
    """
    exact = Decimal(plain(value))
    if 1 <= abs(exact) < 10**15:
        exact = exact.quantize(Decimal("0.01"), ROUND_DOWN)
    return plain(exact)


def _perfdata(report: Report, rows: Iterable[Row]) -> Iterator[str]:
    """Yield the items of each row as one text; labels do not depend on the order of `rows`."""
    labels = _labels(report.rows)
    declared = {datapoint.name: datapoint for datapoint in report.definition.datapoints}
    for row in rows:
        label = labels[row.instance.id]
        yield " ".join(
            f"'{label} {reading.datapoint}'={_item(reading, declared[reading.datapoint])}"
            for reading in row.readings
        )


def _item(reading: Reading, datapoint: Datapoint) -> str:
    """Return `value[UOM];warning;critical;min;max`.

    The critical range is the limit of error, or that of critical if error is off.
    """
    warning = critical = ""
    if reading.threshold:
        warning = range_of(reading.threshold, 1)
        critical = range_of(reading.threshold, 2) or range_of(reading.threshold, 3)
    parts = (warning, critical, _bound(datapoint.min), _bound(datapoint.max))
    return ";".join((plain(reading.value) + datapoint.measure.uom, *parts)).rstrip(";")


def _labels(rows: Iterable[Row]) -> dict[str, str]:
    """Return a unique label by instance id; equal aliases get their wildvalue appended."""
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
    """Return text on one line, with single spaces and without `|`, which begins perfdata."""
    return " ".join(one_line(text).replace("|", "_").split())
