"""Shared parts of one run: the process's streams, settings, client and cache."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, TextIO

from lm_openai.app.options import Options
from lm_openai.errors import WrongUsage
from lm_openai.output import registry
from lm_openai.redaction import learn

if TYPE_CHECKING:
    from lm_openai.api.client import Client
    from lm_openai.api.notes import Notes
    from lm_openai.api.sharing import Responses
    from lm_openai.api.transport import Connection, Transport
    from lm_openai.app.watchdog import Watchdog
    from lm_openai.collect.datasource import DataSource
    from lm_openai.collect.directory import Directory
    from lm_openai.collect.pipeline import Polled
    from lm_openai.collect.usage_queries import UsageQueries
    from lm_openai.config.properties import Properties
    from lm_openai.config.site_files import Site
    from lm_openai.model.definition import Definition
    from lm_openai.model.part import Part
    from lm_openai.model.report import Gap, Report, Row
    from lm_openai.storage.cache import Cache
    from lm_openai.storage.redis_hosts import Hosts

SHARED = "openai.cache.ttl"
LEAST_KEPT, MOST_KEPT = 0.25, 0.5
"""Shares of openai.timeout that are kept, at least and at most, for computing and printing."""
EARLIEST, LATEST = 946684800, 4102444799
"""First and last moment that --at accepts: the years 2000 and 2099."""


class Surroundings(NamedTuple):
    """Environment, streams and time of a run.

    `now` is Unix seconds, `clock` a monotonic clock in seconds. `watchdog` ends a process when
    openai.timeout is over; None if the process does not belong to the run. `waited` is the part of
    that time, in seconds, that went by while the process waited for another one's answer.
    `transport` returns the transport that the runs of one process share; without it each run has
    its own.
    """

    environ: Mapping[str, str]
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    now: int
    clock: Callable[[], float] = time.monotonic
    watchdog: Watchdog | None = None
    waited: float = 0.0
    transport: Callable[[Connection], Transport] | None = None

    @classmethod
    def real(cls, polls: bool = True, waited: float = 0.0) -> Surroundings:
        """Return the surroundings of this process; its streams become UTF-8.

        Without `polls` it has no watchdog.

        If the process was started with a stream closed, stdin is empty, stderr is discarded and
        stdout is a stream that is not writable. Half a surrogate is printed as its escape.
        """
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                written = "strict" if stream is sys.stdin else "backslashreplace"
                stream.reconfigure(encoding="utf-8", errors=written)
        streams = sys.stdin or _null("r"), sys.stdout or _null("r"), sys.stderr or _null("w")
        around = cls(os.environ, *streams, int(time.time()), waited=waited)
        if not polls:
            return around
        from lm_openai.app.watchdog import Watchdog

        return around._replace(watchdog=Watchdog(spent=waited))

    def limit(self, seconds: float) -> None:
        """End the process, if it belongs to the run, that many seconds after its start."""
        if self.watchdog is not None:
            self.watchdog.arm(seconds)


class Session:
    """Settings, client and cache of one run; raises WrongUsage for options that do not fit.

    With `fresh`, every response is requested. Otherwise the processes of a host share those of one
    poll and its time.
    """

    def __init__(self, options: Options, around: Surroundings, fresh: bool = False) -> None:
        from lm_openai.config import properties, sources

        learn(sources.secrets(around.environ))
        check(options)
        if options.timeout:
            around.limit(_timeout(options.timeout))
        sets = (*options.sets, *([f"openai.timeout={options.timeout}"] if options.timeout else []))
        self.options, self.around = options, around
        self._began = around.clock()
        self.properties = properties.load(around.environ, options.properties, sets, around.stdin)
        around.limit(self.properties.seconds("openai.timeout"))
        self._fresh, self._at = fresh, moment(options.at) if options.at else None

    @cached_property
    def now(self) -> int:
        """The time of the poll in Unix seconds; raises WrongUsage without a key."""
        from lm_openai.storage.shared_responses import poll_time

        now, seconds = self.around.now, self.properties.seconds(SHARED)
        if self._at is not None:
            return self._at
        if self._fresh or not seconds:
            return now
        return poll_time(self._open_cache(now), now, seconds, self.hosts)

    @cached_property
    def hosts(self) -> Hosts | None:
        """The Redis of several hosts; None without one, and if this run shares no responses.

        Raises WrongUsage without the package redis.
        """
        if self._fresh or self._at is not None or not self.properties.seconds(SHARED):
            return None
        return open_hosts(self.properties)

    @cached_property
    def cache(self) -> Cache:
        """The private cache of the organization; raises WrongUsage without a key."""
        return self._open_cache(self.now)

    @cached_property
    def client(self) -> Client:
        """The client of the run; raises WrongUsage without a key."""
        from lm_openai.storage.shared_responses import SharedResponses

        seconds = self.properties.seconds(SHARED)
        shared = (
            None if self._fresh or not seconds else SharedResponses(self.cache, seconds, self.hosts)
        )
        notes = shared_notes(self.cache, self.hosts)
        around = self.around
        return connect(
            self.properties, notes, around.clock, shared, around.waited, around.transport
        )

    def connect(self) -> None:
        """Raise WrongUsage for a key, URL, proxy or CA file that no request can use."""
        assert self.client

    @cached_property
    def queries(self) -> UsageQueries:
        """The usage that the DataSources of the run share; raises WrongUsage without a key."""
        from lm_openai.collect.usage_queries import UsageQueries

        return UsageQueries(self.client, self.cache, self.now)

    @cached_property
    def site(self) -> Site:
        """The threshold files in the site's folders, read once per run."""
        return read_site(self.around.environ)

    def ahead_of_api(self) -> int | None:
        """Return the seconds by which this machine's clock is ahead of the API's; None if unknown.

        The time of the poll may be that of an earlier process.
        """
        from lm_openai.app import clock

        began, elapsed = self.around.now, round(self.around.clock() - self._began)
        return clock.ahead(self.client.counters.own_date, began, began + elapsed)

    def report(self, datasource: DataSource) -> Report:
        """Poll one DataSource; raises Failure if no request succeeded or the clock is wrong."""
        only = self.options.instances
        with self.clock_checked():
            return self.select(self.poll(datasource, only), only)

    def clock_checked(self) -> AbstractContextManager[None]:
        """Return a context that raises Failure if this machine's clock is wrong, see app.clock."""
        from lm_openai.app import clock

        return nullcontext() if self.options.at else clock.checked(self.ahead_of_api, self.cache)

    def select(self, polled: Polled, only: Sequence[str]) -> Report:
        """Return the report of these instances (none: all); raises Failure if one is unknown."""
        from lm_openai.collect import datapoints

        report = datapoints.restricted(polled.report(only), self.options.datapoints)
        rows = tuple(self._in_part(report.rows))
        return report._replace(rows=rows, notes=(*self._notes(), *report.notes))

    def _notes(self) -> Iterator[str]:
        """Yield what is wrong with the site's files and the cache, which no poll fails for."""
        yield from self.site.faults
        if self.cache.trouble:
            yield f"no response is shared with other scripts: {self.cache.trouble}"
        if self.hosts is not None and self.hosts.trouble:
            yield self.hosts.trouble

    def poll(self, datasource: DataSource, only: Sequence[str]) -> Polled:
        """Poll one DataSource, `only` as in `pipeline.poll`; raises Failure."""
        from lm_openai.collect import datapoints, pipeline
        from lm_openai.config import threshold_files

        datapoints.check(datasource.definition, self.options.datapoints)
        rules = threshold_files.load(
            datasource.definition, self.options.thresholds, self.site, self.cache
        )
        return pipeline.poll(
            datasource,
            self.properties,
            self.now,
            self.client,
            self.cache,
            rules,
            queries=self.queries,
            with_series=wants_series(self.options),
            discover_only=self.options.discover,
            only=only,
        )

    def _in_part(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Yield the rows of the part that --part names; all rows without it."""
        part = _part(self.options)
        return (row for row in rows if part is None or part.holds(row.instance.wildvalue))

    def gap(self, definition: Definition, sentence: str) -> Gap:
        """Return the failed poll of a DataSource; `sentence` is the reason."""
        from lm_openai.collect.poll import grouping
        from lm_openai.model.report import Gap

        own = self.properties.for_datasource(definition.folder)
        return Gap(definition, own.organization, sentence, grouping(definition, own))

    def directory(self) -> Directory:
        """Return the names of this session's organization."""
        from lm_openai.collect.directory import Directory
        from lm_openai.collect.source import Source

        source = Source(self.client, self.cache, self.queries, self.now)
        return Directory(source, self.properties.flag("openai.users.email"))

    def _open_cache(self, now: int) -> Cache:
        return open_cache(self.properties, self.around.environ, now, self.hosts)

    def print_counters(self) -> None:
        """Print the request counts of `-v`, unless the host reads stderr as the value.

        Print nothing if the run ended before it had a client.
        """
        unused = "client" not in vars(self)
        if unused or not registry.named(self.options.format).stderr:
            return
        counters = self.client.counters
        self.around.stderr.write(
            f"{counters.requests} requests, {counters.retries} retries, "
            f"{counters.throttled} throttled, slowest response {counters.slowest:.3f} s\n"
        )


def read_site(environ: Mapping[str, str]) -> Site:
    """Return the threshold files in the site's folders."""
    from lm_openai import paths
    from lm_openai.collect.datasource import problem
    from lm_openai.config import site_files

    return site_files.read_site(paths.threshold_folders(environ), problem)


def check(options: Options) -> None:
    """Refuse an invalid --timeout or --part and options that do not go together.

    Raises WrongUsage.
    """
    if options.timeout:
        _timeout(options.timeout)
    if options.series and registry.named(options.format).series is None:
        allowed = [row for row in registry.FORMATS.values() if row.series is not None]
        raise WrongUsage(f"--series works with {registry.names(allowed)}, not {options.format}")
    if _part(options) and not registry.named(options.format).parts:
        allowed = [row for row in registry.FORMATS.values() if row.parts]
        raise WrongUsage(f"--part works with {registry.names(allowed)}, not {options.format}")
    if options.datapoints and options.discover:
        raise WrongUsage("--datapoint selects values, and --discover prints none; leave one out")


def wants_series(options: Options) -> bool:
    """Return True if buckets are printed: by option, else by the format's default."""
    default = bool(registry.named(options.format).series)
    return default if options.series is None else options.series


def connect(
    properties: Properties,
    notes: Notes | None = None,
    clock: Callable[[], float] = time.monotonic,
    shared: Responses | None = None,
    spent: float = 0.0,
    transport: Callable[[Connection], Transport] | None = None,
) -> Client:
    """Return a client with the host's admin key and settings.

    It stops early enough to compute and print within openai.timeout, which loading the libraries is
    a part of, and of which `spent` seconds are over. `notes` are those on the API that processes
    share, `shared` the responses; `transport` makes the transport. Raises WrongUsage.
    """
    until = clock() + properties.seconds("openai.timeout") - spent
    from lm_openai.api.client import Client
    from lm_openai.api.transport import Connection, Transport

    concurrency = properties.count("openai.concurrency")
    connection = Connection(
        url=properties.text("openai.api.url"),
        key=properties.admin_key(),
        proxy=properties.text("openai.proxy.url"),
        proxy_password=properties.text("openai.proxy.pass"),
        ca_file=properties.text("openai.ca.file"),
        concurrency=concurrency,
        insecure=properties.flag("openai.api.url.insecure"),
    )
    chosen = (transport or Transport)(connection)
    return Client(
        chosen,
        deadline_seconds=until - clock(),
        kept=_kept(properties.seconds("openai.timeout")),
        concurrency=concurrency,
        clock=clock,
        notes=notes,
        shared=shared,
    )


def _kept(timeout: float) -> Callable[[], float]:
    """Return a function that returns the seconds to keep for computing and printing.

    Measured with 2,000 projects: they take as much processor time as reading the responses took.
    """
    began = time.process_time()

    def kept() -> float:
        spent = time.process_time() - began
        return min(max(spent, timeout * LEAST_KEPT), timeout * MOST_KEPT)

    return kept


def shared_notes(cache: Cache, hosts: Hosts | None = None) -> Notes:
    """Return the notes on the API that all processes with this cache share, in real time.

    With `hosts` they share some of them too.
    """
    from lm_openai.api.notes import Notes
    from lm_openai.storage.cache import NOTES, Cache, SharedNotes

    local = SharedNotes(Cache(cache.folder, cache.identity, time.time, prunes=False))
    if hosts is None:
        return Notes(local, time.time)
    from lm_openai.storage.host_notes import HostNotes

    return Notes(HostNotes(local, hosts, cache.owned(NOTES)), hosts.link.time)


def open_hosts(properties: Properties) -> Hosts | None:
    """Return the Redis of openai.cache.url, which is not connected yet; None without the property.

    Raises WrongUsage without the package redis.
    """
    if not properties.is_set("openai.cache.url"):
        return None
    from lm_openai.storage.redis_hosts import Hosts
    from lm_openai.storage.redis_link import Link, Server

    url, password = properties.text("openai.cache.url"), properties.text("openai.cache.pass")
    return Hosts(Link(Server(url, password, properties.text("openai.ca.file"))))


def open_cache(
    properties: Properties,
    environ: Mapping[str, str],
    now: int,
    hosts: Hosts | None = None,
) -> Cache:
    """Return the private cache of this organization, base URL and key.

    Its time is the poll's, so that `--at` never reads responses of another time.
    """
    from lm_openai.paths import cache_folder, folder_missing
    from lm_openai.storage.cache import Cache, identity

    owner = identity(
        properties.organization, properties.text("openai.api.url"), properties.admin_key()
    )
    folder = cache_folder(properties.text("openai.cache.dir"), environ)
    cache = Cache(folder, owner, lambda: float(now), hosts=hosts)
    if not folder:
        cache.trouble = folder_missing()
    return cache


def moment(text: str) -> int:
    """Return Unix seconds from ISO 8601 or Unix seconds of this century; raises WrongUsage."""
    from lm_openai import timespans
    from lm_openai.config import value_types

    try:
        seconds = int(text) if text.isascii() and text.isdecimal() else timespans.moment(text)
    except ValueError:
        seconds = 0
    if not EARLIEST <= seconds <= LATEST:
        allowed = value_types.TYPES["date"].allowed
        raise WrongUsage(f"--at {text!r}: give {allowed}, or Unix seconds, from 2000 to 2099")
    return seconds


def _null(mode: Literal["r", "w"]) -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_RDWR), mode)


def _part(options: Options) -> Part | None:
    if options.part is None:
        return None
    from lm_openai.model import part

    try:
        return part.parse(options.part)
    except ValueError as reason:
        raise WrongUsage(f"--part {options.part!r}: {reason}") from None


def _timeout(text: str) -> float:
    """Return the seconds of --timeout; raises WrongUsage."""
    from lm_openai.config import value_types
    from lm_openai.config.registry import row

    entry = row("openai.timeout")
    try:
        return float(value_types.parse(entry.kind, text, entry.bounds))
    except ValueError as error:
        raise WrongUsage(f"--timeout {text!r}: {error}") from None
