"""Settings that select by id or name: the filters in force, and what selects nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from lm_openai.collect import known_names
from lm_openai.collect.poll import FILTERED, Poll
from lm_openai.errors import ApiFailure, Failure, closest
from lm_openai.model.report import Instance
from lm_openai.model.thresholds import Rules, short_name

BUDGETS = ("openai.budget.project.", "openai.tokens.budget.project.")
APPROVED = "openai.models.approved"
WHERE_KNOWN = {"model": " in the rate limits or in the usage of the last 7 days"}
OPEN = ("event_type",)
"""Dimensions whose values nobody knows before they occur."""
Names = Mapping[str, str]


class Selector(NamedTuple):
    """Glob over ids and names in a setting, or with `is_id` an id; `origin` names the setting.

    One that `needs_dimension` has an effect only on instances with this dimension.
    """

    origin: str
    dimension: str
    glob: str
    needs_dimension: bool = False
    is_id: bool = False

    def matches(self, known: Names) -> bool:
        """Return True if it selects one of the names by id."""
        if self.glob in known:
            return True
        texts = () if self.is_id else (text for pair in known.items() for text in pair if text)
        return any(text == self.glob or fnmatchcase(text, self.glob) for text in texts)


def check(poll: Poll, rules: Rules, instances: Collection[Instance]) -> None:
    """Add to the poll's notes the filters in force and each selector that selects nothing.

    `instances` are all that the poll found. Raises Failure if a filter selects no known name,
    because a poll of nothing never raises an alarm, and ApiFailure if that cannot be known.
    """
    applied = _dimensions(poll, instances) | poll.narrowed
    filters = [dimension for dimension in poll.filters if dimension in applied]
    poll.notes += (_in_force(poll, dimension, dimension in applied) for dimension in poll.filters)
    idle = list(unmatched(poll, rules, filters, instances))
    for dimension in filters:
        if not _selects_any(poll, dimension, instances):
            own = [sentence for selector, sentence in idle if selector.dimension == dimension]
            none = f"{_settings(poll, dimension)} leaves no {_noun(dimension)}"
            raise Failure(f"no instance is left: {'; '.join(own) or none}")
    poll.notes += (sentence for _, sentence in idle)


def unmatched(
    poll: Poll, rules: Rules, filters: Iterable[str], instances: Collection[Instance] = ()
) -> Iterator[tuple[Selector, str]]:
    """Yield each selector that matches no known name, and a sentence with the nearest one.

    `filters` are the dimensions whose filters are checked. A glob is compared with the names of the
    instances and of what the poll read, and only if none matches with the organization's lists.
    """
    wanted = dict.fromkeys((*_filters(poll, filters), *_others(poll, rules)))
    seen = _seen(poll, instances) if wanted else {}
    unread: set[str] = set()
    for selector in wanted:
        known = {} if selector.is_id else seen.get(selector.dimension, {})
        if selector.dimension in unread or selector.matches(known):
            continue
        try:
            sentence = _fault(poll, selector, seen, instances)
        except ApiFailure as failure:
            unread.add(selector.dimension)
            sentence = f"{selector.glob!r} could not be checked: {failure}"
        if sentence:
            yield selector, f"{selector.origin}: {sentence}"


def _filters(poll: Poll, dimensions: Iterable[str]) -> Iterator[Selector]:
    for dimension in dimensions:
        for name in poll.properties.filters(FILTERED[dimension]):
            origin = poll.properties.origin(name, poll.definition.folder)
            for glob in poll.properties.globs(name):
                yield Selector(origin, dimension, glob)


def _others(poll: Poll, rules: Rules) -> Iterator[Selector]:
    """Yield the selectors of budgets and approved models that the poll reads, and of overrides."""
    read = poll.definition.properties
    for glob in poll.properties.globs(APPROVED) if APPROVED in read else ():
        yield Selector(APPROVED, "model", glob)
    for prefix in BUDGETS:
        for project in poll.properties.by_id(prefix) if f"{prefix}<id>" in read else ():
            yield Selector(f"{prefix}{project}", "project_id", project, True, is_id=True)
    for override in rules.overrides:
        origin = f"{override.source}, override of {override.datapoint}"
        for dimension, glob in override.match:
            if dimension not in OPEN:
                yield Selector(origin, dimension, glob, True)


def _fault(
    poll: Poll, selector: Selector, seen: Mapping[str, Names], instances: Collection[Instance]
) -> str:
    """Return why a selector that matches nothing seen has no effect; empty if nobody can tell.

    Raises ApiFailure.
    """
    known = {} if selector.is_id else seen.get(selector.dimension, {})
    if selector.needs_dimension and selector.dimension not in _dimensions(poll, instances):
        title, noun = poll.definition.title, _noun(selector.dimension)
        return f"no effect, since instances of {title} have no {noun}; see openai.group.by"
    listed = known_names.names(poll.source, poll.directory, selector.dimension)
    if listed is None:
        return _nothing(selector, known, " of this poll") if known else ""
    if selector.matches(listed):
        return ""
    return _nothing(selector, {**known, **listed}, WHERE_KNOWN.get(selector.dimension, ""))


def _nothing(selector: Selector, known: Names, where: str) -> str:
    noun = _noun(selector.dimension)
    ids = {text: key for key, name in known.items() for text in (name, key) if text}
    near = closest(selector.glob, ids)
    if selector.is_id:
        name = known.get(ids.get(near, ""))
        shown = f"{ids[near]} ({name})" if name else near
        text = f"{selector.glob!r} is not the id of a {noun}"
    else:
        shown = near
        text = f"{selector.glob!r} matches no {noun}{where}"
    return f"{text}; did you mean {shown}?" if shown else text


def _seen(poll: Poll, instances: Iterable[Instance]) -> dict[str, dict[str, str]]:
    """Return the names by id and dimension of the instances and of what the filters were asked."""
    seen: dict[str, dict[str, str]] = {}
    for dimension, asked in poll.selected.items():
        names = {key: poll.directory.name(dimension, key) or "" for key in asked}
        seen[dimension] = names
    for dimension, ids in poll.seen.items():
        seen.setdefault(dimension, {}).update(dict.fromkeys(ids, ""))
    for instance in instances:
        for dimension, key in instance.dimensions.items():
            name = instance.names.get(f"{short_name(dimension)}_name", "")
            seen.setdefault(dimension, {})[key] = name
    return seen


def _selects_any(poll: Poll, dimension: str, instances: Collection[Instance]) -> bool:
    """Return True if a filter selects a known name, or if no name is known at all."""
    own = {one.dimensions[dimension] for one in instances if dimension in one.dimensions}
    if any(poll.selected.get(dimension, {}).values()) or any(
        poll.selects(dimension, key) for key in own
    ):
        return True
    listed = known_names.names(poll.source, poll.directory, dimension) or {}
    return not listed or any(poll.selects(dimension, key) for key in listed)


def _in_force(poll: Poll, dimension: str, applies: bool) -> str:
    """Return the filters of a dimension in words, with what they do to this poll."""
    shown = _settings(poll, dimension)
    if dimension in poll.narrowed:
        return f"filter {shown}: only the usage of these {FILTERED[dimension]} counts"
    if applies:
        return f"filter {shown}: it selects instances and changes no number"
    title, noun = poll.definition.title, _noun(dimension)
    return f"filter {shown} has no effect: instances of {title} have no {noun}"


def _settings(poll: Poll, dimension: str) -> str:
    """Return the filters of a dimension as they are set."""
    properties, folder = poll.properties, poll.definition.folder
    return " and ".join(
        f"{properties.origin(name, folder)}={','.join(properties.globs(name))}"
        for name in properties.filters(FILTERED[dimension])
    )


def _dimensions(poll: Poll, instances: Iterable[Instance]) -> set[str]:
    """Return the dimensions of the instances, found or not."""
    return {*poll.dimensions, *(dimension for one in instances for dimension in one.dimensions)}


def _noun(dimension: str) -> str:
    return short_name(dimension).replace("_", " ")
