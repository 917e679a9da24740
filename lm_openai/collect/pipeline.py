"""The pipeline of one poll: discover, collect, fold, derive, judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from typing import NamedTuple, NoReturn

from lm_openai.api.client import Client
from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.collect import selection
from lm_openai.collect.datasource import DataSource
from lm_openai.collect.evaluation import absent, doubted, judge, unjudged
from lm_openai.collect.known_names import DORMANT_DAYS
from lm_openai.collect.poll import Poll, grouping
from lm_openai.collect.usage_queries import UsageQueries
from lm_openai.config.properties import Properties
from lm_openai.errors import ApiFailure, Failure, WrongUsage, suggest
from lm_openai.model import aggregation, names
from lm_openai.model.definition import Definition
from lm_openai.model.report import Instance, Missing, Report, Row, Sample
from lm_openai.model.thresholds import Rules
from lm_openai.redaction import one_line
from lm_openai.storage.cache import Cache
from lm_openai.storage.ready import GLOB
from lm_openai.timespans import iso


class Series(NamedTuple):
    """Samples of the buckets, also by instance id, and their instances, also by exact name."""

    samples: Sequence[Sample]
    by_instance: Mapping[str, Sequence[Sample]]
    instances: Sequence[Instance]
    names: Mapping[str, Sequence[Instance]]


class Polled:
    """Everything that one poll of a DataSource found; `report` returns the wanted part of it.

    `names` holds the selected instances by each of their exact names.
    """

    def __init__(
        self,
        datasource: DataSource,
        poll: Poll,
        rules: Rules,
        discovered: tuple[Instance, ...],
        dormant: tuple[Instance, ...],
        samples: Iterable[Sample] | None,
    ) -> None:
        self._datasource, self._poll, self._rules = datasource, poll, rules
        self._discovered, self._dormant = discovered, dormant
        self._wants_series = poll.with_series and samples is not None
        self._samples = _by_instance(samples or ())
        found = {one.id: one for one in discovered}
        for id, own in self._samples.items():
            found.setdefault(id, own[0].instance)
        self._instances = [names.cleaned(instance) for instance in found.values()]
        selection.check(poll, rules, self._instances)
        self._shown = names.distinct(self._instances, poll.directory.shared_names())
        self._selected = [one for one in self._instances if poll.shows(one)]
        self.names = _by_name(self._selected, self._shown)
        # Before the series, whose failures concern no row.
        self._failures = tuple(poll.failures)
        self._rows: dict[str, Row] = {}

    def report(self, only: Sequence[str] = ()) -> Report:
        """Return the report of the instances that `only` names; none names all.

        `only` are ids, wildvalues, aliases, or globs over the last two. Raises WrongUsage if an
        entry matches no instance.
        """
        poll = self._poll
        definition = poll.definition
        chosen = [self._shown[one.id] for one in self._chosen(only)]
        chosen.sort(key=lambda one: (one.alias.lower(), one.id))
        start, end = poll.covered or poll.window[:2]
        rows = tuple(map(self._row, chosen))
        series = tuple(self._series_of(only)) if self._wants_series else ()
        return Report(
            definition=definition,
            organization=poll.properties.organization,
            grouping=grouping(definition, poll.properties),
            time=poll.now,
            start=start,
            end=end,
            rows=rows,
            series=series,
            ages=_ordered(poll.ages),
            failures=tuple(map(one_line, poll.failures)),
            notes=tuple(map(one_line, poll.notes + poll.directory.notes)),
            with_series=poll.with_series,
            incomplete=poll.incomplete and not _all_present(only, chosen),
            only=tuple(only),
        )

    def _chosen(self, only: Sequence[str]) -> Iterable[Instance]:
        """Return the selected instances that `only` names.

        It may name twins by their own alias, which selects both, or as they are shown.
        """
        wanted: dict[str, Instance] = {}
        for word in only:
            found = self._named(word)
            if not found:
                self._refuse(word)
            wanted.update((one.id, one) for one in found)
        return wanted.values() if only else self._selected

    def _named(self, word: str) -> Sequence[Instance]:
        return _matching(word, self.names, self._selected, self._shown)

    def _refuse(self, word: str) -> NoReturn:
        """Raise the error for a word that names no selected instance."""
        failures, title = self._poll.failures, self._poll.definition.title
        if failures:
            raise Failure(
                f"instance {word!r} was not found, and some data is missing: {failures[0]}"
            )
        excluded = any(_is_named(word, one, self._shown) for one in self._instances)
        known = (*self._selected, *self._dormant)
        raise WrongUsage(f"{title} {_excluded(word) if excluded else _unknown(word, known)}")

    def _row(self, instance: Instance) -> Row:
        """Return the row of an instance, which is judged once."""
        if instance.id not in self._rows:
            own = self._samples.get(instance.id, [])
            self._rows[instance.id] = _row(self._poll, self._rules, instance, own, self._failures)
        return self._rows[instance.id]

    def _series_of(self, only: Sequence[str]) -> Iterable[Sample]:
        samples, by_instance, known, by_name = self._series
        if not only:
            return samples
        found = (_matching(word, by_name, known, self._shown) for word in only)
        ids = {one.id for matching in found for one in matching}
        if len(ids) == 1:
            return by_instance[ids.pop()]
        return (sample for sample in samples if sample.instance.id in ids)

    @cached_property
    def _series(self) -> Series:
        samples = _series(self._datasource, self._poll, self._discovered, self._shown)
        by_instance = _by_instance(samples)
        own = {one.id: one for one in self._instances}
        known = [own.get(id, of_one[0].instance) for id, of_one in by_instance.items()]
        return Series(samples, by_instance, known, _by_name(known, self._shown))


def poll(
    datasource: DataSource,
    properties: Properties,
    now: int,
    client: Client,
    cache: Cache,
    rules: Rules,
    *,
    queries: UsageQueries | None = None,
    with_series: bool = False,
    discover_only: bool = False,
    only: Sequence[str] = (),
) -> Polled:
    """Poll a DataSource once.

    `only` is what will be reported, as in `Polled.report`: a name that is not in use may be that of
    an instance of the last 35 days. Raises ApiFailure if no request succeeded, and Failure if a
    filter selects nothing or the DataSource yields a datapoint that its definition lacks.
    """
    definition = datasource.definition
    poll = Poll(definition, properties, now, client, cache, with_series, queries, discover_only)
    discovered, dormant = _found(datasource, poll, only)
    wanted = None if discover_only else datasource.collect(poll, discovered)
    samples = None if wanted is None else tuple(_declared(poll, wanted))
    for refused in client.refused():
        poll.report_failure(refused, "a row is left out")
    _note_starts(poll)
    return Polled(datasource, poll, rules, discovered, dormant, samples)


def _found(
    datasource: DataSource, poll: Poll, only: Sequence[str]
) -> tuple[tuple[Instance, ...], tuple[Instance, ...]]:
    """Return the instances in use, with the dormant ones that `only` names, and all dormant ones.

    The dormant ones are read only if a word names none of those in use.
    """
    discovered = tuple(datasource.discover(poll))
    dormant = tuple(_dormant(datasource, poll, discovered, only))
    shown = names.distinct(map(names.cleaned, dormant), poll.directory.shared_names())
    named = (one for one in dormant if any(_is_exactly(word, one, shown) for word in only))
    return (*discovered, *named), dormant


def _all_present(only: Sequence[str], chosen: Sequence[Instance]) -> bool:
    """Return True if each word is the id of a chosen instance; a name may have others as well."""
    ids = {text for one in chosen for text in (one.id, one.wildvalue)}
    return bool(only) and ids.issuperset(only)


def _dormant(
    datasource: DataSource, poll: Poll, discovered: Iterable[Instance], only: Sequence[str]
) -> Iterator[Instance]:
    """Yield what the DataSource knows beyond the discovered, if a word names none of these."""
    known = {instance.id: instance for instance in discovered}
    absent = [
        word for word in only if not any(_is_named(word, one, known) for one in known.values())
    ]
    for instance in datasource.dormant(poll, absent) if absent else ():
        if known.setdefault(instance.id, instance) is instance:
            yield instance


def _declared(poll: Poll, samples: Iterable[Sample]) -> Iterator[Sample]:
    """Yield the samples; raise Failure for a datapoint that the definition lacks."""
    definition = poll.definition
    declared = {datapoint.name for datapoint in definition.datapoints}
    for sample in samples:
        undeclared = sample.values.keys() - declared
        if undeclared:
            raise Failure(
                f"{definition.name} yields {min(undeclared)}, which {definition.folder}.json does "
                f"not declare; please report this"
            )
        yield sample


def _note_starts(poll: Poll) -> None:
    """Note the days before the first one with usage that the API lists."""
    starts, poll.client.starts[:] = [*poll.client.starts], []
    for endpoint, first in sorted({(one.endpoint, one.end) for one in starts}):
        note = f"the API lists no {endpoint} before {iso(first)[:10]}; it counts as 0"
        poll.notes.append(note)


def _by_instance(samples: Iterable[Sample]) -> dict[str, list[Sample]]:
    """Return samples by the id of their instance, in order."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.instance.id, []).append(sample)
    return found


def _by_name(
    instances: Iterable[Instance], shown: Mapping[str, Instance]
) -> dict[str, list[Instance]]:
    """Return instances by wildvalue, own alias, alias as shown, and id; twins share a name."""
    found: dict[str, list[Instance]] = {}
    for one in instances:
        for name in {one.wildvalue, one.alias, one.id, shown.get(one.id, one).alias}:
            found.setdefault(name, []).append(one)
    return found


def _matching(
    word: str,
    exact: Mapping[str, Sequence[Instance]],
    instances: Iterable[Instance],
    shown: Mapping[str, Instance],
) -> Sequence[Instance]:
    """Return the instances of that exact name, or those that a glob matches."""
    if GLOB.isdisjoint(word):
        return exact.get(word, ())
    return [one for one in instances if _is_named(word, one, shown)]


def _ordered(ages: Mapping[str, int]) -> dict[str, int]:
    """Return ages in one order, since threads add them: that of the usage kinds, others first."""
    order = {name: place for place, name in enumerate(USAGE_KINDS)}
    return dict(sorted(ages.items(), key=lambda pair: order.get(pair[0], -1)))


def _excluded(word: str) -> str:
    return f"does not show instance {word!r}: a filter of projects or models excludes it"


def _unknown(word: str, known: Iterable[Instance]) -> str:
    """Return why a word names no instance, with the nearest name."""
    texts = {text for one in known for text in (one.id, one.alias, one.wildvalue)}
    near = suggest(word, sorted(texts)) or "; --discover lists the instances in use"
    return f"has no instance {word!r}: no such name was seen in the last {DORMANT_DAYS} days{near}"


def _is_named(word: str, instance: Instance, shown: Mapping[str, Instance]) -> bool:
    texts = (instance.wildvalue, instance.alias, shown.get(instance.id, instance).alias)
    return _is_exactly(word, instance, shown) or any(fnmatchcase(text, word) for text in texts)


def _is_exactly(word: str, instance: Instance, shown: Mapping[str, Instance]) -> bool:
    return word == shown.get(instance.id, instance).alias or _is(word, instance)


def _is(word: str, instance: Instance) -> bool:
    return word in (instance.wildvalue, instance.alias, instance.id)


def _row(
    poll: Poll,
    rules: Rules,
    instance: Instance,
    samples: Sequence[Sample],
    failures: Sequence[str],
) -> Row:
    definition = poll.definition
    values = aggregation.derived(definition, aggregation.folded(definition, samples))
    idle = bool(samples) and all(sample.idle for sample in samples)
    missing = absent(definition, values, _missing(definition, samples, failures))
    return Row(
        instance,
        judge(rules, instance, values),
        idle,
        unjudged(rules, instance, missing)
        + doubted(rules, instance, values, poll.directory.unread),
        archived=idle and _archived(poll, instance),
        missing=missing,
    )


def _archived(poll: Poll, instance: Instance) -> bool:
    """Return True if the instance belongs to an archived project; False if nobody knows."""
    project = instance.dimensions.get("project_id")
    try:
        return project is not None and project in poll.once("archived", poll.directory.archived)
    except ApiFailure:
        return False


def _missing(
    definition: Definition, samples: Iterable[Sample], failures: Sequence[str]
) -> dict[str, Missing]:
    """Return the datapoints that failed or incomplete responses leave out of an instance."""
    declared = [sample.missing for sample in samples if sample.missing is not None]
    if declared or not failures:
        return {name: reason for missing in declared for name, reason in missing.items()}
    reason = Missing(failures[0])
    return {datapoint.name: reason for datapoint in definition.datapoints}


def _series(
    datasource: DataSource,
    poll: Poll,
    discovered: tuple[Instance, ...],
    shown: Mapping[str, Instance],
) -> tuple[Sample, ...]:
    """Return the samples of the buckets; a failure is reported and leaves the rows as they are.

    They may be older than all instances of the rows, which were seen in the last 7 days.
    """
    try:
        samples = tuple(_declared(poll, datasource.series(poll, discovered)))
    except ApiFailure as failure:
        poll.report_failure(failure, "the series is left out", hides_instances=False)
        return ()
    return tuple(
        sample._replace(
            instance=shown.get(sample.instance.id) or names.cleaned(sample.instance),
            values=aggregation.derived(poll.definition, dict(sample.values)),
        )
        for sample in samples
        if sample.start is not None and poll.shows(sample.instance)
    )
