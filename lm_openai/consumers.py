"""Who uses how much across all usage kinds, and how much is usual for them at this time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.answers import DAY, Group, Question
from lm_openai.derive import percent
from lm_openai.errors import ApiFailure
from lm_openai.parsing import HOUR, Window
from lm_openai.records import KINDS, WIDTHS
from lm_openai.report import Values
from lm_openai.usage import MODEL_KINDS, likely, unknown, week

if TYPE_CHECKING:
    from lm_openai.poll import Poll

PARTS = {
    "requests": ("num_model_requests",),
    "tokens": ("input_tokens", "output_tokens"),
    "images": ("images",),
    "seconds": ("seconds",),
    "characters": ("characters",),
}
"""Each total with the fields that it adds up."""
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
        return not self.failures.keys().isdisjoint(kinds_of(total))

    def values(self, groups: Iterable[Group]) -> Values:
        """The totals of some groups together; one that lacks a kind is left out."""
        mine = set(groups)
        return {total: sum(self._parts(total, mine)) for total in PARTS if not self.lacks(total)}

    def tokens(self, group: Group) -> int:
        """Tokens as far as they were answered, to rank by."""
        return sum(self._parts("tokens", {group}))

    def _parts(self, total: str, groups: set[Group]) -> Iterable[int]:
        for sums in self.sums.values():
            for group in groups & sums.keys():
                for field in PARTS[total]:
                    yield sums[group].get(field, 0)


def kinds_of(total: str) -> tuple[str, ...]:
    """The kinds whose rows always have a field that the total adds up."""
    return tuple(name for name in MODEL_KINDS if set(PARTS[total]) & set(KINDS[name].required))


def questions(window: Window, dimensions: Group) -> list[Question]:
    """What `use` asks of a window, a kind each."""
    return [Question(kind, window, dimensions) for kind in MODEL_KINDS]


def use(poll: Poll, asked: Iterable[Question]) -> Use:
    """Everything that was used, the kinds asked in parallel; raises ApiFailure if none answers."""
    kinds = list(asked)
    groups = likely(poll, kinds[0].dimensions)
    answers = poll.client.together(partial(_summed, poll, each, groups) for each in kinds)
    found = Use({}, {}, {})
    for question, answer in zip(kinds, answers):
        if not isinstance(answer, ApiFailure):
            found.sums[question.kind], edge = answer
            if edge is not None:
                found.edges[question.kind] = edge
        elif not unknown(poll, question.kind, answer):
            found.failures[question.kind] = answer
    if found.failures and not found.sums:
        raise next(iter(found.failures.values()))
    return found


def _summed(poll: Poll, question: Question, groups: int | None) -> tuple[Sums, int | None]:
    sums: Sums = {}
    edge = None
    for bucket in poll.answers.of(question, groups):
        edge = bucket.end if bucket.groups else edge
        for group, values in bucket.groups.items():
            mine = sums.setdefault(group, {})
            for field in KINDS[question.kind].required:
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
    groups = likely(poll, dimensions)
    asked = [(kind, block) for kind in kinds_of("tokens") for block in blocks]
    answers = poll.client.together(
        partial(_before, poll, kind, block, dimensions, groups) for kind, block in asked
    )
    seconds: dict[Group, int] = {}
    for (kind, block), answer in zip(asked, answers):
        if isinstance(answer, ApiFailure):
            if unknown(poll, kind, answer):
                continue
            poll.miss(answer, "no change_percent")
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
    asked = [Question(kind, window, ("project_id",)) for kind in kinds_of("tokens")]
    try:
        found = use(poll, asked)
    except ApiFailure as failure:
        found = Use({}, {}, {failure.asked: failure})
    if found.failures:
        poll.miss(next(iter(found.failures.values())), "no tokens_budget_percent")
        return {}
    shares = {
        project: percent(found.tokens((project,)), budget) for project, budget in budgets.items()
    }
    return {project: share for project, share in shares.items() if share is not None}


def week_by_model(poll: Poll, dimensions: Group) -> tuple[int, dict[Group, dict[str, int]]]:
    """When it was asked, and by group each model's requests of the last 7 days and the running one.

    Asked once an hour; raises ApiFailure where a kind stayed unanswered.
    """
    kinds = questions(week(poll), (*dimensions, "model"))
    groups = likely(poll, (*dimensions, "model"))
    answers = poll.client.together(partial(_requests, poll, each, groups) for each in kinds)
    asked_at = poll.now
    found: dict[Group, dict[str, int]] = {}
    for question, answer in zip(kinds, answers):
        if isinstance(answer, ApiFailure):
            if not unknown(poll, question.kind, answer):
                raise answer
            continue
        asked_at = min(asked_at, answer[0])
        for _, group, requests in answer[1]:
            *consumer, model = group
            models = found.setdefault(tuple(consumer), {})
            models[model] = models.get(model, 0) + requests
    return asked_at, found


def _requests(poll: Poll, question: Question, groups: int | None) -> tuple[int, list[Row]]:
    def ask() -> tuple[int, list[Row]]:
        sums, _ = _summed(poll, question, groups)
        rows = [(0, group, fields["num_model_requests"]) for group, fields in sums.items()]
        return poll.now, rows

    name = f"week {question.kind} {','.join(question.dimensions)} {poll.now // HOUR}"
    return poll.cache.remember(name, HOUR, ask)


def _blocks(window: Window) -> list[Window]:
    """The buckets that the window touches: the UTC days of its hours, or all its days at once."""
    first, end = window.start // DAY * DAY, -(-window.end // DAY) * DAY
    if window.width == "1d":
        return [Window(first, end, "1d")]
    return [Window(day, day + DAY, "1h") for day in range(first, end, DAY)]


def _before(
    poll: Poll, kind: str, block: Window, dimensions: Group, groups: int | None
) -> list[Row]:
    """(bucket of the block, group, tokens of the 7 days before at that time)."""
    name = f"usual {kind} {','.join(dimensions)} {block.start} {block.end} {block.width}"
    return poll.cache.remember(
        name, USUAL_TO_LIVE, lambda: _summed_before(poll, kind, block, dimensions, groups)
    )


def _summed_before(
    poll: Poll, kind: str, block: Window, dimensions: Group, groups: int | None
) -> list[Row]:
    week_before = Window(block.start - COMPARED_DAYS * DAY, block.end - DAY, block.width)
    sums: dict[tuple[int, Group], int] = {}
    for bucket in poll.answers.of(Question(kind, week_before, dimensions), groups):
        later = range(bucket.start + DAY, bucket.start + (COMPARED_DAYS + 1) * DAY, DAY)
        touched = [start for start in later if block.start <= start < block.end]
        for group, values in bucket.groups.items():
            tokens = sum(int(values.get(field, 0)) for field in PARTS["tokens"])
            for start in touched:
                sums[start, group] = sums.get((start, group), 0) + tokens
    return [(start, group, tokens) for (start, group), tokens in sums.items()]


def _overlap(window: Window, start: int, width: int) -> int:
    """Seconds of a bucket that lie in the window."""
    return max(0, min(window.end, start + width) - max(window.start, start))
