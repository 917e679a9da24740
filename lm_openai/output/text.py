"""Which formats there are, and what several of them share."""

from __future__ import annotations

import re
from decimal import Decimal

from lm_openai.errors import Failure
from lm_openai.model.report import Breach, Instance, Report


def one_line(text: str) -> str:
    """Control characters, line ends and lone surrogates as blanks; all else stays."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", " ", text)


def tags(instance: Instance, organization: str) -> dict[str, str]:
    """What tells an instance's time series from all others: ids, never names; no empty value."""
    found = {**instance.dimensions, "organization": organization}
    return {key: one_line(value) for key, value in sorted(found.items()) if value}


def identities(report: Report) -> dict[str, dict[str, str]]:
    """Each row's tags by instance id; raises Failure when two rows would be one time series."""
    found = {row.instance.id: tags(row.instance, report.organization) for row in report.rows}
    owners: dict[tuple[tuple[str, str], ...], str] = {}
    for identifier, own in found.items():
        owner = owners.setdefault(tuple(own.items()), identifier)
        if owner != identifier:
            raise Failure(
                f"{report.definition.title}: {owner!r} and {identifier!r} have the same dimensions "
                f"and would overwrite each other; report this"
            )
    return found


def refuse_twins(report: Report) -> None:
    """Raise Failure when two rows have one wildvalue, for one's values would hide the other's."""
    owners: dict[str, str] = {}
    for instance in (row.instance for row in report.rows):
        owner = owners.setdefault(instance.wildvalue, instance.id)
        if owner != instance.id:
            raise Failure(
                f"{report.definition.title}: {owner!r} and {instance.id!r} both are "
                f"{instance.wildvalue} here and would hide each other; exclude one of them, "
                f"or use another format"
            )


def limit(breach: Breach) -> Decimal:
    """The limit that was passed: the threshold's own at the breach's level."""
    passed = breach.threshold.limits[breach.level - 1]
    assert passed is not None
    return passed
