"""Display names: on one line, distinct within a poll, and shortened without losing their end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from lm_openai.model.report import Instance
from lm_openai.redaction import one_line

PIECES = (6, 12, 0)
"""Last characters of an id that tell twins apart, 0 for all of them; the next if two are equal."""


def cleaned(instance: Instance) -> Instance:
    """Return the instance with its names and dimensions on one line; its id, a key, stays.

    An alias without a visible character becomes the id.
    """
    alias = one_line(instance.alias)
    return instance._replace(
        alias=alias if alias.strip() else one_line(instance.id),
        dimensions=_on_one_line(instance.dimensions),
        names=_on_one_line(instance.names),
    )


def distinct(
    instances: Iterable[Instance], shared: Mapping[str, Collection[str]] = {}
) -> dict[str, Instance]:
    """Return the instances by id; equal aliases have a piece of their ids appended.

    `Prod` of two projects becomes `Prod (3kQx9a)` and `Prod (Zw81bc)`. The piece depends on the
    instance alone unless two pieces are equal. `shared` are names of several ids by dimension: an
    instance with such names has its piece even while its twin is absent, so that the name by which
    a host knows it stays.
    """
    found = {instance.id: instance for instance in instances}
    plain = {identifier: instance.alias for identifier, instance in found.items()}
    for length in PIECES:
        number = Counter(_seen(instance) for instance in found.values())
        for identifier, instance in found.items():
            if number[_seen(instance)] > 1 or (length == PIECES[0] and _shares(instance, shared)):
                alias = f"{plain[identifier]} ({_piece(instance, length)})"
                found[identifier] = instance._replace(alias=alias)
    return found


def _shares(instance: Instance, shared: Mapping[str, Collection[str]]) -> bool:
    """Return True if each name in the alias belongs to several ids."""
    named = [
        instance.names[field] in shared.get(dimension, ())
        for dimension in instance.dimensions
        if (field := dimension.removesuffix("_id") + "_name") in instance.names
    ]
    return bool(named) and all(named)


def shortened(text: str, length: int) -> str:
    """Return text of at most `length` characters, cut after its first third.

    The end of an alias tells pools and twins apart, so that a project's name gives way.

    >>> shortened("A project with a long name / gpt-4o-mini", 22)
    'A proje… / gpt-4o-mini'
    """
    if len(text) <= length:
        return text
    head = length // 3
    return f"{text[:head]}…{text[len(text) - (length - head - 1) :]}"


def _on_one_line(texts: Mapping[str, str]) -> dict[str, str]:
    return {key: one_line(text) for key, text in texts.items()}


def _seen(instance: Instance) -> str:
    """Return the alias as hosts show it, which join spaces."""
    return " ".join(instance.alias.split())


def _piece(instance: Instance, length: int) -> str:
    """Return the ends of the ids that the alias shows as names, or of the instance's id.

    A `length` of 0 stands for the whole id.
    """
    ids = [
        identifier
        for dimension, identifier in instance.dimensions.items()
        if dimension.removesuffix("_id") + "_name" in instance.names
    ]
    if not ids or not length:
        ids = [one_line(instance.id)]
    return "/".join(identifier[-length:] for identifier in ids)
