"""Restriction of a report to some of its datapoints, which --datapoint names."""

from __future__ import annotations

from collections.abc import Collection

from lm_openai.errors import WrongUsage, suggest
from lm_openai.model.definition import Definition
from lm_openai.model.report import Report, Row, Sample


def check(definition: Definition, names: Collection[str]) -> None:
    """Raise WrongUsage for a name that is not a datapoint of the DataSource."""
    known = [datapoint.name for datapoint in definition.datapoints]
    for name in names:
        if name not in known:
            near = suggest(name, known) or f"; its page lists them: modules/{definition.folder}"
            raise WrongUsage(
                f"--datapoint {name!r}: {definition.title} has no such datapoint{near}"
            )


def restricted(report: Report, names: Collection[str]) -> Report:
    """Return the report with these datapoints alone: values, states and what is missing of them.

    Failures stay, since they may concern any datapoint.
    """
    if not names:
        return report
    return report._replace(
        definition=report.definition.restricted(names),
        rows=tuple(_row(row, names) for row in report.rows),
        series=tuple(_sample(sample, names) for sample in report.series),
    )


def _row(row: Row, names: Collection[str]) -> Row:
    return row._replace(
        readings=tuple(one for one in row.readings if one.datapoint in names),
        unjudged=tuple(one for one in row.unjudged if one.datapoint in names),
        missing={name: reason for name, reason in row.missing.items() if name in names},
    )


def _sample(sample: Sample, names: Collection[str]) -> Sample:
    values = {name: value for name, value in sample.values.items() if name in names}
    return sample._replace(values=values)
