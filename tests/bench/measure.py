"""Measuring whole processes: a fresh environment with the wheel, clean variables, paired runs."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = ROOT / ".bench"
PYTHON = str(ENVIRONMENT / "bin" / "python")
PASS = (PYTHON, "-c", "pass")
KEY = "sk-admin-demo"
_KEPT_VARIABLES = ("PATH", "TMPDIR")
_INSTRUCTIONS = re.compile(r"I\s+refs:\s+([0-9,]+)")
_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
# ru_maxrss would be that of the process that started this one, if it was larger.
_WITH_PEAK = """
import os, sys
os._exit = sys.exit
sys.argv = sys.argv[1:]
try:
    exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"))
finally:
    sys.stderr.write(open("/proc/self/status").read())
"""


class Spent(NamedTuple):
    """Time of one process in seconds, and what it wrote to stderr."""

    wall: float
    cpu: float
    messages: str


class Row(NamedTuple):
    """One line of the table: what is compared with which base, as text, and the ratio."""

    number: str
    what: str
    base: str
    figure: str
    ratio: float
    target: float


class Pair(NamedTuple):
    """Medians over interleaved pairs; `ratio` is the median of each pair's own ratio."""

    figure: float
    base: float
    ratio: float


def install() -> None:
    """Install a wheel of the checkout, and the vendor's SDK, in the benchmark's environment.

    It has no pip and no setuptools, whose .pth file would slow down every start.
    """
    if not Path(PYTHON).exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", ENVIRONMENT], check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", PYTHON]
    environ = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    with tempfile.TemporaryDirectory() as folder:
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, "."]
        subprocess.run(build, check=True, cwd=ROOT, env=environ)
        (wheel,) = map(str, Path(folder).iterdir())
        subprocess.run([*pip, "install", "--quiet", wheel, "openai"], check=True, env=environ)
        again = ["install", "--quiet", "--no-deps", "--force-reinstall", wheel]
        subprocess.run([*pip, *again], check=True, env=environ)


def script(folder: str, *options: str) -> Sequence[str]:
    """Return the command line of a DataSource's installed script."""
    return (PYTHON, str(ENVIRONMENT / "bin" / f"{folder}.py"), *options)


def clean(home: str, **variables: str) -> dict[str, str]:
    """Return the variables of a measured process, none of this one's but the path."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, "HOME": home, **variables}


def run(command: Sequence[str], environ: Mapping[str, str]) -> Spent:
    """Run a process to its end; exits with its messages if it fails."""
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    with process.stderr as stream:
        messages = stream.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed: {messages}")
    return Spent(time.perf_counter() - begun, usage.ru_utime + usage.ru_stime, messages)


def cold(command: Sequence[str], environ: Mapping[str, str]) -> Spent:
    """Run a process whose home is a new, empty folder."""
    with tempfile.TemporaryDirectory() as home:
        return run(command, {**environ, "HOME": home})


def together(commands: Sequence[Sequence[str]], environ: Mapping[str, str]) -> Spent:
    """Start all processes at once and wait for them; `cpu` is that of all of them."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    null = subprocess.DEVNULL
    processes = [subprocess.Popen(one, env=environ, stdout=null, stderr=null) for one in commands]
    statuses = {process.wait() for process in processes}
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(wall, cpu, str(sorted(statuses)))


def requests_of(url: str) -> int:
    """Return the number of requests that the benchmark's API received since the last call."""
    with urlopen(f"{url}/requests") as answer:
        return int(answer.read())


def paired(figure: Callable[[], float], base: Callable[[], float], rounds: int) -> Pair:
    """Measure both in turn, after a first time that is not counted."""
    figure(), base()
    pairs = [(figure(), base()) for _ in range(rounds)]
    return Pair(
        statistics.median(one for one, _ in pairs),
        statistics.median(other for _, other in pairs),
        statistics.median(one / other for one, other in pairs),
    )


def instructions(command: Sequence[str], environ: Mapping[str, str]) -> float | None:
    """Return the instructions of a process in user space; None without valgrind."""
    if shutil.which("valgrind") is None:
        return None
    counting = (
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
    )
    counted = cold((*counting, *command), {**environ, "PYTHONHASHSEED": "0"})
    found = _INSTRUCTIONS.search(counted.messages)
    assert found, counted.messages
    return float(found[1].replace(",", ""))


def peak(command: Sequence[str], environ: Mapping[str, str]) -> float:
    """Return the most memory that a Python program (its file and arguments) takes, in MB."""
    python, *program = command
    found = _PEAK.search(cold((python, "-c", _WITH_PEAK, *program), environ).messages)
    assert found
    return int(found[1]) / 1024


@contextmanager
def api(**settings: object) -> Iterator[str]:
    """Run the benchmark's API (see api.Organization) in a process; yield its URL."""
    program = str(Path(__file__).with_name("api.py"))
    command = [sys.executable, program, json.dumps(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def certificates(folder: str) -> None:
    """Write a CA to a folder `hashed` and a large `bundle.pem`, and the API's certificate."""
    import trustme
    from certifi import where

    authority, place = trustme.CA(), Path(folder)
    authority.cert_pem.write_to_path(place / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(
        place / "server.pem"
    )
    digest = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", place / "ca.pem"],
        check=True,
        capture_output=True,
        text=True,
    )
    with open(place / "bundle.pem", "wb") as bundle:
        bundle.write(Path(where()).read_bytes() + (place / "ca.pem").read_bytes())
    (place / "hashed").mkdir(mode=0o755)
    shutil.copy(place / "ca.pem", place / "hashed" / f"{digest.stdout.strip()}.0")


def milliseconds(seconds: float) -> str:
    """Return a time as text."""
    return f"{seconds * 1000:.0f} ms"
