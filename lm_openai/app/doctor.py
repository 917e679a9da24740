"""The preflight for people: what is in the way between this host and its numbers, and the cure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from lm_openai import resources
from lm_openai.collect import datasource
from lm_openai.config import json_files, paths, threshold_files
from lm_openai.errors import ApiFailure, WrongUsage, suggest
from lm_openai.metrics import api_probes
from lm_openai.metrics.api_probes import DAY, HOUR, Probes

if TYPE_CHECKING:
    from lm_openai.api.client import Client
    from lm_openai.app.session import Session

MOST_SKEW = 60
GOOD, NOTE, BAD = "ok", "note", "FAIL"
NEEDED_FOR = {
    "api.management.read": "names, rate limits, spend limits, keys and users",
    "api.usage.read": "usage, costs and headroom",
    "api.audit_logs.read": "the audit feed and its counts",
}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Finding(NamedTuple):
    """One thing looked at: `verdict` is ok, note or FAIL, `text` says what and how to mend it."""

    subject: str
    verdict: str
    text: str


def findings(session: Session) -> Iterator[Finding]:
    """Probes at everything in turn; when the API cannot be reached nothing after that is asked."""
    yield key_kind(session.properties.admin_key())
    yield from _site_thresholds(session)
    yield _cache(session)
    reached = _reach(session)
    yield reached
    if reached.verdict == BAD:
        return
    yield _skew(session)
    look = api_probes.probe(session.client, session.now)
    yield from _scopes(look, _costs(session.client, session.now))
    yield from _kinds(look)
    yield _audit(look)
    yield _newest(look, session.now)


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
        "key",
        NOTE,
        "does not look like an OpenAI key (sk-admin-…): copy it again, whole, unless a gateway "
        "has keys of its own",
    )


def _site_thresholds(session: Session) -> Iterator[Finding]:
    """Whether every DataSource can read the site's files, and whether each file is read by one."""
    folders = paths.threshold_folders(session.around.environ)
    sources = [datasource.definition(folder) for folder in resources.folders()]
    try:
        files = [json_files.read(path) for path in threshold_files.listed(folders)]
        faults = list(_strangers(files, [source.name for source in sources]))
    except WrongUsage as fault:
        files, faults = [], [str(fault)]
    for source in sources:
        try:
            threshold_files.load(source, folders=folders, stamps=session.cache)
        except WrongUsage as fault:
            faults.append(str(fault))
    yield from (Finding("thresholds", BAD, fault) for fault in dict.fromkeys(faults))
    if not faults and files:
        shown = ", ".join(file.place.path for file in files)
        yield Finding("thresholds", GOOD, f"the shipped ones with the site's own of {shown}")
    elif not faults:
        yield Finding("thresholds", GOOD, f"the shipped ones; none in {' or '.join(folders)}")


def _strangers(files: list[json_files.File], names: list[str]) -> Iterator[str]:
    """Entries for a DataSource that there is not, which no poll reads and so none refuses."""
    for file in files:
        for place, entry in threshold_files.entries(file):
            name = entry.get("datasource") if isinstance(entry, dict) else None
            if isinstance(name, str) and name not in names:
                problem = f"no DataSource is called {json_files.quoted(name)}, so none reads this"
                yield f"{place.at('datasource')}: {problem}{suggest(name, names)}"


def _cache(session: Session) -> Finding:
    """Whether answers can be kept; the question itself is kept for a minute."""
    session.cache.put("doctor", session.now, 60)
    if session.cache.folder and not session.cache.trouble:
        return Finding("cache", GOOD, f"answers are shared through {session.cache.folder}")
    reason = session.cache.trouble or "there is no place for them"
    return Finding(
        "cache",
        NOTE,
        f"no answer is kept, so every script asks for itself: {reason}; "
        "set openai.cache.dir to a folder that is this user's alone",
    )


def _reach(session: Session) -> Finding:
    """Whether any answer of the API comes back; a missing scope is an answer too."""
    way, verdict = _way(session)
    try:
        api_probes.any_project(session.client)
    except ApiFailure as failure:
        if failure.kind in api_probes.SPOKEN and failure.kind != "scope":
            return Finding("reach", BAD, f"{way}, but {failure}")
        if failure.kind != "scope":
            return Finding("reach", BAD, str(failure))
    return Finding("reach", verdict, way)


def _way(session: Session) -> tuple[str, str]:
    """How the API is reached, and how good that is: a key should not travel in the clear."""
    url = urlsplit(session.properties.text("openai.api.url"))
    way = f"{url.hostname} answers"
    if session.properties.is_set("openai.proxy.url"):
        way += " through the proxy"
    if url.scheme == "https":
        return f"{way} over TLS", GOOD
    if url.hostname in LOOPBACK:
        return f"{way} on this machine, without TLS", GOOD
    return f"{way} without TLS: whoever is on the way can read the key; use https", NOTE


def _skew(session: Session) -> Finding:
    date = session.client.counters.server_date
    if date is None:
        return Finding("clock", NOTE, "the answer has no Date header to compare the clock with")
    ahead = session.now - date
    if abs(ahead) <= MOST_SKEW:
        return Finding("clock", GOOD, f"within {MOST_SKEW} s of the API's")
    word = "ahead of" if ahead > 0 else "behind"
    return Finding(
        "clock", BAD, f"{abs(ahead)} s {word} the API's: windows end at the wrong time; run NTP"
    )


def _costs(client: Client, now: int) -> bool | ApiFailure:
    """Whether costs, which share a scope with usage, can be read as well."""
    today = now // DAY * DAY
    (answer,) = client.together([lambda: bool(list(client.costs(today, today + DAY)))])
    return answer


def _scopes(look: Probes, costs: bool | ApiFailure) -> Iterator[Finding]:
    yield _scope("api.management.read", [look.projects])
    yield _scope("api.usage.read", [*look.newest.values(), costs])
    yield _scope("api.audit_logs.read", [look.audit])
    if isinstance(costs, ApiFailure) and costs.kind not in api_probes.FORBIDDEN:
        yield Finding("costs", BAD, str(costs))


def _scope(scope: str, answers: list[object]) -> Finding:
    granted = api_probes.granted(answers)
    if granted:
        return Finding(scope, GOOD, "granted")
    failure = api_probes.failures(answers)[0]
    if granted is None:
        return Finding(scope, BAD, f"not known: {failure}")
    return Finding(scope, BAD, f"{failure}; {NEEDED_FOR[scope]} need it")


def _kinds(look: Probes) -> Iterator[Finding]:
    """Usage kinds that stay unanswered while others do not."""
    answers = look.newest.items()
    if api_probes.granted(look.newest.values()):
        for kind, answer in answers:
            if isinstance(answer, ApiFailure):
                yield Finding(f"usage/{kind}", BAD, str(answer))


def _audit(look: Probes) -> Finding:
    days = api_probes.AUDIT_SOUGHT // DAY
    if isinstance(look.audit, ApiFailure):
        return Finding("audit", NOTE, "could not be read, see above")
    if look.audit:
        return Finding("audit", GOOD, f"events of the last {days} days are there")
    return Finding(
        "audit",
        NOTE,
        f"no event in {days} days: nothing happened, or an owner has yet to switch audit logging "
        "on in the organization's settings",
    )


def _newest(look: Probes, now: int) -> Finding:
    """How old the newest usage of each kind is."""
    ends = {kind: end for kind, end in look.newest.items() if isinstance(end, int)}
    ages = sorted((max(0, now - end) // 60, kind) for kind, end in ends.items())
    if ages:
        told = ", ".join(f"{kind} {minutes}" for minutes, kind in ages)
        return Finding("data", GOOD, f"minutes since the newest usage: {told}")
    if len(api_probes.failures(look.newest.values())) == len(look.newest):
        return Finding("data", NOTE, "no usage could be read, see above")
    hours = api_probes.NEWEST_SOUGHT // HOUR
    return Finding("data", NOTE, f"no usage of any kind in the last {hours} hours")
