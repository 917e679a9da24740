"""Threshold files in a site's folders: their entries, and the faults that concern no entry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from lm_openai import files
from lm_openai.config.json_files import File, Place, check, quoted, read
from lm_openai.errors import WrongUsage

NO_EFFECT = "has no effect on any threshold"


class Entry(NamedTuple):
    """One entry of a file: a DataSource's thresholds, not validated; `datasource` is its name."""

    datasource: str
    file: File


class Site(NamedTuple):
    """The entries that name a DataSource, in order, and a sentence for each other fault.

    A file that cannot be read or parsed may be meant for any DataSource, so every report states it.
    """

    entries: tuple[Entry, ...] = ()
    faults: tuple[str, ...] = ()


def read_site(folders: Iterable[str], unknown: Callable[[str], str]) -> Site:
    """Read the JSON files in the folders; a missing folder has none.

    `unknown` returns why a name is not that of a DataSource, or "". A fault never raises.
    """
    found: list[Entry] = []
    faults: list[str] = []
    for path in _paths(folders, faults):
        try:
            file = read(path)
        except WrongUsage as reason:
            faults.append(f"{reason}; the file {NO_EFFECT}")
            continue
        for entry in entries(file):
            fault = _fault(entry, unknown)
            if fault:
                faults.append(f"{fault}; the entry {NO_EFFECT}")
            else:
                found.append(Entry(entry.content["datasource"], entry))
    return Site(tuple(found), tuple(faults))


def entries(file: File) -> Iterator[File]:
    """Yield each entry of a file as a file of its own, with its position; not validated."""
    if isinstance(file.content, list):
        for index, content in enumerate(file.content):
            yield file._replace(place=file.place.at(index), content=content)
    else:
        yield file


def _paths(folders: Iterable[str], faults: list[str]) -> Iterator[str]:
    """Yield the paths of the folders' JSON files in order; add unreadable folders to `faults`."""
    for folder in folders:
        files.look(folder)
        if not os.path.isdir(folder):
            continue
        try:
            files.refuse(files.distrust_folder(folder))
            names = sorted(os.listdir(folder))
        except OSError as error:
            faults.append(
                f"{Place(folder).wrong(f'cannot be read ({error.strerror})')}; "
                f"what it contains {NO_EFFECT}"
            )
            continue
        for name in names:
            if name.endswith(".json") and not name.startswith("."):
                yield os.path.join(folder, name)


def _fault(entry: File, unknown: Callable[[str], str]) -> str:
    """Return why an entry names no DataSource, or ""."""
    content: Any = entry.content
    name = content.get("datasource") if isinstance(content, dict) else None
    if isinstance(name, str) and name:
        fault = unknown(name)
        return f"{entry.place.at('datasource')}: {fault}" if fault else ""
    if isinstance(content, list):  # valid as a whole file, not as an entry of one
        return str(entry.place.wrong(f"{quoted(content)} is not an object"))
    try:
        check(entry, "thresholds")
    except WrongUsage as reason:
        return str(reason)
    raise AssertionError("the schema requires the name of a DataSource")
