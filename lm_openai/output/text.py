"""Text helpers that several output formats share."""

from __future__ import annotations

from decimal import Decimal

from lm_openai.errors import Failure
from lm_openai.model.definition import Definition
from lm_openai.model.report import Breach, Gap, Instance, Reading, Report, Row
from lm_openai.redaction import one_line as one_line


def value_word(definition: Definition, reading: Reading) -> str:
    """Return the word that people read for the value, such as `blocked` for a limit of 0, or ""."""
    return "" if reading.value else definition.datapoint(reading.datapoint).zero


def row_word(definition: Definition, row: Row) -> str:
    """Return the first word that people read for one of the row's values, or ""."""
    words = (value_word(definition, reading) for reading in row.readings)
    return next(filter(None, words), "")


def idle_word(definition: Definition, row: Row) -> str:
    """Return the word for an instance without use: `archived`, `blocked` or `idle`."""
    return "archived" if row.archived else row_word(definition, row) or "idle"


def poll_tags(report: Report | Gap) -> dict[str, str]:
    """Return the tags of every series of a poll: organization and, if it is not the own, grouping.

    Without the grouping, totals and the rest of two groupings would be one series.
    """
    found = {"grouping": report.grouping, "organization": report.organization}
    return {key: one_line(value) for key, value in found.items() if value}


def tags(report: Report, instance: Instance) -> dict[str, str]:
    """Return the tags that identify an instance's time series.

    They are ids, never names; an empty value is left out.
    """
    own = {key: one_line(value) for key, value in instance.dimensions.items() if value}
    return dict(sorted({**own, **poll_tags(report)}.items()))


def identities(report: Report) -> dict[str, dict[str, str]]:
    """Return the tags by instance id, those of a series too.

    Raises Failure if two instances have the same tags.
    """
    every = [*(row.instance for row in report.rows), *(one.instance for one in report.series)]
    found = {instance.id: tags(report, instance) for instance in every}
    owners: dict[tuple[tuple[str, str], ...], str] = {}
    for identifier, own in found.items():
        owner = owners.setdefault(tuple(own.items()), identifier)
        if owner != identifier:
            raise Failure(
                f"{report.definition.title}: {owner!r} and {identifier!r} have the same dimensions "
                f"and would overwrite each other; report this"
            )
    return found


def refuse_duplicates(report: Report) -> None:
    """Raise Failure if two rows have the same wildvalue: one would overwrite the other."""
    owners: dict[str, str] = {}
    for instance in (row.instance for row in report.rows):
        owner = owners.setdefault(instance.wildvalue, instance.id)
        if owner != instance.id:
            raise Failure(
                f"{report.definition.title}: {owner!r} and {instance.id!r} have the same "
                f"wildvalue {instance.wildvalue} and would overwrite each other; exclude one of "
                f"them, or use another format"
            )


def limit(breach: Breach) -> Decimal:
    """Return the limit that the value breached: the threshold's limit at the breach's level."""
    passed = breach.threshold.limits[breach.level - 1]
    assert passed is not None
    return passed
