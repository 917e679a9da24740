"""Items of the Zabbix template: one poll for each DataSource, and what depends on its document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lm_openai.hosts.zabbix_names import Source, Template, duration
from lm_openai.model.definition import Datapoint
from lm_openai.model.report import LEVELS

Entry = dict[str, Any]
TIME, FAILURES, UNREAD, UNJUDGED = "time", "failures", "unread", "unjudged"
GONE = -1
"""State of an instance that the document lacks; it is gone if UNREAD is 0."""
STATES = "OpenAI state"
BOOLEAN = "OpenAI boolean"
_FAULT = "The collector printed nothing: start the script on its host to see the reason."
_ROWS = f"if (value.charAt(0) !== '[') {{ throw value || '{_FAULT}'; }} return value;"
"""Check of the rows that discovery reads, whose rules cannot use CHECK_REGEX_ERROR."""
_COUNTS = (
    (UNREAD, "parts not read", "$.partial_failures.length()"),
    (UNJUDGED, "thresholds not judged", "$.unjudged[*][*].length()"),
)
_DAY = "1d"


def polls(source: Source) -> Entry:
    """Return the master item; a failed poll is its error, and its document is not stored."""
    definition = source.definition
    return {
        **_named(source, f"{definition.title}: document", source.poll_key()),
        "type": source.template.item_type,
        "delay": duration(source.job.interval),
        "history": "0",
        "trends": "0",
        "value_type": "TEXT",
        "description": f"{definition.description} The other items are parts of this document.",
        "preprocessing": [
            {"type": "CHECK_REGEX_ERROR", "parameters": [r"^([^\{].*)$", r"\1"]},
            {
                "type": "MATCHES_REGEX",
                "parameters": [r"^\{"],
                "error_handler": "CUSTOM_ERROR",
                "error_handler_params": _FAULT,
            },
        ],
    }


def reports(source: Source) -> Iterator[Entry]:
    """Yield the items about the whole poll: its time, what it could not read and not judge."""
    title = source.definition.title
    yield {
        **_dependent(source, f"{title}: time of the poll", source.key(TIME), "$.time"),
        "units": "unixtime",
        "description": "Time of the last poll that succeeded.",
    }
    text = _dependent(source, f"{title}: not read", source.key(FAILURES), "$.partial_failures")
    once = {"type": "DISCARD_UNCHANGED_HEARTBEAT", "parameters": [_DAY]}
    yield {
        **text,
        "value_type": "TEXT",
        "trends": "0",
        "description": "What the last poll could not read, with the reasons.",
        "preprocessing": [*text["preprocessing"], once],
    }
    for kind, name, path in _COUNTS:
        yield {
            **_dependent(source, f"{title}: {name}", source.key(kind), path, 0),
            "description": f"Number of {name} in the last poll.",
        }


def measures(source: Source) -> Iterator[Entry]:
    """Yield the items of an instance: each datapoint and its state.

    A datapoint that the document lacks has no value. The state has one after each poll that
    succeeded, also if the document lacks the instance.
    """
    place = source.wildvalue
    for datapoint in source.definition.datapoints:
        yield _value(source, datapoint)
    path = f"$.states['{place}']"
    yield {
        **_dependent(source, source.title("state"), source.state_key, path, GONE),
        "value_type": "FLOAT",
        "valuemap": {"name": STATES},
        "description": "Worst level of the datapoints, by the thresholds of the collector.",
    }


def rule(source: Source) -> Entry:
    """Return the low-level discovery rule, without its prototypes."""
    context = f'"{source.definition.folder}"'
    conditions = [
        ("MATCHES_REGEX", f"{{$OPENAI.MATCHES:{context}}}"),
        ("NOT_MATCHES_REGEX", f"{{$OPENAI.NOT_MATCHES:{context}}}"),
    ]
    found = _named(source, f"{source.definition.title}: discovery", source.poll_key(discover=True))
    del found["tags"]
    return {
        **found,
        "type": source.template.item_type,
        "delay": duration(source.definition.discovery_interval),
        "lifetime": "{$OPENAI.LIFETIME}",
        "description": source.definition.description,
        "filter": {
            "evaltype": "AND",
            "conditions": [
                {"macro": "{#WILDALIAS}", "operator": operator, "value": value, "formulaid": letter}
                for letter, (operator, value) in zip("AB", conditions)
            ],
        },
        "preprocessing": [{"type": "JAVASCRIPT", "parameters": [_ROWS]}],
    }


def value_maps(template: Template, sources: Sequence[Source]) -> Iterator[Entry]:
    """Yield the words for states, for booleans and for the values 0 that have a word."""
    states = {str(GONE): "absent", **{str(level): word for level, word in enumerate(LEVELS)}}
    yield _value_map(template, STATES, states)
    yield _value_map(template, BOOLEAN, {"0": "no", "1": "yes"})
    datapoints = [one for source in sources for one in source.definition.datapoints]
    for word in sorted({one.zero for one in datapoints if one.zero}):
        yield _value_map(template, _zero_map(word), {"0": word})


def _value(source: Source, datapoint: Datapoint) -> Entry:
    unit = datapoint.measure
    whole = unit.type == "int" and datapoint.min == 0
    path = f"$.values['{source.wildvalue}'].{datapoint.name}"
    words = BOOLEAN if datapoint.unit == "boolean" else ""
    words = _zero_map(datapoint.zero) if datapoint.zero else words
    return {
        **_dependent(source, source.title(datapoint.name), source.value_key(datapoint), path),
        "value_type": "UNSIGNED" if whole else "FLOAT",
        "description": datapoint.description,
        **({"units": unit.zabbix} if unit.zabbix else {}),
        **({"valuemap": {"name": words}} if words else {}),
    }


def _zero_map(word: str) -> str:
    return f"OpenAI {word}"


def _dependent(
    source: Source, name: str, key: str, path: str, otherwise: int | None = None
) -> Entry:
    """Return an item that reads a part of the document.

    `otherwise` is its value if the document lacks that part; without it there is no value.
    """
    step: Entry = {"type": "JSONPATH", "parameters": [path], "error_handler": "DISCARD_VALUE"}
    if otherwise is not None:
        step |= {"error_handler": "CUSTOM_VALUE", "error_handler_params": str(otherwise)}
    return {
        **_named(source, name, key),
        "type": "DEPENDENT",
        "delay": "0",
        "value_type": "UNSIGNED",
        "preprocessing": [step],
        "master_item": {"key": source.poll_key()},
    }


def _named(source: Source, name: str, key: str) -> Entry:
    tags = [{"tag": "component", "value": source.definition.folder}]
    return {"uuid": source.template.uuid("item", key), "name": name, "key": key, "tags": tags}


def _value_map(template: Template, name: str, words: dict[str, str]) -> Entry:
    mappings = [{"value": value, "newvalue": word} for value, word in words.items()]
    return {"uuid": template.uuid("value map", name), "name": name, "mappings": mappings}
