"""The suite command: everything that `lm-openai` does besides the scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import click

from lm_openai import resources
from lm_openai.app import parameters, run_many, runner
from lm_openai.app import session as sessions
from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings
from lm_openai.collect import datasource
from lm_openai.errors import Failure, WrongUsage
from lm_openai.hosts.registry import HOSTS
from lm_openai.model.units import plain
from lm_openai.output import registry
from lm_openai.output.audit_formats import FORMATS as AUDIT_FORMATS
from lm_openai.output.command_line import OPTIONS

EVERYTHING = "all"
VALUES_ONLY = ("--discover", "--datapoint")
"""Options that the command `discover` lacks."""
SHELLS = ("bash", "zsh", "fish")


@click.group(
    "lm-openai",
    help="Monitoring plugins for an OpenAI organization.",
    epilog=f"Begin with `demo`, which needs no key, then `doctor`. {parameters.KEY}",
    params=[parameters.version()],
    context_settings=parameters.SETTINGS,
)
def suite() -> None:
    """The suite command."""


@suite.command("list")
def list_datasources() -> int:
    """List all DataSources: folder, LogicModule name, purpose."""
    for folder in resources.folders():
        definition = datasource.definition(folder)
        click.echo(f"{folder:30}{definition.name:36}{definition.description}")
    return runner.DONE


@suite.command()
@click.argument(
    "folders",
    metavar="DATASOURCE...",
    nargs=-1,
    required=True,
    shell_complete=parameters.folders((EVERYTHING,)),
)
@parameters.with_options()
def collect(folders: Sequence[str], **given: Any) -> int:
    """Poll DataSources, or `all` of them, and print one format.

    A DataSource is named by its folder, LogicModule name or title.
    """
    return polls(folders, parameters.options(given))


@suite.command()
@click.argument("folder", metavar="DATASOURCE", shell_complete=parameters.folders())
@parameters.with_options(*(one.flag for one in OPTIONS if one.flag not in VALUES_ONLY))
def discover(folder: str, **given: Any) -> int:
    """Print one DataSource's instances in a format's discovery form."""
    options = parameters.options(given)._replace(discover=True)
    return runner.run(datasource.folder_of(folder), options, Surroundings.real())


@suite.command()
@click.argument("folder", metavar="DATASOURCE", shell_complete=parameters.folders())
@parameters.with_options("--thresholds")
def thresholds(folder: str, **given: Any) -> int:
    """Show one DataSource's thresholds in force and their files.

    The three limits are warning, error and critical; `-` means no limit. "polls" is the number of
    polls in a row that must reach the limit.
    """
    from lm_openai.config import threshold_files
    from lm_openai.model.thresholds import LEVELS, describe

    definition = datasource.definition(datasource.folder_of(folder))
    site = sessions.read_site(Surroundings.real(polls=False).environ)
    rules = threshold_files.load(definition, parameters.options(given).thresholds, site)
    lines = list(describe(rules))
    click.echo(threshold_files.reason(definition))
    if lines:
        click.echo(f"\n{'datapoint':35}{' '.join(LEVELS):24}{'polls':7}instances; file")
    for line in lines:
        rule = line.threshold
        limits = " ".join("-" if limit is None else plain(limit) for limit in rule.limits)
        click.echo(
            f"{rule.datapoint:32}{rule.operator:3}{limits:24}{rule.consecutive:<7}"
            f"{line.match or 'all'}; {line.source}"
        )
        click.echo(f"    {rule.reason}")
    for fault in site.faults:
        click.echo(fault, err=True)
    return runner.DONE


@suite.command()
@parameters.with_options("--properties", "--set", "--timeout")
@click.option("--format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(format: str, **given: Any) -> int:
    """Check the key, the connection, the data and the site's files."""
    from lm_openai.app.doctor import BAD, findings

    found = []
    session = Session(parameters.options(given), Surroundings.real(), fresh=True)
    for finding in findings(session):
        found.append(finding)
        if format == "json":
            click.echo(json.dumps(finding._asdict(), ensure_ascii=False))
        else:
            click.echo(f"{finding.verdict:5} {finding.subject:20} {finding.text}")
    return int(any(finding.verdict == BAD for finding in found))


@suite.command()
@parameters.with_options("--properties", "--set", "--timeout", "--at")
@click.option("--month", required=True, metavar="YYYY-MM", help="the month, in UTC")
@click.option(
    "--format", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
@click.option("--bom", is_flag=True, help="begin CSV with a byte order mark, which Excel needs")
def costs(month: str, format: str, bom: bool, **given: Any) -> int:
    """Print a month's costs, to compare with the invoice.

    They are exact and listed by project, line item and UTC day.
    """
    from lm_openai.metrics import monthly_costs
    from lm_openai.output import cost_formats

    if bom and format != "csv":
        raise WrongUsage(f"--bom works with --format csv, not {format}; leave it out")
    session = Session(parameters.options(given), Surroundings.real())
    directory = session.directory()
    organization = session.properties.organization
    found = monthly_costs.read(session.client, directory, organization, month, session.now)
    mark = cost_formats.BYTE_ORDER_MARK if bom else ""
    click.echo(mark + cost_formats.render(found, format), nl=False)
    for sentence in [found.unfinished if format != "table" else "", *directory.notes]:
        if sentence:
            click.echo(sentence, err=True)
    return runner.DONE


@suite.command()
@click.argument("folders", metavar="[DATASOURCE]...", nargs=-1, shell_complete=parameters.folders())
@click.option("--all", "everything", is_flag=True, help="print every row")
@parameters.with_options("--properties", "--set", "--at", "--timeout")
def show(folders: Sequence[str], everything: bool, **given: Any) -> int:
    """Show DataSources, by default all, as tables for people.

    First the spending, who drives it and what needs attention. The tables fit the terminal.
    """
    from lm_openai.app import show

    return show.run(chosen(folders), parameters.options(given), Surroundings.real(), everything)


@suite.command()
@click.argument("folders", metavar="[DATASOURCE]...", nargs=-1, shell_complete=parameters.folders())
@click.option("--all", "everything", is_flag=True, help="print every row")
def demo(folders: Sequence[str], everything: bool) -> int:
    """Show the built-in demo organization, without a key."""
    from lm_openai.app import show

    return show.demo(chosen(folders), Surroundings.real(), everything)


@suite.command()
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="TCP port; a free one by default"
)
@click.option("--seed", type=int, default=1, show_default=True, help="another organization")
@click.option("--at", metavar="TIME", default="", help="stop the clock: ISO 8601 or Unix seconds")
@click.option("--scale", default="", metavar="projects=N,models=M", help="size (default 12 and 24)")
@click.option(
    "--lag",
    type=click.IntRange(0),
    metavar="SECONDS",
    help="seconds after which usage and costs arrive; by default each kind's own, in lumps",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[:PATH][:NAME=VALUE]...",
    help="inject a fault, e.g. 429:*/costs:times=2 or heat:project=NAME:model=NAME:percent=85; "
    "an unknown kind lists all",
)
def simulate(
    port: int, seed: int, at: str, scale: str, lag: int | None, faults: Sequence[str]
) -> int:
    """Serve the demo organization's API for other tools.

    It runs in the foreground and prints the environment variables that point to it.

    Programs on this machine change it while it runs, with requests to its port: POST
    /control/faults injects the faults in the body, one a line, as --fault takes them; DELETE
    /control/faults ends all; PUT /control/now stops the clock at the time in the body.
    """
    import sys

    from lm_openai.simulator import Simulator, late, parse_fault, run_forever

    size = sizes(scale)
    try:
        simulator = Simulator(
            seed=seed,
            port=port,
            at=sessions.moment(at) if at else None,
            faults=[parse_fault(text) for text in faults],
            projects=size.get("projects", 12),
            models=size.get("models", 24),
            **({} if lag is None else late(lag)),
        )
        run_forever(simulator, sys.stdout)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    except OSError as error:
        raise Failure(f"port {port} is unavailable ({error.strerror}); choose another") from None
    return runner.DONE


@suite.command()
@parameters.with_options("--properties", "--set")
@click.option(
    "--watch",
    "length",
    metavar="DURATION",
    default="3h",
    show_default=True,
    help="how long to watch, once a minute, at least 15m",
)
def age(length: str, **given: Any) -> int:
    """Measure how late usage arrives and which grace it needs.

    The last column is the value for openai.finalization.grace.
    """
    import time

    from lm_openai.app import age

    age.duration(length)
    around = Surroundings.real(polls=False)  # it runs for hours
    session = Session(parameters.options(given), around)
    return age.run(length, session, lambda: int(time.time()), time.sleep)


@suite.command()
@parameters.with_options("--properties", "--set", "--at", "--timeout", "-v")
@click.option("--format", type=click.Choice(list(AUDIT_FORMATS)), default="json", show_default=True)
@click.option(
    "--since",
    metavar="DURATION|TIME",
    default="24h",
    show_default=True,
    help="start of a first run; later runs continue from the cursor and ignore this",
)
def audit(format: str, since: str, **given: Any) -> int:
    """Print new audit events, one per line, oldest first.

    Each event is printed at least once: the cursor, in openai.cache.dir, moves only after a batch
    was written, so after a crash the last batch may be printed again, with the same ids. There is
    one cursor per organization name and URL; a second feed needs its own openai.cache.dir. With
    --at the events since --since are printed; no cursor is read or moved.
    """
    from lm_openai.app import audit_feed

    return audit_feed.run(format, since, parameters.options(given), Surroundings.real())


@suite.command()
@click.argument("folders", metavar="[DATASOURCE]...", nargs=-1, shell_complete=parameters.folders())
@parameters.with_options("--properties", "--set", "--timeout")
@click.option(
    "--format",
    type=click.Choice([row.name for row in registry.FORMATS.values() if row.together]),
    help="output format of a line's poll (default influx)",
)
@click.option("--listen", metavar="HOST:PORT", help="serve /metrics for Prometheus instead")
def serve(folders: Sequence[str], format: str | None, listen: str | None, **given: Any) -> int:
    """Poll again and again, for Telegraf or Prometheus.

    By default it polls all DataSources, at most once in openai.cache.ttl. Each line on standard
    input means: poll and print (Telegraf's execd). With --listen it serves /metrics,
    /metrics/<folder> and /-/healthy. PORT alone means 127.0.0.1: only this machine can read it. Any
    other address is readable for everybody who reaches it, without a password. Changed files take
    effect at the next poll.
    """
    from lm_openai.app import serve

    if listen and format not in (None, "prometheus"):
        raise WrongUsage(f"--listen serves prometheus, not {format}; leave --format out")
    wanted = "prometheus" if listen else format or "influx"
    options = serve.checked(parameters.options(given)._replace(format=wanted))
    served, around = chosen(folders or (EVERYTHING,)), Surroundings.real(polls=False)
    if listen:
        return serve.stopped(lambda: serve.listen(served, options, around, listen))
    return serve.stopped(lambda: serve.lines(served, options, around))


@suite.command()
@click.argument("host", metavar="HOST", type=click.Choice([*HOSTS]))
@click.argument("folders", metavar="[DATASOURCE]...", nargs=-1, shell_complete=parameters.folders())
@parameters.with_options("--properties", "--timeout", "--at")
@click.option("--without", metavar="DATASOURCE", multiple=True, help="leave out this DataSource")
@click.option("--output", metavar="PATH", help="file to replace if it changes, or folder of files")
def config(
    host: str, folders: Sequence[str], without: Sequence[str], output: str | None, **given: Any
) -> int:
    """Write the configuration of a monitoring system.

    It has the thresholds in force and by default runs all DataSources. For nagios and icinga it is
    one file with the instances of each --properties FILE, for the others a folder of files. Cron
    may run it: a file changes only if its content does, and an incomplete list of instances changes
    nothing. stderr says what to reload. --timeout is the limit for each FILE.
    """
    from lm_openai.app import site_config

    left_out = chosen(without)
    wanted = [one for one in chosen(folders or (EVERYTHING,)) if one not in left_out]
    if not wanted:
        raise WrongUsage("--without leaves no DataSource; name fewer, or others to write")
    around = Surroundings.real(polls=False)  # each file has a time limit of its own
    return site_config.run(HOSTS[host], wanted, parameters.options(given), output, around)


@suite.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print a shell's completion script.

    For bash: lm-openai completion bash > ~/.local/share/bash-completion/completions/lm-openai
    """
    from click.shell_completion import get_completion_class

    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(suite, {}, "lm-openai", "_LM_OPENAI_COMPLETE").source())
    return runner.DONE


def sizes(scale: str) -> dict[str, int]:
    """Return `projects=50,models=20` as numbers; raises WrongUsage for anything else."""
    found = {}
    for part in filter(None, scale.split(",")):
        name, _, count = part.partition("=")
        if name not in ("projects", "models") or not re.fullmatch("[1-9][0-9]{0,5}", count):
            raise WrongUsage(f"--scale {part!r}: give projects=N, models=M or both")
        found[name] = int(count)
    return found


def chosen(words: Sequence[str]) -> tuple[str, ...]:
    """Return the folders of the named DataSources, or with `all` every folder.

    Raises WrongUsage for a word that names no DataSource.
    """
    named = [datasource.folder_of(word) for word in words if word != EVERYTHING]
    return resources.folders() if EVERYTHING in words else tuple(dict.fromkeys(named))


def polls(words: Sequence[str], options: Options) -> int:
    """Poll the named DataSources, or `all`, and return the exit status; raises WrongUsage."""
    folders = chosen(words)
    around = Surroundings.real()
    if len(folders) == 1:
        return runner.run(folders[0], options, around)
    return run_many.run(folders, options, around)
