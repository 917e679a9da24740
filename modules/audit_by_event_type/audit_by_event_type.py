#!/usr/bin/env python3
"""How often each type of audit event happened."""

from __future__ import annotations

if __name__ == "__main__":
    import os
    import sys

    checkout = os.path.realpath(__file__).rsplit(os.sep, 3)[0]
    if os.path.isdir(os.path.join(checkout, "lm_openai")):
        sys.path[0] = checkout
    from lm_openai.start import main

    main("audit_by_event_type")

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from lm_openai import audit
from lm_openai.datasource import resource
from lm_openai.records import WIDTHS
from lm_openai.report import Instance, Sample

if TYPE_CHECKING:
    from lm_openai.poll import Poll

OWNER_GRANTED = "owner granted"
SEEN, SEEN_SECONDS = "audit types", 7 * 86400
EVER = "audit ever"
NONE_EVER = (
    "there has never been an audit event: audit logging may be off, an owner switches it on under "
    "Settings, Data controls; until then 0 means that nobody looks"
)
Count = tuple[int, str]


def discover(poll: Poll) -> Iterator[Instance]:
    """The watch list, and every other type seen in the last 7 days."""
    if not _counts(poll) and not _remembered(poll) and not _ever(poll):
        poll.notes.append(NONE_EVER)
    for event_type in dict.fromkeys((*_watched(poll), *_seen(poll))):
        yield _instance(event_type)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Events of each bucket; what did not happen is 0 in the newest one, in a series too."""
    counts = _counts(poll)
    width = WIDTHS[poll.window.width]
    newest = (poll.window.end - 1) // width * width
    happened = {event_type for _, event_type in counts}
    for (start, event_type), events in sorted(counts.items()):
        yield Sample(_instance(event_type), {"events": events}, start)
    for instance in instances:
        if instance.id not in happened:
            yield Sample(instance, {"events": 0}, newest, idle=True)


def _counts(poll: Poll) -> dict[Count, int]:
    """Events by bucket start and instance; an owner's making counts on top of its own type."""
    return poll.once("counts", lambda: _counted(poll))


def _counted(poll: Poll) -> dict[Count, int]:
    start, end, width = poll.window
    counts: Counter[Count] = Counter()
    for event in audit.read(poll.client, start, end):
        bucket = audit.moment(event) // WIDTHS[width] * WIDTHS[width]
        counts[bucket, _instance_of(poll, audit.kind(event))] += 1
        if audit.grants_owner(event):
            counts[bucket, OWNER_GRANTED] += 1
    return counts


def _instance_of(poll: Poll, event_type: str) -> str:
    """The first entry of the watch list that meets the type, else the type itself."""
    return next((word for word in _watched(poll) if fnmatchcase(event_type, word)), event_type)


def _watched(poll: Poll) -> list[str]:
    """`watch.json`: types, globs over types, and what is read from payloads."""
    return poll.once("watched", lambda: json.loads(resource(poll.datasource.folder, "watch.json")))


def _seen(poll: Poll) -> dict[str, int]:
    """When each type was seen last: in the window by asking, before it from memory."""
    types = dict.fromkeys((event_type for _, event_type in _counts(poll)), poll.now)
    seen = {**_remembered(poll), **types}
    poll.cache.put(SEEN, seen, SEEN_SECONDS)
    return seen


def _remembered(poll: Poll) -> dict[str, int]:
    found: dict[str, int] = poll.cache.get(SEEN) or {}
    return {name: seen for name, seen in found.items() if poll.now - seen < SEEN_SECONDS}


def _ever(poll: Poll) -> bool:
    return poll.cache.remember(
        EVER,
        poll.datasource.discovery_interval,
        lambda: any(True for _ in poll.client.list("audit_logs", limit=1)),
    )


def _instance(event_type: str) -> Instance:
    return Instance(event_type, event_type, {"event_type": event_type})
