"""Responses that hosts share through a real Redis server; a host is a cache folder of its own."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from lm_openai.api.notes import Notes
from lm_openai.api.transport import HttpResponse
from lm_openai.errors import ApiFailure
from lm_openai.storage import cache as storage_cache
from lm_openai.storage import redis_hosts, redis_link
from lm_openai.storage.cache import Cache, SharedNotes
from lm_openai.storage.host_notes import HostNotes
from lm_openai.storage.redis_hosts import Hosts
from lm_openai.storage.redis_link import Link, Server
from lm_openai.storage.shared_responses import SharedResponses, poll_time
from lm_openai.timespans import DAY
from tests.support.paths import ROOT
from tests.support.redis_server import PASSWORD, RedisServer

KEY_OWNER = "a digest of the key"
USAGE, QUERY = "/organization/usage/images", [("start_time", "1")]
BODY = b'{"data": [{"project": "Marketing"}]}'


@pytest.fixture(scope="module")
def running(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer]:
    started = RedisServer(tool("redis-server"), tmp_path_factory.mktemp("redis"))
    yield started
    started.kill()


@pytest.fixture
def server(running: RedisServer) -> RedisServer:
    inside(running).flushall()
    return running


@pytest.fixture
def own_server(tool: Callable[[str], str], tmp_path: Path) -> Iterator[RedisServer]:
    """Server that a test may break."""
    started = RedisServer(tool("redis-server"), tmp_path / "redis")
    yield started
    started.kill()


def inside(server: RedisServer) -> Any:
    return redis.Redis(port=server.port, password=PASSWORD)


def keys(server: RedisServer, end: bytes = b"") -> list[bytes]:
    return sorted(key for key in inside(server).scan_iter() if key.endswith(end))


class Host:
    """One host: its folder, its clock and one run on it."""

    def __init__(
        self, server: RedisServer, folder: Path, ahead: float = 0.0, password: str = PASSWORD
    ) -> None:
        self.folder, self.clock = folder, lambda: time.time() + ahead
        self.hosts = Hosts(Link(Server(server.url, password), self.clock))

    def cache(self, now: float) -> Cache:
        return Cache(str(self.folder), KEY_OWNER, lambda: now, hosts=self.hosts)

    def poll_time(self) -> int:
        now = int(self.clock())
        return poll_time(self.cache(now), now, 50, self.hosts)

    def get(self, fetch: Callable[[], HttpResponse], now: float = 0, left: float = 5) -> bytes:
        shared = SharedResponses(self.cache(now or time.time()), 50, self.hosts)
        until = time.monotonic() + left
        return shared.response(USAGE, QUERY, fetch, lambda: until - time.monotonic()).body

    def notes(self) -> Notes:
        cache, ticks = Cache(str(self.folder), KEY_OWNER, time.time), itertools.count()
        name = cache.owned(storage_cache.NOTES)
        store = HostNotes(SharedNotes(cache), self.hosts, name, lambda: float(next(ticks)))
        return Notes(store, self.hosts.link.time)


class Upstream:
    """API of a test: it counts the requests and answers after `seconds`, or fails."""

    def __init__(self, seconds: float = 0, body: bytes = BODY, kind: str = "") -> None:
        self.requests, self._seconds, self._body, self._kind = 0, seconds, body, kind

    def __call__(self) -> HttpResponse:
        self.requests += 1
        time.sleep(self._seconds)
        if self._kind:
            raise ApiFailure(self._kind, "usage/images")
        return HttpResponse(200, {"x": "y"}, self._body)


@pytest.fixture
def host(server: RedisServer, tmp_path: Path) -> Callable[..., Host]:
    """Function that returns the host of that name."""
    return lambda name, *rest: Host(server, tmp_path / name, *rest)


def test_three_hosts_at_once_make_one_request(host: Callable[..., Host]) -> None:
    upstream, bodies, ready = Upstream(0.3), list[bytes](), threading.Barrier(9)

    def ask(name: str) -> None:
        one = host(name)
        ready.wait(5)
        bodies.append(one.get(upstream))

    threads = [threading.Thread(target=ask, args=(name,)) for name in "abc" * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert (upstream.requests, bodies) == (1, [BODY] * 9)


def test_the_local_folder_is_read_first(own_server: RedisServer, tmp_path: Path) -> None:
    upstream = Upstream()
    assert Host(own_server, tmp_path / "a").get(upstream) == BODY
    assert Host(own_server, tmp_path / "b").get(upstream) == BODY
    own_server.kill()
    again = Host(own_server, tmp_path / "b")
    assert (again.get(upstream), again.hosts.trouble, upstream.requests) == (BODY, "", 1)


def test_a_cached_value_is_fetched_by_one_host(host: Callable[..., Host]) -> None:
    fetched = itertools.count(1)
    for name in "abc":
        cache = host(name).cache(time.time())
        assert cache.remember("names", 3600, lambda: {"fetched": next(fetched)}) == {"fetched": 1}


def test_an_entry_is_as_old_as_its_poll(host: Callable[..., Host]) -> None:
    upstream, now = Upstream(), time.time()
    host("a").get(upstream, now)
    host("b").get(upstream, now + 49)
    assert upstream.requests == 1
    host("c").get(upstream, now + 50)
    host("d").get(upstream, now + 50)
    assert upstream.requests == 2


def test_redis_forgets_them(host: Callable[..., Host], server: RedisServer) -> None:
    host("a").poll_time()
    host("a").get(Upstream())
    host("a").cache(time.time()).remember("names", 40, dict)
    lives = {key: inside(server).pttl(key) / 1000 for key in keys(server)}
    assert all(0 < seconds <= 3600 for seconds in lives.values())
    assert sorted(round(s) for key, s in lives.items() if key.endswith(b":entry")) == [
        100, 110, 110,
    ]  # fmt: skip


class TestPollTime:
    def test_hosts_whose_clocks_differ_by_seconds_share_it(self, host: Callable[..., Host]) -> None:
        real = time.time()
        times = {host(name, ahead).poll_time() for name, ahead in (("a", 6), ("b", -6), ("c", 0))}
        assert len(times) == 1
        assert abs(times.pop() - real) < 2

    def test_a_host_keeps_it_in_its_folder(
        self, host: Callable[..., Host], server: RedisServer
    ) -> None:
        first = host("a", -6).poll_time()
        inside(server).flushall()
        again = host("a", -6)
        assert (again.poll_time(), again.hosts.link._client) == (first, None)

    def test_a_host_with_a_wrong_clock_works_alone(self, host: Callable[..., Host]) -> None:
        shared, wrong, upstream = host("a").poll_time(), host("b", 600), Upstream()
        assert abs(wrong.poll_time() - shared - 600) < 3
        host("a").get(upstream)
        wrong.get(upstream)
        assert upstream.requests == 2
        assert "clock" in wrong.hosts.trouble
        assert "differ by 600 s" in wrong.hosts.trouble

    def test_it_ends_at_midnight(self, host: Callable[..., Host]) -> None:
        one = host("a")
        midnight = DAY * (int(time.time()) // DAY + 1)
        one.hosts.link._connected()
        found = []
        for seconds in (-9, -1, 0, 3):
            one.hosts.link._ahead = midnight + seconds - time.time() + 0.2
            found.append(one.hosts.poll_time(b"began", 1, 50)[0] - midnight)
        assert found == [-9, -9, 0, 0]


HOLDER = """
import sys, time
sys.path.insert(0, sys.argv[3])
from tests.storage.test_redis_hosts import *
class Address(RedisServer):
    def __init__(self, port): self.port = port
one = Host(Address(int(sys.argv[1])), Path(sys.argv[2]))
one.get(lambda: print("requests", flush=True) or time.sleep(60), left=60)
"""


def test_a_killed_holder_costs_one_more_request(
    host: Callable[..., Host], server: RedisServer, tmp_path: Path, monkeypatch: Any
) -> None:
    words = [sys.executable, "-c", HOLDER, str(server.port), str(tmp_path / "x"), str(ROOT)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "requests\n"
        os.kill(holder.pid, signal.SIGKILL)
    (lease,) = keys(server, b":lease")
    assert 5 < inside(server).pttl(lease) / 1000 <= redis_hosts.LEASE
    inside(server).pexpire(lease, 300)  # the rest of the lease, without the wait
    upstream = Upstream()
    assert [host(name).get(upstream, left=30) for name in "ab"] == [BODY, BODY]
    assert upstream.requests == 1


def test_a_slow_holder_renews_its_lease(
    host: Callable[..., Host], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_hosts, "LEASE", 0.4)
    monkeypatch.setattr(redis_hosts, "RENEWED_EVERY", 0.1)
    upstream, holder = Upstream(1.2), host("a")
    thread = threading.Thread(target=lambda: holder.get(upstream))
    thread.start()
    time.sleep(0.1)
    assert (host("b").get(upstream), upstream.requests) == (BODY, 1)
    thread.join(5)
    time.sleep(0.3)
    assert holder.hosts._renewer is None


def test_a_holder_that_lost_its_lease_overwrites_nothing(
    host: Callable[..., Host], server: RedisServer
) -> None:
    def stopped_meanwhile() -> HttpResponse:
        (lease,) = keys(server, b":lease")
        inside(server).delete(lease)
        assert host("b").get(Upstream(body=b'{"newer": 1}')) == b'{"newer": 1}'
        return HttpResponse(200, {}, b'{"older": 1}')

    assert host("a").get(stopped_meanwhile) == b'{"older": 1}'
    assert host("c").get(Upstream()) == b'{"newer": 1}'


def test_nor_does_one_from_before_redis_lost_everything(
    host: Callable[..., Host], server: RedisServer
) -> None:
    def restarted_meanwhile() -> HttpResponse:
        inside(server).flushall()
        with pytest.raises(ApiFailure):  # it takes a lease and shares nothing
            host("b").get(Upstream(kind="scope"))
        return HttpResponse(200, {}, b'{"older": 1}')

    host("a").get(restarted_meanwhile)
    assert host("c").get(Upstream()) == BODY


def test_a_failure_stays_on_its_host_and_frees_the_lease(host: Callable[..., Host]) -> None:
    for kind in ("key", "scope", "unreachable", "proxy", "tls", "throttled", "down"):
        with pytest.raises(ApiFailure):
            host(kind).get(Upstream(kind=kind))
    upstream = Upstream()
    assert (host("fine").get(upstream), upstream.requests) == (BODY, 1)


def test_who_waits_for_half_of_its_time_requests_itself(host: Callable[..., Host]) -> None:
    def hanging() -> HttpResponse:
        waiter, upstream = host("b"), Upstream()
        assert waiter.get(upstream, left=0.4) == BODY
        began = time.monotonic()
        waiter.folder = waiter.folder / "another"
        assert waiter.get(upstream, left=60) == BODY
        assert (upstream.requests, time.monotonic() - began < 10) == (2, True)
        return HttpResponse(200, {}, BODY)

    host("a").get(hanging)


def test_a_large_response_is_requested_by_each_host(
    host: Callable[..., Host], server: RedisServer
) -> None:
    upstream = Upstream(body=b'"' + b"x" * redis_hosts.LARGEST + b'"')
    for name in "aab":
        host(name).get(upstream)
    assert upstream.requests == 2
    assert all(inside(server).memory_usage(key) < 2000 for key in keys(server))
    cache, long = host("a").cache(time.time()), "x" * redis_hosts.LARGEST
    assert cache.remember("long", 60, lambda: long) == long
    assert host("b").cache(time.time()).remember("long", 60, lambda: "own") == "own"


class TestStrangers:
    """Entry of somebody who can use that Redis and does not know the key."""

    VALUES = {"empty": b"", "x": b"x", "lines": b"{}\n{}", "bytes": b"\xff", "nines": b"9" * 500}

    @pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
    def test_values_are_ignored(
        self, host: Callable[..., Host], server: RedisServer, value: bytes
    ) -> None:
        self.shared(host)
        for key in keys(server):
            inside(server).set(key, value)
        self.works(host)

    def test_other_types_are_ignored(self, host: Callable[..., Host], server: RedisServer) -> None:
        self.shared(host)
        for key in keys(server):
            inside(server).delete(key)
            inside(server).rpush(key, "a")
            inside(server).sadd(key + b"2", "a")
        self.works(host)

    def test_an_entry_is_bound_to_its_name_and_its_key(
        self, host: Callable[..., Host], server: RedisServer
    ) -> None:
        self.shared(host)
        entries = keys(server, b":entry")
        kept = [inside(server).get(key) for key in entries]
        for key, other in zip(entries, kept[1:] + kept[:1]):
            inside(server).set(key, other)
        self.works(host)

    def test_a_kept_copy_is_not_served_later(
        self, host: Callable[..., Host], server: RedisServer
    ) -> None:
        upstream, now = Upstream(), time.time()
        host("a").get(upstream, now)
        (entry,) = keys(server, b":entry")
        inside(server).persist(entry)
        host("b").get(upstream, now + 60)
        assert upstream.requests == 2

    def test_names_do_not_show_questions_and_no_key_is_stored(
        self, host: Callable[..., Host], server: RedisServer
    ) -> None:
        self.shared(host)
        for key in keys(server):
            assert key.startswith(b"lm-openai:{")
            for secret in (b"usage", b"names", KEY_OWNER.encode()):
                assert secret not in key
                assert KEY_OWNER.encode() not in inside(server).get(key)

    def shared(self, host: Callable[..., Host]) -> None:
        host("a").poll_time()
        host("a").get(Upstream())
        host("a").cache(time.time()).remember("names", 60, lambda: "own")
        host("a").notes().throttled("usage/images", 5, 5.0)

    def works(self, host: Callable[..., Host]) -> None:
        """Two more hosts poll as if nothing were there, and share."""
        upstream, other = Upstream(), host("b")
        assert abs(other.poll_time() - time.time()) < 3
        assert other.get(upstream) == host("c").get(upstream) == BODY
        assert other.cache(time.time()).remember("names", 60, lambda: "new") == "new"
        assert host("c").cache(time.time()).remember("names", 60, str) == "new"
        assert other.notes().pause("usage/images").until == 0
        assert (upstream.requests, other.hosts.trouble) == (1, "")


class TestNotes:
    def test_a_pause_and_an_outage_are_shared_and_end_for_all(
        self, host: Callable[..., Host]
    ) -> None:
        late, ahead = host("a"), host("b")
        first, second = late.notes(), ahead.notes()
        for one, seconds in ((late, -0.5), (ahead, 0.5)):  # a slow network misleads them
            one.hosts.link.now()
            one.hosts.link._ahead += seconds
        first.throttled("usage/images", 30, 30.0)
        first.failed("costs", ApiFailure("down", "costs", "HTTP 503"), time.time())
        assert second.pause("usage/images").until > time.time() + 25
        outage = second.outage("costs")
        assert outage is not None
        assert "HTTP 503" in str(outage.failure("costs"))
        assert (second.claim("costs", 0), first.claim("costs", 0)) == (True, False)

        second.answered("costs", time.time() + 1)
        second.answered("usage/images", time.time() + 1)
        assert first.outage("costs") is None
        assert first.pause("usage/images").times == 0

    @pytest.mark.parametrize("kind", ["unreachable", "tls", "deadline"])
    def test_what_concerns_one_host_stays_there(
        self, host: Callable[..., Host], server: RedisServer, kind: str
    ) -> None:
        host("a").notes().failed("costs", ApiFailure(kind, "costs"), time.time())
        assert host("b").notes().outage("costs") is None
        assert host("a").notes().outage("costs") is not None
        assert keys(server) == []

    def test_hosts_that_edit_at_once_lose_nothing(self, host: Callable[..., Host]) -> None:
        def edit(name: str) -> None:
            notes = host(name).notes()
            for number in range(10):
                notes.failed(f"{name}{number}", ApiFailure("down", "costs"), time.time())

        threads = [threading.Thread(target=edit, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert len(host("c").notes()._store.read()["down"]) == 20

    def test_without_redis_they_are_local(self, own_server: RedisServer, tmp_path: Path) -> None:
        one = Host(own_server, tmp_path / "a")
        notes = one.notes()
        own_server.kill()
        notes.throttled("usage/images", 30, 30.0)
        assert notes.pause("usage/images").times == 1
        assert Host(own_server, tmp_path / "a").notes().pause("usage/images").times == 1


class TestFaults:
    def test_killed_and_restarted_empty(self, own_server: RedisServer, tmp_path: Path) -> None:
        upstream = Upstream()

        def while_killed() -> HttpResponse:
            own_server.kill()
            return upstream()

        first = Host(own_server, tmp_path / "a")
        assert first.get(while_killed) == BODY
        assert f"no connection to Redis at 127.0.0.1:{own_server.port}" in first.hosts.trouble
        assert Host(own_server, tmp_path / "b").get(upstream) == BODY
        own_server.start()
        for name in "cd":
            again = Host(own_server, tmp_path / name)
            assert (again.get(upstream), again.hosts.trouble) == (BODY, "")
        assert upstream.requests == 3

    def test_a_server_that_does_not_respond_is_asked_once(
        self, own_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_link, "SLOWEST", 0.2)
        own_server.pause()
        one, began = Host(own_server, tmp_path / "a"), time.monotonic()
        for number in range(20):
            one.cache(time.time()).remember(str(number), 60, list)
        assert one.get(Upstream()) == BODY
        assert "did not respond in time" in one.hosts.trouble
        assert time.monotonic() - began < 10  # twenty waits would take longer
        own_server.resume()

    def test_the_name_resolution_hangs(
        self, server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(redis_link, "PATIENCE", 0.2)
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: time.sleep(5))
        one = Host(server, tmp_path / "a")
        assert (one.get(Upstream()), "in time" in one.hosts.trouble) == (BODY, True)

    @pytest.mark.parametrize("password", ["", "a-wrong-password-7"])
    def test_a_wrong_password(self, host: Callable[..., Host], password: str) -> None:
        one = host("a", 0.0, password)
        assert one.get(Upstream()) == BODY
        assert "refused the access; check openai.cache.pass" in one.hosts.trouble
        assert "password-7" not in one.hosts.trouble

    def test_a_full_server(self, own_server: RedisServer, tmp_path: Path) -> None:
        inside(own_server).config_set("maxmemory", "1")
        one = Host(own_server, tmp_path / "a")
        assert one.get(Upstream()) == BODY
        assert "refused a command" in one.hosts.trouble
        assert "used memory" in one.hosts.trouble


def test_the_seal_needs_the_key(server: RedisServer, tmp_path: Path) -> None:
    """The digest of an entry cannot be computed from what Redis holds."""
    one = Host(server, tmp_path / "a")
    one.get(Upstream())
    (entry,) = keys(server, b":entry")
    sealed = inside(server).get(entry)
    content = sealed.partition(b"\n")[2]
    for guess in (b"", entry, b"GET " + USAGE.encode(), b"\0GET " + USAGE.encode()):
        assert storage_cache.seal(guess, content) != sealed
