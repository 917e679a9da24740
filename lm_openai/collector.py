"""One run of a script: settings in, text and exit status out, every failure a sentence."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple, TextIO

from lm_openai import writers
from lm_openai.errors import Failure, WrongUsage
from lm_openai.options import SERIES_FORMATS, Options

if TYPE_CHECKING:
    from lm_openai.cache import Cache, Pauses
    from lm_openai.client import Client
    from lm_openai.datasource import DataSource
    from lm_openai.properties import Properties
    from lm_openai.report import Report

DONE, FAILED, WRONG = 0, 1, 2
NAGIOS_UNKNOWN = 3


class Surroundings(NamedTuple):
    """What a run takes from outside; `now` is Unix seconds."""

    environ: Mapping[str, str]
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    now: int

    @classmethod
    def real(cls) -> Surroundings:
        """This process's own, its time asked for once."""
        return cls(os.environ, sys.stdin, sys.stdout, sys.stderr, int(time.time()))


class Session:
    """What the polls of one run share: settings, the client, and the cache."""

    def __init__(self, options: Options, around: Surroundings) -> None:
        from lm_openai import properties
        from lm_openai.cache import Pauses

        check(options)
        sets = (*options.sets, *([f"openai.timeout={options.timeout}"] if options.timeout else []))
        self.options, self.around = options, around
        self.properties = properties.load(around.environ, options.properties, sets, around.stdin)
        self.now = moment(options.at) if options.at else around.now
        self.cache = cache(self.properties, around)
        self.client = connect(self.properties, Pauses(self.cache, time.time))

    def report(self, datasource: DataSource) -> Report:
        """Poll one DataSource; raises Failure when nothing could be learned."""
        from lm_openai import poll, thresholds

        rules = thresholds.load(
            datasource,
            files=self.options.thresholds,
            folders=thresholds.site_folders(self.around.environ),
            stamps=self.cache,
        )
        return poll.report(
            datasource,
            self.properties,
            self.now,
            self.client,
            self.cache,
            rules,
            with_series=wants_series(self.options),
            discover_only=self.options.discover,
            only=self.options.instances,
        )

    def say(self) -> None:
        """The request count and what else `-v` is for."""
        counters = self.client.counters
        self.around.stderr.write(
            f"{counters.requests} requests, {counters.retries} retries, "
            f"{counters.throttled} throttled, slowest answer {counters.slowest:.3f} s\n"
        )


def run(folder: str, options: Options, around: Surroundings) -> int:
    """Poll one DataSource, print it, and return the exit status (DESIGN section 5)."""
    from lm_openai import datasource

    def poll(opened: list[Session]) -> int:
        source = datasource.load(folder)
        opened.append(Session(options, around))
        report = opened[0].report(source)
        if options.verbose:
            opened[0].say()
        return show(report, options, around)

    return guarded(folder, options, around, poll)


def guarded(
    folder: str, options: Options, around: Surroundings, work: Callable[[list[Session]], int]
) -> int:
    """What `work` returns, or the status of its failure; it notes the session that it opens.

    The last line of defence: a fault of ours is a sentence too, never a bare traceback.
    """
    opened: list[Session] = []
    try:
        return work(opened)
    except Failure as failure:
        return fail(failure, folder, options, around)
    except Exception as error:
        secrets = opened[0].properties.secrets() if opened else ()
        return fail(unexpected(error, options, around, secrets), folder, options, around)


def check(options: Options) -> None:
    """Refuse options that do not go together; raises WrongUsage."""
    if options.series and options.format not in SERIES_FORMATS:
        raise WrongUsage(f"--series goes with {' and '.join(SERIES_FORMATS)}, not {options.format}")


def wants_series(options: Options) -> bool:
    """Whether buckets are printed: when asked for, and in influx unless refused."""
    return options.format == "influx" if options.series is None else options.series


def connect(properties: Properties, pauses: Pauses | None = None) -> Client:
    """A client with the admin key and the settings of a host; `pauses` are the other processes'."""
    from lm_openai.client import Client
    from lm_openai.transport import Connection, Transport

    concurrency = properties.count("openai.concurrency")
    connection = Connection(
        url=properties.text("openai.api.url"),
        key=properties.admin_key(),
        proxy=properties.text("openai.proxy.url"),
        proxy_password=properties.text("openai.proxy.pass"),
        ca_file=properties.text("openai.ca.file"),
        concurrency=concurrency,
    )
    return Client(
        Transport(connection),
        deadline_seconds=properties.seconds("openai.timeout"),
        concurrency=concurrency,
        pauses=pauses,
    )


def cache(properties: Properties, around: Surroundings) -> Cache:
    """The private cache of this organization, address and key."""
    from lm_openai.cache import Cache, folder, identity

    if properties.is_set("openai.cache.url"):
        raise WrongUsage(
            "openai.cache.url: this version shares answers through openai.cache.dir only; unset it"
        )
    mine = identity(
        properties.organization, properties.text("openai.api.url"), properties.admin_key()
    )
    return Cache(folder(properties, around.environ), mine, lambda: float(around.now))


def show(report: Report, options: Options, around: Surroundings) -> int:
    """Print a report, or with --discover its instances; return the exit status."""
    writer = writers.writer(options.format)
    if options.discover:
        if report.failures:
            raise Failure(
                f"the list of instances is not complete, so none is printed: {report.failures[0]}"
            )
        text = writer.discover(report)
    else:
        text = writer.write(report)
    around.stdout.write(text)
    around.stdout.flush()
    if options.format not in ("zabbix", "nagios"):
        for sentence in report.failures:
            around.stderr.write(f"{sentence}\n")
    if options.verbose:
        for sentence in report.notes:
            around.stderr.write(f"{sentence}\n")
    if options.format == "nagios" and not options.discover:
        return int(writer.status(report))
    return DONE


def fail(failure: Failure, folder: str, options: Options, around: Surroundings) -> int:
    """Say why there is no answer, in the place where the format's host looks for it."""
    sentence = str(failure)
    if options.format == "nagios":
        around.stdout.write(writers.writer("nagios").failed(sentence, title_of(folder)))
    elif options.format == "zabbix":
        around.stdout.write(writers.writer("zabbix").failed(sentence))
    else:
        around.stderr.write(f"{sentence}\n")
    around.stdout.flush()
    return status(failure, options.format)


def title_of(folder: str) -> str:
    """What an operator calls a DataSource, also one that there is not."""
    from lm_openai import datasource

    known = folder in datasource.folders()
    return datasource.load(folder).title if known else "openai " + folder.replace("_", " ")


def status(failure: Failure, form: str) -> int:
    """The exit status of a run that gave no answer."""
    if form == "nagios":
        return NAGIOS_UNKNOWN
    return WRONG if isinstance(failure, WrongUsage) else FAILED


def unexpected(
    error: Exception, options: Options, around: Surroundings, secrets: tuple[str, ...]
) -> Failure:
    """A fault of ours as a sentence; -v adds the traceback, with every secret struck out."""
    if options.verbose and options.format != "zabbix":
        import traceback

        around.stderr.write(struck("".join(traceback.format_exception(error)), secrets))
    return Failure(
        struck(f"a fault in lm-openai ({type(error).__name__}: {error}); please report it", secrets)
    )


def struck(text: str, secrets: tuple[str, ...]) -> str:
    """`text` without any secret."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def moment(text: str) -> int:
    """Unix seconds out of ISO 8601 or Unix seconds; raises WrongUsage."""
    from lm_openai import parsing

    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        return int(parsing.parse("date", text, {}))
    except ValueError as error:
        raise WrongUsage(f"--at {text!r}: {error}") from None
