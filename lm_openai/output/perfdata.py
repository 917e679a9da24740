"""Perfdata for Nagios and Icinga: lasting labels, plain thresholds and a fixed order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from lm_openai.model.definition import Datapoint, Definition
from lm_openai.model.report import Instance, Reading, Report, Row
from lm_openai.model.thresholds import Threshold
from lm_openai.model.units import Number, plain
from lm_openai.output.ranking import nearness, severity

ALIAS = 80
"""Maximum characters of a cleaned alias in a label."""
STEP = 0.05
"""Part of a limit by which an instance must be nearer to it to take another's place in perfdata."""
PIECE = 6
"""Characters of the wildvalue that tell twins apart."""

# Icinga writes only plain numbers to InfluxDB. A plain number means "alert above", so a limit for
# low values keeps the colon: it is not stored there, and Icinga Web does not show good values red.
LIMITS = {">": "{}", ">=": "{}", "<": "{}:", "<=": "{}:"}


class Perfdata(NamedTuple):
    """Items as one text, and the number of instances whose items do not fit."""

    text: str
    left: int


def perfdata(report: Report, room: int) -> Perfdata:
    """Return the items that fit into `room` bytes, in the order of the instances' ids.

    The items of an instance are kept or left out together: first by state, then by nearness to a
    threshold. Without `--instance` they are the judged and graphed datapoints.
    """
    labels = _labels(report)
    rows = sorted(report.rows, key=_rank(report))
    wanted = [(row.instance.id, block) for row in rows if (block := _block(report, row, labels))]
    kept = list(_fitting(wanted, room))
    return Perfdata(" ".join(block for _, block in sorted(kept)), len(wanted) - len(kept))


def _rank(report: Report) -> Callable[[Row], tuple[object, ...]]:
    """Return the sort key of rows; small changes of a row's values do not change its place.

    If no row has a threshold, the larger graphed value, as a power of 2, comes first.
    """
    judged = any(reading.threshold for row in report.rows for reading in row.readings)
    graphed = [name for graph in report.definition.graphs for name in graph.datapoints]

    def size(row: Row) -> int:
        values = {reading.datapoint: reading.value for reading in row.readings}
        first = next((values[name] for name in graphed if name in values), 0)
        return 0 if judged else int(abs(Decimal(first))).bit_length()

    def key(row: Row) -> tuple[object, ...]:
        near = int(max(map(nearness, row.readings), default=0.0) / STEP)
        return (-severity(row), row.idle, -near, -size(row), row.instance.id)

    return key


def _fitting(blocks: Sequence[tuple[str, str]], room: int) -> Iterator[tuple[str, str]]:
    for identifier, block in blocks:
        room -= len(block.encode()) + 1
        if room < 0:
            return
        yield identifier, block


def _block(report: Report, row: Row, labels: dict[str, str]) -> str:
    definition = report.definition
    graphed = {name for graph in definition.graphs for name in graph.datapoints}
    return " ".join(
        f"{labels[row.instance.id]}{reading.datapoint}="
        f"{item(reading, definition.datapoint(reading.datapoint))}"
        for reading in row.readings
        if report.only or reading.threshold or reading.datapoint in graphed
    )


def item(reading: Reading, datapoint: Datapoint, with_uom: bool = True) -> str:
    """Return `value[UOM];warning;critical;min;max`.

    The critical limit is that of error, or that of critical if error is off.
    """
    uom = datapoint.measure.uom if with_uom else ""
    warning = critical = ""
    if reading.threshold:
        warning = _limit(reading.threshold, 1)
        critical = _limit(reading.threshold, 2) or _limit(reading.threshold, 3)
    parts = (warning, critical, _bound(datapoint.min), _bound(datapoint.max))
    return ";".join((plain(reading.value) + uom, *parts)).rstrip(";")


def _limit(threshold: Threshold, level: int) -> str:
    """Return a level's limit (1 warning, 2 error, 3 critical), "" if there is none to draw."""
    bound = threshold.limits[level - 1]
    return "" if bound is None else LIMITS.get(threshold.operator, "").format(plain(bound))


def _bound(value: Number | None) -> str:
    return "" if value is None else plain(value)


def _labels(report: Report) -> dict[str, str]:
    """Return the beginning of an instance's labels by its id, no label twice.

    It depends on the instance and on its twins, never on a value. All twins carry a piece of their
    id: with "the first has none", a new twin could continue another instance's series.
    """
    instances = [row.instance for row in report.rows]
    if report.exact:
        return {one.id: "" for one in instances}
    ends = ("", *_ends(report.definition))
    found = {one.id: _label(one, 0) for one in instances}
    for step in (1, 2):
        used = Counter(f"{label}{end}" for label in found.values() for end in ends)
        for one in instances:
            if any(used[f"{found[one.id]}{end}"] > 1 for end in ends):
                found[one.id] = _label(one, step)
    return {identifier: f"{label}_" for identifier, label in found.items()}


def _ends(definition: Definition) -> set[str]:
    """Return ends of aliases that make two labels equal.

    `a_admin` with `api_keys` is the label of `a` with `admin_api_keys`.
    """
    names = [f"_{point.name}" for point in definition.datapoints]
    return {
        long.removesuffix(short)
        for long in names
        for short in names
        if long != short and long.endswith(short)
    }


def _label(instance: Instance, step: int) -> str:
    """Return the cleaned alias; from step 1 with a piece of the id, in step 2 with its hash.

    An alias that loses letters always has the piece, so that it does not change when another
    alias is cleaned to the same text.
    """
    clean = re.sub(r"[^A-Za-z0-9_-]+", "_", _without_accents(instance.alias)).strip("_")
    if step == 2:
        from hashlib import blake2b

        identifier = instance.id.encode(errors="surrogatepass")
        return f"{clean[:ALIAS]}_{blake2b(identifier, digest_size=16).hexdigest()}"
    if step or not instance.alias.isascii() or not 0 < len(clean) <= ALIAS:
        return f"{clean[:ALIAS]}_{instance.wildvalue[-PIECE:]}".strip("_")
    return clean


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    from unicodedata import normalize

    return re.sub("[\u0300-\u036f]", "", normalize("NFKD", text))
