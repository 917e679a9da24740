"""Queries of the dashboards in InfluxQL, for data written by --format influx.

A DataSource with buckets writes one value for each minute, hour or day, so that usage is summed
over the dashboard's range. Any other writes one value for each poll, of which the newest counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from string import ascii_uppercase

from lm_openai.collect.directory import NAMED
from lm_openai.hosts.grafana_panels import Json, Panel, arranged, column
from lm_openai.hosts.grafana_views import (
    LINES,
    STAT,
    TABLE,
    VARIABLES,
    View,
    description,
    dimensions,
    heading,
)
from lm_openai.hosts.jobs import Job
from lm_openai.model.definition import Datapoint
from lm_openai.timespans import DAY, WIDTHS

NAME, PLUGIN, TITLE = "influxdb", "influxdb", "InfluxDB"
"""Folder of the dashboards, Grafana's name for the kind of data source, and its name for people."""
POLLS = 3
"""Number of intervals after which a value is no longer shown as the present one."""
SUMMED = "Summed over the range of the dashboard."


def panel(view: View, job: Job) -> Panel:
    """Return the panel of a view; raises KeyError for a datapoint that the DataSource lacks."""
    make = {STAT: _stat, TABLE: _table, LINES: _lines}[view.kind]
    columns = tuple(column(job, name, base=False) for name in view.datapoints)
    adding = any(_adds(job, one) for one in _datapoints(view, job))
    about = [description(view, job), SUMMED] if adding else [description(view, job)]
    targets = make(view, job)
    return Panel(
        view.kind,
        view.title,
        "\n\n".join(about),
        tuple({"refId": letter, **one} for letter, one in zip(ascii_uppercase, targets)),
        columns,
        view.width,
        _step(view, job),
        0 if adding or view.kind == LINES else _recent(view, job),
        sort=tuple(one.name for one in columns[: view.sort]) if view.kind == TABLE else (),
        stacked=view.stacked,
        transformations=(_arranged(view, job),) if view.kind == TABLE else (),
    )


def _datapoints(view: View, job: Job) -> list[Datapoint]:
    return [job.definition.datapoint(name) for name in view.datapoints]


def _bucketed(job: Job, datapoint: Datapoint) -> bool:
    """Return True if the datapoint has one value for each bucket of a series."""
    return bool(job.definition.series_width and (datapoint.fold or datapoint.derived))


def _adds(job: Job, datapoint: Datapoint) -> bool:
    """Return True if the values of several times may be summed, or make a percentage of sums."""
    percentage = "percent" in (datapoint.derived or {})
    return _bucketed(job, datapoint) and (datapoint.window_total or percentage)


def _widths(view: View, job: Job) -> list[int]:
    """Return the widths in seconds of the buckets that the view's datapoints have."""
    width = WIDTHS.get(job.definition.series_width or "", 0)
    return [width for one in _datapoints(view, job) if _bucketed(job, one)]


def _step(view: View, job: Job) -> int:
    """Return the seconds between two values."""
    return max(_widths(view, job), default=job.interval)


def _recent(view: View, job: Job) -> int:
    """Return the seconds before now in which the present values of a view were written.

    A level and the cost of a day have the time of their bucket, which began up to a day ago.
    """
    return POLLS * job.interval + (DAY if _widths(view, job) else 0)


def _value(job: Job, datapoint: Datapoint) -> str:
    """Return the expression for one instance's value."""
    if not _adds(job, datapoint):
        function = "max" if datapoint.fold == "max" else "last"
        return f'{function}("{datapoint.name}")'
    if datapoint.window_total:
        return f'sum("{datapoint.name}")'
    assert datapoint.derived is not None
    part, whole = datapoint.derived["percent"]
    return f'100 * sum("{part}") / sum("{whole}")'


def _tags(view: View, job: Job) -> tuple[str, ...]:
    return ("organization", *dimensions(view, job))


def _grouped(view: View, job: Job) -> str:
    return ", ".join(f'"{tag}"' for tag in _tags(view, job))


def _source(view: View, job: Job) -> str:
    """Return the measurement and the conditions of a view's instances."""
    return f'FROM "openai_{view.folder}" WHERE {" AND ".join(_conditions(view, job))}'


def _conditions(view: View, job: Job) -> Iterator[str]:
    yield "$timeFilter"
    yield f"\"grouping\" = '{view.grouping}'"
    for tag in _tags(view, job):
        if tag in VARIABLES:
            yield f'"{tag}" =~ /^${VARIABLES[tag]}$/'


def _stat(view: View, job: Job) -> Iterable[Json]:
    [datapoint] = _datapoints(view, job)
    inner = f'SELECT {_value(job, datapoint)} AS "value" {_source(view, job)}'
    outer = f'SELECT {view.total}("value") AS "{heading(datapoint.name)}"'
    yield _query(f"{outer} FROM ({inner} GROUP BY {_grouped(view, job)}) WHERE $timeFilter")


def _table(view: View, job: Job) -> Iterable[Json]:
    """Yield one query for all columns and the names; tags are columns of the result."""
    fields = [f'{_value(job, one)} AS "{heading(one.name)}"' for one in _datapoints(view, job)] + [
        f'last("{name}") AS "{heading(name)}"' for name in _names(view, job)
    ]
    select = f"SELECT {', '.join(fields)} {_source(view, job)}"
    yield {**_query(f"{select} GROUP BY {_grouped(view, job)}"), "resultFormat": "table"}


def _names(view: View, job: Job) -> list[str]:
    """Return the fields that hold the names of ids."""
    return [tag.removesuffix("_id") + "_name" for tag in dimensions(view, job) if tag in NAMED]


def _arranged(view: View, job: Job) -> Json:
    """Return the transformation that puts names first, then numbers, then ids."""
    tags = dimensions(view, job)
    names = [heading(name) for name in _names(view, job)]
    plain = [tag for tag in tags if tag not in NAMED]
    ids = [tag for tag in tags if tag in NAMED]
    numbers = map(heading, view.datapoints)
    order = [*names, *plain, *numbers, *ids, "organization"]
    return arranged(order, ["Time"], {tag: heading(tag) for tag in _tags(view, job)})


def _lines(view: View, job: Job) -> Iterable[Json]:
    every = "time($__interval)"
    for datapoint in _datapoints(view, job):
        select = f'SELECT {_value(job, datapoint)} AS "value" {_source(view, job)}'
        name, tags = heading(datapoint.name), _grouped(view, job)
        if view.total:
            inner = f"({select} GROUP BY {every}, {tags} fill(none))"
            yield _query(
                f'SELECT {view.total}("value") AS "value" FROM {inner} WHERE $timeFilter '
                f"GROUP BY {every} fill(null)",
                name,
            )
        else:
            legend = " / ".join(f"$tag_{tag}" for tag in dimensions(view, job)) or name
            if len(view.datapoints) > 1 and dimensions(view, job):
                legend = f"{legend}: {name}"
            yield _query(f"{select} GROUP BY {every}, {tags} fill(null)", legend)


def _query(text: str, legend: str = "") -> Json:
    found = {"query": text, "rawQuery": True, "resultFormat": "time_series"}
    return {**found, "alias": legend} if legend else found


def variable(name: str) -> Json:
    """Return the query of a variable; InfluxQL has no pairs of an id and its name."""
    tag = next((key for key, value in VARIABLES.items() if value == name), name)
    where = "" if name == "organization" else ' WHERE "organization" =~ /^$organization$/'
    return {"query": f'SHOW TAG VALUES FROM /^openai_/ WITH KEY = "{tag}"{where}', "regex": ""}
