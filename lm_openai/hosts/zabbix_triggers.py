"""Triggers of the Zabbix template: one for each limit, and those about polls without data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from lm_openai.hosts.jobs import HEALTH, OUTAGE_POLLS
from lm_openai.hosts.zabbix_items import TIME, UNJUDGED, UNREAD
from lm_openai.hosts.zabbix_limits import Limits, in_context, limits, polls
from lm_openai.hosts.zabbix_names import Source, span

Entry = dict[str, Any]
PRIORITIES = {"warning": "WARNING", "error": "AVERAGE", "critical": "HIGH"}
REACHED = "api_reachable"
"""Datapoint of the health DataSource on which its other triggers depend."""
SCOPES = {
    HEALTH: "availability",
    "rate_limits": "capacity",
    "rate_limits_by_model": "capacity",
    "api_keys_by_key": "security",
    "audit_by_event_type": "security",
}
NOTICE = "notice"
"""Values of the tag `scope` that Zabbix's own templates use; NOTICE is that of all the others."""
_SIGNS = {"!=": "<>"}
_OPPOSITES = {">": "<=", ">=": "<", "<": ">=", "<=": ">", "=": "<>", "!=": "="}
_WORST = {">": "min", ">=": "min", "<": "max", "<=": "max"}
_WORDS = {">": "over", ">=": "at or over", "<": "under", "<=": "at or under"}


def of_limits(source: Source) -> list[Entry]:
    """Return a trigger for each limit of the DataSource; it depends on those of worse levels."""
    found: list[Entry] = []
    reached: list[Entry] = []
    for alert in source.job.alerts:
        for one in limits(alert):
            worse = reached.copy()
            for level in one.levels():
                trigger = _of_limit(source, one, level)
                trigger["dependencies"] = dependencies(worse)
                worse.append(trigger)
            own = worse[len(reached) :]
            found += own
            if source.definition.folder == HEALTH and one.datapoint.name == REACHED:
                reached += own
    return found


def of_polls(source: Source, health: Source | None, outage: Iterable[Entry]) -> Iterator[Entry]:
    """Yield the triggers about polls without data and about thresholds without judgement.

    `outage` are the triggers on which they depend; `health` is the DataSource that has them.
    """
    own = health is not None and source.definition.folder == health.definition.folder
    guard = "" if health is None or own else f" and {_healthy(source, health)}"
    depends = [] if own else dependencies(outage)
    yield _silent(source, guard) | {"dependencies": depends}
    if source.job.alerts and not own:
        yield _unjudged(source, guard) | {"dependencies": depends}


def of_outage(health: Source) -> Iterator[Entry]:
    """Yield the triggers during whose problems no DataSource has data."""
    yield from (one for one in of_limits(health) if one["priority"] == PRIORITIES["critical"])
    yield _silent(health, "")


def dependencies(triggers: Iterable[Entry]) -> list[Entry]:
    """Return the references to triggers on which another one depends."""
    names = ("name", "expression", "recovery_expression")
    return [{name: trigger[name] for name in names} for trigger in triggers]


def _of_limit(source: Source, one: Limits, level: str) -> Entry:
    title, name = source.definition.title, one.datapoint.name
    threshold, limit = one.threshold, in_context(source, one, level)
    instance = "{#WILDALIAS}: " if source.discovers else ""
    words = (level, _WORDS.get(threshold.operator, threshold.operator), limit)
    unit = one.datapoint.measure.zabbix.lstrip("!")
    rule = ", ".join((" ".join(filter(None, (*words, unit))), polls(threshold)))
    trigger = _trigger(
        source,
        source.title(f"{name} {level}{one.suffix}"),
        _opens(source, one, limit),
        _closes(source, one, limit),
    )
    if one.match:
        trigger["discover"] = "NO_DISCOVER"
    return {
        **trigger,
        "event_name": f"{title}: {instance}{name} {{ITEM.LASTVALUE1}} ({rule})",
        "opdata": "{ITEM.LASTVALUE1}",
        "priority": PRIORITIES[level],
        "description": f"{threshold.reason}\n\n{one.datapoint.description}".strip(),
    }


def _opens(source: Source, one: Limits, limit: str) -> str:
    """Return the expression that opens a problem: the last polls in a row reached the limit.

    The instance has to be there, and the value of each of those polls.
    """
    past = source.past(source.value_key(one.datapoint))
    number, sign = one.threshold.consecutive, one.threshold.operator
    shown = _SIGNS.get(sign, sign)
    if sign in _WORST and number > 1:
        reached = f"{_WORST[sign]}({past},#{number}){shown}{limit}"
    else:
        reached = " and ".join(f"last({past},#{n}){shown}{limit}" for n in range(1, number + 1))
    fresh = f"count({past},{span(number, source.job.interval)})>={number}"
    return f"{reached} and {fresh} and last({source.past(source.state_key)})>=0"


def _closes(source: Source, one: Limits, limit: str) -> str:
    """Return the expression that closes a problem: a good value, or nothing that has a value.

    An instance is gone after two polls that read everything and lack it, and so is a datapoint. In
    an outage there is no poll, so nothing closes. Values of one poll arrive in any order, so no
    part of the expression changes back with that poll alone.
    """
    past = source.past(source.value_key(one.datapoint))
    state, unread = source.past(source.state_key), source.past(source.key(UNREAD))
    long = span(OUTAGE_POLLS, source.job.interval)
    good = f"last({past}){_OPPOSITES[one.threshold.operator]}{limit}"
    absent = f"(max({state},#2)<0 or count({past},{long})=0)"
    return f"{good} or ({absent} and max({unread},{long})=0 and count({state},{long})>=2)"


def _healthy(source: Source, health: Source) -> str:
    """Return the expression that is true if the API was in order since the last poll was due."""
    state = health.past(health.state_key)
    number = source.job.interval // health.job.interval + 1
    time = span(number, health.job.interval)
    return f"max({state},{time})=0 and count({state},{time})>={number - number // 10}"


def _silent(source: Source, guard: str) -> Entry:
    """Return the trigger for a DataSource without data; only data closes it."""
    title = source.definition.title
    time = f"{source.past(source.key(TIME))},{span(OUTAGE_POLLS + 1, source.job.interval)}"
    return {
        **_trigger(source, f"{title}: no data", f"nodata({time})=1{guard}", f"nodata({time})=0"),
        "event_name": f"{title}: no data after {OUTAGE_POLLS} polls",
        "opdata": "Last poll: {ITEM.LASTVALUE1}",
        "priority": "AVERAGE" if not guard else "WARNING",
        "description": f"The item '{title}: document' shows the reason as its error.",
    }


def _unjudged(source: Source, guard: str) -> Entry:
    """Return the trigger for thresholds without judgement although the API is in order."""
    title, past = source.definition.title, source.past(source.key(UNJUDGED))
    number = OUTAGE_POLLS + 1
    fresh = f"count({past},{span(number, source.job.interval)})>={number}"
    opens = f"min({past},#{number})>0 and {fresh}{guard}"
    return {
        **_trigger(source, f"{title}: thresholds not judged", opens, f"last({past})=0"),
        "event_name": f"{title}: {{ITEM.LASTVALUE1}} thresholds could not be judged",
        "opdata": "{ITEM.LASTVALUE1}",
        "priority": "WARNING",
        "description": f"Their triggers keep their state. The item '{title}: not read' shows why.",
    }


def _trigger(source: Source, name: str, opens: str, closes: str) -> Entry:
    return {
        "uuid": source.template.uuid("trigger", name),
        "expression": opens,
        "recovery_mode": "RECOVERY_EXPRESSION",
        "recovery_expression": closes,
        "name": name,
        "manual_close": "YES",
        "tags": [
            {"tag": "component", "value": source.definition.folder},
            {"tag": "scope", "value": SCOPES.get(source.definition.folder, NOTICE)},
        ],
    }
