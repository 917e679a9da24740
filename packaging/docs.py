"""The generated tables of the READMEs: what the definitions, schemas and the error table say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from lm_openai import resources
from lm_openai.collect import datasource
from lm_openai.config import registry, threshold_files
from lm_openai.errors import FAILURES
from lm_openai.model import thresholds
from lm_openai.model.definition import Definition
from lm_openai.model.thresholds import LEVELS, Line
from lm_openai.model.units import plain

BLOCK = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def wanted(root: Path) -> dict[Path, str]:
    """Each README's text with every generated block as it should be."""
    sources = [datasource.definition(folder) for folder in resources.folders()]
    texts = {root / "README.md": filled((root / "README.md").read_text(), suite(sources))}
    for source in sources:
        path = root / "modules" / source.folder / "README.md"
        text = path.read_text() if path.exists() else skeleton(source)
        texts[path] = filled(text, blocks(source))
    return texts


def filled(text: str, contents: dict[str, str]) -> str:
    """`text` with the contents of its blocks replaced; an unknown block is a KeyError."""
    return BLOCK.sub(lambda found: found[1] + contents[found[2]] + found[3], text)


def suite(sources: list[Definition]) -> dict[str, str]:
    """The blocks of the top README."""
    return {
        "datasources": table(
            ("DataSource", "folder", "what it shows"),
            (
                (source.name, f"[`{source.folder}`](modules/{source.folder})", source.description)
                for source in sources
            ),
        ),
        "properties": table(("property", "meaning", "default"), properties()),
        "failures": table(
            ("what the sentence says", "what to do"),
            ((kind.meaning, kind.cure) for kind in FAILURES.values()),
        ),
    }


def properties(names: Iterable[str] | None = None) -> Iterator[tuple[str, ...]]:
    """(property, meaning, default) for the suite's properties, or for those named."""
    for name, row in registry.table().items():
        if names is None or name in names:
            default = f"`{row.default}`" if row.default else ""
            yield f"`{name}`", row.description, default


def blocks(source: Definition) -> dict[str, str]:
    """The blocks of one DataSource's README."""
    return {
        "facts": table(("", ""), facts(source)),
        "datapoints": table(
            ("datapoint", "unit", "meaning"),
            ((f"`{point.name}`", point.unit, point.description) for point in source.datapoints),
        ),
        "thresholds": states(
            threshold_files.reason(source), thresholds.describe(threshold_files.load(source))
        ),
        "properties": table(("property", "meaning", "default"), properties(source.properties)),
    }


def facts(source: Definition) -> Iterator[tuple[str, str]]:
    """The fact sheet."""
    yield "DataSource", f"`{source.name}`"
    yield "instance", " and ".join(f"`{name}`" for name in source.dimensions) or "the organization"
    yield "poll every", duration(source.interval)
    yield "discover every", duration(source.discovery_interval)
    yield "series", f"buckets of {source.series_width}" if source.series_width else "none"


def states(reason: str, lines: Iterable[Line]) -> str:
    """When somebody is woken up, and why then or never."""
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
    """A Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join("| " + " | ".join(cell(word) for word in line) + " |\n" for line in lines)


def cell(text: str) -> str:
    """Text that cannot end its cell."""
    return text.replace("|", "\\|").replace("\n", " ")


def duration(seconds: int) -> str:
    """5 minutes, 1 hour, 1 day.

    >>> duration(300), duration(3600), duration(86400)
    ('5 minutes', '1 hour', '1 day')
    """
    for size, word in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        if seconds % size == 0:
            count = seconds // size
            return f"{count} {word}{'' if count == 1 else 's'}"
    raise ValueError(seconds)


def skeleton(source: Definition) -> str:
    """A first README for a new DataSource."""
    return (
        f"# {source.title}\n\n{source.description}\n\n"
        "<!-- generated: facts -->\n<!-- end -->\n\n"
        f"```\n./run python modules/{source.folder}/{source.folder}.py --format nagios\n```\n\n"
        "## Datapoints\n\n<!-- generated: datapoints -->\n<!-- end -->\n\n"
        "## States\n\n<!-- generated: thresholds -->\n<!-- end -->\n\n"
        "## Properties\n\n<!-- generated: properties -->\n<!-- end -->\n"
    )
