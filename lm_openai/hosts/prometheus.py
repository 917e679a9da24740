"""Prometheus: timers that write the textfile, rules and their unit tests, and Alertmanager."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lm_openai.hosts import prometheus_rules, prometheus_tests, yaml_text
from lm_openai.hosts.jobs import HEALTH, HOST_SECONDS, PROPERTIES, SCRIPTS, Job
from lm_openai.hosts.prometheus_overrides import POLL
from lm_openai.model.thresholds import LEVELS
from lm_openai.paths import SERVICES
from lm_openai.timespans import short

RULES, TESTS = "rules", "tests"
"""Folders of the rule files, and of their unit tests."""
TEXTFILES = "/var/lib/prometheus/node-exporter"
"""Folder that Debian's node exporter reads."""
USER = "prometheus"
UNIT = "lm-openai-textfile"
HEAD = "# Written by lm-openai config prometheus; see README.md beside the examples.\n"
SHORTEST = 300
"""Seconds after a start within which every DataSource is polled, spread over them."""
SCRAPE, SERVED = 60, 55
"""Seconds between two scrapes, and for which a scrape of the resident mode may wait for a poll."""

HARDENING = {
    "CapabilityBoundingSet": "",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "NoNewPrivileges": "yes",
    "PrivateDevices": "yes",
    "PrivateTmp": "yes",
    "ProcSubset": "pid",
    "ProtectClock": "yes",
    "ProtectControlGroups": "yes",
    "ProtectHome": "yes",
    "ProtectHostname": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectProc": "invisible",
    "ProtectSystem": "strict",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallFilter": ("@system-service", "~@privileged @resources"),
}
"""Settings that restrict the service, as in packaging/systemd/lm-openai.service."""

Sections = dict[str, dict[str, Any]]


def files(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the text of each shipped file by its path."""
    documents = {
        "prometheus.yml": _prometheus(),
        "alertmanager.yml": _alertmanager(jobs),
        f"{RULES}/openai.yml": prometheus_rules.common(),
        f"{TESTS}/openai.yml": prometheus_tests.outages(jobs, f"../{RULES}/*.yml"),
    }
    for job in jobs:
        name = f"openai_{job.definition.folder}.yml"
        documents[f"{RULES}/{name}"] = prometheus_rules.document(job)
        documents[f"{TESTS}/{name}"] = prometheus_tests.breaches(job, f"../{RULES}/{name}")
    texts = {path: HEAD + yaml_text.document(one) for path, one in documents.items() if one}
    return {**texts, **{f"systemd/{path}": _unit(one) for path, one in _units(jobs).items()}}


def _units(jobs: Sequence[Job]) -> dict[str, Sections]:
    timers = {f"{UNIT}@{job.definition.folder}.timer": _timer(job) for job in jobs}
    return {f"{UNIT}@.service": _service(), **timers}


def _prometheus() -> dict[str, Any]:
    """Return the configuration; one of its two jobs is enough."""
    return {
        "rule_files": ["openai/*.yml"],
        "alerting": {"alertmanagers": [_targets("127.0.0.1:9093")]},
        "scrape_configs": [
            {
                "job_name": "node",
                "scrape_interval": short(SCRAPE),
                **_targets("127.0.0.1:9100"),
            },
            {
                "job_name": "openai",
                "scrape_interval": short(SCRAPE),
                "scrape_timeout": short(SERVED),
                **_targets("127.0.0.1:9464"),
            },
        ],
    }


def _targets(address: str) -> dict[str, Any]:
    return {"static_configs": [{"targets": [address]}]}


def _alertmanager(jobs: Sequence[Job]) -> dict[str, Any]:
    """Return a configuration with one notification for an instance's datapoint at all levels."""
    identity = ["alertname", "override", *POLL, *_dimensions(jobs)]
    inhibited = [
        {
            "source_matchers": [f'severity="{level}"'],
            "target_matchers": [f'severity=~"{"|".join(LEVELS[:number])}"'],
            "equal": identity,
        }
        for number, level in enumerate(LEVELS)
        if number
    ]
    outage = {
        "source_matchers": [f'datasource="{HEALTH}"', f'severity="{LEVELS[-1]}"'],
        "target_matchers": [f'datasource="{HEALTH}"', f'severity!="{LEVELS[-1]}"'],
        "equal": list(prometheus_rules.TARGET),
    }
    return {
        "route": {
            "receiver": "operators",
            "group_by": identity,
            "group_wait": "30s",
            "group_interval": "5m",
            "repeat_interval": "1d",
        },
        "receivers": [
            {"name": "operators", "webhook_configs": [{"url": "http://127.0.0.1:9099/"}]}
        ],
        "inhibit_rules": [*reversed(inhibited), outage],
    }


def _dimensions(jobs: Iterable[Job]) -> list[str]:
    return sorted({name for job in jobs for name in job.definition.dimensions})


def _service() -> Sections:
    return {
        "Unit": {
            "Description": "Metrics of an OpenAI organization for the textfile collector: %i",
            "Wants": "network-online.target",
            "After": "network-online.target",
        },
        "Service": {
            "Type": "oneshot",
            "ExecStart": f"{SCRIPTS}/%i.py --properties {PROPERTIES} --format prometheus "
            f"--output {TEXTFILES}/openai_%i.prom",
            "TimeoutStartSec": HOST_SECONDS,
            "User": USER,
            "StateDirectory": f"{SERVICES.removeprefix('/var/lib/')}/{USER}",
            "StateDirectoryMode": "0700",
            "ReadWritePaths": TEXTFILES,
            "UMask": "0022",
            "MemoryMax": "1G",
            "TasksMax": "256",
            **HARDENING,
        },
    }


def _timer(job: Job) -> Sections:
    """Return the timer of one DataSource: soon after the start, then at its interval."""
    return {
        "Unit": {"Description": f"Polls of {job.definition.title}"},
        "Timer": {
            "OnActiveSec": short(job.offset * SHORTEST // job.interval),
            "OnUnitActiveSec": short(job.interval),
            "AccuracySec": "1s",
        },
        "Install": {"WantedBy": "timers.target"},
    }


def _unit(sections: Sections) -> str:
    return "\n".join("".join(_section(name, settings)) for name, settings in sections.items())


def _section(name: str, settings: dict[str, Any]) -> Iterator[str]:
    yield f"[{name}]\n"
    for key, value in settings.items():
        for one in value if isinstance(value, tuple) else (value,):
            yield f"{key}={one}\n"
