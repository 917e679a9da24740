"""Rows 1 and 2: a check whose answer another one left a moment ago."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence

from tests.bench.api import model, project_id
from tests.bench.measure import (
    KEY,
    PASS,
    Row,
    api,
    clean,
    milliseconds,
    paired,
    run,
    script,
)

SERIES, PROJECTS = 10_000, 500
INSTANCE = f"{project_id(0)}/{model(0)}"
CHECK = script("completion_by_model", "--format", "nagios")
ONE_OF_MANY = (
    *("--instance", INSTANCE),
    *("--set", "openai.group.by=project_id,model"),
    *("--set", "openai.window=5m"),
)
FORBIDDEN = {"requests", "urllib3", "ssl", "click", "jsonschema", "json", "re"}


def rows(rounds: int) -> Iterator[Row]:
    """Yield the table's rows."""
    with tempfile.TemporaryDirectory() as home, api() as url:
        environ = _environ(home, url)
        yield _wall("repeated check, answer fresh: wall", CHECK, environ, 1.25, rounds)
        yield from _modules(environ)
    with tempfile.TemporaryDirectory() as home, api(projects=PROJECTS, groups=SERIES) as url:
        what = f"the same for one of {SERIES:,} series in the cache"
        yield _wall(what, (*CHECK, *ONE_OF_MANY), _environ(home, url), 1.35, rounds)


def _wall(
    what: str, check: Sequence[str], environ: Mapping[str, str], target: float, rounds: int
) -> Row:
    run(check, environ)
    pair = paired(lambda: run(check, environ).wall, lambda: run(PASS, environ).wall, rounds)
    base = f"python -c pass: {milliseconds(pair.base)}"
    return Row("1", what, base, milliseconds(pair.figure), pair.ratio, target)


def _modules(environ: Mapping[str, str]) -> Iterator[Row]:
    bare = _imported(PASS, environ)
    more = _imported(CHECK, environ) - bare
    heavy = {name for name in more if name.partition(".")[0] in FORBIDDEN}
    base = f"python -c pass: {len(bare)}"
    yield Row("2", "modules of the repeated check beyond these", base, f"{len(more)}", len(more), 8)
    names = ", ".join(sorted(FORBIDDEN))
    yield Row("2", f"modules among them of {names}", "none", f"{len(heavy)}", len(heavy), 0)


def _imported(command: Sequence[str], environ: Mapping[str, str]) -> set[str]:
    """Return the names of the modules that a Python program imports."""
    python, *program = command
    timed = (python, "-X", "importtime", *program)
    found = subprocess.run(timed, env=environ, capture_output=True, text=True, check=True).stderr
    return {line.rpartition("|")[2].strip() for line in found.splitlines() if "|" in line}


def _environ(home: str, url: str) -> dict[str, str]:
    kept = {"LM_OPENAI_CACHE_TTL": "300s"}
    return clean(home, OPENAI_BASE_URL=url, OPENAI_ADMIN_KEY=KEY, **kept)
