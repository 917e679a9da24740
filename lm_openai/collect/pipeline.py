"""The pipeline of one poll: discover, collect, fold, derive, judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase

from lm_openai.api.client import Client
from lm_openai.collect.datasource import DataSource
from lm_openai.collect.evaluation import judge, unjudged
from lm_openai.collect.poll import Poll, grouping
from lm_openai.collect.usage_queries import UsageQueries
from lm_openai.config.properties import Properties
from lm_openai.errors import Failure, WrongUsage
from lm_openai.model import aggregation
from lm_openai.model.report import Instance, Missing, Report, Row, Sample
from lm_openai.model.thresholds import Rules
from lm_openai.storage.cache import Cache
from lm_openai.timespans import newborn_day


def report(
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
) -> Report:
    """Poll a DataSource once and return the report.

    `only` are wildvalues or globs over wildvalue and alias. Raises ApiFailure if no request
    succeeded, WrongUsage if an entry of `only` matches no instance of the last 7 days, and Failure
    if the DataSource yields a datapoint that its definition lacks.
    """
    definition = datasource.definition
    poll = Poll(definition, properties, now, client, cache, with_series, queries)
    discovered = tuple(datasource.discover(poll))
    samples = () if discover_only else tuple(_samples(datasource, poll, discovered))
    for refused in client.refused():
        poll.report_failure(refused, "a row is left out")
    _report_holes(poll)
    instances = _instances(poll, discovered, samples)
    chosen = tuple(_chosen(poll, instances, only))
    start, end = poll.covered or poll.window[:2]
    return Report(
        definition=definition,
        organization=poll.properties.organization,
        grouping=grouping(definition, poll.properties),
        time=now,
        start=start,
        end=end,
        rows=tuple(_rows(poll, rules, chosen, samples)),
        series=tuple(_series(poll, chosen, samples)),
        ages=poll.ages,
        failures=tuple(poll.failures),
        notes=tuple(poll.notes + poll.directory.notes),
        with_series=poll.with_series,
        incomplete=poll.incomplete and not only,
    )


def _samples(
    datasource: DataSource, poll: Poll, instances: tuple[Instance, ...]
) -> Iterator[Sample]:
    definition = datasource.definition
    declared = {datapoint.name for datapoint in definition.datapoints}
    for sample in datasource.collect(poll, instances):
        undeclared = sample.values.keys() - declared
        if undeclared:
            raise Failure(
                f"{definition.name} yields {min(undeclared)}, which {definition.folder}.json does "
                f"not declare; please report this"
            )
        yield sample


def _report_holes(poll: Poll) -> None:
    """Report the days that costs lack."""
    holes, poll.client.holes = poll.client.holes, []
    for hole in holes:
        if hole.start != newborn_day(poll.now):
            poll.report_failure(hole.failure, "figures that need these days are left out")


def _instances(
    poll: Poll, discovered: Iterable[Instance], samples: Iterable[Sample]
) -> dict[str, Instance]:
    """Return all instances by id, including those that first appear in a sample."""
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
            raise Failure(
                f"instance {word!r} was not found, and some data is missing: {poll.failures[0]}"
            )
        raise WrongUsage(
            f"{poll.definition.title} has no instance {word!r}: "
            f"no such name was seen recently; --discover lists all instances"
        )
    for instance in shown:
        if not only or any(_named(word, instance) for word in only):
            yield instance


def _named(word: str, instance: Instance) -> bool:
    texts = (instance.wildvalue, instance.alias)
    return word in (*texts, instance.id) or any(fnmatchcase(text, word) for text in texts)


def _rows(
    poll: Poll, rules: Rules, chosen: Iterable[Instance], samples: Iterable[Sample]
) -> Iterator[Row]:
    definition = poll.definition
    by_instance: dict[str, list[Sample]] = {}
    for sample in samples:
        by_instance.setdefault(sample.instance.id, []).append(sample)
    for instance in chosen:
        own = by_instance.get(instance.id, [])
        values = aggregation.derived(definition, aggregation.folded(definition, own))
        idle = bool(own) and all(sample.idle for sample in own)
        unknown = unjudged(rules, instance, definition, values, _missing(poll, own))
        yield Row(instance, judge(rules, instance, values), idle, unknown)


def _missing(poll: Poll, samples: Sequence[Sample]) -> dict[str, Missing]:
    """Return the datapoints that failed or incomplete responses leave out of an instance."""
    declared = [sample.missing for sample in samples if sample.missing is not None]
    if declared or not poll.failures:
        return {name: reason for missing in declared for name, reason in missing.items()}
    reason = Missing(poll.failures[0])
    return {datapoint.name: reason for datapoint in poll.definition.datapoints}


def _series(poll: Poll, chosen: Iterable[Instance], samples: Iterable[Sample]) -> Iterator[Sample]:
    if not poll.with_series:
        return
    wanted = {instance.id for instance in chosen}
    for sample in samples:
        if sample.start is not None and sample.instance.id in wanted:
            yield sample._replace(values=aggregation.derived(poll.definition, dict(sample.values)))
