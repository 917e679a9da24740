"""Usage of all kinds by consumer, and the usual usage of each consumer at this time of day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from lm_openai.api.endpoints import TOTALS, USAGE_KINDS, kinds_with
from lm_openai.collect.poll import Poll
from lm_openai.collect.source import Source
from lm_openai.collect.usage_queries import Group, UsageQuery
from lm_openai.errors import ApiFailure
from lm_openai.metrics.usage import MODEL_KINDS, expected_groups, not_offered, week_until
from lm_openai.model.aggregation import percent
from lm_openai.model.report import Values
from lm_openai.timespans import DAY, HOUR, WIDTHS, Window

DIMENSIONS = ("project_id", "user_id", "api_key_id", "model")
COMPARED_DAYS = 7
USUAL_TO_LIVE = 6 * HOUR
"""What was used days ago hardly changes any more."""
Sums = dict[Group, dict[str, int]]
Row = tuple[int, Group, int]


class Use(NamedTuple):
    """What every answered kind showed by group and field, and why the others did not answer.

    `edges` is where the data of a kind ends, the end of its newest bucket with any use.
    """

    sums: dict[str, Sums]
    edges: dict[str, int]
    failures: dict[str, ApiFailure]

    @property
    def groups(self) -> set[Group]:
        """Everyone who used anything."""
        return {group for sums in self.sums.values() for group in sums}

    def lacks(self, total: str) -> bool:
        """Whether a kind stayed unanswered that the total adds up."""
        return not self.failures.keys().isdisjoint(kinds_with(total))

    def values(self, groups: Iterable[Group]) -> Values:
        """The totals of some groups together; one that lacks a kind is left out."""
        mine = set(groups)
        return {total: sum(self._parts(total, mine)) for total in TOTALS if not self.lacks(total)}

    def tokens(self, group: Group) -> int:
        """Tokens as far as they were answered, to rank by."""
        return sum(self._parts("tokens", {group}))

    def _parts(self, total: str, groups: set[Group]) -> Iterable[int]:
        for sums in self.sums.values():
            for group in groups & sums.keys():
                for field in TOTALS[total]:
                    yield sums[group].get(field, 0)


def queries(window: Window, dimensions: Group) -> list[UsageQuery]:
    """What `use` asks of a window, a kind each."""
    return [UsageQuery(kind, window, dimensions) for kind in MODEL_KINDS]


def use(poll: Poll, asked: Iterable[UsageQuery]) -> Use:
    """Everything that was used, the kinds asked in parallel; raises ApiFailure if none answers."""
    kinds = list(asked)
    groups = expected_groups(poll, kinds[0].dimensions)
    answers = poll.client.together(partial(_summed, poll.source, each, groups) for each in kinds)
    found = Use({}, {}, {})
    for question, answer in zip(kinds, answers):
        if not isinstance(answer, ApiFailure):
            found.sums[question.kind], edge = answer
            if edge is not None:
                found.edges[question.kind] = edge
        elif not not_offered(poll, question.kind, answer):
            found.failures[question.kind] = answer
    if found.failures and not found.sums:
        raise next(iter(found.failures.values()))
    return found


def _summed(source: Source, question: UsageQuery, groups: int | None) -> tuple[Sums, int | None]:
    sums: Sums = {}
    edge = None
    for bucket in source.queries.buckets(question, groups):
        edge = bucket.end if bucket.groups else edge
        for group, values in bucket.groups.items():
            mine = sums.setdefault(group, {})
            for field in USAGE_KINDS[question.kind].required:
                mine[field] = mine.get(field, 0) + int(values[field])
    return sums, edge


def usual(
    poll: Poll, window: Window, dimensions: Group, edges: Mapping[str, int]
) -> dict[Group, Decimal] | None:
    """Mean tokens by group in the same window of each of the 7 days before.

    Each kind is compared as far as its data reach. Read in hours, or in days where the window is:
    what of one lies in the window counts by its part. None where a kind stayed unanswered, which
    is noted.
    """
    blocks = _blocks(window)
    groups = expected_groups(poll, dimensions)
    asked = [(kind, block) for kind in kinds_with("tokens") for block in blocks]
    answers = poll.client.together(
        partial(poll.source.shared, USUAL_TO_LIVE, rows_before, kind, block, dimensions, groups)
        for kind, block in asked
    )
    seconds: dict[Group, int] = {}
    for (kind, block), answer in zip(asked, answers):
        if isinstance(answer, ApiFailure):
            if not_offered(poll, kind, answer):
                continue
            poll.report_failure(answer, "no change_percent")
            return None
        compared = window._replace(end=min(window.end, edges.get(kind, window.end)))
        for start, group, tokens in answer:
            part = _overlap(compared, start, WIDTHS[block.width])
            seconds[tuple(group)] = seconds.get(tuple(group), 0) + tokens * part
    whole = Decimal(WIDTHS[blocks[0].width] * COMPARED_DAYS)
    return {group: total / whole for group, total in seconds.items()}


def change(tokens: int, mean: Decimal) -> Values:
    """`change_percent` of tokens against their usual mean; absent where that is 0."""
    found = percent(tokens - mean, mean)
    return {} if found is None else {"change_percent": found}


def budget_shares(poll: Poll, budgets: Mapping[str, int]) -> dict[str, float]:
    """Tokens of the UTC day so far against each project's budget, all its consumers together.

    Empty where a kind stayed unanswered, which is noted.
    """
    end = poll.properties.window(poll.now).end
    window = Window((end - 1) // DAY * DAY, end, "1d")
    asked = [UsageQuery(kind, window, ("project_id",)) for kind in kinds_with("tokens")]
    try:
        found = use(poll, asked)
    except ApiFailure as failure:
        found = Use({}, {}, {failure.endpoint: failure})
    if found.failures:
        poll.report_failure(next(iter(found.failures.values())), "no tokens_budget_percent")
        return {}
    shares = {
        project: percent(found.tokens((project,)), budget) for project, budget in budgets.items()
    }
    return {project: share for project, share in shares.items() if share is not None}


def week_by_model(poll: Poll, dimensions: Group) -> tuple[int, dict[Group, dict[str, int]]]:
    """When it was asked, and by group each model's requests of the last 7 days and the running one.

    Asked once an hour; raises ApiFailure where a kind stayed unanswered.
    """
    by_model = (*dimensions, "model")
    groups = expected_groups(poll, by_model)
    answers = poll.client.together(
        partial(poll.source.shared, HOUR, week_requests, kind, poll.now // HOUR, by_model, groups)
        for kind in MODEL_KINDS
    )
    asked_at = poll.now
    found: dict[Group, dict[str, int]] = {}
    for kind, answer in zip(MODEL_KINDS, answers):
        if isinstance(answer, ApiFailure):
            if not not_offered(poll, kind, answer):
                raise answer
            continue
        asked_at = min(asked_at, answer[0])
        for _, group, requests in answer[1]:
            *consumer, model = group
            models = found.setdefault(tuple(consumer), {})
            models[model] = models.get(model, 0) + requests
    return asked_at, found


def week_requests(
    source: Source, kind: str, hour: int, dimensions: Group, groups: int | None
) -> tuple[int, list[Row]]:
    """Return the time of the request, and (0, group, requests) of the 7 days before and today."""
    query = UsageQuery(kind, week_until(source.now), dimensions)
    sums, _ = _summed(source, query, groups)
    rows = [(0, group, fields["num_model_requests"]) for group, fields in sums.items()]
    return source.now, rows


def _blocks(window: Window) -> list[Window]:
    """The buckets that the window touches: the UTC days of its hours, or all its days at once."""
    first, end = window.start // DAY * DAY, -(-window.end // DAY) * DAY
    if window.width == "1d":
        return [Window(first, end, "1d")]
    return [Window(day, day + DAY, "1h") for day in range(first, end, DAY)]


def rows_before(
    source: Source, kind: str, block: Window, dimensions: Group, groups: int | None
) -> list[Row]:
    """Return (bucket of the block, group, tokens at that time of the 7 days before)."""
    week_before = Window(block.start - COMPARED_DAYS * DAY, block.end - DAY, block.width)
    sums: dict[tuple[int, Group], int] = {}
    for bucket in source.queries.buckets(UsageQuery(kind, week_before, dimensions), groups):
        later = range(bucket.start + DAY, bucket.start + (COMPARED_DAYS + 1) * DAY, DAY)
        touched = [start for start in later if block.start <= start < block.end]
        for group, values in bucket.groups.items():
            tokens = sum(int(values.get(field, 0)) for field in TOTALS["tokens"])
            for start in touched:
                sums[start, group] = sums.get((start, group), 0) + tokens
    return [(start, group, tokens) for (start, group), tokens in sums.items()]


def _overlap(window: Window, start: int, width: int) -> int:
    """Seconds of a bucket that lie in the window."""
    return max(0, min(window.end, start + width) - max(window.start, start))
