"""Report for a LogicMonitor Collector: batch script and Active Discovery output."""

from __future__ import annotations

import re

from lm_openai.model.names import shortened
from lm_openai.model.report import Instance, Report
from lm_openai.model.units import plain
from lm_openai.output.text import one_line, refuse_duplicates

ALIAS_LENGTH = 255
UNJUDGED = "unjudged"
"""Datapoint of every instance; a site alerts on it, since a missing value alone raises no alert."""


def write(report: Report) -> str:
    """Return `wildvalue.datapoint=value` lines; an unknown value has no line, which is No Data.

    The last line of an instance is its number of thresholds that could not be judged, mostly 0. The
    text is empty if a failure left no value of any instance.
    """
    refuse_duplicates(report)
    if report.failures and not any(row.readings for row in report.rows):
        return ""
    camel = {datapoint.name: datapoint.camel for datapoint in report.definition.datapoints}
    return "".join(
        f"{row.instance.wildvalue}.{name}={plain(value)}\n"
        for row in report.rows
        for name, value in (
            *((camel[reading.datapoint], reading.value) for reading in row.readings),
            (UNJUDGED, row.unknown),
        )
    )


def discover(report: Report) -> str:
    """Return `wildvalue##wildalias##description####properties` lines.

    The description is the id if that differs from the alias. Without a description, six hashes
    precede the properties.
    """
    refuse_duplicates(report)
    return "".join(f"{_line(row.instance, report.organization)}\n" for row in report.rows)


def _line(instance: Instance, organization: str) -> str:
    wildvalue = instance.wildvalue
    alias = _field(instance.alias) or _field(instance.id) or wildvalue
    description = _field(instance.id) if instance.id != instance.alias else ""
    properties = _properties(instance, organization)
    return f"{wildvalue}##{alias}##{description}####{properties}"


def _field(text: str) -> str:
    """Return text on one line, of limited length, without `##`, which separates fields.

    A space follows a final `#`, so that the text does not merge with the separator after it.
    """
    cleaned = shortened(re.sub("#{2,}", "#", " ".join(one_line(text).split())), ALIAS_LENGTH - 1)
    return cleaned + " " if cleaned.endswith("#") else cleaned


def _properties(instance: Instance, organization: str) -> str:
    from urllib.parse import quote

    found = {**instance.dimensions, **instance.names, "organization": organization}
    return "&".join(
        f"auto.openai.{key.replace('_', '.')}={quote(value, safe='')}"
        for key, value in found.items()
        if value
    )
