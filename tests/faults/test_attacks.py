"""The page of attacks: each test that it names exists, and SECURITY.md makes the same promises."""

from __future__ import annotations

import ast
import re
from functools import cache
from typing import NamedTuple

import pytest

from tests.support.paths import ROOT

PAGE = (ROOT / "tests" / "faults" / "README.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
LEAST = 40


class Attack(NamedTuple):
    """Row of the page: the text of its three cells."""

    tried: str
    before: str
    test: str


def rows() -> list[Attack]:
    """Return the rows of all tables without their heads."""
    cells = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("|")]
    return [Attack(*row) for row in cells if row[-1].startswith("`")]


@cache
def functions(path: str) -> set[str]:
    """Return the names of all functions in a file below `tests/`."""
    tree = ast.parse((ROOT / "tests" / path).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("test", [row.test for row in rows()])
def test_each_test_of_the_page_exists(test: str) -> None:
    found = re.fullmatch(r"`([\w/]+\.py)::(test_\w+)(?:\[(.+)\])?`", test)
    assert found
    path, name, case = found.groups()
    assert name in functions(path)
    assert case is None or f'"{case}"' in (ROOT / "tests" / path).read_text()


def test_the_page_has_every_attack_once() -> None:
    tried = [row.tried for row in rows()]
    assert len(tried) >= LEAST
    assert len(set(tried)) == len(tried)
    assert all(row.before for row in rows())


def test_each_promise_has_its_attacks_and_each_attack_its_promise() -> None:
    promises = re.findall(r"^\* \*\*(.+?)\.?\*\*", SECURITY, re.MULTILINE)
    assert promises == re.findall(r"^## (.+)$", PAGE, re.MULTILINE)
    assert "[tests/faults/README.md](tests/faults/README.md)" in SECURITY
