"""A run ends when openai.timeout is over, whatever hangs, and says so where its host reads it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lm_openai.output.registry import FORMATS
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support.demo_polls import WEDNESDAY
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow

FOLDER = "images_by_model"
SCRIPT = f"from lm_openai.start import main; main({FOLDER!r})"
SUITE = "from lm_openai.start import suite; suite()"
SECONDS = 20
"""Seconds after which a run counts as hanging; its own limit is 1 second."""
ENDED = "the run was ended after 1 s, the limit of openai.timeout: "

NOWHERE = "http://127.0.0.1:9"
HEADER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Talk = Callable[[socket.socket], None]


def trickled_header(client: socket.socket) -> None:
    """Send a byte of a header, so that no single read takes long."""
    client.sendall(b"x")


@contextmanager
def served(first: bytes, further: Talk) -> Iterator[int]:
    """Serve `first` to each client and then call `further` 5 times a second; yield the port."""
    stop = threading.Event()

    def talk(client: socket.socket) -> None:
        with client, suppress(OSError):
            client.sendall(first)
            while not stop.wait(0.2):
                further(client)

    def accept(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                threading.Thread(target=talk, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, args=(server,), daemon=True).start()
        yield server.getsockname()[1]
        stop.set()


def ran(
    url: str,
    home: Path,
    words: Sequence[str] = (),
    before: str = "",
    command: str = SCRIPT,
    stdout: int = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """Run a command with a limit of 1 s after the statements `before`."""
    return subprocess.run(
        [sys.executable, "-c", f"{before}\n{command}", *words],
        cwd=ROOT,
        env={
            "HOME": str(home),
            "LM_OPENAI_ETC": str(home / "etc"),
            "LM_OPENAI_TIMEOUT": "1",
            "OPENAI_ADMIN_KEY": ADMIN_KEY,
            "OPENAI_BASE_URL": url,
        },
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=SECONDS,
    )


HANGING = {
    "a computation": "from lm_openai.collect import pipeline\n"
    "def report(*_, **__):\n"
    "    while True: pass\n"
    "pipeline.poll = report",
    "a file system": "import threading\n"
    "from lm_openai import files\n"
    "files.distrust_way = lambda *_: threading.Event().wait()",
}


@pytest.mark.parametrize("form", FORMATS)
def test_a_run_that_hangs_ends_in_one_sentence_where_the_host_reads_it(
    form: str, tmp_path: Path
) -> None:
    outcome = ran(NOWHERE, tmp_path, ("--format", form), HANGING["a computation"])

    on_stdout = FORMATS[form].errors_on_stdout
    printed, other = outcome.stdout, outcome.stderr
    if not on_stdout:
        printed, other = other, printed
    assert other == ""
    assert printed.count(ENDED) == 1
    assert printed.count("\n") == 1
    assert outcome.returncode == (3 if form == "nagios" else 1)


@pytest.mark.parametrize("what", HANGING)
def test_whatever_hangs_in_the_process_ends(what: str, tmp_path: Path) -> None:
    (tmp_path / "etc" / "thresholds.d").mkdir(parents=True)
    outcome = ran(NOWHERE, tmp_path, before=HANGING[what])

    assert outcome.stdout == ""
    assert outcome.stderr.startswith(ENDED)
    assert outcome.returncode == 1


@pytest.mark.parametrize(
    ("first", "further", "scheme"),
    [
        (HEADER, trickled_header, "http"),
        (b"", trickled_header, "http"),
        (b"", trickled_header, "https"),
    ],
    ids=["header", "status line", "TLS"],
)
@pytest.mark.parametrize(
    ("command", "words"),
    [(SCRIPT, ()), (SUITE, ("doctor",)), (SUITE, ("audit",)), (SUITE, ("collect", "all"))],
    ids=["script", "doctor", "audit", "all"],
)
def test_whatever_trickles_ends(
    first: bytes, further: Talk, scheme: str, command: str, words: Sequence[str], tmp_path: Path
) -> None:
    with served(first, further) as port:
        url = f"{scheme}://127.0.0.1:{port}"
        outcome = ran(url, tmp_path, words, command=command)

    # 0: a DataSource about the collection itself has a result although the API has none
    assert outcome.returncode in (0, 1)
    assert outcome.stdout + outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_reader_that_does_not_read_cannot_hold_the_run(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writing, b" " * 512)
    os.set_blocking(writing, True)
    with Simulator(at=WEDNESDAY, projects=2, models=3) as demo:
        outcome = ran(demo.url, tmp_path, ("--at", str(WEDNESDAY)), stdout=writing)
    os.close(reading)
    os.close(writing)

    assert f"{ENDED}the reader of the output does not read it; " in outcome.stderr
    assert outcome.returncode == 1


def test_the_file_of_a_run_that_is_ended_reports_the_failure_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "openai.prom"
    target.write_text("the output of an earlier poll\n")
    words = ("--format", "prometheus", "--output", str(target))
    outcome = ran(NOWHERE, tmp_path, words, HANGING["a computation"])

    assert outcome.returncode == 1
    assert f'openai_poll_success{{datasource="{FOLDER}",' in target.read_text()
    assert target.read_text().endswith(" 0\n")


def test_threads_that_hang_do_not_hold_a_run_that_has_printed(tmp_path: Path) -> None:
    stuck = "import threading; threading.Thread(target=threading.Event().wait).start()"
    with Simulator(at=WEDNESDAY, projects=2, models=3) as demo:
        outcome = ran(demo.url, tmp_path, ("--at", str(WEDNESDAY), "--timeout", "50"), stuck)

    assert outcome.stderr == ""
    assert outcome.stdout
    assert outcome.returncode == 0


@pytest.mark.parametrize("word", ["--version", "--critcal"])
def test_a_start_without_a_poll_imports_nothing_for_it(word: str, tmp_path: Path) -> None:
    after = (
        "import atexit, os, sys\n"
        "os._exit = sys.exit\n"
        "names = ('lm_openai.files', 'lm_openai.app.watchdog', 'requests', 'select')\n"
        "atexit.register(lambda: print([name for name in names if name in sys.modules]))"
    )
    outcome = ran(NOWHERE, tmp_path, (word,), after)

    assert outcome.stdout.splitlines()[-1] == "[]"


def test_a_poll_of_shared_responses_loads_no_http_library(tmp_path: Path) -> None:
    """Most checks of a host are of this kind: another process requested what they need."""
    before = (
        "import os, sys\n"
        "def end(status):\n"
        "    names = ('requests', 'urllib3', 'ssl', 'http')\n"
        "    os.write(2, repr([name for name in names if name in sys.modules]).encode())\n"
        "    sys.exit(status)\n"
        "os._exit = end"
    )
    with Simulator() as demo:
        words = ("--timeout", "50", "--format")
        first = ran(demo.url, tmp_path, (*words, "json"))
        sent = len(demo.requests)
        second = ran(demo.url, tmp_path, (*words, "zabbix"), before)

    assert (first.returncode, second.returncode) == (0, 0)
    assert len(demo.requests) == sent
    assert second.stderr == "[]"


SCARCE = {
    "a thread": (
        "import threading\n"
        'def refuse(*_): raise RuntimeError("can\'t start new thread")\n'
        "threading.Thread.start = refuse",
        "another thread",
    ),
    "memory": (
        "from lm_openai.collect import pipeline\n"
        "def refuse(*_, **__): raise MemoryError\n"
        "pipeline.poll = refuse",
        "more memory",
    ),
    "open files": (
        "from lm_openai.collect import pipeline\n"
        "def refuse(*_, **__): raise OSError(24, 'Too many open files')\n"
        "pipeline.poll = refuse",
        "another open file",
    ),
}


@pytest.mark.parametrize("what", SCARCE)
def test_a_limit_of_the_system_is_a_sentence_with_its_cure(what: str, tmp_path: Path) -> None:
    before, refused = SCARCE[what]
    outcome = ran(NOWHERE, tmp_path, ("--timeout", "20"), before)

    assert outcome.stdout == ""
    assert outcome.stderr == (
        f"the system refused {refused} to this process; raise its limit, see `ulimit -a`, or lower "
        f"openai.concurrency\n"
    )
    assert outcome.returncode == 1


def test_a_run_that_has_printed_ends_although_no_thread_can_start(tmp_path: Path) -> None:
    before = (
        "import threading; threading.Thread(target=threading.Event().wait).start()\n"
        "from lm_openai.app import runner\n"
        "show = runner.show\n"
        'def refuse(*_): raise RuntimeError("can\'t start new thread")\n'
        "def shown(*words):\n"
        "    found = show(*words)\n"
        "    threading.Thread.start = refuse\n"
        "    return found\n"
        "runner.show = shown"
    )
    with Simulator(at=WEDNESDAY, projects=2, models=3) as demo:
        outcome = ran(demo.url, tmp_path, ("--at", str(WEDNESDAY), "--timeout", "50"), before)

    assert (outcome.stderr, outcome.returncode) == ("", 0)
    assert outcome.stdout
