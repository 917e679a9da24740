"""The audit feed: every event printed at least once, oldest first, however a run may end."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TextIO

from lm_openai import timespans
from lm_openai.api.records import Record
from lm_openai.app import runner
from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings
from lm_openai.config import paths
from lm_openai.errors import ApiFailure, Failure, WrongUsage
from lm_openai.metrics import audit_events
from lm_openai.output.audit_formats import FORMATS, iso
from lm_openai.storage import cache
from lm_openai.storage.audit_cursor import (
    WHOLE,
    Cursor,
    CursorFile,
    Damaged,
)

if TYPE_CHECKING:
    from lm_openai.api.client import Client

MOST_EVENTS = 1000
Deliver = Callable[[Sequence[Record]], None]


class Feed(NamedTuple):
    """What a run of the feed works with.

    `now` is Unix seconds, `overlap` how many seconds late an event may become visible and `most`
    how many events a slice of time may hold; `deliver` returns when its events are out.
    """

    client: Client
    cursors: CursorFile
    deliver: Deliver
    now: int
    overlap: int
    most: int = MOST_EVENTS


class Unread(Exception):
    """A slice was not read to its end: it holds too many events, or there was a failure.

    `oldest` is the time of the last event that was read, None when there was none.
    """

    def __init__(self, oldest: int | None, failure: ApiFailure | None = None) -> None:
        self.oldest, self.failure = oldest, failure


def run(
    form: str, since: str, options: Options, around: Surroundings, most: int = MOST_EVENTS
) -> int:
    """Print every event that was not printed yet; return the exit status."""

    def work(opened: list[Session]) -> int:
        opened.append(Session(options, around))
        follow(form, since, opened[0], most)
        return runner.DONE

    return runner.guarded("audit", options, around, work)


def follow(form: str, since: str, session: Session, most: int) -> None:
    """Print what one organization's events are from its cursor on; raises Failure.

    The cursor belongs to the organization's name and address, never to a key.
    """
    settings, around = session.properties, session.around
    identity = cache.identity(settings.organization, settings.text("openai.api.url"))
    deliver = printer(FORMATS[form], settings.organization, around.stdout)
    overlap = settings.seconds("openai.audit.overlap")
    folder = paths.cache_folder(settings.text("openai.cache.dir"), around.environ)
    with CursorFile(folder, identity) as cursors:
        cursor = begin(cursors, first_start(since, session.now), around.stderr)
        printed = drain(Feed(session.client, cursors, deliver, session.now, overlap, most), cursor)
        if session.options.verbose:
            around.stderr.write(
                f"{printed} events, asked from {iso(cursor.start)} on; cursor {cursors.path}\n"
            )
            session.print_counters()


def first_start(since: str, now: int) -> int:
    """Where a first run begins: a duration before now, or a time; raises WrongUsage."""
    with suppress(ValueError):
        return max(0, now - timespans.duration(since))
    try:
        return timespans.moment(since)
    except ValueError:
        raise WrongUsage(
            f"--since {since!r}: give a duration such as 24h or 7d, or a time such as 2026-01-31"
        ) from None


def begin(cursors: CursorFile, first: int, stderr: TextIO) -> Cursor:
    """The cursor in force, else one that begins at `first`, kept before anything is asked.

    So a feed whose first runs all fail loses nothing of the time from then on.
    """
    try:
        cursor = cursors.load()
    except Damaged:
        cursor = None
        stderr.write(
            f"{cursors.path} was damaged: the feed begins anew at {iso(first)}, so events since "
            f"then may come twice, and to have earlier ones remove the file and give --since\n"
        )
    if cursor is None:
        cursor = Cursor(first, {})
        cursors.prepare(cursor)
        cursors.commit()
    return cursor


def drain(feed: Feed, cursor: Cursor) -> int:
    """Print slice after slice up to the newest event, the cursor moved after each; how many.

    A slice with too many events is narrowed, and so is the next run's when one was not read in
    time: however long the outage and however slow the API, every run gets on.
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
        fresh = [event for event in events if str(event["id"]) not in cursor.printed]
        cursor = widened(feed, advanced(feed, cursor, fresh, end), len(events))
        feed.cursors.prepare(cursor)
        feed.deliver(fresh)
        feed.cursors.commit()
        printed += len(fresh)
        position = end
    return printed


def read_slice(feed: Feed, start: int, end: int | None) -> list[Record]:
    """The events from `start` until before `end` (None: all that are newer), oldest first.

    Raises Unread; a slice of one second is read whatever it holds.
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
    """The cursor with slices as short as half of what was read; raises Failure if there was one."""
    top = end or max(feed.now, start)
    if unread.oldest is not None:
        span = min(top - start, top - unread.oldest)
        cursor = cursor._replace(width=max(1, span // 2))
    if unread.failure is None:
        return cursor
    feed.cursors.prepare(cursor)
    feed.cursors.commit()
    raise Failure(
        f"{unread.failure}; what was printed stands, the next run goes on at {iso(start)}"
    )


def widened(feed: Feed, cursor: Cursor, events: int) -> Cursor:
    """The cursor with slices twice as long after one that held little."""
    wide = events <= feed.most // 4
    return cursor._replace(width=min(WHOLE, cursor.width * 2)) if wide else cursor


def advanced(feed: Feed, cursor: Cursor, fresh: Sequence[Record], end: int | None) -> Cursor:
    """The cursor after a slice: what may still hide late events is asked for again.

    That is the overlap before the newest printed event; in a backlog, which ends long ago, it is
    what lies after the slice. Neither clock may be ahead: the API's own is heeded too, and an event
    from the future does not count.
    """
    known = {**cursor.printed, **{str(event["id"]): audit_events.moment(event) for event in fresh}}
    newest = max(known.values(), default=cursor.start)
    settled = min(feed.now, feed.client.counters.server_date or feed.now) - feed.overlap
    start = max(cursor.start, min(newest - feed.overlap if end is None else end, settled))
    printed = {identifier: time for identifier, time in known.items() if time >= start}
    return Cursor(start, printed, cursor.width)


def printer(line: Callable[[Record, str], str], organization: str, out: TextIO) -> Deliver:
    """Prints events one per line, each flushed by itself; raises Failure when that fails.

    A pipe takes a line of up to 4 kB whole or not at all, so that `kill -9` leaves none broken.
    """
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(encoding="utf-8", newline="\n")

    def deliver(events: Sequence[Record]) -> None:
        lines = [line(event, organization) for event in events]
        try:
            with_line_ended(out)
            for text in lines:
                out.write(text + "\n")
                out.flush()
            synced(out)
        except OSError as reason:
            silence(out)
            raise Failure(
                f"stdout takes no more events ({reason.strerror}): the cursor stays before this "
                f"batch and the next run prints it again"
            ) from None

    return deliver


def with_line_ended(out: TextIO) -> None:
    """In a file, end a line that a killed run left broken, lest the next one hang on to it."""
    if not is_file(out):
        return
    with suppress(PermissionError), open(f"/dev/fd/{out.fileno()}", "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 1))
        if file.read(1) not in (b"", b"\n"):
            out.write("\n")


def synced(out: TextIO) -> None:
    """What went to a file is on the disk before the cursor moves."""
    if is_file(out):
        os.fsync(out.fileno())


def is_file(out: TextIO) -> bool:
    """Whether it is a regular file, not a pipe, terminal or text in memory."""
    try:
        return stat.S_ISREG(os.fstat(out.fileno()).st_mode)
    except io.UnsupportedOperation:
        return False


def silence(out: TextIO) -> None:
    """Keep the interpreter's last flush from failing once more, with a traceback."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
