"""The command `config`: a monitoring system's configuration with the site's thresholds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lm_openai.app import output_file, runner
from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings, read_site
from lm_openai.collect import datasource
from lm_openai.errors import ApiFailure, Failure, WrongUsage
from lm_openai.hosts.jobs import HEALTH, PROPERTIES, Job, Organization, jobs
from lm_openai.hosts.registry import Host
from lm_openai.model.report import Instance
from lm_openai.output.text import refuse_duplicates

MODE, SCRIPT_MODE = 0o644, 0o755
"""Modes of the files, which hold no secret and which the monitoring system's user reads."""


def run(
    host: Host,
    folders: Sequence[str],
    options: Options,
    target: str | None,
    around: Surroundings,
) -> int:
    """Write a monitoring system's configuration for DataSources and return the exit status.

    For one that has no discovery of its own it is one file, with the instances of the organization
    of each file of host properties; `target` names it, else it goes to stdout. Otherwise it is
    several files, and `target` names their folder. Nothing changes if the list of instances is
    incomplete or a threshold file of the site is faulty. The file has the health of data collection
    too, since the other checks depend on it.
    """

    def work(opened: list[Session]) -> int:
        site = read_site(around.environ)
        for fault in site.faults:
            raise WrongUsage(f"{fault}; nothing is written, since its thresholds are not known")
        if host.discovers:
            shipped = jobs(sorted({*folders, HEALTH}), site)
            text = host.module().site(shipped, discovered(shipped, options, around, opened))
            _deliver({"": text}, host, target, around)
        else:
            _refuse_unused(host, options, target)
            _deliver(host.module().files(jobs(folders, site)), host, target, around)
        return runner.DONE

    return runner.guarded("", options, around, work)


def _refuse_unused(host: Host, options: Options, target: str | None) -> None:
    """Raise WrongUsage without --output, and for options that only discovery reads."""
    if target is None:
        raise WrongUsage(f"{host.name} has several files; name their folder with --output")
    for flag, given in (
        ("--properties", options.properties),
        ("--timeout", options.timeout),
        ("--at", options.at),
    ):
        if given:
            raise WrongUsage(
                f"{host.name} discovers its instances itself, so {flag} has no effect; leave it out"
            )


def discovered(
    shipped: Sequence[Job], options: Options, around: Surroundings, opened: list[Session]
) -> tuple[Organization, ...]:
    """Return the organization of each file of host properties, with all instances.

    Without a file the environment names the organization, and the configuration PROPERTIES. Raises
    Failure if an instance could be missing.
    """
    if "-" in options.properties:
        raise WrongUsage("--properties -: the checks cannot read stdin; name a file")
    found: list[Organization] = []
    for path in options.properties or (None,):
        given = options._replace(discover=True, properties=() if path is None else (path,))
        session = Session(given, around)
        opened[:] = [session]
        name = session.properties.organization
        if name in (one.name for one in found):
            raise WrongUsage(f"{path}: openai.org.name {name!r} is that of another file too")
        instances = {job.definition.folder: _instances(session, job) for job in shipped}
        absolute = PROPERTIES if path is None else os.path.abspath(path)
        found.append(Organization(name, absolute, instances))
    return tuple(found)


def _instances(session: Session, job: Job) -> tuple[Instance, ...]:
    """Return all instances of a DataSource, by id; raises Failure if one could be missing."""
    definition = job.definition
    try:
        report = session.report(datasource.load(definition.folder))
        reason = next(iter(report.failures), "")
    except ApiFailure as failure:
        reason = str(failure)
    if reason:
        raise Failure(
            f"{definition.title} of {session.properties.organization}: the list of instances is "
            f"incomplete, so nothing is written: {reason} (if this organization can never list "
            f"them: --without {definition.folder})"
        )
    refuse_duplicates(report)
    return tuple(sorted((row.instance for row in report.rows), key=lambda one: one.id))


def _deliver(texts: dict[str, str], host: Host, target: str | None, around: Surroundings) -> None:
    """Write the changed files below `target`, or the only one to stdout; say what to reload."""
    runner.claim(around)
    if target is None:
        runner.put("".join(texts.values()), around.stdout)
        return
    paths = {os.path.join(target, path) if path else target: text for path, text in texts.items()}
    changed = {path: text for path, text in paths.items() if not output_file.holds(path, text)}
    for path, text in changed.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        output_file.replace(path, text, SCRIPT_MODE if text.startswith("#!") else MODE)
    if changed:
        around.stderr.write(f"{target} changed; run: {host.reload}\n")
