"""Zabbix 6.0: a template for the agent, one for external checks, and the commands of both."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from lm_openai.hosts import zabbix_items, zabbix_limits, zabbix_triggers, zabbix_views
from lm_openai.hosts.jobs import HEALTH, PROPERTIES, SCRIPTS, Job
from lm_openai.hosts.zabbix_names import ALL, DISCOVER, KEY, Source, Template
from lm_openai.hosts.zabbix_triggers import Entry

VERSION = "6.0"
"""Version of the export format; newer servers convert it."""
GROUP = {"uuid": "a571c0d144b14fd4a87a9d9b2aa9fcd6", "name": "Templates/Applications"}
"""A group of Zabbix's own."""
TEMPLATES = (
    Template("OpenAI by Zabbix agent", "template_openai_agent.json", "ZABBIX_PASSIVE"),
    Template("OpenAI by external check", "template_openai_external.json", "EXTERNAL"),
)
LIMIT_SECONDS, POLL_SECONDS = 30, 25
"""The longest `Timeout` that Zabbix 6.0 accepts, and the time limit of a poll below it."""
COMMAND = f"--format zabbix --timeout {POLL_SECONDS}"
AGENT = f"""\
# Copy to /etc/zabbix/zabbix_agentd.d/ (Debian: zabbix_agentd.conf.d/) and restart the agent.
# Parameters of the key: DataSource, file of host properties, part (such as 1/1), and discover.
Timeout={LIMIT_SECONDS}
UserParameter={KEY}[*],{SCRIPTS}/"$1".py {COMMAND} --properties "$2" --part "$3" \
$([ "$4" != {DISCOVER} ] || echo --{DISCOVER})
"""
EXTERNAL = f"""\
#!/bin/sh
# Copy to the folder ExternalScripts of the server or proxy; set its Timeout={LIMIT_SECONDS}.
# Arguments: DataSource, file of host properties, part (such as 1/1), and discover.
exec "{SCRIPTS}/$1.py" {COMMAND} --properties "$2" --part "$3" ${{4:+--{DISCOVER}}}
"""
MACROS = (
    ("{$OPENAI.PROPERTIES}", PROPERTIES, "File of host properties, with the key or its file"),
    (
        "{$OPENAI.PART}",
        ALL,
        "Part of the instances, such as 1/3: a large organization needs several hosts",
    ),
    ("{$OPENAI.LIFETIME}", "2d", "How long the items of an instance that is gone are kept"),
    (
        "{$OPENAI.MATCHES}",
        ".*",
        "Instances to monitor, a regular expression over their names; with the DataSource's folder "
        "as context, such as {$OPENAI.MATCHES:rate_limits}, only for that one",
    ),
    (
        "{$OPENAI.NOT_MATCHES}",
        "CHANGE_IF_NEEDED",
        "Instances to leave out, a regular expression over their names; context as above",
    ),
)


def files(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the text of each shipped file by its path."""
    found = {one.file: json.dumps(document(one, jobs), indent=1) + "\n" for one in TEMPLATES}
    return {**found, "lm-openai.conf": AGENT, KEY: EXTERNAL}


def document(template: Template, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the content of a template's file."""
    sources = [Source(template, job) for job in jobs]
    health = next((one for one in sources if one.definition.folder == HEALTH), None)
    outage = [] if health is None else [*zabbix_triggers.of_outage(health)]
    plain = [source for source in sources if not source.discovers]
    triggers = [one for source in plain for one in zabbix_triggers.of_limits(source)]
    for source in sources:
        triggers += zabbix_triggers.of_polls(source, health, outage)
    return {
        "zabbix_export": {
            "version": VERSION,
            "groups": [GROUP],
            "templates": [_template(template, sources)],
            "triggers": triggers,
            "graphs": [one for source in plain for one in zabbix_views.graphs(source)],
        }
    }


def _template(template: Template, sources: Sequence[Source]) -> Entry:
    return {
        "uuid": template.uuid("template"),
        "template": template.name,
        "name": template.name,
        "description": "Usage, costs, limits, keys and audit of an OpenAI organization, by "
        "lm-openai. Use a host of its own: see packaging/zabbix/README.md.",
        "groups": [{"name": GROUP["name"]}],
        "items": [item for source in sources for item in _items(source)],
        "discovery_rules": [_rule(source) for source in sources if source.discovers],
        "macros": [*_macros(sources)],
        "dashboards": [zabbix_views.dashboard(template, sources)],
        "valuemaps": [*zabbix_items.value_maps(template, sources)],
    }


def _items(source: Source) -> Iterator[Entry]:
    yield zabbix_items.polls(source)
    yield from zabbix_items.reports(source)
    if not source.discovers:
        yield from zabbix_items.measures(source)


def _rule(source: Source) -> Entry:
    """Return the rule of low-level discovery with its prototypes and overrides."""
    found = zabbix_items.rule(source)
    parts = {
        "item_prototypes": [*zabbix_items.measures(source)],
        "trigger_prototypes": zabbix_triggers.of_limits(source),
        "graph_prototypes": [*zabbix_views.graphs(source)],
        "overrides": zabbix_limits.overrides(source),
    }
    return {**found, **{name: part for name, part in parts.items() if part}}


def _macros(sources: Sequence[Source]) -> Iterator[Entry]:
    for name, value, description in MACROS:
        yield {"macro": name, "value": value, "description": description}
    for source in sources:
        yield from zabbix_limits.macros(source)
