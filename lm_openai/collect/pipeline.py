"""The pipeline of one poll: discover, collect, fold, derive, judge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from lm_openai.api.client import Client
from lm_openai.collect import selection
from lm_openai.collect.datasource import DataSource
from lm_openai.collect.evaluation import absent, doubted, judge, unjudged
from lm_openai.collect.known_names import DORMANT_DAYS
from lm_openai.collect.poll import Poll, grouping
from lm_openai.collect.usage_queries import UsageQueries
from lm_openai.config.properties import Properties
from lm_openai.errors import ApiFailure, Failure, WrongUsage, suggest
from lm_openai.model import aggregation, names
from lm_openai.model.report import Instance, Missing, Report, Row, Sample
from lm_openai.model.thresholds import Rules
from lm_openai.redaction import one_line
from lm_openai.storage.cache import Cache
from lm_openai.timespans import iso


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

    `only` are ids, wildvalues, aliases, or globs over the last two. Raises ApiFailure if no request
    succeeded, WrongUsage if an entry of `only` matches no instance, also none of the last 35 days,
    and Failure if a filter selects nothing or the DataSource yields a datapoint that its definition
    lacks.
    """
    definition = datasource.definition
    poll = Poll(definition, properties, now, client, cache, with_series, queries)
    discovered, dormant = _found(datasource, poll, only)
    samples = () if discover_only else tuple(_declared(poll, datasource.collect(poll, discovered)))
    for refused in client.refused():
        poll.report_failure(refused, "a row is left out")
    _note_starts(poll)
    instances = _instances(discovered, samples)
    selection.check(poll, rules, instances)
    shown = names.distinct(instances, poll.directory.shared_names())
    chosen = [shown[one.id] for one in _chosen(poll, instances, shown, only, dormant)]
    chosen.sort(key=lambda one: (one.alias.lower(), one.id))
    start, end = poll.covered or poll.window[:2]
    # Before the series, whose failures concern no row.
    rows = tuple(_rows(poll, rules, chosen, samples))
    wants_series = poll.with_series and not discover_only
    series = _series(datasource, poll, discovered, shown, only) if wants_series else ()
    return Report(
        definition=definition,
        organization=poll.properties.organization,
        grouping=grouping(definition, poll.properties),
        time=now,
        start=start,
        end=end,
        rows=rows,
        series=series,
        ages=poll.ages,
        failures=tuple(map(one_line, poll.failures)),
        notes=tuple(map(one_line, poll.notes + poll.directory.notes)),
        with_series=poll.with_series,
        incomplete=poll.incomplete and not _all_present(only, chosen),
        only=tuple(only),
    )


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


def _instances(discovered: Iterable[Instance], samples: Iterable[Sample]) -> list[Instance]:
    """Return all instances with clean names, including those that first appear in a sample."""
    found = {instance.id: instance for instance in discovered}
    for sample in samples:
        found.setdefault(sample.instance.id, sample.instance)
    return [names.cleaned(instance) for instance in found.values()]


def _chosen(
    poll: Poll,
    instances: Sequence[Instance],
    shown: Mapping[str, Instance],
    only: Sequence[str],
    dormant: Iterable[Instance],
) -> Iterator[Instance]:
    """Yield the instances that filters and `only` select.

    `only` may name twins by their own alias, which selects both, or as they are shown. `dormant`
    are further instances whose names an error may suggest.
    """
    selected = [instance for instance in instances if poll.shows(instance)]
    for word in only:
        if any(_is_named(word, one, shown) for one in selected):
            continue
        if poll.failures:
            raise Failure(
                f"instance {word!r} was not found, and some data is missing: {poll.failures[0]}"
            )
        excluded = any(_is_named(word, one, shown) for one in instances)
        reason = _excluded(word) if excluded else _unknown(word, (*selected, *dormant))
        raise WrongUsage(f"{poll.definition.title} {reason}")
    for one in selected:
        if not only or any(_is_named(word, one, shown) for word in only):
            yield one


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


def _rows(
    poll: Poll, rules: Rules, chosen: Iterable[Instance], samples: Iterable[Sample]
) -> Iterator[Row]:
    definition, unread = poll.definition, poll.directory.unread
    by_instance: dict[str, list[Sample]] = {}
    for sample in samples:
        by_instance.setdefault(sample.instance.id, []).append(sample)
    for instance in chosen:
        own = by_instance.get(instance.id, [])
        values = aggregation.derived(definition, aggregation.folded(definition, own))
        idle = bool(own) and all(sample.idle for sample in own)
        missing = absent(definition, values, _missing(poll, own))
        yield Row(
            instance,
            judge(rules, instance, values),
            idle,
            unjudged(rules, instance, missing) + doubted(rules, instance, values, unread),
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


def _missing(poll: Poll, samples: Sequence[Sample]) -> dict[str, Missing]:
    """Return the datapoints that failed or incomplete responses leave out of an instance."""
    declared = [sample.missing for sample in samples if sample.missing is not None]
    if declared or not poll.failures:
        return {name: reason for missing in declared for name, reason in missing.items()}
    reason = Missing(poll.failures[0])
    return {datapoint.name: reason for datapoint in poll.definition.datapoints}


def _series(
    datasource: DataSource,
    poll: Poll,
    discovered: tuple[Instance, ...],
    shown: Mapping[str, Instance],
    only: Sequence[str],
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
        if sample.start is not None
        and poll.shows(sample.instance)
        and (not only or any(_is_named(word, sample.instance, shown) for word in only))
    )
