"""Rows 9 to 11: many equal checks at once, with a cold and a warm cache and without an API."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from statistics import median

from tests.bench.measure import (
    KEY,
    PASS,
    Row,
    Spent,
    api,
    clean,
    milliseconds,
    requests_of,
    script,
    together,
)

CHECKS, FAILING = 200, 20
LATENCY, FAILURE = 0.08, 3.0
CHECK = script("completion_by_model", "--format", "nagios", "--timeout", "20")


def rows(rounds: int) -> Iterator[Row]:
    """Yield the table's rows."""
    rounds = max(3, rounds // 5)
    with api(latency=LATENCY) as url:
        yield from _cold(url, rounds)
        yield _warm(url, rounds)
    with api(latency=FAILURE, down=True) as url:
        yield from _down(url)


def _cold(url: str, rounds: int) -> Iterator[Row]:
    _all_done(1, url)
    one, pairs, requests = requests_of(url), [], []
    for _ in range(rounds):
        pairs.append((_all_done(CHECKS, url).wall, _passes(url).wall))
        requests.append(requests_of(url))
    base, ratio = median(other for _, other in pairs), median(one / other for one, other in pairs)
    what = f"{CHECKS} checks at once, cold, {milliseconds(LATENCY)} an answer: all done"
    figure = milliseconds(median(one for one, _ in pairs))
    yield Row("9", what, f"{CHECKS} x pass at once: {milliseconds(base)}", figure, ratio, 1.35)
    most = max(requests)
    yield Row("9", "their requests", f"one poll: {one}", f"{most}", most / one, 1)


def _warm(url: str, rounds: int) -> Row:
    with tempfile.TemporaryDirectory() as home:
        environ = _environ(home, url)
        together([CHECK], environ)
        figures = [
            (together([CHECK] * CHECKS, environ).cpu, _passes(url).cpu) for _ in range(rounds)
        ]
    what = f"{CHECKS} checks at once, warm: CPU"
    base, figure = median(other for _, other in figures), median(one for one, _ in figures)
    ratio = median(one / other for one, other in figures)
    text = f"{CHECKS} x pass: {milliseconds(base)}"
    return Row("10", what, text, milliseconds(figure), ratio, 1.25)


def _down(url: str) -> Iterator[Row]:
    one, tries = _all_done(1, url).wall, requests_of(url)
    every, all_tries = _all_done(FAILING, url).wall, requests_of(url)
    what = f"upstream down, a failure takes {FAILURE:g} s: {FAILING} checks all done"
    base = f"one check: {milliseconds(one)}"
    yield Row("11", what, base, milliseconds(every), every / one, 1.5)
    yield Row("11", "their tries", f"one check: {tries}", f"{all_tries}", all_tries / tries, 1)


def _all_done(count: int, url: str) -> Spent:
    """Run the checks at once with a cold cache."""
    with tempfile.TemporaryDirectory() as home:
        return together([CHECK] * count, _environ(home, url))


def _passes(url: str) -> Spent:
    return together([PASS] * CHECKS, _environ("/nonexistent", url))


def _environ(home: str, url: str) -> Mapping[str, str]:
    kept = {"LM_OPENAI_CACHE_TTL": "300s"}
    return clean(home, OPENAI_BASE_URL=url, OPENAI_ADMIN_KEY=KEY, **kept)
