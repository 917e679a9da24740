"""Two days of the demo organization as values: its faults, incidents and outage.

The days are the end of a month: 30 November and 1 December 2026, UTC. Nights have batches, which
count against no limit by the minute, and one has nothing else.
"""

from __future__ import annotations

from datetime import datetime, timezone
from typing import NamedTuple

from lm_openai.simulator import Simulator

LIMITS = "rate_limits"


def _at(text: str) -> int:
    """Return Unix seconds of `DAY HH:MM`; day 30 is in November, the others in December."""
    day, clock = text.split()
    month = 11 if day == "30" else 12
    moment = datetime.strptime(f"2026-{month}-{day} {clock} +0000", "%Y-%m-%d %H:%M %z")
    return int(moment.astimezone(timezone.utc).timestamp())


class Span(NamedTuple):
    """Part of the two days, from `start` to `end` in Unix seconds."""

    start: int
    end: int

    @classmethod
    def of(cls, start: str, end: str) -> Span:
        return cls(_at(start), _at(end))


class Incident(NamedTuple):
    """Pool that uses `percent` of its tokens per minute: one problem and one recovery."""

    project: str
    model: str
    percent: float
    span: Span

    @property
    def alias(self) -> str:
        """The name of its instance in rate_limits."""
        return f"{self.project} / {self.model}"


WHOLE = Span.of("30 00:00", "2 00:00")
BOUNDED = Span.of("30 18:00", "1 04:30")
"""Part for CI: an incident in the outage, one over the month's end, batches and the idle night."""

INCIDENTS = (
    Incident("Document Intelligence", "gpt-5-nano", 85, Span.of("30 09:00", "30 10:30")),
    Incident("Customer Support", "text-embedding-3-small", 97, Span.of("30 18:30", "30 21:00")),
    Incident("Search & Retrieval", "gpt-5-nano", 92, Span.of("30 23:10", "1 00:50")),
)
"""Cheap models: an incident that changes the costs of a day would be a problem there as well."""
OUTAGE = Span.of("30 19:30", "30 20:20")
IDLE = Span.of("1 01:30", "1 06:00")

STANDING = ("Data Platform", "Ana's sandbox")
"""Projects with a breach that is always there; the scenario is without them."""
PROJECTS, MODELS = 10, 8
"""The tenth project has batches at night; its model is the seventh."""
NOISE = ("500:*:percent=0.5", "429:*:percent=0.5:retry_after=0.05")
DOWN = "503"

LEFT_OUT = {
    "api_keys_by_key": "old keys are a breach for the whole time",
    "audit_by_event_type": "the demo organization has true audit events each day",
    "rate_limits_by_model": "the use of an incident is in its roll-up too: a second problem",
}
"""DataSources with thresholds that the soak does not poll, with the reason."""


def prepare(simulator: Simulator) -> None:
    """Put the whole scenario into a simulator, except what depends on the time: see `faults`."""
    for project in STANDING:
        simulator.fault("gone", project=project, start=0)
    for one in INCIDENTS:
        start, end = one.span
        simulator.fault(
            "heat",
            project=one.project,
            model=one.model,
            percent=one.percent,
            start=start,
            end=end,
        )
    simulator.fault("idle", start=IDLE.start, end=IDLE.end)


def in_outage(now: int) -> bool:
    """Return True while the API is down."""
    return OUTAGE.start <= now < OUTAGE.end


def faults(now: int) -> tuple[str, ...]:
    """Return the faults of responses at this time, as --fault takes them."""
    return (DOWN,) if in_outage(now) else NOISE


def expected(span: Span) -> dict[str, tuple[int, int]]:
    """Return the (problems, recoveries) of each alias that has some in a part of the days.

    The outage is that of the organization.
    """
    found = [(one.alias, one.span) for one in INCIDENTS] + [("acme", OUTAGE)]
    return {
        alias: (1, 1) for alias, own in found if span.start <= own.start and own.end <= span.end
    }
