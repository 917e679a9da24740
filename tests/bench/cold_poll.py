"""Rows 3 to 5: one cold poll of four requests over HTTPS."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.bench.measure import (
    KEY,
    PASS,
    PYTHON,
    Row,
    api,
    certificates,
    clean,
    cold,
    instructions,
    milliseconds,
    paired,
    run,
    script,
)

LATENCY = 0.08
POLL = script("completion_by_model", "--set", "openai.group.by=project_id,user_id")
BY_POOL = script("completion_by_model", "--set", "openai.group.by=project_id,model")
STEPS = {POLL: 2, BY_POOL: 1}
"""Polls with the dependent steps that each may take. No poll shares usage by user, so the number
of projects and the use of the week set the size of its pages."""
SDK = (PYTHON, str(Path(__file__).with_name("sdk_poll.py")))


def rows(rounds: int) -> Iterator[Row]:
    """Yield the table's rows."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        certificates(folder)
        with api(folder=folder) as url, api(folder=folder, latency=LATENCY) as slow:
            yield from _against_pass(_environ(url, folder), rounds)
            yield _against_sdk(_environ(url, folder), max(3, rounds // 3))
            for poll in STEPS:
                yield _waiting(poll, _environ(slow, folder), _environ(url, folder), rounds)


def _against_pass(environ: Mapping[str, str], rounds: int) -> Iterator[Row]:
    what = "cold poll of four requests over HTTPS"
    pair = paired(lambda: cold(POLL, environ).cpu, lambda: run(PASS, environ).cpu, rounds)
    base = f"python -c pass: {milliseconds(pair.base)} CPU"
    yield Row("3", what, base, milliseconds(pair.figure), pair.ratio, 14.5)
    counted, bare = instructions(POLL, environ), instructions(PASS, environ)
    if counted is not None and bare is not None:
        base = f"python -c pass: {bare / 1e6:.1f} M instructions"
        yield Row("3", what, base, f"{counted / 1e6:.0f} M", counted / bare, 17)


def _against_sdk(environ: Mapping[str, str], rounds: int) -> Row:
    pair = paired(lambda: cold(POLL, environ).cpu, lambda: cold(SDK, environ).cpu, rounds)
    base = f"the same requests with the vendor's SDK: {milliseconds(pair.base)}"
    return Row("4", "the same poll, CPU", base, milliseconds(pair.figure), pair.ratio, 0.3)


def _waiting(
    poll: Sequence[str], slow: Mapping[str, str], fast: Mapping[str, str], rounds: int
) -> Row:
    """Compare the wall time that the latency adds with one latency."""
    pair = paired(lambda: cold(poll, slow).wall, lambda: cold(poll, fast).wall, rounds)
    added = pair.figure - pair.base
    by, steps = poll[-1].partition("=")[2], STEPS[poll]
    what = f"poll by {by}, {milliseconds(LATENCY)} an answer, dependent steps: {steps}; wall"
    base = f"{milliseconds(LATENCY)}; without latency: {milliseconds(pair.base)}"
    return Row("5", what, base, f"+{milliseconds(added)}", added / LATENCY, steps + 0.3)


def _environ(url: str, folder: str) -> dict[str, str]:
    """Return variables with a hashed folder of CAs, the usual form on Debian."""
    hashed = os.path.join(folder, "hashed")
    return clean(folder, OPENAI_BASE_URL=url, OPENAI_ADMIN_KEY=KEY, SSL_CERT_DIR=hashed)
