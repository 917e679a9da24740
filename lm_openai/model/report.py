"""Result of one poll of one DataSource: rows, series, notes and failures."""

from __future__ import annotations

import re
from typing import NamedTuple

from lm_openai.model import thresholds
from lm_openai.model.definition import Definition
from lm_openai.model.thresholds import OK, Threshold
from lm_openai.model.units import Number

NONE = "none"
"""Id of a dimension that the API sends as null."""
LEVELS = ("ok", *thresholds.LEVELS)
"""Words for the levels of a reading, by level."""
Values = dict[str, Number]


class Instance(NamedTuple):
    """One monitored thing: `dimensions` holds the API's ids, `names` their display names."""

    id: str
    alias: str
    dimensions: dict[str, str]
    names: dict[str, str] = {}

    @property
    def wildvalue(self) -> str:
        """The id in characters that every host accepts; it never changes."""
        return wildvalue(self.id)


class Sample(NamedTuple):
    """Values of one instance in the bucket that starts at `start`, or in the whole poll (None).

    `idle` is True if the request succeeded and its response shows no use.
    """

    instance: Instance
    values: Values
    start: int | None = None
    idle: bool = False


class Breach(NamedTuple):
    """Threshold that a reading breaches, and its level: 1 warning, 2 error, 3 critical."""

    level: int
    threshold: Threshold


class Reading(NamedTuple):
    """One datapoint's value, the threshold in force for it (None: no threshold) and its breach."""

    datapoint: str
    value: Number
    threshold: Threshold | None = None
    breach: Breach | None = None

    @property
    def level(self) -> int:
        """Level of the breach: 0 ok, 1 warning, 2 error, 3 critical."""
        return self.breach.level if self.breach else OK


class Row(NamedTuple):
    """One instance with its readings in the definition's order.

    `idle` is True for an instance that was seen in the last days and has no use now.
    """

    instance: Instance
    readings: tuple[Reading, ...]
    idle: bool = False

    @property
    def level(self) -> int:
        """The worst level of its readings."""
        return max((reading.level for reading in self.readings), default=OK)


class Report(NamedTuple):
    """Everything that one poll found, ready for any output format.

    `time`, `start` and `end` are Unix seconds; `ages` is data age in seconds by usage kind.
    `failures` are sentences about data that could not be read (empty: everything was read), and
    `notes` are sentences that are worth knowing and not a failure. `series` is empty unless
    `with_series` is True.
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
        """The worst level of all rows."""
        return max((row.level for row in self.rows), default=OK)


class Gap(NamedTuple):
    """A failed poll, which has no report; `sentence` is the reason."""

    definition: Definition
    organization: str
    sentence: str


def wildvalue(identifier: str) -> str:
    """Return an id in the characters `[A-Za-z0-9_-]`; the result depends on the id alone.

    An id that has only these characters stays as it is. Otherwise every other character becomes
    `-`, and `-` and six hex digits of the id's BLAKE2 hash follow, so that `gpt-4.1` and `gpt-4-1`
    stay different.

    >>> wildvalue("gpt-4o"), wildvalue("gpt-4.1")[:8]
    ('gpt-4o', 'gpt-4-1-')
    """
    if re.fullmatch(r"[A-Za-z0-9_-]+", identifier):
        return identifier
    from hashlib import blake2b

    digest = blake2b(identifier.encode(errors="surrogatepass"), digest_size=3).hexdigest()
    return re.sub(r"[^A-Za-z0-9_-]", "-", identifier) + "-" + digest
