"""Prometheus, node exporter and Alertmanager behind the shipped rules, timers and configuration.

One scenario runs in the real servers: two incidents, an outage, a recovery and a removed instance.
"""

from __future__ import annotations

import io
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Event, Lock, Thread

import pytest

from lm_openai.app import options
from lm_openai.app.runner import run
from lm_openai.app.session import Surroundings
from lm_openai.hosts.jobs import HEALTH, PROPERTIES, Job, jobs
from lm_openai.hosts.prometheus import TEXTFILES
from lm_openai.hosts.prometheus_rules import FAILED, SUCCESS, TIME
from lm_openai.model.report import Gap
from lm_openai.model.units import in_base_units, plain
from lm_openai.output import prometheus
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.hosts.conftest import until
from tests.hosts.prometheus_servers import PACE, SHIPPED, Notification, Stack, running
from tests.support.demo_polls import VARYING, WEDNESDAY, document

pytestmark = pytest.mark.slow

LIMITS = "rate_limits"
ALERT = "OpenAI_RateLimits_ByProject_tpm_utilization"
OUTAGE = "OpenAI_Collection_Health_api_reachable"
ROUND = 300 / PACE
"""Seconds between two polls of a DataSource that is polled every five minutes."""
WAIT = 40
"""Seconds within which an expected notification comes, also on a busy machine."""
STAMP = re.compile(r"(?m)^(openai_poll_timestamp_seconds\{.*\}) .*$")


class Collector:
    """The shipped service's command for each DataSource, then in rounds; the API's clock stands.

    `polled` are the folders that each round polls; of the others it repeats the last result. The
    timestamps in the files are those of the round.
    """

    def __init__(self, demo: Simulator, stack: Stack, home: Path) -> None:
        self.demo, self.stack, self.home = demo, stack, home
        self.polled: tuple[str, ...] = (LIMITS, HEALTH)
        self._texts: dict[str, str] = {}
        self._before: dict[str, str] = {}
        self._stop, self._busy = Event(), Lock()
        self._thread = Thread(target=self._loop)
        (home / "files").mkdir()
        (home / "properties").write_text(
            f"openai.admin.key={ADMIN_KEY}\nopenai.org.name=acme\nopenai.api.url={demo.url}\n"
        )
        (home / "properties").chmod(0o600)
        self.poll(job.definition.folder for job in jobs())

    def __enter__(self) -> Collector:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()

    def pause(self) -> None:
        """Poll nothing from now on; returns when no poll runs any more."""
        self.polled = ()
        with self._busy:
            pass

    def poll(self, folders: Iterable[str], *more: str) -> None:
        """Poll at once, with more arguments than the service's own."""
        for folder in folders:
            words = [*(word.replace("%i", folder) for word in command()), *more]
            found = options.parse([self._own(word) for word in words])
            assert found is not None
            assert found.output is not None
            streams = io.StringIO(), io.StringIO(), io.StringIO()
            environ = {"LM_OPENAI_ETC": str(self.home), "LM_OPENAI_CACHE_DIR": str(self._cache())}
            run(folder, found, Surroundings(environ, *streams, WEDNESDAY))
            self._texts[folder] = Path(found.output).read_text()

    def fail(self, failed: Iterable[Job]) -> None:
        """Let DataSources print what they print after a failed poll, until `succeed`."""
        self._before = dict(self._texts)
        for job in failed:
            gap = Gap(job.definition, "acme", "no connection to the API")
            self._texts[job.definition.folder] = prometheus.write_all((), [gap])

    def succeed(self) -> None:
        """Let the DataSources that fail print again what they printed before."""
        self._texts.update(self._before)

    def place(self) -> None:
        """Put all results into the exporter's folder, with the present time."""
        for folder, text in self._texts.items():
            stamped = STAMP.sub(rf"\1 {time.time():.3f}", text)
            unfinished = self.home / "unfinished"
            unfinished.write_text(stamped)
            os.replace(unfinished, self.stack.textfiles / f"openai_{folder}.prom")

    def _loop(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            with self._busy:
                self.poll(self.polled)
            self.place()
            due = max(due + ROUND, time.monotonic())

    def _own(self, word: str) -> str:
        word = word.replace(TEXTFILES, str(self.home / "files"))
        return word.replace(PROPERTIES, str(self.home / "properties"))

    def _cache(self) -> Path:
        """Return an empty folder, because the API's time stands still."""
        folder = self.home / f"cache-{time.monotonic_ns()}"
        folder.mkdir(mode=0o700)
        return folder


def command() -> list[str]:
    """Return the arguments in the shipped service."""
    text = (SHIPPED / "systemd/lm-openai-textfile@.service").read_text()
    (line,) = re.findall(r"(?m)^ExecStart=(.*)$", text)
    return str(line).split()[1:]


@pytest.fixture(scope="module")
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY, projects=3, models=4) as simulator:
        yield simulator


@pytest.fixture
def large() -> Iterator[Simulator]:
    """Start a demo organization in which every DataSource has instances."""
    with Simulator(at=WEDNESDAY, projects=11, models=24) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def stack(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tool, tmp_path_factory.mktemp("prometheus")) as found:
        yield found


@pytest.fixture(scope="module")
def collector(demo: Simulator, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Collector:
    found = Collector(demo, stack, tmp_path_factory.mktemp("collector"))
    found.poll(job.definition.folder for job in jobs())
    return found


def about(received: Iterable[Notification], name: str, **labels: str) -> list[Notification]:
    """Return the notifications of an alert whose instance has these labels."""
    return [
        one
        for one in received
        for alert in (*one.firing, *one.resolved)[:1]
        if alert["labels"]["alertname"] == name and labels.items() <= alert["labels"].items()
    ]


def test_incidents_outage_recovery_and_a_removed_instance(
    demo: Simulator, stack: Stack, tmp_path: Path
) -> None:
    collector = Collector(demo, stack, tmp_path)
    first, second = cool_pools(demo, tmp_path)
    (stack.textfiles / "other.prom").write_text("other_metric 1\n")
    received = stack.received
    with collector:
        time.sleep(2 * ROUND)
        started = time.monotonic()
        heat(demo, first, 85)
        until(lambda: about(received, ALERT, **first), WAIT, "the first incident")
        assert time.monotonic() - started > 2 * ROUND
        heat(demo, second, 97)
        until(lambda: about(received, ALERT, **second), WAIT, "the second incident")
        check_incidents(received, first, second)

        before = list(received)
        polled = collector.polled
        collector.pause()
        demo.stop()
        collector.poll([HEALTH], "--timeout=10")
        collector.fail(job for job in jobs() if job.definition.folder != HEALTH)
        until(lambda: about(received, OUTAGE), WAIT, "the outage")
        time.sleep(6 * ROUND)
        assert [one.name for one in received[len(before) :]] == [OUTAGE]
        assert not received[-1].resolved
        assert stack.query(f"openai_{LIMITS}_tpm_utilization_ratio") == []
        assert (ALERT, "warning", "firing") in stack.states(**first)
        assert (ALERT, "critical", "firing") in stack.states(**second)
        assert stack.query("other_metric")[0]["value"][1] == "1"

        before = list(received)
        demo.start()
        demo.clear()
        heat(demo, second, 97)
        collector.succeed()
        collector.polled = polled
        until(lambda: resolved(received, OUTAGE), WAIT, "the outage's end")
        until(lambda: resolved(received, ALERT, **first), WAIT, "the first incident's end")
        demo.fault("gone", project=second["project_id"], model=second["model"], start=0)
        until(lambda: resolved(received, ALERT, **second), WAIT, "the removed instance's end")
        time.sleep(3 * ROUND)
    later = received[len(before) :]
    assert sorted(one.name for one in later) == sorted([ALERT, ALERT, OUTAGE])
    assert not [one for one in later if one.firing]
    assert not about(received, FAILED)


def test_every_datapoint_of_every_datasource_is_stored_with_its_unit(
    large: Simulator, stack: Stack, tmp_path: Path
) -> None:
    since = time.time()
    Collector(large, stack, tmp_path).place()
    fresh = f"{TIME} > {since} and {SUCCESS} == 1"
    until(lambda: len(stack.query(fresh)) == len(jobs()), WAIT, "a scrape")
    stored = stack.query('last_over_time({__name__=~"openai_.+"}[30s])')
    found = {
        (labels.pop("__name__"), frozenset(labels.items())): sample["value"][1]
        for sample in stored
        for labels in [{k: v for k, v in sample["metric"].items() if k not in ("instance", "job")}]
    }
    for job in jobs():
        own = document(job.definition.folder, large, tmp_path)
        assert own["instances"], job.definition.folder
        for row in own["instances"]:
            labels = {**row["dimensions"], "organization": "acme"}
            for name, value in row["datapoints"].items():
                point = job.definition.datapoint(name)
                key = (prometheus.metric(job.definition, point), frozenset(labels.items()))
                expected = float(plain(in_base_units(value, point.measure)))
                assert name in VARYING or float(found[key]) == expected, (
                    job.definition.folder,
                    key,
                )


def check_incidents(received: list[Notification], first: Labels, second: Labels) -> None:
    """Check that each incident was notified once, at its highest level, with what to do."""
    (warned,), (critical,) = about(received, ALERT, **first), about(received, ALERT, **second)
    for one, severity, value in ((warned, "warning", "85%"), (critical, "critical", "97%")):
        (alert,) = one.firing
        texts = alert["annotations"]
        assert alert["labels"]["severity"] == severity
        assert texts["value"] == value
        assert texts["threshold"].startswith(f"{severity} >= ")
        assert texts["reason"].endswith("request a higher limit.")
        assert " / " in texts["summary"]
        assert "proj_" not in texts["summary"]


Labels = dict[str, str]


def resolved(received: list[Notification], name: str, **labels: str) -> list[Notification]:
    return [one for one in about(received, name, **labels) if one.resolved and not one.firing]


def heat(demo: Simulator, pool: Labels, percent: float) -> None:
    demo.fault("heat", project=pool["project_id"], model=pool["model"], percent=percent)


def cool_pools(demo: Simulator, cache: Path) -> tuple[Labels, Labels]:
    """Return the labels of two pools that have a token limit and reach no threshold."""
    cool = [
        row["dimensions"]
        for row in document(LIMITS, demo, cache)["instances"]
        if "tpm_utilization" in row["datapoints"] and not row["breaches"]
    ]
    return cool[0], cool[1]
