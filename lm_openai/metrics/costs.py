"""What every cost DataSource shares: dollars by UTC day, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING

from lm_openai.api.records import Cost
from lm_openai.errors import ApiFailure
from lm_openai.metrics import cost_forecast
from lm_openai.metrics.billing_days import (
    AVERAGED_DAYS,
    DAY,
    Calendar,
    Days,
    calendar,
    mean_of,
    total,
)
from lm_openai.metrics.usage import instance
from lm_openai.model.aggregation import percent
from lm_openai.model.report import NONE, Instance, Sample, Values

if TYPE_CHECKING:
    from lm_openai.api.client import Client
    from lm_openai.collect.directory import Directory
    from lm_openai.collect.poll import Poll

CURRENCY = "usd"
MONTH_TO_DATE = "amount_month_to_date"
ROWS_A_PROJECT = {"project_id": 1, "line_item": 30, "api_key_id": 3, "user_id": 3}
FEWEST_ROWS = 400
Group = tuple[str, ...]


def discover(poll: Poll) -> Iterator[Instance]:
    """Everything that cost or was credited something since the start of last month."""
    for group, days in days_by_group(poll).items():
        if any(days.values()):
            yield instance(poll, poll.definition.dimensions, group)


def collect(poll: Poll, instances: Iterable[Instance]) -> Iterator[Sample]:
    """Each instance's figures and its share of the organization; with a series its days as well.

    The organization is the sum over everything that was answered, printed or not.
    """
    dates = calendar(poll.now)
    poll.covered = (dates.today, poll.now)
    groups = days_by_group(poll)
    whole = month_to_date(groups, dates)
    for known in instances:
        days = groups[tuple(known.dimensions[name] for name in poll.definition.dimensions)]
        yield from series(poll, known, days)
        values = figures(poll, days, dates)
        share = percent(values.get(MONTH_TO_DATE), whole)
        yield Sample(known, values if share is None else {**values, "share_percent": share})


def days_by_group(poll: Poll) -> dict[Group, Days]:
    """All days that the figures need, by the DataSource's dimensions, asked once in a poll."""
    by = poll.definition.dimensions
    start, end = span(poll)
    return poll.once(
        "costs",
        lambda: by_group(poll.client, start, end, by, expected_rows(poll.directory, by)),
    )


def span(poll: Poll) -> tuple[int, int]:
    """From the first day that a figure, or a series, needs to the next midnight."""
    dates = calendar(poll.now)
    first = poll.window.start // DAY * DAY if poll.with_series else dates.earliest
    return min(first, dates.earliest), dates.tomorrow


def series(poll: Poll, known: Instance, days: Days) -> Iterator[Sample]:
    """One sample a day of the window that a series covers, none without a series.

    Nor without today's answer: the last day would then be taken for today.
    """
    if poll.with_series and calendar(poll.now).today in days:
        for day in sorted(day for day in days if day >= poll.window.start):
            yield Sample(known, {"amount": days[day]}, day)


def by_group(
    client: Client,
    start: int,
    end: int,
    group_by: Sequence[str] = (),
    rows: int | None = None,
    needed: range = range(0),
) -> dict[Group, Days]:
    """Dollars by group and day; every group has each answered day, at 0 where it cost nothing.

    Without `group_by` the one group is `()`; a null is `none`. `rows` is how many rows a day is
    expected to have. Raises ApiFailure on a second currency, since money of two has no sum, and
    when one of the `needed` days was not answered.
    """
    nothing = Decimal(0)
    answered: list[int] = []
    groups: dict[Group, Days] = {(): {}} if not group_by else {}
    for day, costs in client.costs(start, end, group_by=group_by, groups=rows):
        answered.append(day)
        for cost in costs:
            days = groups.setdefault(tuple(getattr(cost, name) or NONE for name in group_by), {})
            days[day] = days.get(day, nothing) + dollars(cost)
    refuse_gaps(answered, needed)
    return {
        group: {day: days.get(day, nothing) for day in answered} for group, days in groups.items()
    }


def refuse_gaps(answered: Iterable[int], needed: range) -> None:
    """Raise ApiFailure when the bill lacks a day, since what is added up would be short."""
    missing = len(set(needed).difference(answered))
    if missing:
        raise ApiFailure("contract", "costs", f"{missing} of {len(needed)} days are missing")


def expected_rows(directory: Directory, group_by: Sequence[str]) -> int:
    """About how many rows a day has, so that no page grows too large: it scales with projects."""
    try:
        projects = len(directory.projects())
    except ApiFailure:
        projects = FEWEST_ROWS
    return max(FEWEST_ROWS, projects * max(ROWS_A_PROJECT[name] for name in group_by))


def month_to_date(groups: Mapping[Group, Days], dates: Calendar) -> Decimal | None:
    """The month to date over all groups; None when a day of it was not answered."""
    sums = [total(days, dates.this_month()) for days in groups.values()]
    return None if None in sums else sum((one for one in sums if one is not None), Decimal(0))


def figures(poll: Poll, days: Days, dates: Calendar) -> Values:
    """Every figure that one group's days allow: what was billed, and what the month may cost."""
    floor = poll.properties.dollars("openai.cost.floor") or Decimal(0)
    return billed_figures(days, dates, floor) | cost_forecast.figures(days, dates)


def billed_figures(days: Days, dates: Calendar, floor: Decimal) -> Values:
    """Today, yesterday, the week before, the months; a figure lacking a day is left out."""
    average = mean_of(days, dates.complete(AVERAGED_DAYS))
    known = {
        "amount": days.get(dates.today),
        "amount_yesterday": days.get(dates.today - DAY),
        "amount_7d_average": average,
        "amount_change_percent": _change(days.get(dates.today), average, floor),
        MONTH_TO_DATE: total(days, dates.this_month()),
        "amount_last_month": total(days, range(dates.last_month, dates.month, DAY)),
    }
    return {name: value for name, value in known.items() if value is not None}


def budget_figures(values: Values, budget: Decimal | None) -> Values:
    """The budget with its used and forecast share; nothing where no budget is known."""
    if budget is None:
        return {}
    shares = {
        "budget_used_percent": percent(values.get(MONTH_TO_DATE), budget),
        "budget_forecast_percent": percent(values.get("amount_month_forecast"), budget),
    }
    return {
        "budget": budget,
        **{name: value for name, value in shares.items() if value is not None},
    }


def dollars(cost: Cost) -> Decimal:
    """The amount; raises ApiFailure for any other currency."""
    if cost.currency != CURRENCY:
        raise ApiFailure(
            "contract",
            "costs",
            f"an amount in {cost.currency}, which cannot be added to {CURRENCY}",
        )
    return cost.amount


def _change(today: Decimal | None, average: Decimal | None, floor: Decimal) -> float | None:
    if today is None or average is None or average < floor:
        return None
    return percent(today - average, average)
