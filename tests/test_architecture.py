"""Rules of the layout that import-linter does not see: scripts, cache keys, tests by floor."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_openai import resources
from lm_openai.api.endpoints import TOTALS, USAGE_KINDS, kinds_with
from lm_openai.collect import usage_queries
from lm_openai.collect.source import Source, key
from lm_openai.metrics import headroom_use, reconciliation, usage, usage_by_consumer
from tests.support.http_api import source_of
from tests.support.paths import MODULES, ROOT

CLOSED_TO_SCRIPTS = {"app", "output", "storage", "simulator"}
"""Floors that a DataSource's script must not import: they print, run or keep."""


HEAD = """
from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("{folder}")
"""


def imports(path: Path) -> Iterator[str]:
    """Yield the names of imported modules of lm_openai."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lm_openai"):
            yield from (
                [f"lm_openai.{alias.name}" for alias in node.names]
                if node.module == "lm_openai"
                else [str(node.module)]
            )


@pytest.mark.parametrize("folder", resources.folders())
def test_a_script_neither_prints_nor_runs_nor_keeps_anything_itself(folder: str) -> None:
    found = {name.split(".")[1] for name in imports(MODULES / folder / f"{folder}.py")}

    assert "start" in found
    assert "metrics" in found or "collect" in found
    assert not found & CLOSED_TO_SCRIPTS


@pytest.mark.parametrize("folder", resources.folders())
def test_every_script_has_the_same_head(folder: str) -> None:
    """tests/packaging starts one script in every way; so it stands for all of them."""
    head = HEAD.format(folder=folder)

    assert head in (MODULES / folder / f"{folder}.py").read_text()


def test_every_floor_has_a_folder_of_tests() -> None:
    floors = {path.parent.name for path in (ROOT / "lm_openai").glob("*/__init__.py")}
    tested = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}

    assert floors <= tested


def test_only_the_source_reads_and_writes_cached_answers_by_name() -> None:
    """Cache.remember takes any name; Source.shared builds the name from every argument."""
    calls = {
        path.relative_to(ROOT).as_posix()
        for folder in (ROOT / "lm_openai", MODULES)
        for path in folder.rglob("*.py")
        if ".remember(" in path.read_text()
    }

    assert calls == {"lm_openai/collect/source.py"}


def names_of_users(source: Source, field: str) -> str:
    return field


def test_a_cached_answer_differs_by_every_argument() -> None:
    assert key(names_of_users, ("name",)) != key(names_of_users, ("email",))


def test_a_question_that_sees_more_than_its_arguments_is_refused() -> None:
    field = "email"

    def closure(source: Source) -> str:
        return field

    for question in (closure, lambda source: field):
        with pytest.raises(TypeError, match="not a module-level function"):
            source_of(None).shared(60, question)  # type: ignore[arg-type]


@pytest.mark.parametrize("total", TOTALS)
def test_a_kind_that_claims_a_total_has_its_fields_in_every_row(total: str) -> None:
    for name in kinds_with(total):
        assert set(TOTALS[total]) & set(USAGE_KINDS[name].required), name


@pytest.mark.parametrize("name", USAGE_KINDS)
def test_a_kind_is_in_exactly_the_totals_that_it_claims(name: str) -> None:
    kind = USAGE_KINDS[name]
    limits = {limit for limit, kinds in headroom_use.COUNTED.items() if name in kinds}
    consumer = {query.kind for query in usage_by_consumer.queries(usage_queries.days_until(0), ())}
    row = dict.fromkeys(kind.required, 1)
    billed = dict(reconciliation.quantities(kind, row)) if kind.totals else {}

    assert (name in usage.MODEL_KINDS) == ("requests" in kind.totals)
    assert ("rpm" in limits, "rpd" in limits) == ("requests" in kind.totals,) * 2
    assert ("tpm" in limits) == ("tokens" in kind.totals)
    assert ("ipm" in limits) == ("images" in kind.totals)
    assert (name in consumer) == ("requests" in kind.totals)
    assert bool(billed) == bool(kind.totals)
