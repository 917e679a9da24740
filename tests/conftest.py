"""Fixtures of all tests: an isolated environment, the vendor's contract and host programs."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import hypothesis
import pytest

from lm_openai import redaction
from tests.support import dates

OUTSIDE = dict(os.environ)
OWN_PREFIXES = ("OPENAI_", "LM_OPENAI_", "PYTHON", "XDG_")
OWN_SUFFIXES = ("_PROXY", "_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROGRAM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")

hypothesis.settings.register_profile("suite", derandomize=True, deadline=None)
hypothesis.settings.load_profile("suite")


def pytest_configure() -> None:
    """Delete variables that may name a key, a host or a CA, before the first import."""
    for name in OUTSIDE:
        if name.startswith(OWN_PREFIXES) or name.upper().endswith(OWN_SUFFIXES):
            del os.environ[name]
    dates.send_none()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start long files first, so that no worker runs long after the others have ended."""
    sizes = Counter(item.path for item in items)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path not in slow, -sizes[item.path]))


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty home folder for each test, with empty folders for site files and caches."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("LM_OPENAI_ETC", str(home / "etc"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    return home


@pytest.fixture(autouse=True)
def no_watchdog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep runs inside the tests' own process from ending it; child processes have theirs."""
    monkeypatch.setattr("lm_openai.app.watchdog.Watchdog.arm", lambda *_: None)


@pytest.fixture(autouse=True)
def no_known_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a process that has read no secret yet."""
    monkeypatch.setattr(redaction, "_known", set())


@pytest.fixture(scope="session")
def outside() -> Mapping[str, str]:
    """Environment in which the tests were started; pip needs its index, proxy and cache."""
    return OUTSIDE


@pytest.fixture(scope="session")
def oracle() -> Callable[[str], Any]:
    """Function that returns a document of the vendor's published contract in `../shared`.

    Example: `oracle("examples.json")`.

    A test without it fails in CI and is skipped elsewhere.
    """

    def read(name: str) -> Any:
        path = Path(__file__).resolve().parents[2] / "shared" / "oracle" / name
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        missing(f"the vendor's published contract is not beside the project: {name}")

    return read


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Function that returns the path of a program, such as `tool("promtool")`.

    A test without the program fails in CI and is skipped elsewhere.
    """

    def find(name: str) -> str:
        path = shutil.which(name, path=os.pathsep.join([OUTSIDE["PATH"], *PROGRAM_FOLDERS]))
        if path is not None:
            return path
        missing(f"{name} is not installed: .ci/run names the package that brings it")

    return find


def missing(reason: str) -> NoReturn:
    """Fail the test in CI, else skip it, because the machine lacks something."""
    if OUTSIDE.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)
