"""A DataSource's definition as data: its names, intervals, datapoints and graphs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from lm_openai.model.units import UNITS, Unit


class Datapoint(NamedTuple):
    """One number per instance.

    `fold` joins buckets into the window's value ("sum", "last" or "max"; None: computed once per
    poll). `derived` is `{"sum": [names]}` or `{"percent": [part, whole]}`, computed after the fold.
    `zero` is the word that people read for the value 0, such as `blocked` for a limit.
    """

    name: str
    unit: str
    description: str
    fold: str | None = None
    derived: dict[str, list[str]] | None = None
    min: int | None = None
    max: int | None = None
    zero: str = ""

    @property
    def measure(self) -> Unit:
        """The unit with its spelling in each monitoring system."""
        return UNITS[self.unit]

    @property
    def window_total(self) -> bool:
        """True for a total of the poll's window; the windows of two polls may overlap."""
        return self.fold == "sum" or "sum" in (self.derived or {})

    @property
    def camel(self) -> str:
        """The name in camel case, as in the vendor's LogicModules: `numModelRequests`."""
        first, *rest = self.name.split("_")
        return first + "".join(word[:1].upper() + word[1:] for word in rest)


class Graph(NamedTuple):
    """One graph: datapoints over time, stacked or as lines."""

    title: str
    datapoints: tuple[str, ...]
    stacked: bool = False


class Definition(NamedTuple):
    """The content of `modules/<folder>/<folder>.json`.

    `interval` and `discovery_interval` are seconds. `series_width` is the width of a series'
    buckets (`1m`, `1h`, `1d`), or None if the DataSource has no buckets. `dimensions` are the
    instance's default dimensions. `properties` names the host properties that the DataSource reads
    in addition to those of the whole suite.
    """

    folder: str
    name: str
    title: str
    description: str
    interval: int
    discovery_interval: int
    dimensions: tuple[str, ...]
    series_width: str | None
    properties: tuple[str, ...]
    datapoints: tuple[Datapoint, ...]
    graphs: tuple[Graph, ...]

    @property
    def spellings(self) -> tuple[str, str, str]:
        """The names that people use: folder, LogicModule name and title."""
        return self.folder, self.name, self.title

    def is_named(self, word: str) -> bool:
        """Return True if the word is one of its names; case and separators do not matter."""
        return _letters(word) in map(_letters, self.spellings)

    def restricted(self, names: Collection[str]) -> Definition:
        """Return the definition with these datapoints alone, also in its graphs."""
        drawn = (
            graph._replace(datapoints=tuple(name for name in graph.datapoints if name in names))
            for graph in self.graphs
        )
        return self._replace(
            datapoints=tuple(one for one in self.datapoints if one.name in names),
            graphs=tuple(graph for graph in drawn if graph.datapoints),
        )

    def datapoint(self, name: str) -> Datapoint:
        """Return the datapoint of that name; raises KeyError if it is not declared."""
        for datapoint in self.datapoints:
            if datapoint.name == name:
                return datapoint
        raise KeyError(name)


def parse(folder: str, document: Mapping[str, Any], kinds: Iterable[str] = ()) -> Definition:
    """Return the definition in a parsed JSON document.

    A datapoint with `"each": "usage_kind"` becomes one datapoint per name in `kinds`; the name
    replaces `{kind}` in its texts.
    """
    datapoints = (one for entry in document["datapoints"] for one in _datapoints(entry, kinds))
    return Definition(
        folder=folder,
        **{
            **document,
            "dimensions": tuple(document["dimensions"]),
            "properties": tuple(document["properties"]),
            "datapoints": tuple(datapoints),
            "graphs": tuple(_graph(entry, kinds) for entry in document["graphs"]),
        },
    )


def _letters(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _datapoints(entry: Mapping[str, Any], kinds: Iterable[str]) -> Iterable[Datapoint]:
    if "each" not in entry:
        yield Datapoint(**entry)
        return
    fields = {name: value for name, value in entry.items() if name != "each"}
    for kind in kinds:
        texts = {name: fields[name].format(kind=kind) for name in ("name", "description")}
        yield Datapoint(**{**fields, **texts})


def _graph(entry: Mapping[str, Any], kinds: Iterable[str]) -> Graph:
    names = []
    for name in entry["datapoints"]:
        names += [name.format(kind=kind) for kind in kinds] if "{kind}" in name else [name]
    return Graph(entry["title"], tuple(names), entry.get("stacked", False))
