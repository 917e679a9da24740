"""Stores behind the dashboards: one poll of everything in Prometheus and InfluxDB, and queries."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import urlopen

from lm_openai import resources
from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings
from lm_openai.collect import datasource
from lm_openai.hosts.grafana_content import GROUPINGS
from lm_openai.model.report import Report
from lm_openai.output import influx as line_protocol
from lm_openai.output import json as documents
from lm_openai.output import prometheus as exposition
from lm_openai.simulator import Simulator
from lm_openai.timespans import duration
from tests.hosts.conftest import Influx, NodeExporter, free_ports, serving
from tests.support.audit_feed import followed
from tests.support.surroundings import environment

ORGANIZATION = "grafana"
CONSUMERS = "usage_by_consumer"
EVENTS_SINCE = "7d"
SCRAPING = """\
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: node
    static_configs: [{{targets: ['{target}']}}]
"""


class Prometheus(NamedTuple):
    """A running Prometheus."""

    url: str

    def at_once(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query."""
        return self._get("query", query=expression)

    def over_time(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of a range query over the last seconds, the present one included."""
        now = time.time()
        return self._get("query_range", query=expression, start=now - 10, end=now, step=1)

    def _get(self, path: str, **words: Any) -> list[dict[str, Any]]:
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(words)}") as response:
            found: list[dict[str, Any]] = json.load(response)["data"]["result"]
        return found


@contextmanager
def prometheus(
    tool: Callable[[str], str], folder: Path, exporter: NodeExporter
) -> Iterator[Prometheus]:
    """Start Prometheus, which scrapes the exporter every second, in an empty folder."""
    (port,) = free_ports(1)
    settings = folder / "prometheus.yml"
    settings.write_text(SCRAPING.format(target=exporter.url.removeprefix("http://")))
    words = [f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}"]
    words.append(f"--web.listen-address=127.0.0.1:{port}")
    found = Prometheus(f"http://127.0.0.1:{port}")
    with serving([tool("prometheus"), *words], folder, f"{found.url}/-/ready"):
        yield found


class Polls(NamedTuple):
    """One poll of each DataSource and grouping, at the same time `at`, and the audit feed.

    `documents` are the JSON documents by (folder, grouping).
    """

    at: int
    prometheus: dict[str, str]
    influx: str
    events: list[str]
    documents: dict[tuple[str, str], dict[str, Any]]

    def rows(self, folder: str, grouping: str, dimensions: tuple[str, ...]) -> dict[Any, Any]:
        """Return the datapoints by the instances' ids, in the order of the dimensions."""
        return {
            tuple(row["dimensions"].get(one, "") for one in dimensions): row["datapoints"]
            for row in self.documents[folder, grouping]["instances"]
        }


def polled(demo: Simulator, folder: Path) -> Polls:
    """Poll everything once; every format prints the same report."""
    project = demo.organization.projects[0].id
    sets = {
        "openai.org.name": ORGANIZATION,
        "openai.budget.monthly": "100000",
        "openai.balance.amount": "100000",
        "openai.balance.date": "2026-11-01",
        f"openai.budget.project.{project}": "1000",
        f"openai.tokens.budget.project.{project}": "1000000000",
        "openai.models.approved": "gpt-*",
    }
    reports: dict[tuple[str, str], Report] = {}
    for grouping in ("", *GROUPINGS):
        given = {**sets, "openai.group.by": grouping} if grouping else sets
        session = opened(demo, folder, given)
        for name in (CONSUMERS,) if grouping else resources.folders():
            reports[name, grouping] = session.report(datasource.load(name))
    own = [report for (_, grouping), report in reports.items() if not grouping]
    others = {key[1]: [report] for key, report in reports.items() if key[1]}
    written = {name: exposition.write_all(some) for name, some in {"": own, **others}.items()}
    feed = followed(
        demo.url,
        folder,
        now=demo.now,
        since=EVENTS_SINCE,
        form="influx",
        properties={"openai.org.name": ORGANIZATION},
    )
    assert feed.status == 0, feed.stderr
    return Polls(
        int(demo.now),
        {f"openai-{name}.prom": text for name, text in written.items()},
        "".join(map(line_protocol.write, reports.values())),
        feed.stdout.splitlines(),
        {key: json.loads(documents.write(report)) for key, report in reports.items()},
    )


def opened(demo: Simulator, folder: Path, properties: dict[str, str]) -> Session:
    """Return a session of a poll for InfluxDB, which has the series beside the rows."""
    sets = tuple(f"{name}={value}" for name, value in properties.items())
    environ = environment(demo.url, folder)
    streams = io.StringIO(), io.StringIO(), io.StringIO()
    around = Surroundings(environ, *streams, int(demo.now))
    return Session(Options(format="influx", sets=sets), around)


class Chosen(NamedTuple):
    """Choices in a dashboard: values of the variables, as regular expressions, and the range.

    `start` and `end` are Unix seconds of the range in queries of InfluxDB.
    """

    start: int
    end: int
    project: str = ".*"
    model: str = ".*"
    type: str = ".*"
    organization: str = ORGANIZATION


def filled(text: str, chosen: Chosen, panel: dict[str, Any]) -> str:
    """Return a query as Grafana sends it; a graph has at most about 1000 steps."""
    step = max(duration(panel.get("interval", "5m")), (chosen.end - chosen.start) // 1000)
    values = {
        "$timeFilter": f"time >= {chosen.start}s AND time <= {chosen.end}s",
        "$__interval": f"{step}s",
        "$__range": "1h",
        **{f"${name}": getattr(chosen, name) for name in Chosen._fields[2:]},
    }
    found = re.sub(r"\$\w+", lambda match: values[match[0]], text)
    assert "$" not in found.replace("$/", ""), found
    return found


class Stores(NamedTuple):
    """The stores with the data of `polls`."""

    polls: Polls
    prometheus: Prometheus
    exporter: NodeExporter
    influx: Influx

    def result(
        self, panel: dict[str, Any], target: dict[str, Any], chosen: Chosen
    ) -> list[dict[str, Any]]:
        """Return the series of one query of a panel, in its store's own form."""
        if "expr" in target:
            store = self.prometheus
            query = store.at_once if target.get("instant") else store.over_time
            return query(filled(target["expr"], chosen, panel))
        if "timeFrom" in panel:
            chosen = chosen._replace(start=chosen.end - duration(panel["timeFrom"]))
        return self.influx.query(filled(target["query"], chosen, panel))
