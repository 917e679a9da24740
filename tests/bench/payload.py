"""Rows 7 and 8: what many rows of usage cost in time and in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.measure import (
    PYTHON,
    Row,
    api,
    clean,
    cold,
    milliseconds,
    paired,
    peak,
    script,
)

GROUPS, BUCKETS, DAYS = 1764, 60, 8
"""Groups in every bucket, and buckets of an hour and of the week that finds the instances."""
MANY_GROUPS = 20_000
KEY = "sk-admin-" + "demoDEMO_0123456789-" * 8
"""Key of the usual length: a body is searched for it, which takes longer for a short one."""
LOADS = """
import json, pathlib, sys
for path in pathlib.Path(sys.argv[1]).iterdir():
    json.loads(path.read_bytes())
"""
READS = LOADS.replace("json.loads(path.read_bytes())", "path.read_bytes()")
OWN_MEMORY = 'import sys; sys.stderr.write(open("/proc/self/status").read())'
BY_MODEL = ("--set", "openai.group.by=project_id,model", "--set", "openai.timeout=300")


def rows(rounds: int) -> Iterator[Row]:
    """Yield the table's rows."""
    yield _time(max(3, rounds // 5))
    yield from _memory()


def _time(rounds: int) -> Row:
    """Compare a cold poll with the parse of the same answers, each without its fixed part."""
    poll = script("completion_by_model", *BY_MODEL)
    with (
        tempfile.TemporaryDirectory() as bodies,
        api(projects=40, groups=GROUPS, saved=bodies) as saving,
        api(projects=40, groups=GROUPS) as url,
        api(projects=40, groups=1) as idle,
    ):
        cold(poll, _environ(saving))

        def extra() -> float:
            return cold(poll, _environ(url)).cpu - cold(poll, _environ(idle)).cpu

        def parse() -> float:
            loads, reads = ((PYTHON, "-c", text, bodies) for text in (LOADS, READS))
            return cold(loads, _environ("")).cpu - cold(reads, _environ("")).cpu

        pair = paired(extra, parse, rounds)
        size = sum(path.stat().st_size for path in Path(bodies).iterdir())
    what = (
        f"{GROUPS * (BUCKETS + DAYS):,} usage rows ({size / 1e6:.0f} MB): read, fold, join, print"
    )
    base = f"json.loads of the same bytes: {milliseconds(pair.base)}"
    return Row("7", what, base, milliseconds(pair.figure), pair.ratio, 1.3)


def _memory() -> Iterator[Row]:
    """Compare polls of one page per minute, of half an hour and of an hour, with an interpreter."""
    poll = script("completion_by_model", *BY_MODEL)
    with api(projects=MANY_GROUPS // 8, groups=MANY_GROUPS) as url:
        bare = peak((PYTHON, "/dev/null"), _environ(url))
        half = peak((*poll, "--set", "openai.window=30m"), _environ(url))
        whole = peak((*poll, "--set", "openai.window=1h"), _environ(url))
    total = MANY_GROUPS * (BUCKETS + DAYS)
    what = f"memory for {total:,} rows in pages of 7 MB, {MANY_GROUPS:,} groups; MB more"
    yield Row("8", what, f"bare interpreter: {bare:.0f} MB", f"{whole:.0f} MB", whole - bare, 100)
    base = f"30 pages: {half:.0f} MB"
    yield Row(
        "8", "the same memory when the pages double", base, f"{whole:.0f} MB", whole / half, 1.1
    )


def _environ(url: str) -> dict[str, str]:
    return clean("/nonexistent", OPENAI_BASE_URL=url, OPENAI_ADMIN_KEY=KEY)
