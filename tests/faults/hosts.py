"""Faults of the Redis server that three hosts share; a host is a cache folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from tests.faults.rows import fault
from tests.faults.scene import Ran, Running, Scene, Untried, require, succeeded
from tests.faults.sharing import SLOW, noted, repeatedly, requested
from tests.support.redis_server import PASSWORD, RedisServer
from tests.support.relay import Relay

LATE = "did not respond in time"
ALONE = "responses are not shared with other hosts"
SHARED_DELAY, LOST_DELAY = 0.03, 3.0
"""Seconds before each reply of a Redis that is slow, and of one that is too slow."""


@contextmanager
def redis(scene: Scene) -> Iterator[RedisServer]:
    """Start a Redis server for the `with` block; raises Untried."""
    program = shutil.which("redis-server")
    if program is None:
        raise Untried("redis-server is not installed")
    server = RedisServer(program, scene.folder / "redis")
    try:
        yield server
    finally:
        server.kill()


def started(scene: Scene, port: int, names: Iterable[str]) -> list[Running]:
    """Start one process for each name of a host, whose Redis is at that port."""
    return [
        scene.start(
            environ={
                "LM_OPENAI_CACHE_DIR": str(scene.folder / name),
                "LM_OPENAI_CACHE_URL": f"redis://127.0.0.1:{port}/0",
                "LM_OPENAI_CACHE_PASS": PASSWORD,
            }
        )
        for name in names
    ]


def alone(*runs: Ran) -> int:
    """Return the number of runs that say why they share nothing with other hosts."""
    return sum(any(ALONE in note for note in run.document["notes"]) for run in runs)


def shared(scene: Scene, *runs: Ran, hosts: int = 1) -> None:
    """Require at most one poll for that many hosts and for each run that says it was alone."""
    succeeded(*runs)
    most = max(requested(scene).values(), default=0)
    require(most <= hosts + alone(*runs), f"{most} requests of one question, {alone(*runs)} alone")


def noted_by(scene: Scene, processes: list[Running], words: str) -> None:
    """Check that the processes succeed, each with these words in a note."""
    for run in scene.finish(*processes):
        succeeded(run)
        noted(run, words)


@fault("Redis killed while 9 processes of 3 hosts poll", True, 90, **SLOW)
def redis_killed(scene: Scene) -> None:
    """Each host goes on with its own folder, and who comes later says so."""
    with redis(scene) as server:
        running = started(scene, server.port, "abc" * 3)
        scene.until(lambda: scene.demo.requests)
        server.kill()
        shared(scene, *scene.finish(*running), hosts=3)
        noted_by(scene, started(scene, server.port, "de"), "no connection to Redis")


@fault("Redis restarted empty again and again while 9 processes of 3 hosts poll", False, 90, **SLOW)
def redis_restarted(scene: Scene) -> None:
    """Lost responses are requested again; afterwards new hosts share one poll."""

    def restart() -> None:
        server.kill()
        server.start()

    with redis(scene) as server:
        running = started(scene, server.port, "abc" * 3)
        with repeatedly(restart, 0.3):
            succeeded(*scene.finish(*running))
        scene.demo.clear()
        shared(scene, *scene.finish(*started(scene, server.port, "def")))


@fault("Redis slow, then too slow, for 3 hosts", False, 90)
def redis_slow(scene: Scene) -> None:
    """A slow one is used; without one that is too slow each host works alone and says so."""
    with redis(scene) as server, Relay(server.port) as relay:
        relay.delay = SHARED_DELAY
        shared(scene, *scene.finish(*started(scene, relay.port, "abc")))
        relay.delay = LOST_DELAY
        noted_by(scene, started(scene, relay.port, "def"), LATE)


@fault("Redis stopped (SIGSTOP) while 6 processes of 3 hosts poll, then goes on", False, 90, **SLOW)
def redis_stopped(scene: Scene) -> None:
    """Nobody waits for it until the limit; afterwards it is used again."""
    with redis(scene) as server:
        running = started(scene, server.port, "abc" * 2)
        scene.until(lambda: scene.demo.requests)
        server.pause()
        shared(scene, *scene.finish(*running), hosts=3)
        noted_by(scene, started(scene, server.port, "de"), LATE)
        server.resume()
        scene.demo.clear()
        shared(scene, *scene.finish(*started(scene, server.port, "fgh")))


def emptied(scene: Scene, server: RedisServer, relay: Relay) -> None:
    """End the cut, and let nobody find what was shared or requested before."""
    relay.heal()
    server.kill()
    server.start()
    scene.demo.clear()


@fault("one of 3 hosts cut off from Redis, before its poll and in the middle of it", False, 90)
def partitioned(scene: Scene) -> None:
    """That host works alone and says so, the others share; when the cut is over all share."""
    with redis(scene) as server, Relay(server.port) as relay:
        relay.cut()
        (lost,) = started(scene, relay.port, "c")
        shared(scene, *scene.finish(*started(scene, server.port, "ab")), hosts=2)
        noted_by(scene, [lost], LATE)
        emptied(scene, server, relay)
        scene.demo.fault("slow", seconds=1, times=2)
        running = started(scene, relay.port, "f") + started(scene, server.port, "de")
        scene.until(lambda: scene.demo.requests)
        relay.cut()
        shared(scene, *scene.finish(*running), hosts=2)
        emptied(scene, server, relay)
        shared(scene, *scene.finish(*started(scene, relay.port, "ghi")))
        require(bool(scene.demo.requests), "nothing was requested")
