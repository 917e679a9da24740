"""Result of one poll of one DataSource: rows, series, notes and failures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from lm_openai.model import thresholds
from lm_openai.model.definition import Definition
from lm_openai.model.thresholds import OK, Threshold
from lm_openai.model.units import Number

NONE = "none"
"""Id of a dimension that the API sends as null."""
LEVELS = ("ok", *thresholds.LEVELS)
"""Words for the levels of a reading, by level."""
STATES = ("ok", "warning", "unknown", *LEVELS[2:])
"""States from good to bad. Unknown is worse than a warning: missing data may hide anything."""
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

    def is_named(self, word: str) -> bool:
        """Return True if the word is its wildvalue, alias or id."""
        return word in (self.wildvalue, self.alias, self.id)


class Missing(NamedTuple):
    """Reason why a datapoint cannot be computed, and the value of the part that is known.

    `at_least` is a lower bound of the datapoint, or None if there is none.
    """

    reason: str
    at_least: Number | None = None


class Sample(NamedTuple):
    """Values of one instance in the bucket that starts at `start`, or in the whole poll (None).

    `idle` is True if the request succeeded and its response shows no use. `missing` holds the
    datapoints that a failed or incomplete response leaves out; a datapoint that cannot exist, such
    as the utilization of a pool without a limit, is neither there nor in `values`. None means that
    the DataSource does not tell them apart: then in a poll with a failure every absent datapoint
    counts as missing.
    """

    instance: Instance
    values: Values
    start: int | None = None
    idle: bool = False
    missing: Mapping[str, Missing] | None = None


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


class Unjudged(NamedTuple):
    """Threshold in force whose datapoint is missing.

    `breach` is set if the known part alone reaches error or critical; then the level is certain.
    """

    datapoint: str
    threshold: Threshold
    missing: Missing
    breach: Breach | None = None


class Row(NamedTuple):
    """One instance with its readings in the definition's order.

    `idle` is True for an instance that was seen in the last days and has no use now, `archived` for
    an idle one whose project is archived. `missing` holds the datapoints that a failed or
    incomplete response leaves out, `unjudged` the thresholds that could not be judged because of
    it.
    """

    instance: Instance
    readings: tuple[Reading, ...]
    idle: bool = False
    unjudged: tuple[Unjudged, ...] = ()
    archived: bool = False
    missing: Mapping[str, Missing] = {}

    @property
    def level(self) -> int:
        """The worst level of its readings, and of what the known part of a missing one reaches."""
        known = [reading.level for reading in self.readings]
        certain = [one.breach.level for one in self.unjudged if one.breach]
        return max((*known, *certain), default=OK)

    @property
    def state(self) -> str:
        """One of STATES: unknown hides a warning, and neither an error nor a critical level."""
        known = LEVELS[self.level]
        return max(known, "unknown", key=STATES.index) if self.unknown else known

    @property
    def unknown(self) -> int:
        """Number of thresholds whose level is unknown."""
        return sum(one.breach is None for one in self.unjudged)


class Report(NamedTuple):
    """Everything that one poll found, ready for any output format.

    `time`, `start` and `end` are Unix seconds; `ages` is data age in seconds by usage kind.
    `failures` are sentences about data that could not be read (empty: everything was read), and
    `notes` are sentences that are worth knowing and not a failure. `series` is empty unless
    `with_series` is True. `incomplete` is True if instances may be missing. `grouping` is the
    dimensions of the instances (`project_id,model`), empty for the definition's own. `only`
    holds the names and globs of the requested instances (empty: all).
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
    incomplete: bool = False
    grouping: str = ""
    only: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """True if one instance was requested, by its exact name, and no other has that name."""
        return len(self.only) == len(self.rows) == 1 and self.rows[0].instance.is_named(
            self.only[0]
        )

    @property
    def state(self) -> str:
        """The worst state of all rows; unknown at least if instances may be missing.

        Without instances it is unknown if data is missing and ok otherwise, since a usage kind
        without use is not a fault.
        """
        states = [row.state for row in self.rows]
        if self.incomplete or (self.failures and not self.rows):
            states.append("unknown")
        return max(states, key=STATES.index, default=STATES[OK])

    @property
    def unjudged(self) -> int:
        """Number of thresholds without a judgement; one more if instances may be missing."""
        return sum(row.unknown for row in self.rows) + self.incomplete


class Gap(NamedTuple):
    """A failed poll, which has no report; `sentence` is the reason, `grouping` as in Report."""

    definition: Definition
    organization: str
    sentence: str
    grouping: str = ""


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
