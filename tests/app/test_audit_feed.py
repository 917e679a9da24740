"""The audit feed: it prints each event once, and at least once after a failure."""

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

from lm_openai.api import paging
from lm_openai.app import session
from lm_openai.simulator import NO_AUDIT_KEY, NO_USAGE_KEY, Simulator
from lm_openai.storage import cache
from lm_openai.storage.audit_cursor import CursorFile
from tests.support.audit_feed import (
    AT,
    COMMAND,
    DAY,
    HOUR,
    GivenEvents,
    event,
    events,
    followed,
    ids,
    process_environment,
    truth,
)
from tests.support.replay import Outcome

pytestmark = pytest.mark.slow


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=AT, audit_delay=0) as simulator:
        yield simulator


def command(
    demo: Simulator, folder: Path, *words: str, stdout: int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Run the command in a separate process."""
    return subprocess.run(
        [*COMMAND, *words],
        env=process_environment(demo.url, folder),
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
    )


def cursor_of(url: str, folder: Path, organization: str = "default") -> Path:
    """Return the path of a feed's cursor file."""
    return folder / f"{cache.identity(organization, url)}.cursor"


# Without failures


def test_a_first_run_prints_the_events_of_a_day_oldest_first(
    demo: Simulator, tmp_path: Path
) -> None:
    ran = command(demo, tmp_path)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert events(ran.stdout) == truth(demo, AT - DAY)
    times = [each["effective_at"] for each in events(ran.stdout)]
    assert times == sorted(times)


def test_a_later_run_reads_from_the_newest_printed_event_minus_the_overlap(
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


def test_since_applies_only_to_the_first_run(demo: Simulator, tmp_path: Path) -> None:
    first = followed(demo.url, tmp_path, since="2h")
    second = followed(demo.url, tmp_path, since="24h")

    assert ids(events(first.stdout)) == ids(truth(demo, AT - 2 * HOUR))
    assert second.stdout == ""


def test_since_accepts_a_time(demo: Simulator, tmp_path: Path) -> None:
    ran = followed(demo.url, tmp_path, since="2026-11-18")

    assert ids(events(ran.stdout)) == ids(truth(demo, AT - AT % DAY))


def test_a_wrong_since_is_refused_before_any_request(demo: Simulator, tmp_path: Path) -> None:
    ran = followed(demo.url, tmp_path, since="yesterday")

    assert (ran.stdout, ran.status) == ("", 2)
    assert ran.stderr.startswith("--since 'yesterday': give a duration such as 24h")
    assert demo.requests == []


def test_a_rotated_key_keeps_the_cursor(demo: Simulator, tmp_path: Path) -> None:
    followed(demo.url, tmp_path)
    demo.now = AT + HOUR
    ran = followed(demo.url, tmp_path, now=AT + HOUR, key=NO_USAGE_KEY)

    assert ids(events(ran.stdout)) == ids(truth(demo, AT + 1))


def test_each_organization_has_its_own_cursor(demo: Simulator, tmp_path: Path) -> None:
    first = followed(demo.url, tmp_path, properties={"openai.org.name": "one"})
    second = followed(demo.url, tmp_path, properties={"openai.org.name": "two"})

    assert first.stdout == second.stdout != ""


def test_without_events_the_cursor_stays_at_its_start(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    """Otherwise an event of an outage right after the first run would be lost."""
    api = GivenEvents(httpserver)
    first = followed(api.url, tmp_path, since="1h")
    api.events = [event("audit_log-1", AT + 60)]
    second = followed(api.url, tmp_path, now=AT + DAY, since="1h")

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


def test_a_backlog_of_ten_hours_is_read_in_slices_oldest_first(
    demo: Simulator, tmp_path: Path
) -> None:
    followed(demo.url, tmp_path)
    later = demo.now = AT + 10 * HOUR
    demo.clear()
    ran = followed(demo.url, tmp_path, now=later, most=9)

    starts = [int(request.query["effective_at[gte]"][0]) for request in demo.requests]
    assert ids(events(ran.stdout)) == ids(truth(demo, AT + 1))
    assert len(set(starts)) > 4
    assert starts == sorted(starts)


def test_a_backlog_over_the_clients_page_limit_is_read_completely(
    demo: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "MOST_PAGES", 2)
    ran = followed(demo.url, tmp_path, since="30d")

    assert ran.status == 0, ran.stderr
    assert ids(events(ran.stdout)) == ids(truth(demo, AT - 30 * DAY))


def test_more_events_in_one_second_than_a_slice_may_have_are_all_read(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    api = GivenEvents(httpserver, *(event(f"audit_log-{number}") for number in range(250)))
    ran = followed(api.url, tmp_path, most=20)

    assert ran.status == 0, ran.stderr
    assert sorted(ids(events(ran.stdout))) == sorted(ids(api.events))


def test_if_page_2_of_5_fails_nothing_is_printed_and_nothing_is_lost(
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


def test_events_printed_before_a_failed_page_are_not_repeated(
    demo: Simulator, tmp_path: Path
) -> None:
    demo.fault("html", "*/audit_logs", skip=9, times=1)
    first = followed(demo.url, tmp_path, most=20)
    second = followed(demo.url, tmp_path, most=20)

    assert first.status == 1
    assert first.stdout
    assert ids(events(first.stdout + second.stdout)) == ids(truth(demo, AT - DAY))


def test_an_api_that_fails_after_two_pages_per_run_is_read_to_the_end(
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


def test_an_event_from_the_future_does_not_stop_the_feed(
    httpserver: HTTPServer, tmp_path: Path
) -> None:
    api = GivenEvents(httpserver, event("audit_log-future", AT + 300 * DAY))
    first = followed(api.url, tmp_path)
    api.events.append(event("audit_log-next", AT + 60))
    second = followed(api.url, tmp_path, now=AT + 120)

    assert ids(events(first.stdout)) == ["audit_log-future"]
    assert ids(events(second.stdout)) == ["audit_log-next"]


@pytest.mark.parametrize("drift", [-3 * HOUR, 3 * HOUR])
def test_a_wrong_local_clock_loses_no_event(tmp_path: Path, drift: int) -> None:
    printed = []
    with Simulator(at=AT, audit_delay=HOUR) as demo:
        for now in range(AT, AT + 3 * HOUR + 1, 1800):
            demo.now = now
            ran = followed(demo.url, tmp_path, now=now + drift, since="9h", most=3)
            printed += ids(events(ran.stdout))
        wanted = ids(truth(demo, AT, AT + 2 * HOUR))

    assert len(printed) == len(set(printed))
    assert set(wanted) <= set(printed)


def test_a_run_with_another_time_reads_and_moves_no_cursor(demo: Simulator, tmp_path: Path) -> None:
    first = followed(demo.url, tmp_path, since="1h")
    saved = cursor_of(demo.url, tmp_path).read_bytes()
    for words in (("--at", "2030-01-01"), ("--at", str(AT), "--since", "2h")):
        ran = command(demo, tmp_path, *words)
        assert (ran.returncode, ran.stderr) == (0, "")
    assert events(ran.stdout) == truth(demo, AT - 2 * HOUR)
    assert events(first.stdout) == truth(demo, AT - HOUR)
    assert cursor_of(demo.url, tmp_path).read_bytes() == saved


def test_a_run_with_another_time_starts_no_cursor(demo: Simulator, tmp_path: Path) -> None:
    command(demo, tmp_path, "--at", "2030-01-01")
    ran = followed(demo.url, tmp_path)

    assert events(ran.stdout) == truth(demo, AT - DAY)


@pytest.mark.parametrize("host", [AT, AT + 4 * 365 * DAY], ids=["then right", "still wrong"])
def test_a_cursor_from_a_wrong_clock_is_refused_with_the_command_that_resets_it(
    demo: Simulator, tmp_path: Path, host: int
) -> None:
    """The first run fails while the host's clock is years ahead, and leaves a cursor there."""
    future = AT + 4 * 365 * DAY
    followed(demo.url, tmp_path, now=future, key=NO_AUDIT_KEY)

    ran = followed(demo.url, tmp_path, now=host)

    assert (ran.stdout, ran.status) == ("", 1)
    assert "a clock was wrong" in ran.stderr
    path = cursor_of(demo.url, tmp_path)
    assert f"`rm {path}`" in ran.stderr
    path.unlink()
    assert events(followed(demo.url, tmp_path).stdout) == truth(demo, AT - DAY)


# Failures


def test_a_missing_scope_is_named(demo: Simulator, tmp_path: Path) -> None:
    ran = followed(demo.url, tmp_path, key=NO_AUDIT_KEY)

    assert (ran.stdout, ran.status) == ("", 1)
    assert "api.audit_logs.read" in ran.stderr


def test_a_feed_whose_first_runs_fail_loses_no_event(demo: Simulator, tmp_path: Path) -> None:
    followed(demo.url, tmp_path, since="1h", key=NO_AUDIT_KEY)
    demo.now = AT + 5 * HOUR
    ran = followed(demo.url, tmp_path, now=AT + 5 * HOUR, since="1h")

    assert ids(events(ran.stdout)) == ids(truth(demo, AT - HOUR))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"start": "0"}', '{"start":1,"printed":[]}']
)
def test_a_damaged_cursor_is_reported_and_the_feed_restarts(
    demo: Simulator, tmp_path: Path, text: str
) -> None:
    first = followed(demo.url, tmp_path)
    cursor_of(demo.url, tmp_path).write_text(text)
    second = followed(demo.url, tmp_path)
    third = followed(demo.url, tmp_path)

    assert second.stdout == first.stdout
    assert "was damaged: the feed restarts at 2026-11-17T12:34:56Z" in second.stderr
    assert (third.stdout, third.stderr) == ("", "")


def test_two_feeds_at_once_are_refused(demo: Simulator, tmp_path: Path) -> None:
    identity = cache.identity("default", demo.url)
    with CursorFile(str(tmp_path), identity):
        refused = command(demo, tmp_path)
    after = command(demo, tmp_path)

    assert (refused.stdout, refused.returncode) == ("", 1)
    assert "another audit feed of this organization is running" in refused.stderr
    assert after.returncode == 0


def test_an_unwritable_cursor_fails_before_any_request_or_output(
    demo: Simulator, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    ran = command(demo, tmp_path / "file")

    assert (ran.stdout, ran.returncode) == ("", 1)
    assert "cannot hold the audit cursor: not a folder" in ran.stderr
    assert demo.requests == []


def test_a_folder_that_others_can_write_to_is_refused(demo: Simulator, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    ran = command(demo, tmp_path)

    assert (ran.stdout, ran.returncode) == ("", 1)
    assert "chmod 700" in ran.stderr


def test_a_full_disk_fails_before_a_batch_is_printed(demo: Simulator, tmp_path: Path) -> None:
    """The limit on file sizes fits the first cursor, but not the second, which is longer."""
    limit = 200
    ran = subprocess.run(
        [*COMMAND],
        env=process_environment(demo.url, tmp_path) | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    after = command(demo, tmp_path)

    assert (ran.stdout, ran.returncode) == ("", 1)
    assert f"({os.strerror(errno.EFBIG)}), so nothing more is printed" in ran.stderr
    assert events(after.stdout) == truth(demo, AT - DAY)


def test_a_full_stdout_is_reported_and_the_batch_is_printed_again(
    demo: Simulator, tmp_path: Path
) -> None:
    with open("/dev/full", "w") as full:
        ran = command(demo, tmp_path, stdout=full.fileno())
    after = command(demo, tmp_path)

    assert ran.returncode == 1
    assert ran.stderr.startswith("events cannot be written to stdout (No space left on device)")
    assert ran.stderr.count("\n") == 1
    assert events(after.stdout) == truth(demo, AT - DAY)


def test_a_reader_that_exits_is_reported_and_the_batch_is_printed_again(
    demo: Simulator, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [*COMMAND, "--since", "30d"],
        env=process_environment(demo.url, tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()

    assert process.wait() == 1
    assert errors.startswith("events cannot be written to stdout (Broken pipe)")
    assert errors.count("\n") == 1
    after = command(demo, tmp_path, "--since", "30d")
    assert events(after.stdout) == truth(demo, AT - 30 * DAY)


def test_a_closed_stdout_is_reported_before_any_request(demo: Simulator, tmp_path: Path) -> None:
    words = shlex.join([*COMMAND])
    ran = subprocess.run(
        ["sh", "-c", f"{words} >&-"],
        env=process_environment(demo.url, tmp_path),
        stderr=subprocess.PIPE,
        text=True,
    )

    assert (ran.returncode, ran.stderr.count("\n")) == (1, 1)
    assert ran.stderr.startswith("stdout is closed")
    assert demo.requests == []


def test_a_broken_last_line_in_a_file_is_ended_before_the_next_event(
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


def test_characters_outside_the_locale_are_printed(httpserver: HTTPServer, tmp_path: Path) -> None:
    api = GivenEvents(
        httpserver, event("audit_log-1", project={"id": "proj_1", "name": "Größe 中"})
    )
    ran = subprocess.run(
        [*COMMAND, "--format", "influx"],
        env=process_environment(api.url, tmp_path) | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
    )

    assert (ran.returncode, ran.stderr) == (0, b"")
    assert 'project_name="Größe 中"' in ran.stdout.decode("utf-8")


def test_an_unexpected_exception_is_one_sentence_without_the_key(
    demo: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Outcome:
        raise RuntimeError(f"with {NO_USAGE_KEY}")

    monkeypatch.setattr(session.Session, "print_counters", broken)
    monkeypatch.setattr("lm_openai.app.audit_feed.drain", broken)
    ran = followed(demo.url, tmp_path, key=NO_USAGE_KEY)

    assert (ran.stdout, ran.status) == ("", 1)
    assert "RuntimeError: with ***" in ran.stderr


def test_the_help_explains_the_cursor(demo: Simulator, tmp_path: Path) -> None:
    ran = command(demo, tmp_path, "--help")

    assert ran.returncode == 0
    for words in ("at least once", "openai.cache.dir", "json|influx|logicmonitor-logs|ecs"):
        assert words in " ".join(ran.stdout.split())
    assert sys.executable not in ran.stdout
