"""Usage of all kinds by consumer, and each consumer's usual usage at this time of day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from lm_openai.api.endpoints import TOTALS, USAGE_KINDS, kinds_with
from lm_openai.collect.page_sizes import buckets
from lm_openai.collect.poll import Poll
from lm_openai.collect.source import Source
from lm_openai.collect.usage_queries import Group, UsageQuery, days_until
from lm_openai.errors import ApiFailure
from lm_openai.metrics import narrowing
from lm_openai.metrics.usage import MODEL_KINDS, not_offered
from lm_openai.model.aggregation import percent
from lm_openai.model.report import Values
from lm_openai.timespans import DAY, HOUR, WIDTHS, Window

DIMENSIONS = ("project_id", "user_id", "api_key_id", "model")
COMPARED_DAYS = 7
USUAL_TO_LIVE = 6 * HOUR
"""Seconds to cache the usage of past days, which hardly changes."""
NARROWER = {"1d": "1h", "1h": "1m"}
Sums = dict[Group, dict[str, int]]
Row = tuple[int, Group, int]


class Use(NamedTuple):
    """Usage by kind, group and field, and the failures of the other kinds.

    `edges` maps a kind to the end of its data: the end of its newest bucket with any use.
    """

    sums: dict[str, Sums]
    edges: dict[str, int]
    failures: dict[str, ApiFailure]

    @property
    def groups(self) -> set[Group]:
        """All groups with usage of any kind."""
        return {group for sums in self.sums.values() for group in sums}

    def lacks(self, total: str) -> bool:
        """Return True if a kind failed that contributes to the total."""
        return not self.failures.keys().isdisjoint(kinds_with(total))

    def values(self, groups: Iterable[Group]) -> Values:
        """Return the totals over some groups; a total that includes a failed kind is left out."""
        chosen = set(groups)
        return {total: sum(self._parts(total, chosen)) for total in TOTALS if not self.lacks(total)}

    def tokens(self, group: Group) -> int:
        """Return the tokens of one group over the kinds that did not fail, for ranking."""
        return sum(self._parts("tokens", {group}))

    def _parts(self, total: str, groups: set[Group]) -> Iterable[int]:
        for sums in self.sums.values():
            for group in groups & sums.keys():
                for field in TOTALS[total]:
                    yield sums[group].get(field, 0)


def queries(window: Window, dimensions: Group) -> list[UsageQuery]:
    """Return the queries for `use` over a window, one per kind."""
    return [UsageQuery(kind, window, dimensions) for kind in MODEL_KINDS]


def use(poll: Poll, requested: Iterable[UsageQuery]) -> Use:
    """Return the usage of all queries, which have the same dimensions and run in parallel.

    Raises the first ApiFailure if all failed.
    """
    wanted = list(requested)
    outcomes = poll.client.together(partial(_summed, poll.source, each) for each in wanted)
    result = Use({}, {}, {})
    for query, outcome in zip(wanted, outcomes):
        if not isinstance(outcome, ApiFailure):
            result.sums[query.kind], edge = outcome
            if edge is not None:
                result.edges[query.kind] = edge
        elif not not_offered(poll, query.kind, outcome):
            result.failures[query.kind] = outcome
    if result.failures and not result.sums:
        raise next(iter(result.failures.values()))
    return result


def _summed(source: Source, query: UsageQuery) -> tuple[Sums, int | None]:
    """Return a query's sums by group and field, and the end of its data (None without any use)."""
    sums: Sums = {}
    edge = None
    for bucket in buckets(source, query):
        edge = bucket.end if bucket.groups else edge
        for group, values in bucket.groups.items():
            fields = sums.setdefault(group, {})
            for field in USAGE_KINDS[query.kind].required:
                fields[field] = fields.get(field, 0) + int(values[field])
    return sums, edge


def usual(
    poll: Poll, window: Window, dimensions: Group, edges: Mapping[str, int]
) -> dict[Group, Decimal] | None:
    """Return the mean tokens by group in the same window of each of the 7 days before.

    Each kind is compared only up to the end of its data (`edges`). The earlier days are read in
    hours, or in days if the window has days. A day or an hour that the window cuts is read again in
    hours or minutes; a minute that it cuts counts in proportion. None if a kind failed, which is
    reported.
    """
    requested = _requested(window)
    sums: dict[Group, int] = {}
    while requested:
        outcomes = poll.client.together(
            partial(_before, poll, kind, block, dimensions) for kind, block in requested
        )
        cut: list[tuple[str, Window]] = []
        for (kind, block), outcome in zip(requested, outcomes):
            if not isinstance(outcome, ApiFailure):
                compared = window._replace(end=min(window.end, edges.get(kind, window.end)))
                cut += ((kind, narrow) for narrow in _add(sums, compared, block, outcome))
            elif not not_offered(poll, kind, outcome):
                poll.report_failure(outcome, "change_percent is left out", hides_instances=False)
                return None
        requested = cut
    return {group: total / Decimal(COMPARED_DAYS * DAY) for group, total in sums.items()}


def reads_before(poll: Poll, dimensions: Group) -> list[Callable[[], object]]:
    """Return the calls that request what `usual` reads first."""
    requested = _requested(poll.window)
    return [partial(_before, poll, kind, block, dimensions) for kind, block in requested]


def _requested(window: Window) -> list[tuple[str, Window]]:
    return [(kind, block) for kind in kinds_with("tokens") for block in _blocks(window)]


def _before(poll: Poll, kind: str, block: Window, dimensions: Group) -> list[Row]:
    read = partial(poll.source.shared, USUAL_TO_LIVE, rows_before, kind, block, dimensions)
    return poll.once(f"before {kind} {block}", read)


def _add(
    sums: dict[Group, int], window: Window, block: Window, rows: Iterable[Row]
) -> Iterable[Window]:
    """Add each row's tokens times the part of its bucket inside the window, in parts of a day.

    Return the buckets that the window cuts as windows of narrower ones, neighbors as one window;
    they are not added.
    """
    width, narrower = WIDTHS[block.width], NARROWER.get(block.width)
    cut = set()
    for start, group, tokens in rows:
        part = _overlap(window, start, width)
        if narrower and tokens and 0 < part < width:
            cut.add(Window(start, start + width, narrower))
        else:
            sums[tuple(group)] = sums.get(tuple(group), 0) + tokens * part * (DAY // width)
    return _joined(sorted(cut))


def _joined(windows: Iterable[Window]) -> list[Window]:
    """Return windows in order of time with neighbors of the same width as one."""
    joined: list[Window] = []
    for window in windows:
        if joined and (joined[-1].end, joined[-1].width) == (window.start, window.width):
            joined[-1] = joined[-1]._replace(end=window.end)
        else:
            joined.append(window)
    return joined


def change(tokens: int, mean: Decimal) -> Values:
    """Return the `change_percent` of tokens against their usual mean; empty if the mean is 0."""
    value = percent(tokens - mean, mean)
    return {} if value is None else {"change_percent": value}


def budget_shares(
    poll: Poll, budgets: Mapping[str, int]
) -> tuple[dict[str, float], ApiFailure | None]:
    """Return each project's tokens of the UTC day so far in percent of its budget.

    The tokens are the sum over all consumers of the project. If a kind failed, which is reported,
    the shares are lower bounds and the failure is returned with them.
    """
    end = poll.properties.window(poll.now).end
    window = Window((end - 1) // DAY * DAY, end, "1d")
    requested = [UsageQuery(kind, window, ("project_id",)) for kind in kinds_with("tokens")]
    try:
        used = use(poll, requested)
    except ApiFailure as failure:
        used = Use({}, {}, {failure.endpoint: failure})
    first = next(iter(used.failures.values()), None)
    if first:
        poll.report_failure(first, "tokens_budget_percent is left out", hides_instances=False)
    shares = {
        project: percent(used.tokens((project,)), budget) for project, budget in budgets.items()
    }
    return {project: share for project, share in shares.items() if share is not None}, first


def week_by_model(poll: Poll, dimensions: Group) -> tuple[int, dict[Group, dict[str, int]]]:
    """Return the time of the oldest request, and by group each model's number of requests.

    The requests are those of the last 7 days and today so far, read once an hour, which the filters
    select. Raises ApiFailure if a kind failed.
    """
    by_model = narrowed_by_model(poll, dimensions)
    outcomes = poll.client.together(
        partial(poll.source.shared, HOUR, week_requests, kind, poll.now // HOUR, by_model)
        for kind in MODEL_KINDS
    )
    requested_at = poll.now
    result: dict[Group, dict[str, int]] = {}
    for kind, outcome in zip(MODEL_KINDS, outcomes):
        if isinstance(outcome, ApiFailure):
            if not not_offered(poll, kind, outcome):
                raise outcome
            continue
        requested_at = min(requested_at, outcome[0])
        for _, group, requests in outcome[1]:
            if narrowing.selected(poll, by_model, tuple(group)):
                *consumer, model = group[: len(dimensions) + 1]
                models = result.setdefault(tuple(consumer), {})
                models[model] = models.get(model, 0) + requests
    return requested_at, result


def narrowed_by_model(poll: Poll, dimensions: Group) -> Group:
    """Return the dimensions, the model and those of the filters."""
    return narrowing.read_dimensions(poll, (*dimensions, "model"), DIMENSIONS)


def week_requests(source: Source, kind: str, hour: int, dimensions: Group) -> tuple[int, list[Row]]:
    """Return the time of the request, and (0, group, requests) of the last 7 days and today.

    `hour` is part of the cache key. Raises ApiFailure.
    """
    query = UsageQuery(kind, days_until(source.now), dimensions)
    sums, _ = _summed(source, query)
    rows = [(0, group, fields["num_model_requests"]) for group, fields in sums.items()]
    return source.now, rows


def _blocks(window: Window) -> list[Window]:
    """Return whole UTC days that cover the window: one window of days, or one of hours per day."""
    first, end = window.start // DAY * DAY, -(-window.end // DAY) * DAY
    if window.width == "1d":
        return [Window(first, end, "1d")]
    return [Window(day, day + DAY, "1h") for day in range(first, end, DAY)]


def rows_before(source: Source, kind: str, block: Window, dimensions: Group) -> list[Row]:
    """Return (start of a bucket of the block, group, tokens at that time in the 7 days before).

    Raises ApiFailure.
    """
    queries = [UsageQuery(kind, before, dimensions) for before in _week_before(block)]
    sums: dict[tuple[int, Group], int] = {}
    for outcome in source.client.together(partial(_later, source, one, block) for one in queries):
        if isinstance(outcome, ApiFailure):
            raise outcome
        for key, tokens in outcome.items():
            sums[key] = sums.get(key, 0) + tokens
    return [(start, group, tokens) for (start, group), tokens in sums.items()]


def _later(source: Source, query: UsageQuery, block: Window) -> dict[tuple[int, Group], int]:
    """Return a query's tokens by group and bucket of the block, which is up to 7 days later."""
    sums: dict[tuple[int, Group], int] = {}
    for bucket in buckets(source, query):
        later = range(bucket.start + DAY, bucket.start + (COMPARED_DAYS + 1) * DAY, DAY)
        touched = [start for start in later if block.start <= start < block.end]
        for group, values in bucket.groups.items():
            tokens = sum(int(values.get(field, 0)) for field in TOTALS["tokens"])
            for start in touched:
                sums[start, group] = sums.get((start, group), 0) + tokens
    return sums


def _week_before(block: Window) -> list[Window]:
    """Return the 7 days before as one window, or for part of a day as that part of each day."""
    if block.end - block.start >= DAY:
        return [block._replace(start=block.start - COMPARED_DAYS * DAY, end=block.end - DAY)]
    shifts = range(DAY, (COMPARED_DAYS + 1) * DAY, DAY)
    return [block._replace(start=block.start - by, end=block.end - by) for by in shifts]


def _overlap(window: Window, start: int, width: int) -> int:
    """Return the seconds of a bucket that are inside the window."""
    return max(0, min(window.end, start + width) - max(window.start, start))
