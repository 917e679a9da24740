"""Telegraf: inputs that start each script at its interval, or one process for all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lm_openai import resources
from lm_openai.hosts.jobs import HOST_SECONDS, PROPERTIES, Job

EXEC, EXECD = "lm-openai.conf", "lm-openai-execd.toml"
"""The two variants. Telegraf reads files that end with .conf only, so it does not read both."""
JITTER, RESTART, POLL = "5s", "10s", "300s"
"""Most that a poll is delayed at random, so that several Telegrafs do not poll at one moment; pause
before an ended process is started again; interval of the process that polls everything."""
HEAD = """\
# Copy this file, or {other}, to /etc/telegraf/telegraf.d/lm-openai.conf.
# Organization and key are in {properties}: owner root, group telegraf, mode 640.
"""


def files(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the text of each shipped file by its path."""
    return {
        EXEC: _file(EXECD, (_input(job.definition.description, _exec(job)) for job in jobs)),
        EXECD: _file(EXEC, [_input("All of them, by one process that stays.", _execd(jobs))]),
    }


def _file(other: str, inputs: Iterable[str]) -> str:
    return "\n".join((HEAD.format(other=other, properties=PROPERTIES), *inputs))


def _input(comment: str, plugin: dict[str, dict[str, Any]]) -> str:
    return "".join(f"{line}\n" for line in _lines(comment, plugin))


def _lines(comment: str, plugin: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield an input in TOML, whose strings and arrays are those of JSON."""
    yield f"# {comment}"
    for name, settings in plugin.items():
        yield f"[[inputs.{name}]]"
        for key, value in settings.items():
            yield f"  {key} = {json.dumps(value, ensure_ascii=False)}"


def _exec(job: Job) -> dict[str, dict[str, Any]]:
    return {
        "exec": {
            "commands": [f"{job.script} --format influx --properties {PROPERTIES}"],
            "data_format": "influx",
            "interval": f"{job.interval}s",
            "collection_offset": f"{job.offset}s",
            "collection_jitter": JITTER,
            "timeout": f"{HOST_SECONDS}s",
        }
    }


def _execd(jobs: Sequence[Job]) -> dict[str, dict[str, Any]]:
    """Return the input of the resident mode; it names the DataSources unless there are all."""
    named = tuple(job.definition.folder for job in jobs)
    folders = () if named == resources.folders() else named
    return {
        "execd": {
            "command": ["/usr/bin/lm-openai", "serve", *folders, "--properties", PROPERTIES],
            "data_format": "influx",
            "signal": "STDIN",
            "interval": POLL,
            "collection_jitter": JITTER,
            "restart_delay": RESTART,
        }
    }
