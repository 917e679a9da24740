"""CPU of a resident poll, compared with a one-shot poll, and memory over many polls.

`./run python tests/bench/resident.py [POLLS [PROJECTS]]`: the API is in a process of its own. A
resident poll is a line or a scrape of `lm-openai serve`; the one-shot poll is the script. Both poll
one DataSource of 50 projects, or PROJECTS: with new responses for each poll (openai.cache.ttl=0s),
and within the time to live.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
FOLDER = "completion_by_model"
WORDS = ["--format", "prometheus"]


class Used(NamedTuple):
    """CPU seconds and resident KiB of a process."""

    cpu: float
    memory: int


class Resident:
    """A `lm-openai serve` process that polls for a scrape or for a line."""

    def __init__(self, environ: dict[str, str], *words: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lm_openai.start", "serve", FOLDER, *words],
            env=environ, text=True, cwd=ROOT,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._url = self._greeting() if "--listen" in words else ""

    def _greeting(self) -> str:
        assert self._process.stderr is not None
        return self._process.stderr.readline().split()[1]

    def poll(self) -> None:
        """Poll once and read the whole output."""
        if self._url:
            urlopen(self._url).read()
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        end = 'openai_poll_unjudged{datasource="'
        while not self._process.stdout.readline().startswith(end):
            pass

    def used(self) -> Used:
        """Return what the process has used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        kilobytes = int(status.partition("VmRSS:")[2].split()[0])
        return Used(ticks / os.sysconf("SC_CLK_TCK"), kilobytes)

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        self._process.wait(10)


def one_shot(environ: dict[str, str], count: int) -> float:
    """Return the CPU seconds of a script's poll."""
    before = _children()
    script = ROOT / "modules" / FOLDER / f"{FOLDER}.py"
    for _ in range(count):
        words = [sys.executable, str(script), *WORDS]
        subprocess.run(words, env=environ, check=True, stdout=subprocess.DEVNULL)
    return (_children() - before) / count


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(name: str, base: float, resident: Resident, count: int) -> None:
    """Print the CPU of a resident poll and the memory after a part and all of the polls."""
    warm = max(20, count // 10)
    for _ in range(warm):
        resident.poll()
    before = resident.used()
    for _ in range(count):
        resident.poll()
    after = resident.used()
    resident.stop()
    cpu = (after.cpu - before.cpu) / count
    print(
        f"{name:42}{cpu * 1000:8.2f} ms{cpu / base:8.3f} of a one-shot poll; memory "
        f"{before.memory} KiB after {warm}, {after.memory} KiB after {warm + count} polls"
    )


def main(count: int = 200, projects: int = 50) -> None:
    """Measure and print."""
    program = [
        sys.executable,
        "-m",
        "lm_openai.start",
        "simulate",
        "--scale",
        f"projects={projects}",
    ]
    with (
        TemporaryDirectory() as folder,
        subprocess.Popen(program, stdout=subprocess.PIPE, text=True, cwd=ROOT) as api,
    ):
        try:
            assert api.stdout is not None
            lines = (line.removeprefix("export ").strip() for line in api.stdout)
            pairs = (line.split("=", 1) for line in lines if line.startswith("OPENAI_"))
            given = dict([next(pairs), next(pairs)])
            given |= {"LM_OPENAI_CACHE_DIR": f"{folder}/cache", "LM_OPENAI_ETC": folder}
            compare(given, count)
        finally:
            api.terminate()


def compare(given: dict[str, str], count: int) -> None:
    """Measure both with new responses for each poll, then within the time to live."""
    alone = {**given, "LM_OPENAI_CACHE_TTL": "0s"}
    shared = {**given, "LM_OPENAI_CACHE_TTL": "300s"}
    one_shot(alone, 2)
    base = one_shot(alone, 10)
    print(f"{'one-shot poll, requested':42}{base * 1000:8.2f} ms")
    measured("line, requested", base, Resident(alone, *WORDS), count)
    measured("scrape, requested", base, Resident(alone, "--listen", "0"), count)
    measured("line, within openai.cache.ttl", base, Resident(shared, *WORDS), count)
    measured("scrape, within openai.cache.ttl", base, Resident(shared, "--listen", "0"), count)


if __name__ == "__main__":
    began = time.monotonic()
    main(*map(int, sys.argv[1:]))
    print(f"{time.monotonic() - began:.0f} s")
