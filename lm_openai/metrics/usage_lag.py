"""How late an organization's usage settles: watch minutes grow and say when they had grown up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.errors import ApiFailure

if TYPE_CHECKING:
    from lm_openai.api.client import Client

MINUTE = 60
EVERY = 60
SHARES = (50, 90, 99)

Seen = dict[int, list[tuple[int, int]]]


class Age(NamedTuple):
    """How old minutes were when they had reached a share of their last count.

    `ages` are seconds by percent of all that was counted in `minutes` minutes; `growing` says that
    something still came in the last tenth of the watch, so that the true ages are greater.
    """

    kind: str
    minutes: int
    ages: dict[int, int]
    growing: bool

    @property
    def grace(self) -> int:
        """The openai.finalization.grace that 99 % follow from, in whole minutes."""
        return -(-self.ages[SHARES[-1]] // MINUTE)


def watch(
    client: Callable[[], Client],
    seconds: int,
    now: Callable[[], int],
    sleep: Callable[[float], None],
) -> Iterator[Age]:
    """Read the minutes that begin now again and again, then tell how each kind's grew.

    Minutes of the first half are told of, so that each was watched for half the time at least. A
    poll that fails leaves a gap in what was seen, no wrong age. Raises ApiFailure when the first
    poll learns nothing.
    """
    begun = now()
    seen: dict[str, Seen] = {name: {} for name, kind in USAGE_KINDS.items() if not kind.level}
    answers = _look(client(), seen, begun, now())
    if all(isinstance(answer, ApiFailure) for answer in answers):
        raise next(answer for answer in answers if answer is not None)
    while now() < begun + seconds:
        sleep(EVERY)
        _look(client(), seen, begun, now())
    for name, minutes in seen.items():
        age = grown(name, minutes, begun, begun + seconds)
        if age is not None:
            yield age


def grown(kind: str, minutes: Seen, begun: int, ended: int) -> Age | None:
    """What the sightings (age, count) of each minute tell; None without any use to tell of."""
    told = [
        sightings
        for start, sightings in minutes.items()
        if begun <= start < begun + (ended - begun) // 2 and sightings[-1][1]
    ]
    total = sum(sightings[-1][1] for sightings in told)
    if not total:
        return None
    steps = sorted(step for sightings in told for step in _steps(sightings))
    late = ended - (ended - begun) // 10
    growing = any(
        start + age > late
        for start, sightings in minutes.items()
        if sightings in told
        for age, _ in _steps(sightings)
    )
    return Age(kind, len(told), {share: _age(steps, total, share) for share in SHARES}, growing)


def _look(client: Client, seen: dict[str, Seen], begun: int, now: int) -> list[ApiFailure | None]:
    start = begun - begun % MINUTE - MINUTE
    return client.together(partial(_sight, client, kind, seen[kind], start, now) for kind in seen)


def _sight(client: Client, kind: str, minutes: Seen, start: int, now: int) -> None:
    """Note each minute's count at its age; a minute without results counts 0 so far."""
    field = USAGE_KINDS[kind].required[0]
    for bucket in client.usage(kind, start, now, "1m"):
        count = sum(row[field] for row in bucket.results)
        minute = bucket.start - bucket.start % MINUTE
        minutes.setdefault(minute, []).append((now - (minute + MINUTE), count))


def _steps(sightings: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """(age, how much more there was) wherever a minute grew."""
    before = 0
    for age, count in sightings:
        if count != before:
            yield max(0, age), count - before
            before = count


def _age(steps: list[tuple[int, int]], total: int, share: int) -> int:
    reached = 0
    for age, more in steps:
        reached += more
        if reached * 100 >= share * total:
            return age
    return steps[-1][0]
