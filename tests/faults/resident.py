"""Faults of the resident mode, `lm-openai serve --listen`, and of its clients."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.faults.rows import fault
from tests.faults.scene import SCRIPT, SUITE, Scene, require

ENDS = 5.0
"""Seconds that a stop may take, beside the slack of the machine."""
CUT = 10.0
"""Seconds after which a client is cut that has not sent its request."""
FAILED = re.compile(r'(#.*\n)*openai_poll_success\{datasource="completion_by_model",.*\} 0\n')
POLLED = re.compile(r"^openai_poll_timestamp_seconds\{.*\} (\d+)$", re.MULTILINE)
SERVING = re.compile(r"serving (http://127\.0\.0\.1:(\d+))/metrics\n")


class Served:
    """Resident process; `url` is its base URL, `port` its port on 127.0.0.1."""

    def __init__(self, scene: Scene, **environ: str) -> None:
        self._scene = scene
        words = ("serve", SCRIPT, "--listen", "0", "--timeout", "40")
        self.running = scene.start(SUITE, *words, timeout=scene.left(), environ=environ)
        scene.until(lambda: SERVING.search(self.running.errors) or self.running.ended)
        found = SERVING.search(self.running.errors)
        require(found is not None, f"it does not serve: {self.running.errors}")
        assert found is not None
        self.url, self.port = found[1], int(found[2])

    def page(self, path: str = "/metrics") -> str:
        """Return a page, which has the numbers of an undisturbed poll or is a failed poll."""
        with urlopen(self.url + path, timeout=45) as response:
            text: str = response.read().decode()
        if path == "/metrics" and not FAILED.fullmatch(text):
            polled = POLLED.search(text)
            require(polled is not None, f"no time of the poll in {text[-200:]}")
            assert polled is not None
            right = self._scene.printed(SCRIPT, int(polled[1]), "prometheus")
            require(text == right, "other numbers than without the fault")
        return text

    def healthy(self) -> None:
        """Require that it answers at once."""
        require(self.page("/-/healthy") == "ok\n", "it is not healthy")

    def connected(self, data: bytes) -> socket.socket:
        """Return a connection over which the data was sent."""
        client = socket.create_connection(("127.0.0.1", self.port), 30)
        client.sendall(data)
        return client

    def stop(self) -> None:
        """Stop it by SIGTERM and require that it ends soon, quietly and with status 0."""
        began = time.monotonic()
        self.running.process.send_signal(signal.SIGTERM)
        ran = self._scene.finish(self.running)[0]
        seconds = time.monotonic() - began
        require(ran.status == 0, f"status {ran.status}: {ran.sentence}")
        late = seconds - ENDS
        require(late <= self._scene.slack, f"it ended {seconds:.1f} s after the signal")


@contextmanager
def served(scene: Scene, **environ: str) -> Iterator[Served]:
    """Run the resident mode for the `with` block, and stop it."""
    found = Served(scene, **environ)
    yield found
    found.stop()


@fault("serve: SIGTERM while 10 scrapes wait for a response that does not come", True, 90)
def terminated(scene: Scene) -> None:
    """It ends at once; a scrape gets no part of a page."""
    scene.demo.fault("slow", seconds=60)
    with ThreadPoolExecutor(10) as pool, served(scene) as resident:
        scrapes = [pool.submit(answered, resident) for _ in range(10)]
        scene.until(lambda: scene.demo.requests)
        resident.healthy()
    scene.killed.append(resident.running)  # it leaves locks, which are removed a day later
    found = [scrape.result() for scrape in scrapes]
    require(found == [""] * 10, f"pages {found}")


def answered(resident: Served) -> str:
    """Return a page, or "" if there is none."""
    with suppress(OSError, HTTPException):
        return resident.page()
    return ""


@fault("serve: 24 clients that send or read byte by byte, or not at all", False, 90)
def slow_clients(scene: Scene) -> None:
    """Others get their page meanwhile, and the slow ones are cut."""
    sent = (b"", b"GET /metr", b"GET /metrics HTTP/1.1\r\n", b"GET /metrics HTTP/1.1\r\n\r\n")
    with served(scene) as resident:
        slow = [resident.connected(sent[number % len(sent)]) for number in range(24)]
        until = time.monotonic() + CUT + 5
        while time.monotonic() < until:
            resident.page()
            for client in slow[2::4]:
                with suppress(OSError):
                    client.send(b"a")
            time.sleep(0.5)
        for number, client in enumerate(slow):
            with client:
                whole = number % len(sent) == len(sent) - 1
                client.settimeout(CUT)
                require(_rest(client).startswith(b"HTTP/1.0 200" if whole else b""), "no page")
        resident.page()


def _rest(client: socket.socket) -> bytes:
    """Return what comes until the end of a connection; raises TimeoutError if it stays open."""
    found = b""
    try:
        while piece := client.recv(65536):
            found += piece
    except ConnectionError:
        return found
    return found


@fault("serve: 300 scrapes at once, more than there is room for", False, 90)
def many_clients(scene: Scene) -> None:
    """Each gets the right page or is refused at once; afterwards there is room again."""
    number = scene.many(300)
    with served(scene) as resident, ThreadPoolExecutor(number) as pool:
        found = list(pool.map(lambda _: status(resident), range(number)))
        require(set(found) <= {200, 503}, f"other answers: {set(found)}")
        require(found.count(200) > 0, "nobody got a page")
        resident.healthy()
        resident.page()


def status(resident: Served) -> int:
    """Return the status of a scrape, 503 also for one that was refused without a response."""
    try:
        resident.page()
    except HTTPError as refusal:
        return refusal.code
    except ConnectionError:
        return 503
    return 200


@fault("serve: the API down (connection refused) and back again", False, 150)
def upstream_back(scene: Scene) -> None:
    """No old number is shown meanwhile, and it recovers by itself within about a minute."""
    with served(scene, LM_OPENAI_CACHE_TTL="1s") as resident:
        require(not FAILED.fullmatch(resident.page()), "the first poll failed")
        scene.demo.stop()
        try:
            time.sleep(1.1)
            for _ in range(3):
                require(
                    bool(FAILED.fullmatch(resident.page())), "a number although the API is down"
                )
                resident.healthy()
                time.sleep(1.1)
        finally:
            scene.demo.start()
        while FAILED.fullmatch(resident.page()):
            require(scene.left() > 0, "it does not recover")
            time.sleep(1.1)
        text = resident.running.errors
        require("no connection to the API" in text, f"no reason on stderr: {text}")
        require(text.endswith("all polls succeed again\n"), f"no word of the recovery: {text}")
