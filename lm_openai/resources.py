"""Files that the package carries: definitions, shipped thresholds and schemas.

They are read through the import system's loader, so that a checkout, a wheel and a zip work alike.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from typing import Any

import lm_openai
from lm_openai.paths import is_datasource


def folders() -> tuple[str, ...]:
    """Return the folder names of all installed DataSources, sorted."""
    return tuple(sorted(set(_folders())))


def module_file(folder: str, name: str) -> bytes:
    """Return the content of a file in `modules/<folder>`; raises OSError if it does not exist."""
    return _read("lm_openai.modules", os.path.join(folder, name))


def schema(name: str) -> dict[str, Any]:
    """Return the parsed `schemas/<name>.schema.json`."""
    found: dict[str, Any] = json.loads(_read("lm_openai.schemas", f"{name}.schema.json"))
    return found


def _read(package: str, path: str) -> bytes:
    module: Any = import_module(package)
    for root in module.__path__:
        with suppress(OSError):
            content: bytes = module.__loader__.get_data(os.path.join(root, path))
            return content
    raise FileNotFoundError(f"{package} has no file {path}")


def _folders() -> Iterable[str]:
    for root in lm_openai.__path__:
        modules = os.path.join(root, "modules")
        if os.path.isdir(modules):
            names: Iterable[str] = os.listdir(modules)
            yield from (name for name in names if is_datasource(root, name))
        else:
            yield from _zipped_folders(modules)


def _zipped_folders(modules: str) -> Iterable[str]:
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
