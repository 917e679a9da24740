"""The audit feed: prints every event at least once, oldest first, even if a run is killed."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TextIO

from lm_openai import paths, timespans
from lm_openai.api.records import Record
from lm_openai.app import runner
from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings
from lm_openai.errors import ApiFailure, Failure, WrongUsage
from lm_openai.metrics import audit_events
from lm_openai.output.audit_formats import FORMATS
from lm_openai.storage import cache
from lm_openai.storage.audit_cursor import (
    WHOLE,
    Cursor,
    CursorFile,
    Damaged,
)
from lm_openai.timespans import iso

if TYPE_CHECKING:
    from lm_openai.api.client import Client

MOST_EVENTS = 1000
MOST_AHEAD = 60
"""Seconds by which a cursor may be ahead of a clock."""
Deliver = Callable[[Sequence[Record]], None]


class Feed(NamedTuple):
    """Client, cursor file, output and limits of one run.

    `now` is Unix seconds. `overlap` is how many seconds late an event may become visible. `most` is
    the maximum number of events per slice of time. `deliver` returns after its events are written.
    """

    client: Client
    cursors: CursorFile
    deliver: Deliver
    now: int
    overlap: int
    most: int = MOST_EVENTS


class Unread(Exception):
    """A slice was not read to its end: it has too many events, or a request failed.

    `oldest` is the time of the last event that was read, None if no event was read.
    """

    def __init__(self, oldest: int | None, failure: ApiFailure | None = None) -> None:
        self.oldest, self.failure = oldest, failure


def run(
    form: str, since: str, options: Options, around: Surroundings, most: int = MOST_EVENTS
) -> int:
    """Print all events that were not printed yet; return the exit status."""

    def work(opened: list[Session]) -> int:
        opened.append(Session(options, around, fresh=True))
        follow(form, since, opened[0], most)
        return runner.DONE

    return runner.guarded("audit", options, around, work)


def follow(form: str, since: str, session: Session, most: int) -> None:
    """Print one organization's events from its cursor on; raises Failure.

    The cursor belongs to the organization's name and base URL, so a rotated key keeps it.
    """
    settings, around = session.properties, session.around
    identity = cache.identity(settings.organization, settings.text("openai.api.url"))
    deliver = printer(FORMATS[form], settings.organization, around.stdout)
    overlap = settings.seconds("openai.audit.overlap")
    folder = paths.cache_folder(settings.text("openai.cache.dir"), around.environ)
    if not folder:
        raise Failure(f"there is no folder for the audit cursor: {paths.folder_missing()}")
    moves = not session.options.at
    with CursorFile(folder, identity, moves) as cursors:
        cursor = begin(cursors, first_start(since, session.now), around.stderr)
        refuse_ahead(cursors, cursor, session.now)
        printed = drain(Feed(session.client, cursors, deliver, session.now, overlap, most), cursor)
        for failure in session.client.refused():
            around.stderr.write(f"an event is left out: {failure}\n")
        if session.options.verbose:
            around.stderr.write(
                f"{printed} events printed, read from {iso(cursor.start)}; cursor {cursors.path}\n"
            )
            session.print_counters()


def first_start(since: str, now: int) -> int:
    """Return the start of a first run in Unix seconds; raises WrongUsage.

    `since` is a duration before `now`, or a time.
    """
    with suppress(ValueError):
        return max(0, now - timespans.duration(since))
    try:
        return timespans.moment(since)
    except ValueError:
        raise WrongUsage(
            f"--since {since!r}: give a duration such as 24h or 7d, or a time such as 2026-01-31"
        ) from None


def begin(cursors: CursorFile, first: int, stderr: TextIO) -> Cursor:
    """Return the current cursor, else a new one that starts at `first`; with --at always a new one.

    A new cursor is saved before the first request, so that a feed whose first runs fail loses no
    event after `first`.
    """
    try:
        cursor = cursors.load() if cursors.moves else None
    except Damaged:
        cursor = None
        stderr.write(
            f"{cursors.path} was damaged: the feed restarts at {iso(first)}, so events since then "
            f"may be printed twice; for earlier events, remove the file and give --since\n"
        )
    if cursor is None:
        cursor = Cursor(first, {})
        cursors.prepare(cursor)
        cursors.commit()
    return cursor


def refuse_ahead(cursors: CursorFile, cursor: Cursor, now: int | None) -> None:
    """Raise Failure if a saved cursor is in the future, because no event would ever be printed.

    `now` is the host's or the API's time in Unix seconds, None if it is unknown.
    """
    if cursors.moves and now is not None and cursor.start > now + MOST_AHEAD:
        raise Failure(
            f"the audit cursor is at {iso(cursor.start)}, but now is {iso(now)}, so a clock was "
            f"wrong: correct the clock, then `rm {cursors.path}`; the next run starts at --since"
        )


def drain(feed: Feed, cursor: Cursor) -> int:
    """Print slice after slice up to the newest event; return the number of events.

    The cursor moves after each slice. A slice with too many events is narrowed. If a request
    fails, the next run's slices are narrowed, so that every run makes progress after a long outage
    or with a slow API.
    """
    printed = 0
    position: int | None = cursor.start
    while position is not None:
        end = position + cursor.width if position + cursor.width < feed.now else None
        try:
            events = read_slice(feed, position, end)
        except Unread as unread:
            cursor = narrowed(feed, cursor, position, end, unread)
            continue
        refuse_ahead(feed.cursors, cursor, feed.client.counters.server_date)
        fresh = [event for event in events if str(event["id"]) not in cursor.printed]
        cursor = widened(feed, advanced(feed, cursor, fresh, end), len(events))
        feed.cursors.prepare(cursor)
        feed.deliver(fresh)
        feed.cursors.commit()
        printed += len(fresh)
        position = end
    return printed


def read_slice(feed: Feed, start: int, end: int | None) -> list[Record]:
    """Return the events from `start` to before `end` (None: all newer ones), oldest first.

    Raises Unread. A slice of one second may have any number of events.
    """
    splits = (end or feed.now) - start > 1
    found: dict[str, Record] = {}
    oldest = None
    try:
        for event in audit_events.read(feed.client, start, end):
            found[str(event["id"])] = event
            oldest = audit_events.moment(event)
            if splits and len(found) > feed.most:
                raise Unread(oldest)
    except ApiFailure as failure:
        dense = splits and oldest is not None and failure.kind == "too_large"
        raise Unread(oldest, None if dense else failure) from None
    events = [*found.values()][::-1]
    events.sort(key=audit_events.moment)
    return events


def narrowed(feed: Feed, cursor: Cursor, start: int, end: int | None, unread: Unread) -> Cursor:
    """Return the cursor with slices half as long as the span that was read.

    If a request failed, save that cursor and raise Failure.
    """
    top = end or max(feed.now, start)
    if unread.oldest is not None:
        span = min(top - start, top - unread.oldest)
        cursor = cursor._replace(width=max(1, span // 2))
    if unread.failure is None:
        return cursor
    feed.cursors.prepare(cursor)
    feed.cursors.commit()
    raise Failure(
        f"{unread.failure}; printed events stay valid, and the next run continues at {iso(start)}"
    )


def widened(feed: Feed, cursor: Cursor, events: int) -> Cursor:
    """Return the cursor, with slices twice as long if the last one had few events."""
    wide = events <= feed.most // 4
    return cursor._replace(width=min(WHOLE, cursor.width * 2)) if wide else cursor


def advanced(feed: Feed, cursor: Cursor, fresh: Sequence[Record], end: int | None) -> Cursor:
    """Return the cursor after a slice, so that the time with possible late events is read again.

    That time starts `overlap` before the newest printed event, or in a backlog at the end of the
    slice, which is long ago. It starts at least `overlap` before the host's time and the API's
    time, so that a clock that is ahead, or an event from the future, loses no event.
    """
    known = {**cursor.printed, **{str(event["id"]): audit_events.moment(event) for event in fresh}}
    newest = max(known.values(), default=cursor.start)
    settled = min(feed.now, feed.client.counters.server_date or feed.now) - feed.overlap
    start = max(cursor.start, min(newest - feed.overlap if end is None else end, settled))
    printed = {identifier: time for identifier, time in known.items() if time >= start}
    return Cursor(start, printed, cursor.width)


def printer(line: Callable[[Record, str], str], organization: str, out: TextIO) -> Deliver:
    """Return a function that prints events, one per line; it raises Failure if writing fails.

    Each line is flushed separately: a write of up to 4 kB to a pipe is atomic, so that `kill -9`
    leaves no broken line.
    """
    if hasattr(out, "reconfigure"):
        out.reconfigure(encoding="utf-8", newline="\n")

    def deliver(events: Sequence[Record]) -> None:
        lines = [line(event, organization) for event in events]
        try:
            end_broken_line(out)
            for text in lines:
                out.write(text + "\n")
                out.flush()
            sync(out)
        except OSError as reason:
            silence(out)
            raise Failure(
                f"events cannot be written to stdout ({reason.strerror}): the cursor stays before "
                f"this batch, and the next run prints it again"
            ) from None

    return deliver


def end_broken_line(out: TextIO) -> None:
    """End a line in a file that a killed run left unfinished, so that the next line is separate."""
    if not is_file(out):
        return
    with suppress(PermissionError), open(f"/dev/fd/{out.fileno()}", "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        if file.read(1) not in (b"", b"\n"):
            out.write("\n")


def sync(out: TextIO) -> None:
    """Flush a file to the disk, so that its events are safe before the cursor moves."""
    if is_file(out):
        os.fsync(out.fileno())


def is_file(out: TextIO) -> bool:
    """Return True for a regular file; False for a pipe, terminal or in-memory stream."""
    try:
        return stat.S_ISREG(os.fstat(out.fileno()).st_mode)
    except io.UnsupportedOperation:
        return False


def silence(out: TextIO) -> None:
    """Discard the stream's buffer; its flush at exit would fail again, with a traceback."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
