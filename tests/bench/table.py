"""The benchmark: prints the table of targets, or the rows of it that are named.

`table.py [--rounds N] [ROW]...` measures whole processes of an environment with the wheel
installed. Every figure is compared with a base of the same run, in interleaved pairs, so that a
busy machine changes the result less. Each program next to this one measures some rows: it has a
function `rows(rounds)`, and a line in PROGRAMS.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module

from tests.bench import measure
from tests.bench.measure import Row

ROUNDS = 15
# Not measured here: 12, see tests/bench/resident.py.
PROGRAMS = {
    "repeated_check": ("1", "2"),
    "cold_poll": ("3", "4", "5"),
    "fan_out": ("6",),
    "payload": ("7", "8"),
    "many_checks": ("9", "10", "11"),
    "icinga_services": ("13",),
    "rate_limits": ("14",),
    "all_datasources": ("15",),
}
HEAD = ("#", "what", "base in the same run", "figure", "ratio", "target", "met")
WIDTHS = (3, 76, 46, 10, 7, 7, 3)


def main(words: Sequence[str]) -> int:
    """Print the table; return 1 if a target is missed and 2 for an unknown row."""
    words, rounds = list(words), ROUNDS
    if words[:1] == ["--rounds"]:
        rounds, words = int(words[1]), words[2:]
    known = [number for numbers in PROGRAMS.values() for number in numbers]
    unknown = [word for word in words if word not in known]
    if unknown:
        print(f"there is no row {unknown[0]}; known rows: {', '.join(known)}", file=sys.stderr)
        return 2
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        del os.environ[name]
    measure.install()
    print(_line(HEAD), flush=True)
    met = True
    for row in _measured(words or known, rounds):
        met = met and row.ratio <= row.target
        print(_line(_cells(row)), flush=True)
    return 0 if met else 1


def _measured(wanted: Sequence[str], rounds: int) -> Iterator[Row]:
    for program, numbers in PROGRAMS.items():
        if set(numbers) & set(wanted):
            rows: Iterator[Row] = import_module(f"tests.bench.{program}").rows(rounds)
            yield from (row for row in rows if row.number in wanted)


def _cells(row: Row) -> Sequence[str]:
    met = "yes" if row.ratio <= row.target else "no"
    ratio, target = f"{row.ratio:.2f}", f"{row.target:g}"
    return row.number, row.what, row.base, row.figure, ratio, target, met


def _line(cells: Sequence[str]) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, WIDTHS)).rstrip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
