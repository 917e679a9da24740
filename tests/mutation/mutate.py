"""Mutation test: change one expression of the product at a time and see whether a test fails.

`mutate.py [--count N] [--seed N] [--workers N] [PATH...]` samples N mutations, evenly over the
files below PATH (default: the package without the simulator, and the scripts in modules/). Each one
is applied to a copy of the checkout. The tests of the file's floor run first, all others only if
those pass. Survivors are printed with their difference; the exit status is 1 if there are any.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

from tests.support.checkout import copy_checkout  # noqa: E402

PATHS = ("lm_openai", "modules")
SKIPPED = ("lm_openai/simulator",)
SECONDS = 900
"""A mutation whose tests take longer counts as killed: it made an endless loop."""
NO_TESTS = 5
PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not slow")


class Mutation(NamedTuple):
    """One changed file: its path, the new text, and the kind of change."""

    path: str
    line: int
    kind: str
    text: str


class Outcome(NamedTuple):
    """Result of one mutation; `killer` is the first failed test, None for a survivor."""

    mutation: Mutation
    killer: str | None


class Mutator(ast.NodeTransformer):
    """Change the expression number `target`; without a target, count the expressions."""

    def __init__(self, target: int | None = None) -> None:
        self.target, self.seen = target, 0
        self.kind, self.line = "", 0

    def chosen(self, node: ast.AST, kind: str) -> bool:
        """Return True for the expression to change."""
        self.seen += 1
        if self.seen - 1 != self.target:
            return False
        self.kind, self.line = kind, getattr(node, "lineno", 0)
        return True

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """Move a limit by one or turn an equality round."""
        self.generic_visit(node)
        swapped = SWAPPED.get(type(node.ops[0]))
        if swapped and len(node.ops) == 1 and self.chosen(node, "comparison"):
            return ast.Compare(node.left, [swapped()], node.comparators)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Exchange plus and minus, times and floor division."""
        self.generic_visit(node)
        swapped = ARITHMETIC.get(type(node.op))
        if swapped and self.chosen(node, "arithmetic"):
            return ast.BinOp(node.left, swapped(), node.right)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """Exchange `and` and `or`."""
        self.generic_visit(node)
        if self.chosen(node, "and/or"):
            other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            return ast.BoolOp(other, node.values)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        """Drop a `not`."""
        self.generic_visit(node)
        if isinstance(node.op, ast.Not) and self.chosen(node, "negation"):
            return node.operand
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Add one to a number, turn a truth value round."""
        if isinstance(node.value, bool) and self.chosen(node, "truth value"):
            return ast.Constant(not node.value)
        number = isinstance(node.value, int) and not isinstance(node.value, bool)
        if number and self.chosen(node, "number"):
            return ast.Constant(node.value + 1)  # type: ignore[operator]
        return node

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        """Drop the last member of a dictionary, or exchange the values of its first two."""
        self.generic_visit(node)
        if len(node.keys) > 1 and None not in node.keys:
            if self.chosen(node, "dropped member"):
                return ast.Dict(node.keys[:-1], node.values[:-1])
            if self.chosen(node, "swapped values"):
                first, second, *rest = node.values
                return ast.Dict(node.keys, [second, first, *rest])
        return node

    def visit_Tuple(self, node: ast.Tuple) -> ast.AST:
        """Drop the last element of a tuple of constants."""
        self.generic_visit(node)
        constants = all(isinstance(element, ast.Constant) for element in node.elts)
        if len(node.elts) > 1 and constants and self.chosen(node, "dropped element"):
            return ast.Tuple(node.elts[:-1], node.ctx)
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        """Skip a statement that is a call or a yield."""
        self.generic_visit(node)
        effect = isinstance(node.value, (ast.Call, ast.Yield, ast.YieldFrom))
        if effect and self.chosen(node, "skipped statement"):
            empty = ast.parse("yield from ()" if not isinstance(node.value, ast.Call) else "None")
            return empty.body[0]
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Leave annotations and defaults of names alone; change the body only."""
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Leave the annotation alone."""
        if node.value is not None:
            node.value = self.visit(node.value)
        return node


SWAPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
}
ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
}


def main() -> int:
    """Run the sample; return 1 if a mutation survived."""
    parser = argparse.ArgumentParser(prog="./run mutate", description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=60, help="number of mutations (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="another sample (default 1)")
    parser.add_argument("--workers", type=int, default=2, help="parallel runs (default 2)")
    parser.add_argument("paths", nargs="*", default=PATHS, metavar="PATH")
    chosen = parser.parse_args()
    sample = list(sampled(chosen.paths, chosen.count, random.Random(chosen.seed)))
    survivors = [outcome for outcome in outcomes(sample, chosen.workers) if outcome.killer is None]
    killed = len(sample) - len(survivors)
    print(f"\n{len(sample)} mutations, {killed} killed, {len(survivors)} survived")
    for outcome in survivors:
        print(f"\n{difference(outcome.mutation)}")
    return int(bool(survivors))


def sampled(paths: list[str], count: int, chance: random.Random) -> Iterator[Mutation]:
    """Yield mutations of different expressions, file after file in a random order."""
    files = [path for name in paths for path in sources(ROOT / name)]
    used: set[tuple[Path, int]] = set()
    while files and count > 0:
        chance.shuffle(files)
        for path in files[:count]:
            size = places(path)
            target = chance.randrange(size) if size else None
            if target is None or (path, target) in used:
                continue
            used.add((path, target))
            count -= 1
            yield mutated(path, target)


def sources(path: Path) -> Iterator[Path]:
    """Yield the scripts and definitions below a path that mutations may change."""
    files = [*path.rglob("*.py"), *path.rglob("*.json")] if path.is_dir() else [path]
    for file in sorted(files):
        skipped = file.relative_to(ROOT).as_posix().startswith(SKIPPED)
        if not skipped and (file.suffix == ".py" or file.stem == file.parent.name):
            yield file


def places(path: Path) -> int:
    """Return the number of expressions, or of datapoints in a definition."""
    if path.suffix == ".json":
        return len(json.loads(path.read_text())["datapoints"])
    counter = Mutator()
    counter.visit(ast.parse(path.read_text()))
    return counter.seen


def mutated(path: Path, target: int) -> Mutation:
    """Return the file with the expression, or the datapoint, number `target` changed."""
    if path.suffix == ".json":
        return without_datapoint(path, target)
    mutator = Mutator(target)
    tree = ast.fix_missing_locations(mutator.visit(ast.parse(path.read_text())))
    name = path.relative_to(ROOT).as_posix()
    return Mutation(name, mutator.line, mutator.kind, ast.unparse(tree) + "\n")


def without_datapoint(path: Path, target: int) -> Mutation:
    """Return the definition without one datapoint."""
    content = json.loads(path.read_text())
    dropped = content["datapoints"].pop(target)["name"]
    for graph in content["graphs"]:
        graph["datapoints"] = [name for name in graph["datapoints"] if name != dropped]
    content["graphs"] = [graph for graph in content["graphs"] if graph["datapoints"]]
    name = path.relative_to(ROOT).as_posix()
    return Mutation(name, target, f"dropped {dropped}", json.dumps(content, indent=2) + "\n")


def outcomes(sample: list[Mutation], workers: int) -> Iterator[Outcome]:
    """Try all mutations, each worker in a copy of the checkout of its own."""
    lock = threading.Lock()
    with TemporaryDirectory() as scratch, ThreadPoolExecutor(workers) as pool:
        copies: Queue[Path] = Queue()
        for number in range(workers):
            copies.put(copy_checkout(Path(scratch) / str(number)))

        def attempt(mutation: Mutation) -> Outcome:
            copy = copies.get()
            try:
                outcome = Outcome(mutation, killer(copy, mutation))
            finally:
                copies.put(copy)
            with lock:
                state = f"killed by {outcome.killer}" if outcome.killer else "SURVIVED"
                print(f"{mutation.path}:{mutation.line} {mutation.kind}: {state}", flush=True)
            return outcome

        yield from pool.map(attempt, sample)


def killer(copy: Path, mutation: Mutation) -> str | None:
    """Return the first test that fails with the mutation, or None."""
    file = copy / mutation.path
    original = file.read_text()
    file.write_text(mutation.text)
    try:
        for tests in stages(copy, mutation.path):
            failed = first_failure(copy, tests)
            if failed:
                return failed
        return None
    finally:
        file.write_text(original)


def stages(copy: Path, path: str) -> Iterator[list[str]]:
    """Yield groups of tests, the nearest first: the module's, its floor's, all."""
    floor, stem = Path(path).parent.name, Path(path).stem
    near = sorted(copy.glob(f"tests/{floor}/test_{stem}*.py"))
    if path.startswith("modules/"):
        folder = Path(path).stem
        near = sorted(copy.glob(f"tests/modules/test_{folder}.py"))
        yield [*map(str, near), str(copy / "tests/modules/test_contract.py"), "-k", folder]
    elif near:
        yield list(map(str, near))
    if (copy / "tests" / floor).is_dir():
        yield [str(copy / "tests" / floor)]
    yield [str(copy / "tests")]


def first_failure(copy: Path, tests: list[str]) -> str | None:
    """Run tests and return the name of the first that fails, None if all pass."""
    command = [sys.executable, *PYTEST, *tests]
    try:
        ran = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return "timeout"
    failed = [line.split(" ")[1] for line in ran.stdout.splitlines() if line.startswith(ENDINGS)]
    return (
        failed[0]
        if failed
        else (f"exit {ran.returncode}" if ran.returncode not in (0, 5) else None)
    )


ENDINGS = ("FAILED ", "ERROR ")


def difference(mutation: Mutation) -> str:
    """Return the mutation as a difference between two normalized texts."""
    text = (ROOT / mutation.path).read_text()
    if mutation.path.endswith(".json"):
        before = json.dumps(json.loads(text), indent=2).splitlines()
    else:
        before = ast.unparse(ast.parse(text)).splitlines()
    after = mutation.text.splitlines()
    lines = difflib.unified_diff(before, after, mutation.path, mutation.kind, lineterm="", n=2)
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
