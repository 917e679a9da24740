"""One pass over one DataSource: discover, collect, fold, derive, judge, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, TypeVar

from lm_openai import derive
from lm_openai.answers import Answers
from lm_openai.errors import ApiFailure, Failure, WrongUsage
from lm_openai.names import Names
from lm_openai.report import Instance, Report, Row, Sample, Values
from lm_openai.thresholds import Rules, judge

if TYPE_CHECKING:
    from lm_openai.cache import Cache
    from lm_openai.client import Client
    from lm_openai.datasource import DataSource
    from lm_openai.properties import Properties, Window

T = TypeVar("T")


class Poll:
    """What a DataSource's two functions see: settings, time, the client and where to report gaps.

    `now` is Unix seconds; `answers` is the usage that the polls of one run share; `covered` is the
    time that the numbers speak of where that is not `window`; `ages` takes data age in seconds by
    usage kind, `failures` what stayed unanswered and `notes` what is well but worth knowing.
    """

    def __init__(
        self,
        datasource: DataSource,
        properties: Properties,
        now: int,
        client: Client,
        cache: Cache,
        with_series: bool = False,
        answers: Answers | None = None,
    ) -> None:
        self.datasource = datasource
        self.properties = properties.for_datasource(datasource.folder)
        self.now = now
        self.client = client
        self.cache = cache
        self.answers = answers or Answers(client, cache)
        self.with_series = with_series and datasource.series_width is not None
        self.names = Names(client, cache, self.properties)
        self.ages: dict[str, int] = {}
        self.failures: list[str] = []
        self.notes: list[str] = []
        self.covered: tuple[int, int] | None = None
        self._answers: dict[str, Any] = {}

    @property
    def window(self) -> Window:
        """The time that the snapshot, or with a series the whole series, covers."""
        if self.with_series:
            return self.properties.series(self.now, self.datasource.series_width or "1m")
        return self.properties.window(self.now)

    def shows(self, instance: Instance) -> bool:
        """Whether the site's include and exclude globs leave it to be printed."""
        for what, dimension in (("projects", "project_id"), ("models", "model")):
            identifier = instance.dimensions.get(dimension)
            name = instance.names.get(dimension.replace("_id", "_name"), "")
            if identifier is not None and not self.properties.chosen(what, identifier, name):
                return False
        return True

    def miss(self, failure: ApiFailure, consequence: str) -> None:
        """Note that a question stayed unanswered and what is left out because of it."""
        sentence = f"{consequence}: {failure}"
        if sentence not in self.failures:
            self.failures.append(sentence)

    def once(self, name: str, ask: Callable[[], T]) -> T:
        """What `ask` gives, asked once in this poll however many parts of it need the answer."""
        if name not in self._answers:
            self._answers[name] = ask()
        answer: T = self._answers[name]
        return answer


def report(
    datasource: DataSource,
    properties: Properties,
    now: int,
    client: Client,
    cache: Cache,
    rules: Rules,
    *,
    answers: Answers | None = None,
    with_series: bool = False,
    discover_only: bool = False,
    only: Sequence[str] = (),
) -> Report:
    """The whole pass as a Report; raises ApiFailure when nothing could be learned.

    `only` are wildvalues or globs over wildvalue and alias; a word that meets no instance seen in
    the last days raises WrongUsage, so that a mistyped name is not taken for silence.
    """
    poll = Poll(datasource, properties, now, client, cache, with_series, answers)
    discovered = tuple(datasource.discover(poll))
    samples = () if discover_only else tuple(datasource.collect(poll, discovered))
    instances = _instances(poll, discovered, samples)
    chosen = tuple(_chosen(poll, instances, only))
    start, end = poll.covered or poll.window[:2]
    return Report(
        datasource=datasource,
        organization=poll.properties.organization,
        time=now,
        start=start,
        end=end,
        rows=tuple(_rows(datasource, rules, chosen, samples)),
        series=tuple(_series(poll, chosen, samples)),
        ages=poll.ages,
        failures=tuple(poll.failures),
        notes=tuple(poll.notes + poll.names.notes),
        with_series=poll.with_series,
    )


def _instances(
    poll: Poll, discovered: Iterable[Instance], samples: Iterable[Sample]
) -> dict[str, Instance]:
    """By id; an instance that came up after discovery counts as well."""
    found = {instance.id: instance for instance in discovered}
    for sample in samples:
        found.setdefault(sample.instance.id, sample.instance)
    return dict(sorted(found.items(), key=lambda item: (item[1].alias.lower(), item[0])))


def _chosen(poll: Poll, instances: dict[str, Instance], only: Sequence[str]) -> Iterator[Instance]:
    shown = [instance for instance in instances.values() if poll.shows(instance)]
    for word in only:
        if any(_named(word, instance) for instance in shown):
            continue
        if poll.failures:
            raise Failure(f"nothing is known of {word!r}: {poll.failures[0]}")
        raise WrongUsage(
            f"{poll.datasource.title} has no instance {word!r}: "
            f"it was not seen in the last days; --discover lists those that were"
        )
    for instance in shown:
        if not only or any(_named(word, instance) for word in only):
            yield instance


def _named(word: str, instance: Instance) -> bool:
    texts = (instance.wildvalue, instance.alias)
    return word in (*texts, instance.id) or any(fnmatchcase(text, word) for text in texts)


def _rows(
    datasource: DataSource, rules: Rules, chosen: Iterable[Instance], samples: Iterable[Sample]
) -> Iterator[Row]:
    by_instance: dict[str, list[Sample]] = {}
    for sample in samples:
        by_instance.setdefault(sample.instance.id, []).append(sample)
    for instance in chosen:
        mine = by_instance.get(instance.id, [])
        values = derive.derived(datasource, derive.folded(datasource, mine))
        idle = bool(mine) and all(sample.idle for sample in mine)
        yield Row(instance, judge(rules, instance, values), idle)


def _series(poll: Poll, chosen: Iterable[Instance], samples: Iterable[Sample]) -> Iterator[Sample]:
    if not poll.with_series:
        return
    wanted = {instance.id for instance in chosen}
    for sample in samples:
        if sample.start is not None and sample.instance.id in wanted:
            yield sample._replace(values=derive.derived(poll.datasource, dict(sample.values)))


__all__ = ["Poll", "Values", "report"]
