"""Telegraf: inputs that start each script at its interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lm_openai.hosts.jobs import HOST_SECONDS, Job

HEAD = """\
# Input plugins for Telegraf, one for each DataSource; copy to /etc/telegraf/telegraf.d/.
# The key: OPENAI_ADMIN_KEY in /etc/default/telegraf, which only root may read.
"""


def files(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the text of each shipped file by its path."""
    return {"lm-openai.conf": "\n".join((HEAD, *map(_input, jobs)))}


def _input(job: Job) -> str:
    return "\n".join(_lines(job)) + "\n"


def _lines(job: Job) -> Iterator[str]:
    yield f"# {job.definition.description}"
    yield "[[inputs.exec]]"
    yield f'  commands = ["{job.script} --format influx"]'
    yield '  data_format = "influx"'
    yield f'  interval = "{job.interval}s"'
    yield f'  collection_offset = "{job.offset}s"'
    yield f'  timeout = "{HOST_SECONDS}s"'
