"""Queries of the dashboards in PromQL, for data written by --format prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from string import ascii_uppercase

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
from lm_openai.output.prometheus import metric
from lm_openai.timespans import HOUR

NAME, PLUGIN, TITLE = "prometheus", "prometheus", "Prometheus"
"""Folder of the dashboards, Grafana's name for the kind of data source, and its name for people."""
EVERY = '{__name__=~"openai_.+_info"'
"""Beginning of the selector of all instances."""
MOST_LINES = 20
"""Number of lines in a graph: the instances with the largest values in the dashboard's range."""


def panel(view: View, job: Job) -> Panel:
    """Return the panel of a view; raises KeyError for a datapoint that the DataSource lacks."""
    make = {STAT: _stat, TABLE: _table, LINES: _lines}[view.kind]
    columns = tuple(column(job, name, base=True) for name in view.datapoints)
    found = make(view, job)
    return found._replace(
        columns=columns,
        sort=tuple(one.name for one in columns[: view.sort]) if view.kind == TABLE else (),
        stacked=view.stacked,
    )


def _panel(view: View, job: Job, targets: Iterable[Json]) -> Panel:
    return Panel(
        view.kind,
        view.title,
        description(view, job),
        tuple({"refId": letter, **one} for letter, one in zip(ascii_uppercase, targets)),
        (),
        view.width,
        min(job.interval, HOUR),
    )


def _stat(view: View, job: Job) -> Panel:
    return _panel(view, job, (_at_once(_joined(view, job, view.datapoints[0]), "time_series"),))


def _table(view: View, job: Job) -> Panel:
    """Return a table with a query for each column, joined by their common labels.

    The last query is for the names: an instance has a row if it lacks some of the numbers.
    """
    expressions = [_values(view, job, name) for name in view.datapoints]
    by = ", ".join((*_labels(view, job), "alias"))
    expressions.append(f"max by ({by}) (openai_{view.folder}_info{_selected(view, job)})")
    targets = [_at_once(expression, "table") for expression in expressions]
    values = [f"Value #{letter}" for letter in ascii_uppercase[: len(targets)]]
    renamed = dict(zip(values, map(heading, view.datapoints)))
    shown = ["alias", *renamed]
    hidden = ["Time", values[-1], *dimensions(view, job)]
    renamed |= {"alias": "Name", "organization": "Organization"}
    return _panel(view, job, targets)._replace(
        transformations=(
            {"id": "merge", "options": {}},
            arranged([*shown, "organization"], hidden, renamed),
        )
    )


def _lines(view: View, job: Job) -> Panel:
    several = len(view.datapoints) > 1
    targets = []
    for name in view.datapoints:
        if view.total:
            expression, legend = _joined(view, job, name), heading(name)
        else:
            expression = _named(view, job, _largest(view, job, name))
            legend = f"{{{{alias}}}}: {heading(name)}" if several else "{{alias}}"
        targets.append(
            {"expr": expression, "legendFormat": legend, "range": True, "editorMode": "code"}
        )
    return _panel(view, job, targets)


def _at_once(expression: str, form: str) -> Json:
    return {
        "expr": expression,
        "format": form,
        "instant": True,
        "range": False,
        "editorMode": "code",
    }


def _labels(view: View, job: Job) -> tuple[str, ...]:
    return ("organization", *dimensions(view, job))


def _selected(view: View, job: Job) -> str:
    """Return the matchers of a view's instances with the values of the dashboard's variables."""
    return "{" + ",".join(_matchers(view, job)) + "}"


def _matchers(view: View, job: Job) -> Iterator[str]:
    yield f'grouping="{view.grouping}"'
    for label in _labels(view, job):
        if label in VARIABLES:
            yield f'{label}=~"${VARIABLES[label]}"'


def _values(view: View, job: Job, name: str, function: str = "") -> str:
    """Return one value for each instance, also if two servers collect it.

    `function` is that of a range: `max_over_time`.
    """
    found = metric(job.definition, job.definition.datapoint(name)) + _selected(view, job)
    if function:
        found = f"{function}({found}[$__range] @ end())"
    return f"max by ({', '.join(_labels(view, job))}) ({found})"


def _joined(view: View, job: Job, name: str) -> str:
    return f"{view.total}({_values(view, job, name)})"


def _largest(view: View, job: Job, name: str) -> str:
    """Return the values of the instances that had the largest ones in the dashboard's range."""
    on = ", ".join(_labels(view, job))
    top = f"topk({MOST_LINES}, {_values(view, job, name, 'max_over_time')})"
    return f"{_values(view, job, name)} and on ({on}) {top}"


def _named(view: View, job: Job, expression: str) -> str:
    """Return the values with the label `alias`, the name of the instance."""
    on = ", ".join(_labels(view, job))
    info = f"max by ({on}, alias) (openai_{view.folder}_info{_selected(view, job)})"
    return f"({expression}) * on ({on}) group_left (alias) {info}"


def variable(name: str) -> Json:
    """Return the query and the regular expression of a variable."""
    [label] = (key for key, value in VARIABLES.items() if value == name)
    selector = EVERY if name == "organization" else f'{EVERY},organization=~"$organization"'
    selector += f',{label}!=""}}'
    text, regex = f"label_values({selector}, {label})", ""
    if name == "project":
        text = f"query_result(count by (project_id, project_name) ({selector}))"
        regex = '/project_id="(?<value>[^"]*)"(?:,project_name="(?<text>[^"]*)")?/'
    return {"query": {"query": text, "refId": "variable"}, "regex": regex}
