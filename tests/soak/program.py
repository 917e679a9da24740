"""`./run soak`: two simulated days under monitoring systems, and who was notified of what.

`program.py [--bounded] [SYSTEM]...` runs the scenario in `scenario.py`; with `--bounded` the part
for CI. Every incident and the outage must give one problem and one recovery, and nothing else any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

from lm_openai.simulator import Simulator
from tests.soak import reference, scenario
from tests.soak.polls import Poller, due
from tests.soak.reference import Judge, Notice
from tests.soak.scenario import MODELS, PROJECTS, Span

System = Callable[[Poller, Span], list[Notice]]


def plain(poller: Poller, span: Span) -> list[Notice]:
    """Poll without a monitoring system and as fast as possible; judge by the plain rule."""
    judge, found = Judge(), list[Notice]()
    for now, job in due(span):
        found += judge.judge(job, poller.poll(job, now, "json"), now)
    return found


SYSTEMS: dict[str, System] = {"reference": plain}
"""Monitoring systems by name; each returns what it notified."""


def soaked(name: str, span: Span) -> list[Notice]:
    """Return what one system notified of in a part of the days."""
    with (
        tempfile.TemporaryDirectory() as home,
        Simulator(at=span.start, projects=PROJECTS, models=MODELS) as simulator,
    ):
        return SYSTEMS[name](Poller(simulator, Path(home)), span)


def main(words: Sequence[str]) -> int:
    """Print the notifications of each system; return 1 if they are not those expected."""
    parser = argparse.ArgumentParser(description=__doc__, prog="./run soak")
    parser.add_argument("--bounded", action="store_true")
    parser.add_argument("systems", nargs="*", choices=[[], *SYSTEMS], metavar="SYSTEM")
    given = parser.parse_args(words)
    span = scenario.BOUNDED if given.bounded else scenario.WHOLE
    wrong = 0
    for name in given.systems or SYSTEMS:
        notices = soaked(name, span)
        for one in notices:
            clock = datetime.fromtimestamp(one.time, timezone.utc).isoformat(timespec="minutes")
            word = "recovery" if one.ended else "problem"
            print(f"{name}\t{clock}\t{word}\t{one.alias}\t{one.datapoint}")
        found, wanted = reference.counted(notices), scenario.expected(span)
        wrong += found != wanted
        verdict = "as expected" if found == wanted else f"NOT as expected: {found}, not {wanted}"
        print(f"{name}: {len(notices)} notifications, {verdict}")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
