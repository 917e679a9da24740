"""The preflight: what is in the way between this host and its numbers, in words with the cure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from lm_openai.errors import ApiFailure
from lm_openai.records import KINDS

if TYPE_CHECKING:
    from lm_openai.client import Client
    from lm_openai.properties import Properties

DAY = 86400
MOST_SKEW = 60
NEWEST_SOUGHT = 3 * 3600
AUDIT_DAYS = 30
GOOD, NOTE, BAD = "ok", "note", "FAIL"


class Finding(NamedTuple):
    """One thing looked at: `verdict` is ok, note or FAIL, `words` say what and how to mend it."""

    subject: str
    verdict: str
    words: str


def findings(properties: Properties, client: Client, now: int) -> Iterator[Finding]:
    """Look at everything in turn; when the API cannot be reached nothing after that is asked."""
    key = key_kind(properties.admin_key())
    yield key
    reached = _reach(properties, client)
    yield reached
    if reached.verdict == BAD:
        return
    yield _skew(client, now)
    for subject, ask in _scopes(client, now):
        yield _scope(subject, ask)
    yield _audit(client, now)
    yield _newest(client, now)


def key_kind(key: str) -> Finding:
    """What a key's first letters say; the API has the last word."""
    if key.startswith("sk-admin-"):
        return Finding("key", GOOD, "looks like an admin key")
    if key.startswith("sk-"):
        return Finding(
            "key",
            BAD,
            "this is a project key or another inference key: usage and costs need an admin key "
            "(sk-admin-…), which an organization owner makes under Organization, Admin keys",
        )
    return Finding(
        "key", BAD, "this does not look like an OpenAI key (sk-admin-…): copy it again, whole"
    )


def _reach(properties: Properties, client: Client) -> Finding:
    """Whether any answer of the API comes back; a refusal is an answer too."""
    where = urlsplit(properties.text("openai.api.url"))
    way = f"{where.hostname} answers" + (
        " over TLS" if where.scheme == "https" else " in the clear"
    )
    proxied = " through the proxy" if properties.is_set("openai.proxy.url") else ""
    try:
        next(client.list("projects", limit=1), None)
    except ApiFailure as failure:
        if failure.kind not in ("key", "project_key", "scope"):
            return Finding("reach", BAD, str(failure))
        if failure.kind != "scope":
            return Finding("reach", BAD, f"{way}{proxied}, but {failure}")
    return Finding("reach", GOOD, way + proxied)


def _skew(client: Client, now: int) -> Finding:
    date = client.counters.server_date
    if date is None:
        return Finding("clock", NOTE, "the answer has no Date header to compare the clock with")
    ahead = now - date
    if abs(ahead) <= MOST_SKEW:
        return Finding("clock", GOOD, f"within {abs(ahead)} s of the API's")
    word = "ahead of" if ahead > 0 else "behind"
    return Finding(
        "clock", BAD, f"{abs(ahead)} s {word} the API's: windows end at the wrong time; run NTP"
    )


def _scopes(client: Client, now: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Each scope with the least question that needs it."""
    today = now // DAY * DAY
    yield "api.management.read", lambda: next(client.list("projects", limit=1), None)
    yield "api.usage.read", lambda: list(client.usage("completions", today, now + 1, "1d"))
    yield "api.usage.read (costs)", lambda: list(client.costs(today, today + DAY))
    yield "api.audit_logs.read", lambda: next(client.list("audit_logs", limit=1), None)


def _scope(subject: str, ask: Callable[[], object]) -> Finding:
    try:
        ask()
    except ApiFailure as failure:
        return Finding(subject, BAD, str(failure))
    return Finding(subject, GOOD, "granted")


def _audit(client: Client, now: int) -> Finding:
    since = {"gte": now - AUDIT_DAYS * DAY}
    try:
        event = next(client.list("audit_logs", effective_at=since, limit=1), None)
    except ApiFailure:
        return Finding("audit", NOTE, "not readable with this key, so not looked at")
    if event is None:
        words = f"no event in {AUDIT_DAYS} days: logging may be off, or nothing happened"
        return Finding("audit", NOTE, words)
    return Finding("audit", GOOD, f"events of the last {AUDIT_DAYS} days are there")


def _newest(client: Client, now: int) -> Finding:
    """How old the newest usage of any kind is."""
    start = (now - NEWEST_SOUGHT) // 60 * 60

    def ends_of(kind: str) -> list[int]:
        return [bucket.end for bucket in client.usage(kind, start, now, "1m") if bucket.results]

    answers = client.together([partial(ends_of, kind) for kind in KINDS])
    ends = [end for answer in answers if not isinstance(answer, ApiFailure) for end in answer]
    if ends:
        minutes = max(0, now - max(ends)) // 60
        return Finding("data", GOOD, f"the newest usage is {minutes} minutes old")
    if all(isinstance(answer, ApiFailure) for answer in answers):
        return Finding("data", NOTE, "no usage could be read, see above")
    return Finding("data", NOTE, "no usage of any kind in the last 3 hours")
