"""A DataSource's definition and its two functions, and the only reader of the definition's JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from lm_openai.errors import WrongUsage
from lm_openai.units import UNITS, Unit

if TYPE_CHECKING:
    from lm_openai.answers import Question
    from lm_openai.poll import Poll
    from lm_openai.report import Instance, Sample

FUNCTIONS = ("discover", "collect", "expects")


def _nothing(poll: Poll) -> Iterable[Question]:
    return ()


class Datapoint(NamedTuple):
    """One number per instance.

    `fold` joins buckets into the window's value (sum, last, max; None: computed once per poll);
    `derived` is `{"sum": [names]}` or `{"percent": [part, whole]}`, worked out after the fold.
    """

    name: str
    unit: str
    description: str
    fold: str | None = None
    derived: dict[str, list[str]] | None = None
    min: int | None = None
    max: int | None = None

    @property
    def measure(self) -> Unit:
        """The unit's spellings."""
        return UNITS[self.unit]

    @property
    def camel(self) -> str:
        """LogicMonitor's name, as the vendor has it: `num_model_requests` is `numModelRequests`."""
        first, *rest = self.name.split("_")
        return first + "".join(word[:1].upper() + word[1:] for word in rest)


class Graph(NamedTuple):
    """One picture: datapoints over time, stacked or as lines."""

    title: str
    datapoints: tuple[str, ...]
    stacked: bool = False


class DataSource(NamedTuple):
    """A definition (what) with its two functions (how).

    `interval` and `discovery_interval` are seconds; `series_width` is the width of a series'
    buckets (`1m`, `1h`, `1d`) or None where buckets make no sense; `dimensions` are the instance's
    default dimensions and `properties` names the host properties that it heeds beyond the suite's
    own. `discover(poll)` yields Instance, `collect(poll, instances)` Sample, `expects(poll)` the
    usage Questions that these two will ask, where others of the same run may have a part in them.
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
    discover: Callable[[Poll], Iterable[Instance]]
    collect: Callable[[Poll, tuple[Instance, ...]], Iterable[Sample]]
    expects: Callable[[Poll], Iterable[Question]] = _nothing

    def datapoint(self, name: str) -> Datapoint:
        """The declared datapoint of that name; KeyError when there is none."""
        for datapoint in self.datapoints:
            if datapoint.name == name:
                return datapoint
        raise KeyError(name)


def folders() -> tuple[str, ...]:
    """The folder of every DataSource that this installation has, sorted."""
    return tuple(sorted(set(_folders())))


def load(folder: str) -> DataSource:
    """The DataSource in `modules/<folder>`; raises WrongUsage for a folder that is not there."""
    if folder not in folders():
        raise WrongUsage(f"no DataSource {folder!r}: there are {', '.join(folders())}")
    module = import_module(f"lm_openai.modules.{folder}.{folder}")
    definition = json.loads(resource(folder, f"{folder}.json"))
    functions = {name: getattr(module, name) for name in FUNCTIONS if hasattr(module, name)}
    return _datasource(folder, definition, functions)


def resource(folder: str, name: str) -> bytes:
    """A file that lies beside a DataSource's script, from a checkout, a wheel or a zip alike."""
    module = import_module(f"lm_openai.modules.{folder}.{folder}")
    return _read(module, name)


def schema(name: str) -> dict[str, Any]:
    """`schemas/<name>.schema.json` as the package carries it."""
    found: dict[str, Any] = json.loads(
        _read(import_module("lm_openai.schemas"), f"{name}.schema.json")
    )
    return found


def _read(module: Any, name: str) -> bytes:
    text: bytes = module.__loader__.get_data(os.path.join(os.path.dirname(module.__file__), name))
    return text


def _datasource(
    folder: str,
    definition: dict[str, Any],
    functions: dict[str, Any],
) -> DataSource:
    built: dict[str, Any] = dict(
        definition,
        dimensions=tuple(definition["dimensions"]),
        properties=tuple(definition["properties"]),
        datapoints=tuple(Datapoint(**entry) for entry in definition["datapoints"]),
        graphs=tuple(
            Graph(entry["title"], tuple(entry["datapoints"]), entry.get("stacked", False))
            for entry in definition["graphs"]
        ),
    )
    return DataSource(folder=folder, **functions, **built)


def _folders() -> Iterable[str]:
    import lm_openai

    for root in lm_openai.__path__:
        modules = os.path.join(root, "modules")
        if os.path.isdir(modules):
            names: Iterable[str] = os.listdir(modules)
            yield from (
                name
                for name in names
                if os.path.isfile(os.path.join(modules, name, f"{name}.json"))
            )
        else:
            yield from _zipped(modules)


def _zipped(modules: str) -> Iterable[str]:
    import lm_openai

    archive = getattr(lm_openai.__loader__, "archive", None)
    if not archive or not modules.startswith(archive):
        return
    from zipfile import ZipFile

    prefix = modules[len(archive) :].strip(os.sep).replace(os.sep, "/") + "/"
    with ZipFile(archive) as packed:
        for path in packed.namelist():
            folder, _, name = path.removeprefix(prefix).partition("/")
            if path.startswith(prefix) and name == f"{folder}.json":
                yield folder
