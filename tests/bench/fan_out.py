"""Row 6: the limits of many projects, one request each."""

from __future__ import annotations

import json
import os
import ssl
import tempfile
from collections.abc import Iterator, Mapping
from math import ceil
from statistics import median
from urllib.request import urlopen

from tests.bench.measure import (
    KEY,
    Row,
    api,
    certificates,
    clean,
    cold,
    milliseconds,
    script,
)

LATENCY, PARALLEL = 0.08, 32
POLL = script(
    "rate_limits", "--set", f"openai.concurrency={PARALLEL}", "--set", "openai.timeout=300"
)


def rows(rounds: int) -> Iterator[Row]:
    """Yield the table's rows."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        certificates(folder)
        hashed = {"SSL_CERT_DIR": os.path.join(folder, "hashed")}
        bundle = {"SSL_CERT_FILE": os.path.join(folder, "bundle.pem")}
        yield _row(folder, 1000, hashed, "", 1.08, max(3, rounds // 3))
        yield _row(folder, 100, bundle, ", CA bundle file forced", 1.2, max(3, rounds // 3))


def _row(
    folder: str, projects: int, trust: Mapping[str, str], more: str, target: float, rounds: int
) -> Row:
    """Compare the time from the first of the requests to the last answer, as the API sees it."""
    with api(folder=folder, projects=projects, latency=LATENCY) as url:
        environ = clean(folder, OPENAI_BASE_URL=url, OPENAI_ADMIN_KEY=KEY, **trust)
        sent = [_limits_sent(url, folder) for _ in range(rounds) if cold(POLL, environ)]
    answers, seconds = sent[0]["answers"], median(one["seconds"] for one in sent)
    ideal = ceil(answers / PARALLEL) * LATENCY
    what = f"limits of {projects:,} projects, {PARALLEL} parallel, {milliseconds(LATENCY)}{more}"
    base = f"ceil({answers:.0f} / {PARALLEL}) answers: {milliseconds(ideal)}"
    return Row("6", what, base, milliseconds(seconds), seconds / ideal, target)


def _limits_sent(url: str, folder: str) -> dict[str, float]:
    context = ssl.create_default_context(cafile=os.path.join(folder, "bundle.pem"))
    with urlopen(f"{url}/limits_sent", context=context) as answer:
        found: dict[str, float] = json.load(answer)
    return found
