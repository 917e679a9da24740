"""The doctor: checks of the key, site files, cache and API, each with its fix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from lm_openai import files, paths
from lm_openai.app import clock
from lm_openai.collect import datasource, selection
from lm_openai.collect.poll import Poll
from lm_openai.collect.usage_queries import UsageQueries
from lm_openai.config import threshold_files
from lm_openai.config.registry import KEY_FILE
from lm_openai.errors import ApiFailure, WrongUsage
from lm_openai.metrics import api_probes
from lm_openai.metrics.api_probes import Probes
from lm_openai.metrics.billing_days import calendar
from lm_openai.model.thresholds import Rules
from lm_openai.timespans import DAY, HOUR, iso

if TYPE_CHECKING:
    from lm_openai.app.session import Session
    from lm_openai.model.definition import Definition

MOST_SKEW = 60
GOOD, NOTE, BAD = "ok", "note", "FAIL"
NEEDED_FOR = {
    "api.management.read": "names, rate limits, spend limits, keys and users",
    "api.usage.read": "usage, costs and headroom",
    "api.audit_logs.read": "the audit feed and its counts",
}


class Finding(NamedTuple):
    """Result of one check: `verdict` is ok, note or FAIL; `text` is the problem and its fix."""

    subject: str
    verdict: str
    text: str


def findings(session: Session) -> Iterator[Finding]:
    """Run all checks in turn; if the API cannot be reached, no later check runs."""
    yield key_kind(session.properties.admin_key())
    yield from _files(session)
    yield from _site_thresholds(session)
    yield _cache(session)
    yield from _hosts(session)
    reached = _reach(session)
    yield reached
    if reached.verdict == BAD:
        return
    yield _skew(session)
    probes = api_probes.probe(session.client, session.now)
    yield from _scopes(probes)
    yield from _endpoints(probes)
    yield from _selectors(session)
    yield from _cover(probes, session.now)
    yield _audit(probes)
    yield _newest(probes, session.now)


def key_kind(key: str) -> Finding:
    """Guess the kind of a key from its prefix; only the API knows for sure."""
    if key.startswith("sk-admin-"):
        return Finding("key", GOOD, "looks like an admin key")
    if key.startswith("sk-"):
        return Finding(
            "key",
            BAD,
            "this is a project key or another inference key: usage and costs need an admin key "
            "(sk-admin-…), which an organization owner creates under Organization, Admin keys",
        )
    return Finding(
        "key",
        NOTE,
        "does not look like an OpenAI key (sk-admin-…): copy the whole key again, unless a gateway "
        "issues its own keys",
    )


def _files(session: Session) -> Iterator[Finding]:
    """List the files that are in force, and what another user could change."""
    environ = session.around.environ
    folders = paths.threshold_folders(environ)
    trusted = []
    for path in filter(os.path.exists, dict.fromkeys((*_named(session), *folders))):
        problem = files.distrust(path, os.stat(path))
        if problem:
            yield Finding("files", BAD, f"{path} is refused: {problem}")
        else:
            trusted.append(path)
    shown = ", ".join(trusted)
    if trusted and not paths.POSIX:
        yield Finding("files", NOTE, f"on Windows nothing checks who can read or change {shown}")
    elif trusted:
        yield Finding("files", GOOD, f"no other user can change {shown} or the folders above")


def _named(session: Session) -> Iterator[str]:
    """Yield the paths of the files of properties and of those that properties name."""
    yield from map(os.path.expanduser, session.options.properties)
    for name in (KEY_FILE, "openai.ca.file"):
        if session.properties.is_set(name):
            yield session.properties.text(name)


def _site_thresholds(session: Session) -> Iterator[Finding]:
    """Check that every site file is valid and that each of its entries names a DataSource."""
    faults = list(session.site.faults)
    for source in datasource.definitions():
        try:
            threshold_files.load(source, site=session.site, stamps=session.cache)
        except WrongUsage as fault:
            faults.append(f"{fault}; every poll of {source.name} fails until it is fixed")
    yield from (Finding("thresholds", BAD, fault) for fault in faults)
    files = dict.fromkeys(entry.file.place.path for entry in session.site.entries)
    if not faults and files:
        shown = ", ".join(files)
        yield Finding("thresholds", GOOD, f"shipped thresholds, changed by {shown}")
    elif not faults:
        folders = " or ".join(paths.threshold_folders(session.around.environ))
        yield Finding("thresholds", GOOD, f"shipped thresholds; no files in {folders}")


def _selectors(session: Session) -> Iterator[Finding]:
    """Check that each filter, budget, approved model and override selects something."""
    queries = UsageQueries(session.client, session.cache, session.now)
    directory = session.directory()
    sentences: list[str] = []
    for known in datasource.definitions():
        poll = Poll(
            known, session.properties, session.now, session.client, session.cache, queries=queries
        )
        poll.directory = directory
        found = selection.unmatched(poll, _rules(session, known), poll.filters)
        sentences += (sentence for _, sentence in found)
    yield from (Finding("settings", BAD, sentence) for sentence in dict.fromkeys(sentences))


def _rules(session: Session, known: Definition) -> Rules:
    """Return the thresholds of a DataSource; none if a file is wrong, see _site_thresholds."""
    try:
        return threshold_files.load(known, site=session.site, stamps=session.cache)
    except WrongUsage:
        return Rules(known.name, {})


def _hosts(session: Session) -> Iterator[Finding]:
    """Check the Redis of openai.cache.url, if it is set."""
    from lm_openai.app.session import open_hosts
    from lm_openai.storage.redis_link import Gone

    try:
        hosts = open_hosts(session.properties)
    except WrongUsage as missing:
        yield Finding("redis", BAD, str(missing))
        return
    if hosts is None:
        return
    with suppress(Gone):
        hosts.find(b"doctor", hosts.link.now())
    if hosts.trouble:
        yield Finding("redis", BAD, hosts.trouble)
    else:
        yield Finding("redis", GOOD, f"responses are shared through {hosts.link.place}")


def _cache(session: Session) -> Finding:
    """Check that responses can be cached; the test entry expires after a minute."""
    session.cache.put("doctor", session.now, 60)
    trouble = session.cache.trouble
    if not trouble:
        return Finding("cache", GOOD, f"responses are shared through {session.cache.folder}")
    other = "; or set openai.cache.dir to a private folder of this user"
    return Finding(
        "cache",
        NOTE,
        f"responses are not cached, so every script sends its own requests: {trouble}"
        f"{other if session.cache.folder else ''}",
    )


def _reach(session: Session) -> Finding:
    """Check that the API responds, whatever was noted; a missing scope is a response too."""
    connection, verdict = _connection(session)
    session.client.notes.clear()
    try:
        api_probes.active_project(session.client)
    except ApiFailure as failure:
        if failure.kind in api_probes.SPOKEN and failure.kind != "scope":
            return Finding("reach", BAD, f"{connection}, but {failure}")
        if failure.kind != "scope":
            return Finding("reach", BAD, str(failure))
    return Finding("reach", verdict, connection)


def _connection(session: Session) -> tuple[str, str]:
    """Return the connection to the API in words, and its verdict: a note if it exposes the key."""
    from lm_openai.api import transport

    url = urlsplit(session.properties.text("openai.api.url"))
    text = f"{url.hostname} responds"
    if session.properties.is_set("openai.proxy.url"):
        text += " through the proxy"
    if url.scheme == "https":
        return f"{text} over TLS", GOOD
    if transport.on_loopback(url.geturl()):
        return f"{text} on this machine, without TLS", GOOD
    return f"{text} without TLS: anyone on the network path can read the key; use https", NOTE


def _skew(session: Session) -> Finding:
    ahead = session.ahead_of_api()
    if ahead is None:
        return Finding("clock", NOTE, "the response has no Date header to compare the clock with")
    if abs(ahead) <= MOST_SKEW:
        return Finding("clock", GOOD, f"within {MOST_SKEW} s of the API's clock")
    polls = f"polls fail beyond {clock.MOST_DIFFERENCE} s"
    text = f"{clock.difference(ahead)}: {polls}; set it (timedatectl set-ntp true)"
    return Finding("clock", BAD, text)


def _scopes(probes: Probes) -> Iterator[Finding]:
    for scope, results in probes.scopes.items():
        yield _scope(scope, results)


def _scope(scope: str, results: list[object]) -> Finding:
    granted = api_probes.granted(results)
    if granted:
        return Finding(scope, GOOD, "granted")
    failure = api_probes.failures(results)[0]
    if granted is None:
        return Finding(scope, BAD, f"unknown: {failure}")
    return Finding(scope, BAD, f"{failure}; needed for {NEEDED_FOR[scope]}")


def _endpoints(probes: Probes) -> Iterator[Finding]:
    """Yield the endpoints that fail although another one with the same scope succeeds."""
    for results in filter(api_probes.granted, probes.scopes.values()):
        failed = {str(one): one for one in api_probes.failures(results) if one.kind != "incomplete"}
        yield from (Finding(one.endpoint, BAD, text) for text, one in failed.items())


def _cover(probes: Probes, now: int) -> Iterator[Finding]:
    """Report the minutes of usage and the days of costs that responses lack."""
    costs = probes.costs
    lacking = [] if isinstance(costs, ApiFailure) else [hole.failure for hole in costs]
    failed = api_probes.failures(probes.scopes["api.usage.read"])
    lacking += [failure for failure in failed if failure.kind == "incomplete"]
    yield from (Finding("cover", BAD, str(failure)) for failure in lacking)
    if not failed and not lacking:
        hours, first = api_probes.NEWEST_SOUGHT // HOUR, iso(calendar(now).earliest)[:10]
        whole = f"no minute of usage is missing in the last {hours} hours, no day of costs"
        yield Finding("cover", GOOD, f"{whole} since {first}")


def _audit(probes: Probes) -> Finding:
    days = api_probes.AUDIT_SOUGHT // DAY
    if isinstance(probes.audit, ApiFailure):
        return Finding("audit", NOTE, "could not be read, see above")
    if probes.audit:
        return Finding("audit", GOOD, f"has events of the last {days} days")
    return Finding(
        "audit",
        NOTE,
        f"no events in the last {days} days: nothing happened, or audit logging is off; an owner "
        "can turn it on in the organization's settings",
    )


def _newest(probes: Probes, now: int) -> Finding:
    """Report the age of the newest usage of each kind."""
    ends = {kind: end for kind, end in probes.newest.items() if isinstance(end, int)}
    ages = sorted((max(0, now - end) // 60, kind) for kind, end in ends.items())
    if ages:
        shown = ", ".join(f"{kind} {minutes}" for minutes, kind in ages)
        return Finding("data", GOOD, f"minutes since the newest usage: {shown}")
    if len(api_probes.failures(probes.newest.values())) == len(probes.newest):
        return Finding("data", NOTE, "no usage could be read, see above")
    hours = api_probes.NEWEST_SOUGHT // HOUR
    return Finding("data", NOTE, f"no usage of any kind in the last {hours} hours")
