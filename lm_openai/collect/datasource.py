"""A DataSource: its definition joined with the functions of its script."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from lm_openai import resources
from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.errors import WrongUsage, suggest
from lm_openai.model.definition import Definition, parse
from lm_openai.model.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.collect.poll import Poll

FUNCTIONS = ("discover", "collect", "series", "dormant")


def _none_dormant(poll: Poll, words: Sequence[str]) -> Iterable[Instance]:
    return ()


def _no_series(poll: Poll, instances: tuple[Instance, ...]) -> Iterable[Sample]:
    return ()


class DataSource(NamedTuple):
    """A definition and its functions.

    `discover(poll)` yields instances and `collect(poll, instances)` the samples of the snapshot.
    `series(poll, instances)` yields the samples of the series, which never changes the snapshot.
    `dormant(poll, words)` yields what discovery leaves out and one of the words may request: used
    in the last 35 days, or in a list of the organization; `collect` accepts it.
    """

    definition: Definition
    discover: Callable[[Poll], Iterable[Instance]]
    collect: Callable[[Poll, tuple[Instance, ...]], Iterable[Sample]]
    series: Callable[[Poll, tuple[Instance, ...]], Iterable[Sample]] = _no_series
    dormant: Callable[[Poll, Sequence[str]], Iterable[Instance]] = _none_dormant


def load(folder: str) -> DataSource:
    """Return the DataSource in `modules/<folder>`; raises WrongUsage for an unknown folder."""
    known = definition(folder)
    module = import_module(f"lm_openai.modules.{folder}.{folder}")
    functions = {name: getattr(module, name) for name in FUNCTIONS if hasattr(module, name)}
    return DataSource(known, **functions)


def definition(folder: str) -> Definition:
    """Return the definition in `modules/<folder>`; raises WrongUsage for an unknown folder."""
    if folder not in resources.folders():
        raise unknown(folder)
    document = json.loads(resources.module_file(folder, f"{folder}.json"))
    return parse(folder, document, USAGE_KINDS)


def definitions() -> Iterator[Definition]:
    """Yield the definitions of all DataSources, in the order of their folders."""
    return map(definition, resources.folders())


def folder_of(word: str) -> str:
    """Return the folder of the DataSource with this folder, LogicModule name or title.

    Raises WrongUsage, with the nearest name, if there is none.
    """
    folder = _folder(word)
    if not folder:
        raise unknown(word)
    return folder


def problem(word: str) -> str:
    """Return why the word names no DataSource, with the nearest name, or ""."""
    return "" if _folder(word) else str(unknown(word))


def unknown(word: str) -> WrongUsage:
    """Return the error for a word that names no DataSource."""
    names = [name for known in definitions() for name in known.spellings]
    near = suggest(word, names) or f"; expected one of {', '.join(resources.folders())}"
    return WrongUsage(f"unknown DataSource {word!r}{near}")


def _folder(word: str) -> str:
    if word in resources.folders():
        return word
    return next((known.folder for known in definitions() if known.is_named(word)), "")
