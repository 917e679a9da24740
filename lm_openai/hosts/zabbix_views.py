"""Graphs of the Zabbix template and its dashboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import cycle
from typing import Any, NamedTuple

from lm_openai.hosts.jobs import HEALTH
from lm_openai.hosts.zabbix_names import Source, Template
from lm_openai.model.definition import Graph

Entry = dict[str, Any]
NAME = "OpenAI"
"""Name of the dashboard."""
COLORS = (
    *("1A7C11", "F63100", "2774A4", "A54F10", "FC6EA3", "6C59DC"),
    *("AC8C14", "611F27", "F230E0", "5CCD18", "BB2A02", "5A2B57"),
)
ALIAS_LENGTH = 50
"""Characters of an alias in the name of a graph, which has at most 128."""
WIDTH, TILE, TALL = 24, 4, 5
"""Columns of a dashboard; columns of a value, and rows of a graph."""
PAGES = {"rate": "Limits", "cost": "Cost", "spend": "Cost", "reconciliation": "Cost"}
"""Page of the dashboard by the first word of a DataSource with instances; of any other: USAGE."""
OVERVIEW, USAGE = "Overview", "Usage"


class Place(NamedTuple):
    """Place of a widget on its page, in columns and rows."""

    x: int
    y: int
    width: int
    height: int


def graphs(source: Source) -> Iterator[Entry]:
    """Yield the DataSource's graphs, or their prototypes."""
    for graph in source.definition.graphs:
        datapoints = [source.definition.datapoint(name) for name in graph.datapoints]
        name = _graph_name(source, graph)
        yield {
            "uuid": source.template.uuid("graph", name),
            "name": name,
            **({"type": "STACKED"} if graph.stacked else {}),
            **({"ymin_type_1": "FIXED"} if all(one.min == 0 for one in datapoints) else {}),
            "graph_items": [
                {
                    "sortorder": str(number),
                    "color": color,
                    "item": source.template.item(source.value_key(datapoint)),
                }
                for number, (datapoint, color) in enumerate(zip(datapoints, cycle(COLORS)))
            ],
        }


def dashboard(template: Template, sources: Sequence[Source]) -> Entry:
    """Return the dashboard: an overview of the organization, and the graphs of the instances."""
    pages = {OVERVIEW: [*_overview([one for one in sources if not one.discovers])]}
    others: dict[str, list[Source]] = {}
    for source in sources:
        if source.discovers:
            first = source.definition.folder.partition("_")[0]
            others.setdefault(PAGES.get(first, USAGE), []).append(source)
    pages |= {name: [*_prototypes(others[name])] for name in sorted(others)}
    return {
        "uuid": template.uuid("dashboard", NAME),
        "name": NAME,
        "auto_start": "NO",
        "pages": [{"name": name, "widgets": widgets} for name, widgets in pages.items() if widgets],
    }


def _overview(sources: Sequence[Source]) -> Iterator[Entry]:
    """Yield the first value of each graph, and below them the graphs."""
    ordered = sorted(sources, key=lambda one: (one.definition.folder == HEALTH, one.definition))
    shown = [(source, graph) for source in ordered for graph in source.definition.graphs]
    columns = WIDTH // TILE
    for number, (source, graph) in enumerate(shown):
        row, column = divmod(number, columns)
        datapoint = source.definition.datapoint(graph.datapoints[0])
        key = source.template.item(source.value_key(datapoint))
        name = datapoint.name.replace("_", " ")
        yield _widget("ITEM", name, Place(column * TILE, row * 2, TILE, 2), "ITEM", key)
    top = -(-len(shown) // columns) * 2
    for number, (source, graph) in enumerate(shown):
        row, column = divmod(number, 2)
        place = Place(column * WIDTH // 2, top + row * TALL, WIDTH // 2, TALL)
        yield _widget("GRAPH_CLASSIC", "", place, "GRAPH", _graph(source, graph))


def _prototypes(sources: Sequence[Source]) -> Iterator[Entry]:
    """Yield the first graph of each DataSource, two to a row, with two instances at a time."""
    for number, source in enumerate(sources):
        row, column = divmod(number, 2)
        place = Place(column * WIDTH // 2, row * TALL, WIDTH // 2, TALL)
        for graph in source.definition.graphs[:1]:
            widget = _widget("GRAPH_PROTOTYPE", "", place, "GRAPH_PROTOTYPE", _graph(source, graph))
            widget["fields"].append({"type": "INTEGER", "name": "columns", "value": "2"})
            yield widget


def _graph(source: Source, graph: Graph) -> dict[str, str]:
    return {"host": source.template.name, "name": _graph_name(source, graph)}


def _graph_name(source: Source, graph: Graph) -> str:
    """Return the graph's name, unique on the host."""
    title = source.definition.title
    if not source.discovers:
        return f"{title}: {graph.title}"
    alias = rf'{{{{#WILDALIAS}}.regsub("^(.{{1,{ALIAS_LENGTH}}})", "\1")}}'
    return f"{title}: {alias}: {graph.title}"


def _widget(kind: str, name: str, place: Place, field: str, value: dict[str, str]) -> Entry:
    identifier = {"ITEM": "itemid"}.get(field, "graphid")
    places = {key: str(number) for key, number in place._asdict().items()}
    fields = [{"type": field, "name": identifier, "value": value}]
    return {"type": kind, "name": name, **places, "fields": fields}
