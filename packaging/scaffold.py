"""Scaffold of a new DataSource that shows one usage kind."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[0] = str(ROOT)

from lm_openai.api.endpoints import USAGE_KINDS, UsageKind  # noqa: E402
from lm_openai.errors import suggest  # noqa: E402

USAGE = "usage: ./run new FOLDER --kind KIND"
UNITS = {
    "tokens": "tokens",
    "requests": "requests",
    "images": "images",
    "characters": "characters",
    "sessions": "sessions",
    "bytes": "bytes",
    "seconds": "whole_seconds",
}
"""Unit of a quantity by the last word of its name; any other quantity is a count."""

SCRIPT = '''\
#!/usr/bin/env python3
"""{title}: {nouns}."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("{folder}")

from lm_openai.metrics import usage

KIND = "{kind}"
discover, collect, series, dormant, expects = usage.functions(KIND)
'''
NEXT = """\
modules/{folder} created for usage/{kind}. Next:
  1. edit the descriptions in {folder}.json and the reason in thresholds.json
  2. ./run record {folder}    write testdata from the demo organization, which must serve the kind
  3. ./run generate           write README.md, the script of the wheel and the suite's tables
  4. edit "Notes" in modules/{folder}/README.md, then ./run test -k {folder}
"""


def main(words: list[str]) -> int:
    """Create `modules/FOLDER`; return 0, or 2 for wrong usage."""
    if len(words) != 3 or words[1] != "--kind":
        print(USAGE, file=sys.stderr)
        return 2
    folder, kind = words[0], words[2]
    refuse(folder, kind)
    write(ROOT / "modules" / folder, USAGE_KINDS[kind])
    print(NEXT.format(folder=folder, kind=kind), end="")
    return 0


def refuse(folder: str, kind: str) -> None:
    """Exit with a sentence for a wrong folder name or an unknown usage kind."""
    if not re.fullmatch(r"[a-z]+(_[a-z]+)*_by_[a-z]+(_[a-z]+)*", folder):
        raise SystemExit(
            f"./run new: {folder!r} is not a folder name such as images_by_model "
            f"(lower-case words joined by _, with the instance after _by_)"
        )
    if (ROOT / "modules" / folder).exists():
        raise SystemExit(f"./run new: modules/{folder} exists already")
    if kind not in USAGE_KINDS:
        near = suggest(kind, USAGE_KINDS) or f"; known are {', '.join(USAGE_KINDS)}"
        raise SystemExit(
            f"./run new: unknown usage kind {kind!r}: declare it in lm_openai/api/endpoints.py"
            f"{near}"
        )


def write(folder: Path, kind: UsageKind) -> None:
    """Write script, definition and thresholds."""
    name, title = folder.name, title_of(folder.name)
    nouns = " and ".join(words(field) for field in kind.required)
    folder.mkdir()
    script = folder / f"{name}.py"
    script.write_text(SCRIPT.format(title=title, nouns=nouns, folder=name, kind=kind.name))
    script.chmod(0o755)
    (folder / f"{name}.json").write_text(definition(name, title, nouns, kind))
    reason = (
        f"No default limits: only the site knows how many {words(kind.required[0])} are too many."
    )
    shipped = {"datasource": logic_module(name), "reason": reason, "thresholds": []}
    (folder / "thresholds.json").write_text(json.dumps(shipped, indent=2) + "\n")


def definition(folder: str, title: str, nouns: str, kind: UsageKind) -> str:
    """Return the definition with one datapoint per quantity, one per line."""
    dimension = "model" if "model" in kind.dimensions else kind.dimensions[0]
    head: dict[str, Any] = {
        "name": logic_module(folder),
        "title": title,
        "description": f"{nouns.capitalize()}, one instance per {words(dimension)}.",
        "interval": 300,
        "discovery_interval": 3600,
        "dimensions": [dimension],
        "series_width": "1h" if kind.level else "1m",
        "properties": [
            "openai.window",
            "openai.group.by",
            "openai.lookback",
            "openai.bucket.width",
        ],
    }
    points = [datapoint(field, kind) for field in kind.quantities]
    graphs = [
        {"title": words(field).capitalize(), "datapoints": [field]} for field in kind.required
    ]
    members = [f'  "{name}": {json.dumps(value)}' for name, value in head.items()]
    members.append(f'  "datapoints": [\n{lines(points)}\n  ]')
    members.append(f'  "graphs": [\n{lines(graphs)}\n  ]')
    return "{\n" + ",\n".join(members) + "\n}\n"


def datapoint(field: str, kind: UsageKind) -> dict[str, Any]:
    """Return the declaration of one quantity."""
    unit = UNITS.get(field.rpartition("_")[2], "count")
    text = f"{words(field).capitalize()} in the window"
    fold = "last" if kind.level else "sum"
    return {"name": field, "unit": unit, "description": text, "fold": fold, "min": 0}


def lines(entries: list[dict[str, Any]]) -> str:
    """Return JSON objects, one per line."""
    return ",\n".join(f"    {json.dumps(entry)}" for entry in entries)


def title_of(folder: str) -> str:
    """Return the title of a folder.

    >>> title_of("images_by_model")
    'OpenAI Images By Model'
    """
    return "OpenAI " + " ".join(word.capitalize() for word in folder.split("_"))


def logic_module(folder: str) -> str:
    """Return the LogicModule name of a folder.

    >>> logic_module("images_by_model")
    'OpenAI_Images_ByModel'
    """
    what, _, instance = folder.partition("_by_")
    first, second = (
        "".join(word.capitalize() for word in part.split("_")) for part in (what, instance)
    )
    return f"OpenAI_{first}_By{second}"


def words(field: str) -> str:
    """Return a field's name as words: `num_model_requests` is `model requests`."""
    return field.removeprefix("num_").removesuffix("_id").replace("_", " ")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
