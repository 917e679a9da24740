"""Clock of this machine, compared with the Date of the API's responses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lm_openai.errors import Failure
from lm_openai.storage.cache import Cache
from lm_openai.timespans import DAY, HOUR, MINUTE

MOST_DIFFERENCE = 5 * MINUTE
"""Seconds by which the clocks may differ, as in Kerberos; a correct host differs by less than 1."""
_MEASURED, _MEASURED_SECONDS = "seconds ahead of the API", 15 * MINUTE
"""A poll that needs no request, since all it reads is cached, uses what another one measured."""


@contextmanager
def checked(measure: Callable[[], int | None], cache: Cache) -> Iterator[None]:
    """Raise Failure instead of the block's result or Failure if this machine's clock is wrong.

    Then usage is of other minutes than the report says, costs perhaps of another day, and what is
    not there yet looks like zero. `measure` returns what `ahead` does.
    """
    try:
        yield
    except Failure:
        _refuse_wrong(measure(), cache)
        raise
    _refuse_wrong(measure(), cache)


def ahead(date: int | None, began: int, now: int) -> int | None:
    """Return the seconds by which this machine is at least ahead of the API, behind if negative.

    `date` is that of the newest response, which came between the start of the run and now; None
    without a response. All are Unix seconds.
    """
    if date is None:
        return None
    return max(began - date, 0) or min(now - date, 0)


def difference(ahead_by: int) -> str:
    """Return the difference of the clocks in words, as in `3 hours ahead of the API's`."""
    seconds = abs(ahead_by)
    units = ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes"), (1, "seconds"))
    length, name = next((unit for unit in units if seconds >= 2 * unit[0]), units[-1])
    return f"{round(seconds / length)} {name} {'ahead of' if ahead_by > 0 else 'behind'} the API's"


def _refuse_wrong(seconds: int | None, cache: Cache) -> None:
    if seconds is None:
        seconds = cache.get(_MEASURED) or 0
    elif abs(seconds) > MOST_DIFFERENCE:
        cache.put(_MEASURED, seconds, _MEASURED_SECONDS)
    else:
        cache.forget(_MEASURED)
    if abs(seconds) > MOST_DIFFERENCE:
        raise Failure(
            f"this machine's clock is {difference(seconds)}, so every number would be of the wrong "
            f"time: set it (timedatectl set-ntp true)"
        )
