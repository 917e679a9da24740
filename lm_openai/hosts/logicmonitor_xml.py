"""LogicModules in the portal's XML, as `importxml` reads it; it also has the overview graphs.

The elements have the order of the portal's own exports, without version and originId.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Union

from lm_openai.hosts import logicmonitor_groovy as groovy
from lm_openai.hosts.jobs import Job
from lm_openai.hosts.logicmonitor_json import COLORS, DIGITS, DOUBLE
from lm_openai.hosts.logicmonitor_module import (
    APPLIES_TO,
    CATEGORY,
    Chart,
    Line,
    Point,
    charts,
    grouping,
    keywords,
    notes,
    points,
    summed,
)
from lm_openai.model.definition import Definition

Content = Union[str, "tuple[Node, ...]"]
Node = tuple[str, Content]
"""Name of an element, and its text or the elements in it."""
GAUGE, AVERAGE = "2", "1"
LINE, STACK = "1", "3"
NO_DATA = {False: "1", True: "2"}
EMBEDDED = 'type="embeded" '
"""The portal's own spelling."""
ESCAPES = str.maketrans({sign: f"&#{ord(sign)};" for sign in "&<>\"'"})
OPENING = """\
<?xml version="1.0" encoding="UTF-8" ?>
<feed  version="1.0" hasPendingRequests="false" >
  <company></company>
  <status>200</status>
  <errmsg>OK</errmsg>
  <interval>0</interval>
    <entry type="predatasource">
"""
CLOSING = "    </entry>\n</feed>\n"


def datasource(job: Job) -> str:
    """Return the XML of one DataSource, with its scripts and overview graphs."""
    rows = (row for node in _entry(job) for row in _written(node, 8))
    return "".join((OPENING, *(f"{row}\n" for row in rows), CLOSING))


def _entry(job: Job) -> Iterator[Node]:
    definition = job.definition
    found = [*charts(definition)]
    yield "name", definition.name
    yield "displayedas", definition.title
    yield "description", definition.description
    yield "collector", "batchscript"
    yield "hasMultiInstances", "true"
    yield "useWildValueAsUniqueIdentifier", "true"
    yield "schedule", str(job.interval)
    yield "appliesTo", APPLIES_TO
    yield from _discovery(definition)
    yield "group", CATEGORY
    yield "tags", keywords(definition)
    yield "technology", notes(job)
    yield "adlist", _adlist(definition)
    yield "schemaVersion", "2"
    yield "dataSourceType", "1"
    yield "attributes", (*_attributes(definition),)
    yield "datapoints", tuple(("datapoint", (*_point(one),)) for one in points(job))
    yield "graphs", tuple(("graph", (*_graph(*one),)) for one in enumerate(found, 1))
    yield "overviewgraphs", (*_overviews(definition, found),)
    yield "scripts", ()


def _discovery(definition: Definition) -> Iterator[Node]:
    group = grouping(definition)
    yield "wildcardauto", "true"
    yield "wildcardpersist", "false"
    yield "showDeletedInstanceDays", "30"
    for system in ("linux", "win"):
        yield f"wildcard{system}script", "ad_script"
        yield f"wildcard{system}cmdline", EMBEDDED
    yield "wildcardgroovyscript", groovy.discover(definition)
    yield "wildcardschedule", str(definition.discovery_interval // 60)
    yield "wildcarddisable", "false"
    yield "wildcarddeleteinactive", "true"
    yield "agdmethod", "ilp" if group else "none"
    yield "agdparams", group


def _adlist(definition: Definition) -> str:
    """Return the discovery once more, as JSON."""
    group = grouping(definition)
    document: dict[str, Any] = {
        "agdmethod": "ilp" if group else "none",
        "method": "ad_script",
        "agdparams": group,
        "id": 0,
        "filters": [],
        "params": {"type": "embeded", "groovyscript": groovy.discover(definition)},
    }
    return json.dumps([document], ensure_ascii=False, separators=(",", ":"))[1:-1]


def _attributes(definition: Definition) -> Iterator[Node]:
    unused = ("windowsscript", "linuxscript", "windowscmdline", "linuxcmdline")
    values = {
        "scripttype": "embed",
        "scriptgroovy": groovy.collect(definition),
        **dict.fromkeys(unused, ""),
    }
    for name, value in values.items():
        yield "attribute", (("name", name), ("value", value), ("comment", ""))


def _point(point: Point) -> Iterator[Node]:
    yield "name", point.name
    yield "dataType", str(DOUBLE)
    yield "type", GAUGE
    yield "postprocessormethod", "namevalue"
    yield "postprocessorparam", f"##WILDVALUE##.{point.name}"
    yield "usevalue", "output"
    yield "alertexpr", point.threshold
    yield "alertmissing", NO_DATA[point.no_data]
    yield "alertsubject", point.subject
    yield "alertbody", point.body
    yield "enableanomalyalertsuppression", ""
    yield "adadvsettingenabled", "false"
    yield from ((f"{level}adadvsetting", "") for level in ("warn", "error", "critical"))
    yield "description", point.description
    yield "maxvalue", point.maximum
    yield "minvalue", point.minimum
    yield "maxdigits", str(DIGITS)
    yield from ((f"userparam{number}", "") for number in (1, 2, 3))
    yield "iscomposite", "false"
    yield "rpn", ""
    yield "alertTransitionIval", str(point.trigger)
    yield "alertClearTransitionIval", "0"


def _graph(number: int, chart: Chart) -> Iterator[Node]:
    yield from _frame(chart.title, number, chart)
    yield "graphdatapoints", tuple(("graphdatapoint", (*_source(line),)) for line in chart.lines)
    yield "graphvirtualdatapoints", ()
    yield "graphdatas", tuple(("graphdata", (*_line(*one),)) for one in enumerate(chart.lines))


def _overviews(definition: Definition, found: Iterable[Chart]) -> Iterator[Node]:
    """Yield, for each graph, one of its first datapoint with a line for each instance."""
    for number, chart in enumerate(found, 1):
        line = chart.lines[0]
        kind = STACK if summed(definition, line.point) else LINE
        frame = _frame(f"{chart.title}: {line.legend} Overview", number, chart)
        source = (*_source(line), ("aggregateMethod", "sum"))
        yield (
            "overviewgraph",
            (
                *frame,
                ("aggregated", "false"),
                ("datapoints", (("overviewgraphdatapoint", source),)),
                ("virtualdatapoints", ()),
                ("lines", (("overviewgraphline", (*_overview_line(kind, line),)),)),
            ),
        )


def _frame(title: str, number: int, chart: Chart) -> Iterator[Node]:
    yield "name", title
    yield "title", title
    yield "verticallabel", chart.label
    yield "rigid", "false"
    yield "maxvalue", "NaN"
    yield "minvalue", "NaN" if chart.minimum is None else f"{chart.minimum}.0"
    yield "displayprio", str(number)
    yield "timescale", "1day"
    yield "base1024", "false"


def _source(line: Line) -> Iterator[Node]:
    yield "name", line.point
    yield "datapointname", line.point
    yield "cf", AVERAGE


def _line(place: int, line: Line) -> Iterator[Node]:
    yield "type", STACK if line.stacked else LINE
    yield "legend", line.legend
    yield "color", COLORS[place % len(COLORS)]
    yield "datapointname", line.point
    yield "isvirtualdatapoint", "false"


def _overview_line(kind: str, line: Line) -> Iterator[Node]:
    yield "type", kind
    yield "legend", "##INSTANCE##"
    yield "datapointname", line.point
    yield "isvirtualdatapoint", "false"
    yield "color", "AUTO"


def _written(node: Node, indent: int) -> Iterator[str]:
    """Yield the lines of an element."""
    name, content = node
    margin = " " * indent
    if isinstance(content, str):
        text = f"<![CDATA[{content}]]>" if name == "adlist" else content.translate(ESCAPES)
        yield f"{margin}<{name}>{text}</{name}>"
        return
    yield f"{margin}<{name}>"
    for inner in content:
        yield from _written(inner, indent + 4)
    yield f"{margin}</{name}>"
