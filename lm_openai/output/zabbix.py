"""Report for Zabbix: rows of low-level discovery (LLD), and the document of a master item."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from lm_openai.errors import Failure
from lm_openai.model.names import shortened
from lm_openai.model.report import Instance, Report, Row
from lm_openai.output.json import text
from lm_openai.output.text import limit, one_line, refuse_duplicates

SIZE = 480_000
"""Bytes of a document; the agent rejects 512 KiB."""

ITEMS = 29_999
"""Dependent items of one master item; discovery stops silently beyond that number."""
OF_POLL, OF_INSTANCE = 4, 1
"""Dependent items besides the datapoints: of the poll (its time, what was not read, how much of
that, how much was not judged), and the state of each instance."""

ALIAS_LENGTH = 150
"""Characters of an alias; the server rejects a longer name than 255 of an item or a trigger."""


_MACRO = re.compile(r"\{(?=[{$#?%A-Z])")
"""Begin of a macro, which the server would resolve in a name: `{$…}`, `{#…}`, `{HOST.NAME}`."""


def write(report: Report) -> str:
    """Return a document with values by wildvalue, for dependent items with JSONPath.

    A state and the level of a breach are 0 (ok) to 3 (critical). Raises Failure if the document is
    too large for the agent, or has more instances than the items of one master.
    """
    refuse_duplicates(report)
    document = {
        "datasource": report.definition.folder,
        "organization": report.organization,
        "time": report.time,
        "values": {
            row.instance.wildvalue: {reading.datapoint: reading.value for reading in row.readings}
            for row in report.rows
        },
        "states": {row.instance.wildvalue: row.level for row in report.rows},
        "breaches": {
            row.instance.wildvalue: found for row in report.rows if (found := [*_breaches(row)])
        },
        "unjudged": {
            row.instance.wildvalue: [one.datapoint for one in row.unjudged]
            for row in report.rows
            if row.unjudged
        },
        "partial_failures": report.failures,
        "data_age_seconds": report.ages,
    }
    return _fitting(report, text(document, gap="") + "\n")


def discover(report: Report) -> str:
    """Return the array of LLD rows.

    All rows have the same macros; a macro that an instance lacks is empty. Raises Failure as
    `write` does.
    """
    refuse_duplicates(report)
    rows = [_macros(row.instance, report.organization) for row in report.rows]
    names = dict.fromkeys(name for row in rows for name in row)
    complete = [{name: row.get(name, "") for name in names} for row in rows]
    return _fitting(report, text(complete, gap="") + "\n")


def failed(sentence: str, title: str) -> str:
    """Return the sentence of a failed poll; it is never JSON and never a number."""
    return f"{one_line(sentence)}\n"


def _breaches(row: Row) -> Iterator[dict[str, Any]]:
    """Yield the breached thresholds, also those that the known part of a missing value breaches.

    `polls` is the number of polls in a row after which the threshold takes effect.
    """
    found = [one.breach for one in row.readings] + [one.breach for one in row.unjudged]
    for breach in filter(None, found):
        yield {
            "datapoint": breach.threshold.datapoint,
            "level": breach.level,
            "limit": limit(breach),
            "polls": breach.threshold.consecutive,
        }


def _macros(instance: Instance, organization: str) -> dict[str, str]:
    values = {
        "wildvalue": instance.wildvalue,
        "wildalias": shortened(instance.alias, ALIAS_LENGTH),
        **instance.dimensions,
        **instance.names,
        "organization": organization,
    }
    return {f"{{#{key.upper()}}}": _MACRO.sub("{ ", value) for key, value in values.items()}


def _fitting(report: Report, document: str) -> str:
    size = len(document.encode())
    each = len(report.definition.datapoints) + OF_INSTANCE
    items = len(report.rows) * each + OF_POLL
    if size > SIZE or items > ITEMS:
        raise Failure(
            f"{report.definition.title}: {len(report.rows)} instances need {size // 1000} kB and "
            f"{items} dependent items, but a Zabbix master item accepts {SIZE // 1000} kB and "
            f"{ITEMS} items; split them over more master items with --part I/N, or select fewer "
            f"with openai.projects.include or .exclude, openai.models.include or .exclude"
        )
    return document
