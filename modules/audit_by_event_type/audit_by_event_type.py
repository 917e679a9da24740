#!/usr/bin/env python3
"""Number of audit events by event type."""

from __future__ import annotations

if __name__ == "__main__":
    import sys
    from os.path import realpath

    sys.path[0] = realpath(__file__ + "/../../..")
    from lm_openai.start import main

    main("audit_by_event_type")

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING

from lm_openai.collect.known_names import DORMANT_DAYS
from lm_openai.errors import ApiFailure
from lm_openai.metrics import audit_events
from lm_openai.model.report import Instance, Sample
from lm_openai.resources import module_file
from lm_openai.timespans import DAY, HOUR, WIDTHS

if TYPE_CHECKING:
    from lm_openai.api.records import Record
    from lm_openai.collect.poll import Poll
    from lm_openai.collect.source import Source
    from lm_openai.timespans import Window

OWNER_GRANTED = "owner granted"
NO_EVENT_EVER = (
    "the audit log has no event at all: audit logging may be off; an owner switches it on under "
    "Settings, Data controls; until then a count of 0 proves nothing"
)
BucketAndType = tuple[int, str]


def discover(poll: Poll) -> Iterator[Instance]:
    """Yield the watch list, then every other type with an event in the poll's own window."""
    counts = _counts(poll, poll.window)
    if not counts and not _any_event_ever(poll):
        poll.notes.append(NO_EVENT_EVER)
    seen = sorted({event_type for _, event_type in counts})
    _remembered(poll, seen)
    for event_type in dict.fromkeys((*_watched(poll), *seen)):
        yield _instance(event_type)


def dormant(poll: Poll, words: Sequence[str]) -> Iterator[Instance]:
    """Yield the event types of the last 35 days that earlier polls or the words name."""
    for event_type in _remembered(poll):
        yield _instance(event_type)
    for word in words:
        if poll.source.shared(HOUR, occurred, word, poll.now // DAY - DORMANT_DAYS):
            yield _instance(word)


def _remembered(poll: Poll, seen: Iterable[str] = ()) -> dict[str, int]:
    """Return the types of the last 35 days with their last day, the `seen` ones added."""
    today = poll.now // DAY
    known = poll.source.cache.get("event types") or {}
    types = {name: day for name, day in known.items() if day >= today - DORMANT_DAYS}
    types |= dict.fromkeys(seen, today)
    if types != known:
        poll.source.cache.put("event types", types, DORMANT_DAYS * DAY)
    return types


def occurred(source: Source, event_type: str, day: int) -> bool:
    """Return True if the audit log has an event of the type since a UTC day; raises ApiFailure."""
    try:
        events = source.client.list(
            "audit_logs", event_types=[event_type], effective_at={"gte": day * DAY}, limit=1
        )
        return any(audit_events.kind(event) == event_type for event in events)
    except ApiFailure as failure:
        if failure.kind == "refused":  # the API knows no such type
            return False
        raise


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the events of each bucket; a type without events has 0 in the newest one."""
    return _samples(poll, poll.window, instances)


def series(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Yield the events of each bucket of the series; only the watch list has a 0."""
    return _samples(poll, poll.series_window, map(_instance, _watched(poll)))


def _samples(poll: Poll, window: Window, instances: Iterable[Instance]) -> Iterator[Sample]:
    counts = _counts(poll, window)
    width = WIDTHS[window.width]
    newest = (window.end - 1) // width * width
    occurred = {event_type for _, event_type in counts}
    for (start, event_type), events in sorted(counts.items()):
        yield Sample(_instance(event_type), {"events": events}, start)
    for instance in instances:
        if instance.id not in occurred:
            yield Sample(instance, {"events": 0}, newest, idle=True)


def _counts(poll: Poll, window: Window) -> dict[BucketAndType, int]:
    """Return the events by bucket start and instance id.

    An event that makes somebody an owner counts under its own type and as `owner granted`.
    """
    return poll.once(f"counts {window}", lambda: _read_counts(poll, window))


def _read_counts(poll: Poll, window: Window) -> dict[BucketAndType, int]:
    counts: Counter[BucketAndType] = Counter()
    width = WIDTHS[window.width]
    # events have no buckets, so one read serves a snapshot and a series of other widths
    for event in poll.read(window._replace(width=poll.series_window.width), partial(_events, poll)):
        moment = audit_events.moment(event)
        if moment < window.start:
            continue
        bucket = moment // width * width
        counts[bucket, _instance_of(poll, audit_events.kind(event))] += 1
        if audit_events.grants_owner(event):
            counts[bucket, OWNER_GRANTED] += 1
    return counts


def _events(poll: Poll, window: Window) -> Iterator[Record]:
    return audit_events.read(poll.client, window.start, window.end)


def _instance_of(poll: Poll, event_type: str) -> str:
    """Return the first entry of the watch list that matches the type, else the type itself."""
    return next((glob for glob in _watched(poll) if fnmatchcase(event_type, glob)), event_type)


def _watched(poll: Poll) -> list[str]:
    """Return the watch list (`watch.json`): event types, globs over types and `owner granted`."""
    return poll.once(
        "watched", lambda: json.loads(module_file(poll.definition.folder, "watch.json"))
    )


def _any_event_ever(poll: Poll) -> bool:
    return poll.source.shared(poll.definition.discovery_interval, has_events)


def has_events(source: Source) -> bool:
    """Return True if the audit log has any event; raises ApiFailure."""
    return any(True for _ in source.client.list("audit_logs", limit=1))


def _instance(event_type: str) -> Instance:
    return Instance(event_type, event_type, {"event_type": event_type})
