"""One run of a script: settings in, text and exit status out, every failure a sentence."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO

from lm_openai import writers
from lm_openai.errors import Failure, Unwritable, WrongUsage
from lm_openai.options import SERIES_FORMATS, Options

if TYPE_CHECKING:
    from lm_openai.answers import Answers
    from lm_openai.cache import Cache, Pauses
    from lm_openai.client import Client
    from lm_openai.datasource import DataSource
    from lm_openai.properties import Properties
    from lm_openai.report import Report

DONE, FAILED, WRONG = 0, 1, 2
NAGIOS_UNKNOWN = 3
EARLIEST, LATEST = 946684800, 4102444799


class Surroundings(NamedTuple):
    """What a run takes from outside; `now` is Unix seconds, `clock` only ever moves on."""

    environ: Mapping[str, str]
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    now: int
    clock: Callable[[], float] = time.monotonic

    @classmethod
    def real(cls) -> Surroundings:
        """This process's own, its time asked for once; words are UTF-8 whatever the locale says.

        A process may be started with a stream closed: then nothing is read from it, what is said on
        stderr is lost, and stdout is one that is not writable.
        """
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(encoding="utf-8")
        streams = sys.stdin or _void("r"), sys.stdout or _void("r"), sys.stderr or _void("w")
        return cls(os.environ, *streams, int(time.time()))


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
        self.cache = cache(self.properties, around.environ, self.now)
        self.client = connect(self.properties, Pauses(self.cache, time.time), around.clock)
        self.answers: Answers | None = None

    def expect(self, datasources: Iterable[DataSource]) -> None:
        """Say which DataSources will be polled, so that what they have in common is asked once."""
        from lm_openai.answers import Answers
        from lm_openai.poll import Poll

        series = wants_series(self.options)
        polls = (
            Poll(source, self.properties, self.now, self.client, self.cache, series)
            for source in datasources
        )
        questions = [question for poll in polls for question in poll.datasource.expects(poll)]
        self.answers = Answers(self.client, self.cache, questions)

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
            answers=self.answers,
            with_series=wants_series(self.options),
            discover_only=self.options.discover,
            only=self.options.instances,
        )

    def say(self) -> None:
        """What `-v` is for; nothing in zabbix, whose agent would take it for the value."""
        if self.options.format == "zabbix":
            return
        counters = self.client.counters
        self.around.stderr.write(
            f"{counters.requests} requests, {counters.retries} retries, "
            f"{counters.throttled} throttled, slowest answer {counters.slowest:.3f} s\n"
        )
        if self.cache.trouble:
            self.around.stderr.write(f"no answer is kept for the next run: {self.cache.trouble}\n")


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
        refuse_closed(around.stdout)
        return work(opened)
    except Failure as failure:
        reason = failure
    except Exception as error:
        reason = unexpected(error, options, around, opened)
    if opened and options.verbose:
        opened[0].say()
    return fail(reason, folder, options, around, opened)


def check(options: Options) -> None:
    """Refuse a time that is none, and options that do not go together; raises WrongUsage."""
    if options.timeout:
        _refuse_timeout(options.timeout)
    if options.series and options.format not in SERIES_FORMATS:
        raise WrongUsage(f"--series goes with {' and '.join(SERIES_FORMATS)}, not {options.format}")


def wants_series(options: Options) -> bool:
    """Whether buckets are printed: when asked for, and in influx unless refused."""
    return options.format == "influx" if options.series is None else options.series


def connect(
    properties: Properties,
    pauses: Pauses | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Client:
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
        clock=clock,
        pauses=pauses,
    )


def cache(properties: Properties, environ: Mapping[str, str], now: int) -> Cache:
    """The private cache of this organization, address and key.

    Its time is the poll's, so that `--at` never meets the answers of another time.
    """
    from lm_openai.cache import Cache, folder, identity

    if properties.is_set("openai.cache.url"):
        raise WrongUsage(
            "openai.cache.url: this version shares answers through openai.cache.dir only; unset it"
        )
    mine = identity(
        properties.organization, properties.text("openai.api.url"), properties.admin_key()
    )
    return Cache(folder(properties, environ), mine, lambda: float(now))


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
    put(text, around.stdout)
    if options.format not in ("zabbix", "nagios"):
        for sentence in report.failures:
            around.stderr.write(f"{sentence}\n")
    if options.verbose and options.format != "zabbix":
        for sentence in (*_ages(report), *report.notes):
            around.stderr.write(f"{sentence}\n")
    if options.format == "nagios" and not options.discover:
        return int(writer.status(report))
    return DONE


def put(text: str, stream: TextIO) -> None:
    """Write it all, now; raises Unwritable when that cannot be done."""
    refuse_closed(stream)
    try:
        stream.write(text)
        stream.flush()
    except OSError as reason:
        raise unwritable(stream, reason) from None


def refuse_closed(stdout: TextIO) -> None:
    """Raise Unwritable for the stdout of a process that was started without one."""
    if not stdout.writable():
        raise Unwritable("stdout is closed: there is nowhere to print to")


def unwritable(stream: TextIO, reason: OSError) -> Unwritable:
    """The sentence for a stream that takes no more; what it still holds is given up.

    Python would try that once more when it ends, and complain.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return Unwritable(f"the output cannot be written: {reason.strerror}")


def fail(
    failure: Failure,
    folder: str,
    options: Options,
    around: Surroundings,
    opened: Sequence[Session] = (),
) -> int:
    """Say why there is no answer, in the place where the format's host looks for it."""
    sentence = _safe(str(failure), around, opened)
    try:
        if isinstance(failure, Unwritable) or options.format not in ("nagios", "zabbix"):
            around.stderr.write(f"{sentence}\n")
        elif options.format == "nagios":
            put(writers.writer("nagios").failed(sentence, title_of(folder)), around.stdout)
        else:
            put(writers.writer("zabbix").failed(sentence), around.stdout)
    except Unwritable as unsaid:
        around.stderr.write(f"{sentence}; {unsaid}\n")
    return status(failure, options.format)


def title_of(folder: str) -> str:
    """What an operator calls a DataSource, also one that there is not."""
    from lm_openai import datasource

    known = folder in datasource.folders()
    return datasource.load(folder).title if known else f"openai {folder.replace('_', ' ')}".strip()


def status(failure: Failure, form: str) -> int:
    """The exit status of a run that gave no answer."""
    if form == "nagios":
        return NAGIOS_UNKNOWN
    return WRONG if isinstance(failure, WrongUsage) else FAILED


def unexpected(
    error: Exception, options: Options, around: Surroundings, opened: Sequence[Session]
) -> Failure:
    """A fault of ours as a sentence; -v adds the traceback, with every secret struck out."""
    if options.verbose and options.format != "zabbix":
        import traceback

        told = "".join(traceback.format_exception(error))
        around.stderr.write(_safe(told, around, opened))
    return Failure(
        f"a fault in lm-openai ({type(error).__name__}: {error}); please report it, "
        f"with what -v shows"
    )


def moment(text: str) -> int:
    """Unix seconds out of ISO 8601 or Unix seconds of this century; raises WrongUsage."""
    from lm_openai import parsing

    try:
        seconds = int(text) if text.isascii() and text.isdecimal() else parsing.moment(text)
    except ValueError:
        seconds = 0
    if not EARLIEST <= seconds <= LATEST:
        allowed = parsing.KINDS["date"].allowed
        raise WrongUsage(f"--at {text!r}: give {allowed}, or Unix seconds, from 2000 to 2099")
    return seconds


def _void(mode: Literal["r", "w"]) -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_RDWR), mode)


def _refuse_timeout(text: str) -> None:
    from lm_openai import parsing
    from lm_openai.settings import row

    entry = row("openai.timeout")
    try:
        parsing.parse(entry.kind, text, entry.bounds)
    except ValueError as error:
        raise WrongUsage(f"--timeout {text!r}: {error}") from None


def _ages(report: Report) -> Iterator[str]:
    if report.ages:
        ages = ", ".join(f"{kind} {seconds} s" for kind, seconds in report.ages.items())
        yield f"age of the newest data: {ages}"


def _safe(text: str, around: Surroundings, opened: Sequence[Session]) -> str:
    from lm_openai.redaction import secrets, struck

    return struck(text, secrets(around.environ, opened[0].properties if opened else None))
