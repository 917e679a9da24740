"""Generated blocks of the READMEs: tables and examples from definitions, schemas and records."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from lm_openai import resources
from lm_openai.collect import datasource
from lm_openai.config import registry, threshold_files
from lm_openai.errors import FAILURES
from lm_openai.model.definition import Definition
from lm_openai.model.thresholds import LEVELS, Line, describe
from lm_openai.model.units import plain

BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
LINK = re.compile(r"\[([^\]]+)\]\((?!https?://|#)[^)]+\)")
DESCRIPTION = "packaging/description.md"
TELEGRAF = "packaging/telegraf/README.md"
SHOWN = "rate_limits"
"""DataSource of the top README's example."""
WIDTH, ROWS = 150, 6
"""Characters of a line and number of instances in a page's example."""


def wanted(root: Path) -> dict[Path, str]:
    """Return the text of each README with every generated block filled."""
    definitions = [datasource.definition(folder) for folder in resources.folders()]
    suite_page = filled((root / "README.md").read_text(), suite(root, definitions))
    texts = {root / "README.md": suite_page, root / DESCRIPTION: without_links(suite_page)}
    for definition in definitions:
        path = root / "modules" / definition.folder / "README.md"
        text = path.read_text() if path.exists() else skeleton(definition)
        texts[path] = filled(text, blocks(root, definition))
    path = root / TELEGRAF
    texts[path] = filled(path.read_text(), {"measurements": measurements(definitions)})
    return texts


def filled(text: str, contents: dict[str, str]) -> str:
    """Return `text` with its blocks replaced; raises KeyError for an unknown block."""
    return BLOCK.sub(lambda found: found[1] + contents[found[2]] + found[3], text)


def without_links(text: str) -> str:
    """Return Markdown whose links into the repository are plain text, for a package index.

    >>> without_links("see [the page](modules/x) and [PyPI](https://pypi.org)")
    'see the page and [PyPI](https://pypi.org)'
    """
    return LINK.sub(r"\1", text)


def suite(root: Path, definitions: list[Definition]) -> dict[str, str]:
    """Return the blocks of the top README."""
    return {
        "example": example(root, datasource.definition(SHOWN), rows=3),
        "datasources": table(
            ("DataSource", "folder", "purpose"),
            (
                (
                    definition.name,
                    f"[`{definition.folder}`](modules/{definition.folder}/README.md)",
                    definition.description,
                )
                for definition in definitions
            ),
        ),
        "properties": table(("property", "meaning", "default"), properties()),
        "failures": table(
            ("message", "what to do"), ((kind.meaning, kind.cure) for kind in FAILURES.values())
        ),
    }


def measurements(definitions: Iterable[Definition]) -> str:
    """Return the table of what `--format influx` writes."""
    return table(
        ("measurement", "tags", "one line for each", "polled every"),
        (
            (
                f"[`openai_{one.folder}`](../../modules/{one.folder}/README.md)",
                ", ".join(f"`{name}`" for name in (*one.dimensions, "organization")),
                {"1m": "minute", "1h": "hour", "1d": "day"}.get(one.series_width or "", "poll"),
                duration(one.interval),
            )
            for one in definitions
        ),
    )


def properties(names: Iterable[str] | None = None) -> Iterator[tuple[str, ...]]:
    """Yield (property, meaning, default) for all properties, or for those named."""
    for name, row in registry.table().items():
        if names is None or name in names:
            default = f"`{row.default}`" if row.default else ""
            yield f"`{name}`", row.description, default


def blocks(root: Path, definition: Definition) -> dict[str, str]:
    """Return the blocks of one DataSource's README."""
    lines = describe(threshold_files.load(definition))
    return {
        "example": example(root, definition),
        "facts": table(("", ""), facts(definition)),
        "datapoints": table(
            ("datapoint", "unit", "meaning"),
            ((f"`{point.name}`", point.unit, point.description) for point in definition.datapoints),
        ),
        "thresholds": states(threshold_files.reason(definition), lines),
        "properties": table(("property", "meaning", "default"), properties(definition.properties)),
    }


def example(root: Path, definition: Definition, rows: int = ROWS) -> str:
    """Return the command for Nagios and its recorded output, shortened."""
    recorded = root / "modules" / definition.folder / "testdata" / "nagios.txt"
    if not recorded.exists():
        return f"(no record yet: ./run record {definition.folder})\n"
    first, *below = recorded.read_text().splitlines()
    shown = [shortened(line) for line in (first, *below[:rows])]
    if len(below) > rows:
        shown.append(f"… and {len(below) - rows} more lines")
    command = f"$ lm-openai collect {definition.folder} --format nagios"
    return "\n".join(("```console", command, *shown, "```", ""))


def shortened(line: str) -> str:
    """Return the line, cut after a whole word if it is long."""
    if len(line) <= WIDTH:
        return line
    return line[:WIDTH].rpartition(" ")[0].rstrip(",;") + " …"


def facts(definition: Definition) -> Iterator[tuple[str, str]]:
    """Yield the rows of the fact sheet."""
    dimensions = " and ".join(f"`{name}`" for name in definition.dimensions)
    width = definition.series_width
    yield "LogicModule", f"`{definition.name}`"
    yield "one instance per", dimensions or "organization"
    yield "poll interval", duration(definition.interval)
    yield "discovery interval", duration(definition.discovery_interval)
    yield "series", f"buckets of {width}" if width else "none"


def states(reason: str, lines: Iterable[Line]) -> str:
    """Return the default thresholds with their reasons, or why there are none."""
    lines = list(lines)
    if not lines:
        return f"{reason}\n"
    opening = f"{reason}\n\n" if reason else ""
    return opening + table(
        ("datapoint", *LEVELS, "polls in a row", "reason"),
        (
            (
                f"`{rule.datapoint}`" + (f" where `{match}`" if match else ""),
                *(
                    f"{rule.operator} {plain(limit)}" if limit is not None else ""
                    for limit in rule.limits
                ),
                str(rule.consecutive),
                rule.reason,
            )
            for match, rule, _ in lines
        ),
    )


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell(text) for text in line) + " |\n" for line in lines)


def cell(text: str) -> str:
    """Return text that cannot end its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def duration(seconds: int) -> str:
    """Return seconds in the largest unit that divides them.

    >>> duration(300), duration(3600), duration(86400)
    ('5 minutes', '1 hour', '1 day')
    """
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds % size == 0:
            count = seconds // size
            return f"{count} {word}{'' if count == 1 else 's'}"
    raise ValueError(seconds)


def skeleton(definition: Definition) -> str:
    """Return a first README for a new DataSource."""
    sections = {
        "## Datapoints": "datapoints",
        "## States": "thresholds",
        "## Properties": "properties",
    }
    parts = [f"# {definition.title}\n\n{definition.description}\n"]
    parts += [f"<!-- generated: {block} -->\n<!-- end -->\n" for block in ("example", "facts")]
    parts += [
        f"{head}\n\n<!-- generated: {block} -->\n<!-- end -->\n" for head, block in sections.items()
    ]
    return "\n".join((*parts, "## Notes\n"))
