"""The audit feed: each event once in ordinary times, at least once in all others."""

from __future__ import annotations

import errno
import json
import os
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from lm_openai.api import client
from lm_openai.app import session
from lm_openai.simulator import NO_AUDIT_KEY, NO_USAGE_KEY, Simulator
from lm_openai.storage import cache
from lm_openai.storage.audit_cursor import CursorFile
from tests.support.audit_feed import (
    AT,
    COMMAND,
    DAY,
    HOUR,
    Told,
    environment,
    event,
    events,
    followed,
    ids,
    truth,
)
from tests.support.replay import Outcome


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=AT, audit_delay=0) as simulator:
        yield simulator


def command(
    demo: Simulator, folder: Path, *words: str, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """The command itself, in a process of its own."""
    return subprocess.run(
        [*COMMAND, "--at", str(AT), *words],
        env=environment(demo.url, folder),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def cursor_of(url: str, folder: Path, organization: str = "default") -> Path:
    """Where the cursor of a feed lies."""
    return folder / f"{cache.identity(organization, url)}.cursor"


# In ordinary times


def test_a_first_run_prints_the_events_of_a_day_whole_and_oldest_first(
    demo: Simulator, tmp_path: Path
) -> None:
    ran = command(demo, tmp_path)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert events(ran.stdout) == truth(demo, AT - DAY)
    times = [each["effective_at"] for each in events(ran.stdout)]
    assert times == sorted(times)


def test_a_later_run_asks_from_the_newest_printed_event_minus_the_overlap(
    demo: Simulator, tmp_path: Path
) -> None:
    first = events(followed(demo.url, tmp_path).stdout)
    demo.clear()
    second = followed(demo.url, tmp_path, properties={"openai.audit.overlap": "2h"})

    newest = first[-1]["effective_at"]
    assert (second.stdout, second.status) == ("", 0)
    assert [dict(request.query) for request in demo.requests] == [
        {"limit": ["100"], "effective_at[gte]": [str(newest - HOUR)]}
    ]


def test_since_is_for_the_first_run_alone(demo: Simulator, tmp_path: Path) -> None:
    first = followed(demo.url, tmp_path, since="2h")
    second = followed(demo.url, tmp_path, since="24h")

    assert ids(events(first.stdout)) == ids(truth(demo, AT - 2 * HOUR))
    assert second.stdout == ""


def test_since_takes_a_time_as_well(demo: Simulator, tmp_path: Path) -> None:
    ran = followed(demo.url, tmp_path, since="2026-11-18")

    assert ids(events(ran.stdout)) == ids(truth(demo, AT - AT % DAY))


def test_a_wrong_since_is_refused_before_anything_is_asked(demo: Simulator, tmp_path: Path) -> None:
    ran = followed(demo.url, tmp_path, since="yesterday")

    assert (ran.stdout, ran.status) == ("", 2)
    assert ran.stderr.startswith("--since 'yesterday': give a duration such as 24h")
    assert demo.requests == []


def test_a_rotated_key_keeps_the_cursor(demo: Simulator, tmp_path: Path) -> None:
    followed(demo.url, tmp_path)
    demo.now = AT + HOUR
    ran = followed(demo.url, tmp_path, now=AT + HOUR, key=NO_USAGE_KEY)

    assert ids(events(ran.stdout)) == ids(truth(demo, AT + 1))


def test_organizations_have_cursors_of_their_own(demo: Simulator, tmp_path: Path) -> None:
    first = followed(demo.url, tmp_path, properties={"openai.org.name": "one"})
    second = followed(demo.url, tmp_path, properties={"openai.org.name": "two"})

    assert first.stdout == second.stdout != ""


def test_without_any_event_the_cursor_stays_where_it_began(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    """Else an event of the time of an outage right after the first run would be lost."""
    told = Told(httpserver)
    first = followed(told.url, tmp_path, since="1h")
    told.events = [event("audit_log-1", AT + 60)]
    second = followed(told.url, tmp_path, now=AT + DAY, since="1h")

    assert (first.stdout, first.status) == ("", 0)
    assert ids(events(second.stdout)) == ["audit_log-1"]


# Late events, backlogs and slices


@pytest.mark.parametrize("most", [7, 1000])
def test_events_that_become_visible_up_to_the_overlap_late_are_printed_once(
    tmp_path: Path, most: int
) -> None:
    start, end = AT, AT + 8 * HOUR
    printed = []
    with Simulator(at=start, audit_delay=HOUR) as demo:
        for now in range(start, end + 1, 600):
            demo.now = now
            printed += ids(events(followed(demo.url, tmp_path, now=now, most=most).stdout))
        wanted = ids(truth(demo, start - DAY, end - HOUR))

    assert len(printed) == len(set(printed))
    assert set(wanted) <= set(printed)


def test_ten_hours_of_backlog_over_the_cap_drain_in_slices_oldest_first(
    demo: Simulator, tmp_path: Path
) -> None:
    followed(demo.url, tmp_path)
    later = demo.now = AT + 10 * HOUR
    demo.clear()
    ran = followed(demo.url, tmp_path, now=later, most=9)

    asked = [int(request.query["effective_at[gte]"][0]) for request in demo.requests]
    assert ids(events(ran.stdout)) == ids(truth(demo, AT + 1))
    assert len(set(asked)) > 4
    assert asked == sorted(asked)


def test_a_backlog_over_the_clients_own_cap_of_pages_drains_too(
    demo: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "MOST_PAGES", 2)
    ran = followed(demo.url, tmp_path, since="30d")

    assert ran.status == 0, ran.stderr
    assert ids(events(ran.stdout)) == ids(truth(demo, AT - 30 * DAY))


def test_more_events_than_a_slice_may_hold_in_one_second_are_read_all_the_same(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    told = Told(httpserver, *(event(f"audit_log-{number}") for number in range(250)))
    ran = followed(told.url, tmp_path, most=20)

    assert ran.status == 0, ran.stderr
    assert sorted(ids(events(ran.stdout))) == sorted(ids(told.events))


def test_when_page_2_of_5_fails_nothing_of_it_is_printed_and_nothing_is_lost(
    demo: Simulator, tmp_path: Path
) -> None:
    start = AT - 4 * DAY - 5 * HOUR
    wanted = truth(demo, start)
    demo.clear()
    assert len(wanted) // 100 == 4
    demo.fault("html", "*/audit_logs", skip=1, times=1)
    first = followed(demo.url, tmp_path, since="101h")
    second = followed(demo.url, tmp_path, since="101h")

    assert (first.stdout, first.status) == ("", 1)
    assert "audit_logs: the response is not JSON" in first.stderr
    assert first.stderr.count("\n") == 1
    assert second.status == 0
    assert events(second.stdout) == wanted


def test_what_was_printed_before_a_page_failed_stands_and_is_not_repeated(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.fault("html", "*/audit_logs", skip=9, times=1)
    first = followed(demo.url, tmp_path, most=20)
    second = followed(demo.url, tmp_path, most=20)

    assert first.status == 1
    assert first.stdout
    assert ids(events(first.stdout + second.stdout)) == ids(truth(demo, AT - DAY))


def test_an_api_that_lets_only_two_pages_a_run_through_is_read_to_the_end(
    demo: Simulator, tmp_path: Path
) -> None:
    wanted = ids(truth(demo, AT - 7 * DAY))
    printed = []
    for _ in range(60):
        demo.clear()
        demo.fault("html", "*/audit_logs", skip=2)
        ran = followed(demo.url, tmp_path, since="7d")
        printed += ids(events(ran.stdout))
        if ran.status == 0:
            break

    assert ran.status == 0
    assert printed == wanted


def test_an_event_from_the_future_does_not_silence_the_feed(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    told = Told(httpserver, event("audit_log-future", AT + 300 * DAY))
    first = followed(told.url, tmp_path)
    told.events.append(event("audit_log-next", AT + 60))
    second = followed(told.url, tmp_path, now=AT + 120)

    assert ids(events(first.stdout)) == ["audit_log-future"]
    assert ids(events(second.stdout)) == ["audit_log-next"]


@pytest.mark.parametrize("drift", [-3 * HOUR, 3 * HOUR])
def test_a_clock_of_ours_that_is_wrong_loses_nothing(tmp_path: Path, drift: int) -> None:
    printed = []
    with Simulator(at=AT, audit_delay=HOUR) as demo:
        for now in range(AT, AT + 3 * HOUR + 1, 1800):
            demo.now = now
            ran = followed(demo.url, tmp_path, now=now + drift, since="9h", most=3)
            printed += ids(events(ran.stdout))
        wanted = ids(truth(demo, AT, AT + 2 * HOUR))

    assert len(printed) == len(set(printed))
    assert set(wanted) <= set(printed)


# When it fails


def test_a_missing_scope_is_named(demo: Simulator, tmp_path: Path) -> None:
    ran = followed(demo.url, tmp_path, key=NO_AUDIT_KEY)

    assert (ran.stdout, ran.status) == ("", 1)
    assert "api.audit_logs.read" in ran.stderr


def test_a_feed_whose_first_runs_fail_loses_nothing_of_that_time(
    demo: Simulator, tmp_path: Path
) -> None:
    followed(demo.url, tmp_path, since="1h", key=NO_AUDIT_KEY)
    demo.now = AT + 5 * HOUR
    ran = followed(demo.url, tmp_path, now=AT + 5 * HOUR, since="1h")

    assert ids(events(ran.stdout)) == ids(truth(demo, AT - HOUR))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"start": "0"}', '{"start":1,"printed":[]}']
)
def test_a_damaged_cursor_is_told_and_the_feed_begins_anew(
    demo: Simulator, tmp_path: Path, text: str
) -> None:
    first = followed(demo.url, tmp_path)
    cursor_of(demo.url, tmp_path).write_text(text)
    second = followed(demo.url, tmp_path)
    third = followed(demo.url, tmp_path)

    assert second.stdout == first.stdout
    assert "was damaged: the feed begins anew at 2026-11-17T12:34:56Z" in second.stderr
    assert (third.stdout, third.stderr) == ("", "")


def test_two_feeds_at_once_are_refused(demo: Simulator, tmp_path: Path) -> None:
    identity = cache.identity("default", demo.url)
    with CursorFile(str(tmp_path), identity):
        refused = command(demo, tmp_path)
    after = command(demo, tmp_path)

    assert (refused.stdout, refused.returncode) == ("", 1)
    assert "another audit feed of this organization is running" in refused.stderr
    assert after.returncode == 0


def test_a_cursor_that_cannot_be_kept_fails_before_anything_is_asked_or_printed(
    demo: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    ran = command(demo, tmp_path / "file")

    assert (ran.stdout, ran.returncode) == ("", 1)
    assert "the cursor cannot be saved" in ran.stderr
    assert demo.requests == []


def test_a_folder_that_others_can_write_in_holds_no_cursor(demo: Simulator, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    ran = command(demo, tmp_path)

    assert (ran.stdout, ran.returncode) == ("", 1)
    assert "chmod 700" in ran.stderr


def test_a_disk_that_is_full_fails_before_a_batch_is_printed(
    demo: Simulator, tmp_path: Path
) -> None:
    """No file may grow beyond what the first cursor takes: the second one is longer."""
    limit = 200
    ran = subprocess.run(
        [*COMMAND, "--at", str(AT)],
        env=environment(demo.url, tmp_path) | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    after = command(demo, tmp_path)

    assert (ran.stdout, ran.returncode) == ("", 1)
    assert f"({os.strerror(errno.EFBIG)}), so nothing more is printed" in ran.stderr
    assert events(after.stdout) == truth(demo, AT - DAY)


def test_a_full_stdout_is_a_sentence_and_the_batch_comes_again(
    demo: Simulator, tmp_path: Path
) -> None:
    with open("/dev/full", "w") as full:
        ran = command(demo, tmp_path, stdout=full.fileno())
    after = command(demo, tmp_path)

    assert ran.returncode == 1
    assert ran.stderr.startswith("stdout takes no more events (No space left on device)")
    assert ran.stderr.count("\n") == 1
    assert events(after.stdout) == truth(demo, AT - DAY)


def test_a_reader_that_goes_away_is_a_sentence_and_the_batch_comes_again(
    demo: Simulator, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--at", str(AT), "--since", "30d"],
        env=environment(demo.url, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    told = process.stderr.read()
    process.stderr.close()

    assert process.wait() == 1
    assert told.startswith("stdout takes no more events (Broken pipe)")
    assert told.count("\n") == 1
    after = command(demo, tmp_path, "--since", "30d")
    assert events(after.stdout) == truth(demo, AT - 30 * DAY)


def test_without_a_stdout_the_feed_says_so_and_asks_nothing(
    demo: Simulator, tmp_path: Path
) -> None:
    words = shlex.join([*COMMAND, "--at", str(AT)])
    ran = subprocess.run(
        ["sh", "-c", f"{words} >&-"],
        env=environment(demo.url, tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )

    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert ran.stderr.startswith("stdout is closed")
    assert demo.requests == []


def test_a_line_that_a_crash_left_broken_in_a_file_does_not_take_the_next_one_along(
    demo: Simulator, tmp_path: Path
) -> None:
    printed = tmp_path / "printed"
    printed.write_text('{"id":"audit_log-whole"}\n{"id":"audit_lo')
    with printed.open("a") as out:
        ran = command(demo, tmp_path / "cursor", stdout=out.fileno())

    lines = printed.read_text().splitlines()
    assert ran.returncode == 0, ran.stderr
    assert lines[1] == '{"id":"audit_lo'
    assert [json.loads(line) for line in lines[2:]] == truth(demo, AT - DAY)


def test_letters_that_the_locale_lacks_are_printed_all_the_same(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    told = Told(httpserver, event("audit_log-1", project={"id": "proj_1", "name": "Größe 中"}))
    ran = subprocess.run(
        [*COMMAND, "--at", str(AT), "--format", "influx"],
        env=environment(told.url, tmp_path) | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
    )

    assert (ran.returncode, ran.stderr) == (0, b"")
    assert 'project_name="Größe 中"' in ran.stdout.decode("utf-8")


def test_a_fault_of_ours_is_a_sentence_without_the_key(
    demo: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Outcome:
        raise RuntimeError(f"with {NO_USAGE_KEY}")

    monkeypatch.setattr(session.Session, "print_counters", broken)
    monkeypatch.setattr("lm_openai.app.audit_feed.drain", broken)
    ran = followed(demo.url, tmp_path, key=NO_USAGE_KEY)

    assert (ran.stdout, ran.status) == ("", 1)
    assert "RuntimeError: with ***" in ran.stderr


def test_the_help_says_what_the_cursor_is_for(demo: Simulator, tmp_path: Path) -> None:
    ran = command(demo, tmp_path, "--help")

    assert ran.returncode == 0
    for words in ("at least once", "openai.cache.dir", "json|influx|logicmonitor-logs|ecs"):
        assert words in " ".join(ran.stdout.split())
    assert sys.executable not in ran.stdout
