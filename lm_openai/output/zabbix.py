"""Report for Zabbix: rows of low-level discovery (LLD), and the document of a master item."""

from __future__ import annotations

from lm_openai.errors import Failure
from lm_openai.model.report import Instance, Report
from lm_openai.output.json import text
from lm_openai.output.text import one_line, refuse_duplicates

SIZE = 480_000
"""Bytes of a document; the agent rejects 512 KiB."""

ALIAS_LENGTH = 180
"""Characters of an alias; the server rejects an item whose name is longer than 255."""


def write(report: Report) -> str:
    """Return a document with values by wildvalue, for dependent items with JSONPath.

    A state is 0 (ok) to 3 (critical). Raises Failure if the document is too large for the agent.
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

    All rows have the same macros; a macro that an instance lacks is empty. Raises Failure if the
    array is too large for the agent.
    """
    refuse_duplicates(report)
    rows = [_macros(row.instance, report.organization) for row in report.rows]
    names = dict.fromkeys(name for row in rows for name in row)
    complete = [{name: row.get(name, "") for name in names} for row in rows]
    return _fitting(report, text(complete, gap="") + "\n")


def failed(sentence: str, title: str) -> str:
    """Return the sentence of a failed poll; it is never JSON and never a number."""
    return f"{one_line(sentence)}\n"


def _macros(instance: Instance, organization: str) -> dict[str, str]:
    values = {
        "wildvalue": instance.wildvalue,
        "wildalias": one_line(instance.alias)[:ALIAS_LENGTH],
        **instance.dimensions,
        **instance.names,
        "organization": organization,
    }
    return {f"{{#{key.upper()}}}": value for key, value in values.items()}


def _fitting(report: Report, document: str) -> str:
    size = len(document.encode())
    if size > SIZE:
        raise Failure(
            f"{report.definition.title}: {len(report.rows)} instances need {size // 1000} kB, "
            f"but Zabbix accepts {SIZE // 1000} kB; select fewer with openai.projects.include or "
            f".exclude, openai.models.include or .exclude"
        )
    return document
