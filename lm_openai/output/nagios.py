"""Reports as the output of a Nagios or Icinga plugin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_EVEN, Decimal

from lm_openai.model.definition import Definition
from lm_openai.model.report import LEVELS, Breach, Gap, Reading, Report, Row, Unjudged
from lm_openai.model.thresholds import ERROR, Threshold
from lm_openai.model.units import Number, plain
from lm_openai.output.perfdata import perfdata
from lm_openai.output.ranking import nearest, nearness, ranked
from lm_openai.output.text import idle_word, limit, one_line, value_word
from lm_openai.timespans import iso

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

LINE, TEXT = 7_900, 1_200
"""Maximum bytes of the first line, since Nagios 4 at times cuts the output at byte 8,190, and the
bytes of it that are kept free for the text, so that a longer text does not remove perfdata."""
NAMED, LISTED = 5, 50
"""Maximum instances that the status line names, and that have a line below it."""
ALIAS, SENTENCE = 80, 600
"""Maximum characters of an alias and of a sentence; JSON prints them whole."""
PLACES, MONEY_PLACES = 2, 6
"""Decimal places of a number in the text, and of an amount of money."""

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

    The last line is the time of the poll, which is older than the check if the answer was ready.
    Only the first line has perfdata, with one space between items: Nagios and Icinga read a
    second block differently.
    """
    rows = _ranked(report)
    lines = (_first(report, rows), *_below(report, rows), _polled([report]))
    return "".join(f"{line}\n" for line in lines)


def status(report: Report) -> int:
    """Return the exit status, 0 to 3: error and critical are CRITICAL.

    It is UNKNOWN if a threshold cannot be judged because data is missing and nothing is CRITICAL.
    """
    return STATES[report.state]


def failed(sentence: str, title: str) -> str:
    """Return the status line of a failed poll: UNKNOWN and the reason; the exit status is 3."""
    return f"{title.upper()} UNKNOWN - {clean(sentence)}\n"


def discover(report: Report) -> str:
    """Return one line per instance: the wildvalue for `--instance`, a tab, the alias."""
    return "".join(
        f"{row.instance.wildvalue}\t{clean(row.instance.alias)}\n" for row in report.rows
    )


def write_all(reports: Sequence[Report], gaps: Sequence[Gap] = ()) -> str:
    """Return one state for several DataSources, then a status line of each, the worst first.

    The last line is the time of the poll, if there was one.
    There is no perfdata: it would not fit, and labels of two DataSources would collide.
    """
    found = [(status(one), one.definition.title, _line(one, _ranked(one))) for one in reports]
    for gap in gaps:
        title = gap.definition.title
        found.append((UNKNOWN, title, failed(gap.sentence, title).rstrip("\n")))
    found.sort(key=lambda one: -WORSE.index(one[0]))
    bad = [f"{title} {WORDS[state]}" for state, title, _ in found if state != OK]
    text = counted(len(found), "DataSource")
    if bad:
        text = f"{len(bad)} of {text} not OK: {', '.join(bad)}"
    head = f"OPENAI {WORDS[status_all(reports, gaps)]} - {text}"
    lines = [head, *(line for _, _, line in found)]
    if reports:
        lines.append(_polled(reports))
    return "".join(f"{line}\n" for line in lines)


def status_all(reports: Sequence[Report], gaps: Sequence[Gap] = ()) -> int:
    """Return the worst state; a failed poll is UNKNOWN, and only CRITICAL is worse."""
    states = [status(report) for report in reports] + [UNKNOWN for _ in gaps]
    return max(states, key=WORSE.index, default=UNKNOWN)


def _ranked(report: Report) -> list[Row]:
    """Return the rows by state, then by nearness to a threshold; the idle ones come last."""
    graphed = [name for graph in report.definition.graphs for name in graph.datapoints]
    return ranked(report.rows, (), graphed)


def _first(report: Report, rows: Sequence[Row]) -> str:
    """Return the status line; its text counts the instances whose perfdata does not fit."""
    text = _line(report, rows)
    items, left = perfdata(report, LINE - max(TEXT, len(text.encode()) + 80))
    if left:
        text += f", perfdata of {counted(left, 'instance')} left out, see --instance"
    return f"{text} | {items}" if items else text


def _line(report: Report, rows: Sequence[Row]) -> str:
    text = ", ".join(_summary(report.definition, rows))
    return f"{report.definition.title.upper()} {WORDS[status(report)]} - {text}{missing(report)}"


def missing(report: Report) -> str:
    """Return the end of a text that names the first failure, or ""."""
    if not report.failures:
        return ""
    return f", some data is missing: {clean(report.failures[0])[:SENTENCE]}"


def _summary(definition: Definition, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the parts of the text: the worst instances, or the one nearest to a threshold."""
    bad = [row for row in rows if row.state != "ok"]
    if len(rows) < 2:
        yield about(definition, rows[0], NAMED) if rows else "no instance in use"
    elif bad:
        first, *others = (about(definition, row, 1) for row in bad[:NAMED])
        yield f"{len(bad)} of {counted(len(rows), 'instance')}: {first}"
        yield from others
        if len(bad) > NAMED:
            yield f"and {len(bad) - NAMED} more"
    else:
        yield counted(len(rows), "instance")
        idle = sum(row.idle for row in rows)
        if idle:
            yield f"{idle} idle"
        yield from _nearest(definition, rows)


def _nearest(definition: Definition, rows: Sequence[Row]) -> Iterator[str]:
    """Yield the instance, value and lowest limit of the reading nearest to its threshold."""
    found = [(row, reading) for row in rows if (reading := nearest(row))]
    if not found:
        return
    row, reading = max(found, key=lambda pair: nearness(pair[1]))
    assert reading.threshold
    limits = enumerate(reading.threshold.limits, 1)
    lowest = Breach(next(level for level, bound in limits if bound is not None), reading.threshold)
    yield f"nearest to a limit: {_alias(row)}: {_reading_text(definition, reading)}"
    yield _limit_text(definition, reading.datapoint, lowest)


def _below(report: Report, rows: Sequence[Row]) -> Iterator[str]:
    for row in rows[:LISTED]:
        number = len(row.readings) + len(row.unjudged)
        yield f"[{WORDS[STATES[row.state]]}] {about(report.definition, row, number)}"
    if len(rows) > LISTED:
        yield f"and {counted(len(rows) - LISTED, 'instance')} more, none of them worse"
    yield from (f"missing data: {clean(sentence)}" for sentence in report.failures)
    yield from (f"note: {clean(sentence)}" for sentence in report.notes)


def _polled(reports: Sequence[Report]) -> str:
    return f"Polled at {iso(max(report.time for report in reports))}."


def about(definition: Definition, row: Row, number: int) -> str:
    """Return an alias and `number` readings, the worst first; an idle one is just `idle`."""
    texts = list(_texts(definition, row))[:number]
    if row.idle and row.state == "ok":
        texts = [idle_word(definition, row)]
    return f"{_alias(row)}: {', '.join(texts) or 'no value'}"


def _alias(row: Row) -> str:
    return clean(row.instance.alias)[:ALIAS].rstrip() or row.instance.wildvalue


def _texts(definition: Definition, row: Row) -> Iterator[str]:
    """Yield certain breaches, what cannot be judged, then all others by nearness to a limit."""
    readings = sorted(row.readings, key=lambda one: (-one.level, -nearness(one)))
    severe = [reading for reading in readings if reading.level >= ERROR]
    yield from (_reading_text(definition, reading) for reading in severe)
    unjudged = sorted(row.unjudged, key=lambda one: one.breach is None)
    yield from (_unjudged_text(definition, one) for one in unjudged)
    yield from (_reading_text(definition, reading) for reading in readings[len(severe) :])


def _unjudged_text(definition: Definition, unjudged: Unjudged) -> str:
    """Return why a threshold is not judged, or the level that the known part reaches."""
    if unjudged.breach is None or unjudged.missing.at_least is None:
        return f"{unjudged.datapoint} not judged: {clean(unjudged.missing.reason)}"
    known = Reading(
        unjudged.datapoint, unjudged.missing.at_least, unjudged.threshold, unjudged.breach
    )
    name, text = _reading_text(definition, known).split(" ", 1)
    return f"{name} at least {text}"


def _reading_text(definition: Definition, reading: Reading) -> str:
    datapoint = definition.datapoint(reading.datapoint)
    places = MONEY_PLACES if datapoint.unit == "dollars" else PLACES
    number = f"{_readable(reading.value, places, reading.threshold)}{datapoint.measure.uom}"
    text = f"{reading.datapoint} {value_word(definition, reading) or number}"
    if not reading.breach:
        return text
    return f"{text} ({_limit_text(definition, reading.datapoint, reading.breach)})"


def _limit_text(definition: Definition, datapoint: str, breach: Breach) -> str:
    """Return the level and its limit, such as `error at or over 90%`."""
    uom = definition.datapoint(datapoint).measure.uom
    phrase = PHRASES[breach.threshold.operator]
    return f"{LEVELS[breach.level]} {phrase} {plain(limit(breach))}{uom}"


def _readable(value: Number, places: int, threshold: Threshold | None) -> str:
    """Return the value as text; from 1 up, rounded half even to at most `places` places.

    It has more places where fewer would be on the other side of a limit: 89.999 is not 90.
    """
    exact = Decimal(plain(value))
    if not 1 <= abs(exact) < 10**15:
        return plain(exact)
    level = threshold.level(exact) if threshold else 0
    while True:
        rounded = exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
        if not threshold or threshold.level(rounded) == level:
            return plain(rounded)
        places += 1


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless it is one."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def clean(text: str) -> str:
    """Return text on one line, with single spaces, without `|` and `;`.

    `|` begins perfdata, and Nagios replaces `;` by `:`.
    """
    return " ".join(one_line(text).replace("|", "_").replace(";", ",").split())
