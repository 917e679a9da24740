"""The bill: dollars by UTC day and group in one currency, with the days that it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from math import prod
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.errors import ApiFailure
from lm_openai.metrics.billing_days import RHYTHM_DAYS, Days, calendar
from lm_openai.model.report import NONE, Instance
from lm_openai.timespans import DAY, iso, newborn_day

if TYPE_CHECKING:
    from lm_openai.api.client import Client
    from lm_openai.api.paging import Hole
    from lm_openai.collect.directory import Directory
    from lm_openai.collect.poll import Poll

CURRENCY = "usd"
ROWS_A_PROJECT = {"project_id": 1, "line_item": 30, "api_key_id": 3, "user_id": 3, "api_source": 2}
FEWEST_ROWS = 400
Group = tuple[str, ...]


class Billed(NamedTuple):
    """Amounts by group and day, all in one currency (`usd`).

    `listed` are the groups with a cost or a credit, even if these cancel each other every day.
    `received` are the days of the response, `lacking` the requested days that it should have had.
    """

    groups: dict[Group, Days]
    currency: str
    listed: set[Group]
    received: Sequence[int] = ()
    lacking: Sequence[int] = ()


def read(poll: Poll, start: int, end: int, group_by: Sequence[str] = ()) -> Billed:
    """Request the days and return them with 0 for each day on which costs cannot exist.

    These are the days before the first one that the API lists, which a note names, and today in
    the first hour of a UTC day. Raises ApiFailure, see by_group.
    """
    rows = expected_rows(poll.directory, group_by) if group_by else None
    found = by_group(poll.client, start, end, group_by, rows)
    first = min(found.received, default=start)
    empty = {*range(start, first, DAY), newborn_day(poll.now)}.difference(found.received)
    note = f"the API lists no costs before {iso(first)[:10]}; they count as 0"
    if first > start and note not in poll.notes:
        poll.notes.append(note)
    zeros = {day: Decimal(0) for day in range(start, end, DAY) if day in empty}
    lacking = sorted(set(range(start, end, DAY)).difference(found.received, zeros))
    _report_holes(poll, grouped=bool(group_by))
    groups = {group: {**zeros, **days} for group, days in found.groups.items()}
    return found._replace(groups=groups, lacking=lacking)


def _report_holes(poll: Poll, grouped: bool) -> None:
    """Report the days that the response lacks.

    Groups may be missing if one of the days counts in a figure that has a threshold: those of this
    month and of the last 28 days.
    """
    judged = judged_from(poll.now)
    for hole in holes(poll.client, poll.now):
        left_out = "figures that need these days are left out"
        hidden = grouped and hole.end > judged
        poll.report_failure(hole.failure, left_out, hides_instances=hidden)


def holes(client: Client, now: int) -> list[Hole]:
    """Return the days that the costs read since the last call lack.

    Today may be missing in the first hour of a UTC day.
    """
    found, client.holes = client.holes, []
    return [hole for hole in found if hole.start != newborn_day(now)]


def judged_from(now: int) -> int:
    """Return the first day that counts in a figure with a threshold."""
    dates = calendar(now)
    return min(dates.month, dates.complete(RHYTHM_DAYS)[0])


def by_group(
    client: Client,
    start: int,
    end: int,
    group_by: Sequence[str] = (),
    rows: int | None = None,
    needed: range = range(0),
) -> Billed:
    """Return amounts by group and day; each group has every day of the response, 0 without costs.

    Without `group_by` the only group is `()`; a null id is `none`. `rows` is the expected number of
    rows per day. Raises ApiFailure if a request fails, if the amounts are in several currencies, or
    if one of the `needed` days is missing.
    """
    zero = Decimal(0)
    received: list[int] = []
    groups: dict[Group, Days] = {(): {}} if not group_by else {}
    listed: set[Group] = set()
    currencies: set[str] = set()
    for day, costs in client.costs(start, end, group_by=group_by, groups=rows):
        received.append(day)
        for cost in costs:
            group = tuple(getattr(cost, name) or NONE for name in group_by)
            days = groups.setdefault(group, {})
            days[day] = days.get(day, zero) + cost.amount
            if cost.amount:
                listed.add(group)
                currencies.add(cost.currency)
    currency = only_currency(currencies)
    refuse_gaps(received, needed)
    whole = {group: {day: own.get(day, zero) for day in received} for group, own in groups.items()}
    return Billed(whole, currency, listed, received)


def refuse_gaps(received: Iterable[int], needed: range) -> None:
    """Raise ApiFailure if a needed day is missing, because every sum would be too low."""
    missing = len(set(needed).difference(received))
    if missing:
        raise ApiFailure("contract", "costs", f"{missing} of {len(needed)} days are missing")


def expected_rows(directory: Directory, group_by: Sequence[str]) -> int:
    """Return an estimate of the rows per day from the number of projects; it limits page sizes."""
    try:
        projects = len(directory.projects())
    except ApiFailure:
        projects = FEWEST_ROWS
    return max(FEWEST_ROWS, projects * prod(ROWS_A_PROJECT[name] for name in group_by))


def only_currency(currencies: set[str]) -> str:
    """Return the currency of a bill, `usd` without any amount; raises ApiFailure for several.

    `currencies` are those of amounts other than 0, which belong to any currency.
    """
    if len(currencies) > 1:
        codes = sorted(currency.upper() for currency in currencies)
        raise ApiFailure("currencies", "costs", " and ".join(codes))
    return next(iter(currencies), CURRENCY)


def in_currency(poll: Poll, known: Instance, currency: str) -> Instance:
    """Return the instance with the bill's currency among its names, unless it is US dollars.

    The report then has a note, since texts and units say dollars.
    """
    if currency == CURRENCY:
        return known
    code = currency.upper()
    note = f"the bill is in {code}: read {code} wherever a text, a unit or a property says dollars"
    if note not in poll.notes:
        poll.notes.append(note)
    return known._replace(names={**known.names, "currency": code})
