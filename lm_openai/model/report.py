"""What one poll of one DataSource found, and what stayed unanswered."""

from __future__ import annotations

import re
from typing import NamedTuple

from lm_openai.model import thresholds
from lm_openai.model.definition import Definition
from lm_openai.model.thresholds import OK, Threshold
from lm_openai.model.units import Number

NONE = "none"
"""Id that stands for a null dimension."""
LEVELS = ("ok", *thresholds.LEVELS)
"""Words for the levels of a reading: its index is the level."""
Values = dict[str, Number]


class Instance(NamedTuple):
    """One monitored thing: `dimensions` hold the API's ids, `names` what people call them."""

    id: str
    alias: str
    dimensions: dict[str, str]
    names: dict[str, str] = {}

    @property
    def wildvalue(self) -> str:
        """The lasting id in the characters that every host accepts."""
        return wildvalue(self.id)


class Sample(NamedTuple):
    """Datapoints of one instance in the bucket that starts at `start`, or of the poll (None).

    `idle` says that the API answered and showed no use.
    """

    instance: Instance
    values: Values
    start: int | None = None
    idle: bool = False


class Breach(NamedTuple):
    """The threshold that a reading is over, and at which level (1 warning, 2 error, 3 critical)."""

    level: int
    threshold: Threshold


class Reading(NamedTuple):
    """One datapoint's value, the limits in force for it (None: no threshold) and its breach."""

    datapoint: str
    value: Number
    threshold: Threshold | None = None
    breach: Breach | None = None

    @property
    def level(self) -> int:
        """0 ok, 1 warning, 2 error, 3 critical."""
        return self.breach.level if self.breach else OK


class Row(NamedTuple):
    """One instance with its readings in the definition's order; `idle`: seen lately, unused."""

    instance: Instance
    readings: tuple[Reading, ...]
    idle: bool = False

    @property
    def level(self) -> int:
        """The worst of its readings."""
        return max((reading.level for reading in self.readings), default=OK)


class Report(NamedTuple):
    """The whole pass, ready for any writer.

    `time`, `start` and `end` are Unix seconds; `ages` is data age in seconds by usage kind;
    `failures` are sentences about what stayed unanswered (empty: everything was answered) and
    `notes` about what is well but worth knowing. `series` is empty unless it was asked for.
    """

    definition: Definition
    organization: str
    time: int
    start: int
    end: int
    rows: tuple[Row, ...]
    series: tuple[Sample, ...] = ()
    ages: dict[str, int] = {}
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    with_series: bool = False

    @property
    def level(self) -> int:
        """The worst of all rows."""
        return max((row.level for row in self.rows), default=OK)


class Gap(NamedTuple):
    """A poll that gave no report, and why."""

    definition: Definition
    organization: str
    sentence: str


def wildvalue(identifier: str) -> str:
    """Fold an id into `[A-Za-z0-9_-]`, a pure function of the id alone.

    An id within that set stays; otherwise every other character becomes `-` and six hex digits of
    the id's BLAKE2 follow, so that `gpt-4.1` and `gpt-4-1` never meet.

    >>> wildvalue("gpt-4o"), wildvalue("gpt-4.1")[:8]
    ('gpt-4o', 'gpt-4-1-')
    """
    if re.fullmatch(r"[A-Za-z0-9_-]+", identifier):
        return identifier
    from hashlib import blake2b

    digest = blake2b(identifier.encode(errors="surrogatepass"), digest_size=3).hexdigest()
    return re.sub(r"[^A-Za-z0-9_-]", "-", identifier) + "-" + digest
