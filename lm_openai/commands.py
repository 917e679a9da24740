"""The suite command: what `lm-openai` does beside the scripts."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from lm_openai import cli, collector, datasource, several
from lm_openai.audit_lines import FORMATS as AUDIT_FORMATS
from lm_openai.collector import Session, Surroundings
from lm_openai.errors import Failure, WrongUsage
from lm_openai.options import OPTIONS, Options
from lm_openai.units import plain

EVERYTHING = "all"
Command = TypeVar("Command", bound=Callable[..., Any])


@click.group(
    "lm-openai",
    help="Monitoring plugins for an OpenAI organization.",
    epilog=f"Begin with `demo`, which needs no key, then `doctor`. {cli.KEY}",
    params=[cli.version()],
)
def suite() -> None:
    """The suite command."""


def with_options(*flags: str) -> Callable[[Command], Command]:
    """Give a command rows of the option table; all of them when none is named."""

    def add(command: Command) -> Command:
        for option in reversed(OPTIONS):
            if not flags or option.flag in flags:
                cli.attach(command, cli.parameter(option))
        return command

    return add


@suite.command("list")
def list_datasources() -> int:
    """Every DataSource: folder, LogicModule name, what it shows."""
    for folder in datasource.folders():
        source = datasource.load(folder)
        click.echo(f"{folder:30}{source.name:36}{source.description}")
    return collector.DONE


@suite.command()
@click.argument("folders", nargs=-1, required=True)
@with_options()
def collect(folders: Sequence[str], **given: Any) -> int:
    """Poll DataSources, or `all` of them, and print one format."""
    return polls(folders, cli.options(given))


@suite.command()
@click.argument("folder")
@with_options(*(option.flag for option in OPTIONS if option.flag != "--discover"))
def discover(folder: str, **given: Any) -> int:
    """Print one DataSource's instances in a format's discovery form."""
    return collector.run(folder, cli.options(given)._replace(discover=True), Surroundings.real())


@suite.command()
@click.argument("folder")
@with_options("--thresholds")
def thresholds(folder: str, **given: Any) -> int:
    """One DataSource's thresholds in force, and who set them.

    Three limits, of which - is none; polls is how many bad ones in a row it takes.
    """
    from lm_openai import thresholds as rules

    source = datasource.load(folder)
    folders = rules.site_folders(Surroundings.real().environ)
    lines = list(rules.describe(rules.load(source, cli.options(given).thresholds, folders)))
    click.echo(rules.reason(source))
    if lines:
        levels = " ".join(rules.LEVELS)
        click.echo(f"\n{'datapoint':35}{levels:24}{'polls':7}for; set by")
    for line in lines:
        rule = line.threshold
        limits = " ".join("-" if limit is None else plain(limit) for limit in rule.limits)
        click.echo(
            f"{rule.datapoint:32}{rule.operator:3}{limits:24}{rule.consecutive:<7}"
            f"{line.match or 'all'}; {line.source}"
        )
        click.echo(f"    {rule.reason}")
    return collector.DONE


@suite.command()
@with_options("--properties", "--set", "--timeout")
@click.option("--format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(format: str, **given: Any) -> int:
    """Check the key, the way to the API, data and site files."""
    from lm_openai.doctor import BAD, findings

    found = []
    for finding in findings(Session(cli.options(given), Surroundings.real())):
        found.append(finding)
        if format == "json":
            click.echo(json.dumps(finding._asdict(), ensure_ascii=False))
        else:
            click.echo(f"{finding.verdict:5} {finding.subject:20} {finding.words}")
    return int(any(finding.verdict == BAD for finding in found))


@suite.command()
@with_options("--properties", "--set", "--timeout", "--at")
@click.option("--month", required=True, metavar="YYYY-MM", help="the month, in UTC")
@click.option(
    "--format", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
def costs(month: str, format: str, **given: Any) -> int:
    """Print a month's costs, to compare with the invoice.

    By project, line item and UTC day, every cent of it.
    """
    from lm_openai import month as months
    from lm_openai.names import Names

    session = Session(cli.options(given), Surroundings.real())
    names = Names(session.client, session.cache, session.properties)
    organization = session.properties.organization
    found = months.read(session.client, names, organization, month, session.now)
    click.echo(months.written(found, format), nl=False)
    for sentence in [found.unfinished if format != "table" else "", *names.notes]:
        if sentence:
            click.echo(sentence, err=True)
    return collector.DONE


@suite.command()
def demo() -> int:
    """Poll every DataSource of a made-up organization."""
    from lm_openai import demo as show

    return show.run(Surroundings.real())


@suite.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="a free one when not given")
@click.option("--seed", type=int, default=1, show_default=True, help="another organization")
@click.option("--at", metavar="TIME", default="", help="stop the clock: ISO 8601 or Unix seconds")
@click.option(
    "--scale", default="", metavar="projects=N,models=M", help="its size (default 12 and 24)"
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="KIND[:PATH][:NAME=VALUE]...",
    help="spoil answers, as in 429:*/costs:times=2; a kind that is none lists all of them",
)
def simulate(port: int, seed: int, at: str, scale: str, faults: Sequence[str]) -> int:
    """Serve the made-up organization, for other tools to ask.

    It runs in the foreground and prints the environment that leads to it.
    """
    import sys

    from lm_openai.simulator import Simulator, parse_fault, run_forever

    wanted = sizes(scale)
    try:
        simulator = Simulator(
            seed=seed,
            port=port,
            at=collector.moment(at) if at else None,
            faults=[parse_fault(text) for text in faults],
            projects=wanted.get("projects", 12),
            models=wanted.get("models", 24),
        )
        run_forever(simulator, sys.stdout)
    except ValueError as error:
        raise WrongUsage(str(error)) from None
    except OSError as error:
        raise Failure(f"port {port} is not to be had ({error.strerror}): take another") from None
    return collector.DONE


def sizes(scale: str) -> dict[str, int]:
    """`projects=50,models=20` as numbers; raises WrongUsage for any other word."""
    found = {}
    for part in filter(None, scale.split(",")):
        name, _, count = part.partition("=")
        if name not in ("projects", "models") or not count.isdecimal() or int(count) < 1:
            raise WrongUsage(f"--scale {part!r}: give projects=N, models=M or both")
        found[name] = int(count)
    return found


def polls(words: Sequence[str], options: Options) -> int:
    """Poll several DataSources one after the other and print them in the format's way.

    One that gave no answer is said on stderr and leaves the others standing; only when none gave
    one has the run failed.
    """
    named = tuple(word for word in dict.fromkeys(words) if word != EVERYTHING)
    for folder in named:
        datasource.load(folder)
    folders = datasource.folders() if EVERYTHING in words else named
    around = Surroundings.real()
    if len(folders) == 1:
        return collector.run(folders[0], options, around)
    return several.run(folders, options, around)


@suite.command()
@with_options("--properties", "--set")
@click.option(
    "--watch",
    "length",
    metavar="DURATION",
    default="3h",
    show_default=True,
    help="how long to look, once a minute",
)
def age(length: str, **given: Any) -> int:
    """Measure how late usage arrives, and what grace it needs.

    The last column is the minutes to give as openai.finalization.grace.
    """
    import time

    from lm_openai import lateness, parsing

    try:
        seconds = parsing.duration(length)
    except ValueError:
        raise WrongUsage(f"--watch {length!r}: give a duration such as 90m or 3h") from None
    session = Session(cli.options(given), Surroundings.real())
    click.echo(f"watching for {length}; every minute one request per usage kind", err=True)
    found = list(
        lateness.watch(
            lambda: collector.connect(session.properties),
            seconds,
            lambda: int(time.time()),
            time.sleep,
        )
    )
    click.echo(f"{'kind':28}{'minutes':>8}{'50 %':>8}{'90 %':>8}{'99 %':>8}  grace")
    for kind in found:
        ages = "".join(f"{seconds // 60:>6} m" for seconds in kind.ages.values())
        growing = " (still growing: watch longer)" if kind.growing else ""
        click.echo(f"{kind.kind:28}{kind.minutes:>8}{ages}  {kind.grace}m{growing}")
    if not found:
        click.echo("no use was seen, so there is nothing to tell", err=True)
    return collector.DONE if found else collector.FAILED


@suite.command()
@with_options("--properties", "--set", "--at", "--timeout", "-v")
@click.option("--format", type=click.Choice(list(AUDIT_FORMATS)), default="json", show_default=True)
@click.option(
    "--since",
    metavar="DURATION|TIME",
    default="24h",
    show_default=True,
    help="where a first run begins; later ones go on from the cursor, whatever is said here",
)
def audit(format: str, since: str, **given: Any) -> int:
    """Print new audit events, one per line, oldest first.

    Each event comes at least once: the cursor, in openai.cache.dir, moves only after a batch was
    written, so after a crash the last batch may come again, under the same ids. There is one cursor
    per organization name and URL; a second feed of them needs an openai.cache.dir of its own.
    """
    from lm_openai import feed

    return feed.run(format, since, cli.options(given), Surroundings.real())
