"""The command `age`: watch how late usage arrives, with progress, and print a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from lm_openai import timespans
from lm_openai.app.runner import DONE, FAILED, put
from lm_openai.app.session import Session, Surroundings, connect
from lm_openai.errors import WrongUsage
from lm_openai.metrics.usage_lag import INTERVAL, Age, Watch
from lm_openai.timespans import MINUTE

SHORTEST = 15 * MINUTE
REPORTED = 10
"""Minutes between two lines of progress in a stream that is not a terminal."""


def run(
    length: str, session: Session, now: Callable[[], int], sleep: Callable[[float], None]
) -> int:
    """Watch for that long, print the table and return the exit status.

    An interrupt prints what was measured until then and is raised again. Raises WrongUsage and, if
    no request of the first poll succeeds, ApiFailure.
    """
    seconds = duration(length)
    around = session.around
    watch = Watch(lambda: connect(session.properties), now)
    put(f"watching for {length}; Ctrl-C ends it early and keeps the results\n", around.stderr)
    try:
        _follow(watch, seconds, around.stderr, sleep)
    except KeyboardInterrupt:
        _show(watch, around)
        raise
    return _show(watch, around)


def duration(text: str) -> int:
    """Return the seconds of `--watch`; raises WrongUsage, also below SHORTEST."""
    try:
        seconds = timespans.duration(text)
    except ValueError:
        raise WrongUsage(f"--watch {text!r}: give a duration such as 90m or 3h") from None
    if seconds < SHORTEST:
        raise WrongUsage(
            f"--watch {text!r}: the minimum is {SHORTEST // MINUTE}m, because usage arrives 5 to "
            f"60 minutes late"
        )
    return seconds


def table(ages: Iterable[Age]) -> Iterator[str]:
    """Yield one line per kind, after a head."""
    yield f"{'kind':28}{'minutes':>8}{'50 %':>8}{'90 %':>8}{'99 %':>8}  grace\n"
    for kind in ages:
        columns = "".join(f"{seconds // MINUTE:>6} m" for seconds in kind.ages.values())
        growing = " (still growing: watch longer)" if kind.growing else ""
        yield f"{kind.kind:28}{kind.minutes:>8}{columns}  {kind.grace}m{growing}\n"


def _follow(watch: Watch, seconds: int, stderr: TextIO, sleep: Callable[[float], None]) -> None:
    """Poll once a minute and print the progress, in a terminal as one line that changes."""
    terminal = stderr.isatty()
    watch.poll()
    while watch.watched() < seconds:
        sleep(INTERVAL)
        watch.poll()
        minutes = watch.watched() // MINUTE
        if terminal or minutes % REPORTED == 0:
            text = f"{minutes} of {seconds // MINUTE} minutes, usage of {watch.used()} kinds so far"
            put(f"\r{text}\033[K" if terminal else f"{text}\n", stderr)
    if terminal:
        put("\n", stderr)


def _show(watch: Watch, around: Surroundings) -> int:
    """Print the table of what was measured; return the exit status."""
    ages = watch.ages()
    if not ages:
        minutes = watch.watched() // MINUTE
        put(f"no usage was measured in {minutes} minutes; watch longer\n", around.stderr)
        return FAILED
    put("".join(table(ages)), around.stdout)
    return DONE
