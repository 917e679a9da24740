"""Checkmk: local checks by interval, MRPE lines, and the attempts that delay a notification."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lm_openai.hosts.jobs import (
    COLLECTOR_SECONDS,
    HEALTH,
    OUTAGE_POLLS,
    PROPERTIES,
    Job,
)
from lm_openai.model.thresholds import describe

COMMAND = "/usr/bin/lm-openai"
HOST = "openai"
"""Host in Checkmk to which the services belong."""
ROUND = 60
"""Seconds between two checks of an agent, Checkmk's default; each one counts as an attempt."""
SECTION = "<<<local:sep(0)>>>"


def files(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the text of each shipped file by its path."""
    intervals = sorted({job.interval for job in jobs})
    texts = {
        f"local/{seconds}/lm-openai-{seconds}": _local(
            seconds, [job.definition.folder for job in jobs if job.interval == seconds]
        )
        for seconds in intervals
    }
    texts |= {"mrpe.cfg": _mrpe(jobs), "attempts.txt": _attempts(jobs)}
    return {path: "".join(f"{line}\n" for line in lines) for path, lines in texts.items()}


def _local(seconds: int, folders: Sequence[str]) -> Iterator[str]:
    """Yield a script that polls the DataSources of one interval in one process.

    It ends with status 0 in any case, since the agent discards what a failed command printed.
    """
    yield "#!/bin/sh"
    yield f"# Local check for /usr/lib/check_mk_agent/local/{seconds}/: the agent runs it"
    yield f"# every {seconds} seconds. Its services belong to the host {HOST}."
    yield f"printf '<<<<{HOST}>>>>\\n{SECTION}\\n'"
    yield f"{COMMAND} collect --format checkmk --timeout {COLLECTOR_SECONDS} \\"
    yield f"    --properties {PROPERTIES} \\"
    yield from (f"    {folder} \\" for folder in folders[:-1])
    yield f"    {folders[-1]}"
    yield f"printf '<<<<>>>>\\n{SECTION}\\n'"
    yield "exit 0  # the agent discards what a failed command printed"


def _mrpe(jobs: Sequence[Job]) -> Iterator[str]:
    yield "# Lines for /etc/check_mk/mrpe.cfg: a service for each DataSource, with all instances."
    yield "# Do not use them together with the local checks."
    for job in jobs:
        name = job.definition.title.replace(" ", "_")
        yield (
            f"{name} (interval={job.interval}) {job.plugin} --format nagios"
            f" --timeout {COLLECTOR_SECONDS} --properties {PROPERTIES}"
        )


def _attempts(jobs: Sequence[Job]) -> Iterator[str]:
    """Yield the rules `Maximum number of check attempts for service`, with their reasons."""
    yield "# Checkmk has no file for rules: enter them under Setup > Services > Service monitoring"
    yield "# rules > Maximum number of check attempts for service. Each is for the services whose"
    yield f"# name matches, with the agent checked every {ROUND} seconds. A line has the number of"
    yield "# attempts, the name, and the polls in a row after which a bad value counts."
    for job in jobs:
        judged = [line.threshold for line in describe(job.rules) if line.threshold.on]
        polls = max((threshold.consecutive for threshold in judged), default=1)
        if polls > 1:
            yield f'{_rounds(job, polls)}\t"^{job.definition.title} ."\t{polls} polls'
    for job in jobs:
        if job.definition.folder == HEALTH:
            polls = OUTAGE_POLLS
            yield f'{_rounds(job, polls)}\t"^{job.definition.title}$"\t{polls} failed polls'


def _rounds(job: Job, polls: int) -> int:
    """Return the attempts until so many polls were seen; the agent repeats one in each round."""
    return (polls - 1) * job.interval // ROUND + 1
