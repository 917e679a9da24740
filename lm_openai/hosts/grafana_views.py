"""Dashboards as values that do not depend on a store: sections of views of DataSources."""

from __future__ import annotations

from typing import NamedTuple

from lm_openai.hosts.jobs import Job

STAT, TABLE, LINES = "stat", "table", "timeseries"
"""Kinds of views: one number for all instances, a row for each instance, values over time."""
VARIABLES = {"organization": "organization", "project_id": "project", "model": "model"}
"""Variables of the dashboards by the label or tag whose values they hold."""
ACRONYMS = {"api", "ip", "ipm", "rpd", "rpm", "tpd", "tpm"}


class View(NamedTuple):
    """Datapoints of one DataSource in one panel.

    `total` ("sum", "max", "min") joins all instances to one value; if empty, each has its own.
    Percentages of several organizations have no meaningful sum.
    `grouping` is the property openai.group.by of the poll, empty for the DataSource's own grouping.
    A table is sorted by its first `sort` columns, the largest values first. `width` is in columns
    of Grafana's grid, which has 24.
    """

    kind: str
    title: str
    folder: str
    datapoints: tuple[str, ...]
    total: str = ""
    grouping: str = ""
    sort: int = 1
    stacked: bool = False
    width: int = 12


class Section(NamedTuple):
    """Views below one heading; a folded section is read only when somebody opens it."""

    title: str
    views: tuple[View, ...]
    folded: bool = False


class Dashboard(NamedTuple):
    """One dashboard; `name` is part of its file's name and uid, `start` the range that it opens."""

    name: str
    title: str
    description: str
    sections: tuple[Section, ...]
    start: str = "now-24h"


def stat(title: str, folder: str, datapoint: str, total: str = "sum") -> View:
    """Return one number, by default the sum of all instances."""
    return View(STAT, title, folder, (datapoint,), total, width=4)


def table(
    title: str,
    folder: str,
    *datapoints: str,
    grouping: str = "",
    sort: int = 1,
    width: int = 12,
) -> View:
    """Return a table with a row for each instance and a column for each datapoint."""
    return View(TABLE, title, folder, datapoints, "", grouping, sort, width=width)


def lines(
    title: str,
    folder: str,
    *datapoints: str,
    total: str = "",
    grouping: str = "",
    stacked: bool = False,
    width: int = 12,
) -> View:
    """Return values over time, for each instance or joined by `total`."""
    return View(LINES, title, folder, datapoints, total, grouping, 0, stacked, width)


def heading(name: str) -> str:
    """Return the words that stand for a datapoint or dimension in a panel.

    >>> heading("tpm_utilization"), heading("num_model_requests")
    ('TPM utilization', 'Model requests')
    """
    words = name.removeprefix("num_").split("_")
    text = " ".join(word.upper() if word in ACRONYMS else word for word in words)
    return text[:1].upper() + text[1:]


def dimensions(view: View, job: Job) -> tuple[str, ...]:
    """Return the dimensions that tell the instances of a view apart."""
    return tuple(view.grouping.split(",")) if view.grouping else job.definition.dimensions


def description(view: View, job: Job) -> str:
    """Return the meaning of the datapoints, and the poll that the panel needs."""
    known = map(job.definition.datapoint, view.datapoints)
    lines = [f"* {heading(one.name)}: {one.description}." for one in known]
    if view.grouping:
        lines.append(f"\nNeeds a poll of {view.folder} with openai.group.by={view.grouping}.")
    return "\n".join(lines)
