"""State of one poll as a DataSource's functions see it: settings, time, API data and gaps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

from lm_openai.api.client import Client
from lm_openai.collect.directory import NAMED, Directory
from lm_openai.collect.once import Once
from lm_openai.collect.source import Source
from lm_openai.collect.usage_queries import UsageQueries
from lm_openai.config.properties import Properties
from lm_openai.errors import ApiFailure
from lm_openai.model.definition import Definition
from lm_openai.model.report import Instance
from lm_openai.storage.cache import Cache
from lm_openai.timespans import Window

T = TypeVar("T")
GROUP_BY = "openai.group.by"
WHOLE = "organization"
"""Value of openai.group.by for one total, without dimensions."""
FILTERED = {"project_id": "projects", "model": "models"}
"""Filters by the dimension that they select: `openai.projects.include`, …"""


class Poll:
    """One poll of one DataSource.

    `now` is Unix seconds. `source` is the API data that the polls of one run share. A DataSource
    sets `covered` to the span of its numbers if that is not `window`, and adds to `ages` the data
    age in seconds by usage kind, to `failures` what is missing from the report and why, and to
    `notes` what is worth knowing and not a failure. `filters` are the dimensions with an include or
    exclude filter, `narrowed` those whose filter narrows the usage that is added up, and `selected`
    holds by dimension and id whether its filter selects it. `seen` are ids by dimension that the
    poll read although its instances do not have them.
    """

    def __init__(
        self,
        definition: Definition,
        properties: Properties,
        now: int,
        client: Client,
        cache: Cache,
        with_series: bool = False,
        queries: UsageQueries | None = None,
        discover_only: bool = False,
    ) -> None:
        self.definition = definition
        self.properties = properties.for_datasource(definition.folder)
        self.now = now
        self.source = Source(client, cache, queries or UsageQueries(client, cache, now), now)
        self.with_series = with_series and definition.series_width is not None
        self.discover_only = discover_only
        self.directory = Directory(self.source, self.properties.flag("openai.users.email"))
        self.ages: dict[str, int] = {}
        self.failures: list[str] = []
        self.notes: list[str] = []
        self.incomplete = False
        self.covered: tuple[int, int] | None = None
        self.filters = tuple(
            dimension for dimension, what in FILTERED.items() if self.properties.filters(what)
        )
        self.narrowed: set[str] = set()
        self.selected: dict[str, dict[str, bool]] = {}
        self.seen: dict[str, set[str]] = {}
        self._once = Once()

    @property
    def client(self) -> Client:
        """The client of the run."""
        return self.source.client

    def prints(self, project: str) -> bool:
        """Return True if the filter of projects selects the project; raises ApiFailure."""
        return self.selects("project_id", project)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions in openai.group.by, else the definition's; () for the organization."""
        return dimensions(self.definition, self.properties)

    @property
    def window(self) -> Window:
        """The span of the snapshot, with a series too."""
        return self.properties.window(self.now)

    @property
    def series_window(self) -> Window:
        """The span of the series."""
        return self.properties.series(self.now, self.definition.series_width or "1m")

    def reads(self, window: Window) -> tuple[Window, ...]:
        """Return the windows to request for the snapshot's window and, if wanted, the series.

        It is one window if their buckets are equally wide.
        """
        series = self.series_window
        if not self.with_series:
            return (window,)
        if series.width != window.width:
            return window, series
        return (window._replace(start=min(window.start, series.start)),)

    def read(self, window: Window, request: Callable[[Window], Iterable[T]]) -> Iterable[T]:
        """Return what `request` returns for a window; it may start earlier, where a series does.

        If such a longer request fails, the window is requested alone, because a series never
        changes the snapshot.
        """
        (longer, *others) = self.reads(window)
        if others or not self.with_series:
            return request(window)
        try:
            return self.once(f"read {longer}", lambda: [*request(longer)])
        except ApiFailure:
            if longer == window:
                raise
            return request(window)

    def shows(self, instance: Instance) -> bool:
        """Return True if the filters let the instance be printed; raises ApiFailure."""
        return all(self.selects(*pair) for pair in instance.dimensions.items())

    def selects(self, dimension: str, identifier: str) -> bool:
        """Return True if the filter of a dimension, if there is one, selects the id or its name.

        Raises ApiFailure if the names of projects cannot be read: without them nobody knows.
        """
        if dimension not in self.filters:
            return True
        asked = self.selected.setdefault(dimension, {})
        if identifier not in asked:
            if dimension == "project_id":
                self.directory.projects()
            name = self.directory.name(dimension, identifier) or ""
            asked[identifier] = self.properties.chosen(FILTERED[dimension], identifier, name)
        return asked[identifier]

    def report_failure(
        self, failure: ApiFailure, consequence: str, hides_instances: bool = True
    ) -> None:
        """Report a failed request and, in `consequence`, what is left out because of it.

        Instances may be missing then, so that the report's state is unknown, unless
        `hides_instances` is False because only datapoints are left out.
        """
        self.incomplete = self.incomplete or hides_instances
        sentence = f"{consequence}: {failure}"
        if sentence not in self.failures:
            self.failures.append(sentence)

    def once(self, name: str, compute: Callable[[], T]) -> T:
        """Return `compute()`, called once per name in this poll, or raise its ApiFailure again."""
        return self._once.get(name, compute)

    def read_ahead(self, calls: Iterable[Callable[[], object]], dimensions: Iterable[str]) -> None:
        """Make these calls and read the names of the dimensions, all at the same time.

        Without it a poll would wait for each in turn. Their results and failures have to be kept
        by what they call (see Once); no failure is reported here.
        """
        named = [one for one in (*dimensions, *self.filters) if one in NAMED]
        names = (partial(self.directory.names, one) for one in dict.fromkeys(named))
        together: list[Callable[[], object]] = [*calls, *names]
        self.client.together(together)


def dimensions(definition: Definition, properties: Properties) -> tuple[str, ...]:
    """Return the dimensions in openai.group.by, else the definition's; () for the organization.

    `properties` are the DataSource's own (see Properties.for_datasource).
    """
    chosen = properties.words(GROUP_BY) if GROUP_BY in definition.properties else ()
    if chosen == (WHOLE,):
        return ()
    return tuple(dict.fromkeys(chosen)) or definition.dimensions


def grouping(definition: Definition, properties: Properties) -> str:
    """Return the chosen dimensions as text, or "" if they are the definition's own."""
    chosen = dimensions(definition, properties)
    return "" if chosen == definition.dimensions else ",".join(chosen) or WHOLE
