"""Responses that processes share: who requests them, who waits, what is not shared."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from lm_openai.api.responses import StalePage
from lm_openai.api.transport import HttpResponse
from lm_openai.errors import FAILURES, ApiFailure
from lm_openai.storage import cache as storage_cache
from lm_openai.storage.cache import NOT_CACHED, Cache, SharedNotes
from lm_openai.storage.private_folder import PrivateFolder
from lm_openai.storage.shared_responses import SharedResponses, poll_time
from tests.support.paths import ROOT

NOON = 1_795_003_200  # 2026-11-18 12:00:00 UTC
MIDNIGHT = NOON + 12 * 3600
USAGE, COSTS = "/organization/usage/images", "/organization/costs"
QUERY = [("start_time", "1"), ("group_by[]", "model")]
ANSWER = HttpResponse(
    200, {"date": "Wed, 18 Nov 2026 12:00:00 GMT", "x-request-id": "r1"}, b'{"data": []}'
)


class Upstream:
    """API of a test: it counts the requests and answers or fails."""

    def __init__(self, failure: ApiFailure | None = None) -> None:
        self.requests, self.failure = 0, failure

    def __call__(self) -> HttpResponse:
        self.requests += 1
        if self.failure:
            raise self.failure
        return ANSWER


def at(now: float, folder: Path, identity: str = "acme", seconds: float = 50) -> SharedResponses:
    """Return the shared responses as a process sees them that polls at `now`."""
    return SharedResponses(Cache(str(folder), identity, lambda: now), seconds)


def asked(
    shared: SharedResponses, upstream: Callable[[], HttpResponse], path: str = USAGE
) -> HttpResponse:
    return shared.response(path, QUERY, upstream, lambda: 5.0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def held(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], AbstractContextManager[None]]:
    """Function that holds the lock of an entry during a `with` block, as a stopped process does."""

    @contextmanager
    def hold(name: str) -> Iterator[None]:
        stopped = Cache(str(folder), "acme", lambda: float(NOON))
        with stopped.exclusive(name, 1):
            yield

    monkeypatch.setattr(storage_cache, "BRIEF_SECONDS", 0.1)
    return hold


def test_one_process_requests_a_response_and_others_read_it(folder: Path) -> None:
    upstream = Upstream()
    first = asked(at(NOON, folder), upstream)
    second = asked(at(NOON, folder), upstream)

    assert (first, upstream.requests) == (ANSWER, 1)
    assert (second.status, second.body) == (200, ANSWER.body)
    assert second.headers == {"date": ANSWER.headers["date"]}


def test_the_order_of_parameters_does_not_matter_and_their_values_do(folder: Path) -> None:
    upstream, shared = Upstream(), at(NOON, folder)
    asked(shared, upstream)
    shared.response(USAGE, QUERY[::-1], upstream, lambda: 5.0)
    assert upstream.requests == 1
    shared.response(USAGE, [*QUERY, ("page", "2")], upstream, lambda: 5.0)
    shared.response(COSTS, QUERY, upstream, lambda: 5.0)
    assert upstream.requests == 3


def test_another_identity_never_reads_them(folder: Path) -> None:
    upstream = Upstream()
    asked(at(NOON, folder), upstream)
    asked(at(NOON, folder, "another key"), upstream)
    assert upstream.requests == 2


@pytest.mark.parametrize(("path", "seconds"), [(USAGE, 50), (COSTS, 300)])
def test_they_expire(folder: Path, path: str, seconds: int) -> None:
    upstream = Upstream()
    for now, requests in ((NOON, 1), (NOON + seconds - 1, 1), (NOON + seconds, 2)):
        asked(at(now, folder), upstream, path)
        assert upstream.requests == requests


@pytest.mark.parametrize("kind", sorted(set(FAILURES) - {*NOT_CACHED, "incomplete"}))
def test_a_failure_is_shared_too(folder: Path, kind: str) -> None:
    upstream = Upstream(ApiFailure(kind, "usage/images", "a reason", "a.scope"))
    sentences = set()
    for _ in range(3):
        with pytest.raises(ApiFailure) as raised:
            asked(at(NOON, folder), upstream)
        sentences.add((str(raised.value), raised.value.scope))
    assert (upstream.requests, len(sentences)) == (1, 1)


@pytest.mark.parametrize("kind", NOT_CACHED)
def test_a_failure_of_the_caller_or_of_the_way_is_not(folder: Path, kind: str) -> None:
    upstream = Upstream(ApiFailure(kind, "usage/images"))
    for _ in range(2):
        with pytest.raises(ApiFailure):
            asked(at(NOON, folder), upstream)
    assert upstream.requests == 2


def test_a_refused_page_token_is_not_shared(folder: Path) -> None:
    upstream = Upstream(StalePage("contract", "costs", "the API refused its own page token"))
    for _ in range(2):
        with pytest.raises(StalePage):
            asked(at(NOON, folder), upstream)
    assert upstream.requests == 2


def test_threads_that_ask_at_once_make_one_request(folder: Path) -> None:
    upstream, shared, ready = Upstream(), at(NOON, folder), threading.Barrier(8)

    def ask() -> None:
        ready.wait(5)
        asked(shared, upstream)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert upstream.requests == 1


def test_who_waits_too_long_says_what_it_waited_for(folder: Path) -> None:
    holder, waiter = at(NOON, folder), at(NOON, folder)

    def late() -> HttpResponse:
        with pytest.raises(ApiFailure) as raised:
            waiter.response(USAGE, QUERY, Upstream(), lambda: 0.05)
        assert str(raised.value) == (
            "usage/images: the poll ran out of time (another process requests it and has no "
            "response yet); raise openai.timeout, or narrow the window"
        )
        return ANSWER

    asked(holder, late)


def test_a_thread_that_waited_for_another_one_has_less_time_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it waits for the other processes once more, beyond its deadline."""
    cache, given = Cache(str(folder), "acme", lambda: float(NOON)), []

    @contextmanager
    def locked(private: PrivateFolder, name: str, seconds: float) -> Iterator[None]:
        given.append(seconds)
        yield

    def wait() -> None:
        with cache.exclusive("question", 5.0):
            pass

    monkeypatch.setattr(PrivateFolder, "locked", locked)
    thread = threading.Thread(target=wait)
    with cache.exclusive("question", 9.0):
        thread.start()
        thread.join(0.05)
    thread.join(10)
    assert given[1] < 5.0 - 0.04


HOLDER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from tests.storage.test_shared_responses import NOON, Path, asked, at
asked(at(NOON, Path(sys.argv[1])), lambda: print("requests", flush=True) or time.sleep(60))
"""


def test_the_lock_of_a_killed_process_is_free(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), str(ROOT)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "requests\n"
        os.kill(holder.pid, signal.SIGKILL)
    upstream = Upstream()
    assert (asked(at(NOON, folder), upstream), upstream.requests) == (ANSWER, 1)


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b'{"made": "x", "ttl": 1}\n{}', b'{"other": 1}\n', b"\xff\n"]
)
def test_a_damaged_file_is_requested_again(folder: Path, damage: bytes) -> None:
    upstream = Upstream()
    asked(at(NOON, folder), upstream)
    (path,) = folder.iterdir()
    path.write_bytes(damage)
    assert asked(at(NOON, folder), upstream).body == ANSWER.body
    assert upstream.requests == 2


@pytest.mark.parametrize("position", [0, 40, -30, -1])
def test_a_changed_byte_is_found(folder: Path, position: int) -> None:
    asked(at(NOON, folder), Upstream())
    (path,) = folder.iterdir()
    stored = bytearray(path.read_bytes())
    stored[position] ^= 1
    path.write_bytes(stored)
    upstream = Upstream()
    assert (asked(at(NOON, folder), upstream).body, upstream.requests) == (ANSWER.body, 1)


def test_a_response_under_another_name_is_refused(folder: Path) -> None:
    shared, upstream = at(NOON, folder), Upstream()
    asked(shared, upstream)
    (images,) = folder.iterdir()
    asked(shared, upstream, COSTS)
    (costs,) = set(folder.iterdir()) - {images}
    costs.write_bytes(images.read_bytes())
    asked(shared, upstream, COSTS)
    assert upstream.requests == 3


def test_files_are_private_and_no_lock_stays(folder: Path) -> None:
    asked(at(NOON, folder), Upstream())
    (path,) = folder.iterdir()
    assert (path.suffix, stat.S_IMODE(path.stat().st_mode)) == (".body", 0o600)


def test_on_a_full_disk_nobody_waits_for_others(
    folder: Path,
    held: Callable[[str], AbstractContextManager[None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They would go one by one, each until its deadline."""
    question = f"GET {USAGE} {sorted(QUERY)}"

    def full(*paths: str, **folders: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "replace", full)
        asked(at(NOON, folder), Upstream())
    with held(question):
        assert asked(at(NOON, folder), Upstream()).body == ANSWER.body
    for mark in folder.glob("full*"):
        next(folder.glob("*.body")).unlink()
        os.utime(mark, (time.time() - 60,) * 2)
    with held(question), pytest.raises(ApiFailure):
        at(NOON, folder).response(USAGE, [*QUERY], Upstream(), lambda: 0.01)


def test_a_folder_that_vanishes_while_it_is_cleaned_is_no_fault(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(path: int) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(os, "scandir", gone)
    assert asked(at(NOON, folder), Upstream()) == ANSWER


def test_without_a_folder_each_process_requests(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    upstream, shared = Upstream(), at(NOON, tmp_path / "file")
    assert asked(shared, upstream) == asked(shared, upstream) == ANSWER
    assert upstream.requests == 2


def test_old_bodies_are_deleted_soon_and_the_oldest_of_too_many(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked(at(NOON, folder), Upstream())
    asked(at(NOON + 400, folder), Upstream())
    assert len([*folder.iterdir()]) == 1

    monkeypatch.setattr(storage_cache, "_MOST_LARGE", 250)
    for second in range(401, 411):
        at(NOON + second, folder).response(USAGE, [("n", str(second))], Upstream(), lambda: 5.0)
    (*_, newest) = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime)
    assert newest.stat().st_mtime == NOON + 460
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 250 + newest.stat().st_size


def test_notes_are_changed_although_a_stopped_process_holds_their_lock(
    folder: Path,
    held: Callable[[str], AbstractContextManager[None]],
) -> None:
    notes = SharedNotes(Cache(str(folder), "acme", lambda: float(NOON)))
    with held("notes on the API"):
        notes.change(lambda found: found.update(down={"costs": []}))
    assert notes.read() == {"down": {"costs": []}}


class TestPollTime:
    def time(self, folder: Path, now: int, seconds: int = 50) -> int:
        return poll_time(Cache(str(folder), "acme", lambda: float(now)), now, seconds)

    def test_processes_share_the_time_of_the_first(self, folder: Path) -> None:
        starts = [NOON, NOON + 1, NOON + 49, NOON - 3]
        assert [self.time(folder, now) for now in starts] == [NOON] * 4
        assert self.time(folder, NOON + 50) == NOON + 50

    def test_it_ends_at_midnight(self, folder: Path) -> None:
        assert self.time(folder, MIDNIGHT - 5) == MIDNIGHT - 5
        assert self.time(folder, MIDNIGHT) == MIDNIGHT

    def test_a_clock_that_was_set_back_begins_again(self, folder: Path) -> None:
        assert self.time(folder, NOON) == NOON
        assert self.time(folder, NOON - 60) == NOON - 60

    def test_a_process_that_was_stopped_with_the_lock_is_not_waited_for(
        self, folder: Path, held: Callable[[str], AbstractContextManager[None]]
    ) -> None:
        with held("time of the poll"):
            assert self.time(folder, NOON) == NOON
            assert self.time(folder, NOON + 9) == NOON

    @pytest.mark.parametrize("value", ["x", None, 1.5, [NOON], {"at": NOON}, True])
    def test_a_strange_value_is_replaced(self, folder: Path, value: object) -> None:
        Cache(str(folder), "acme", lambda: float(NOON)).put("time of the poll", value, 50)
        assert self.time(folder, NOON) == NOON
        assert json.loads(next(folder.iterdir()).read_bytes().split(b"\n")[1])["value"] == NOON
