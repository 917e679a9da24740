"""LogicMonitor: a LogicModule for each DataSource, their PropertySource and a dashboard."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lm_openai.hosts import logicmonitor_groovy as groovy
from lm_openai.hosts import logicmonitor_json as portal
from lm_openai.hosts import logicmonitor_xml as xml
from lm_openai.hosts.jobs import Job
from lm_openai.hosts.logicmonitor_dashboard import dashboard


def files(jobs: Sequence[Job]) -> dict[str, str]:
    """Return the text of each shipped file by its path.

    Each LogicModule has the vendor's layout: a folder with its JSON, which holds the scripts too,
    and with each script as a file. The folder `xml` has the same DataSources as XML.
    """
    return dict(_files(jobs))


def _files(jobs: Sequence[Job]) -> Iterator[tuple[str, str]]:
    folder = portal.CATEGORIZER
    yield f"{folder}/{folder}.json", portal.categorizer()
    yield f"{folder}/collect.groovy", groovy.category()
    for job in jobs:
        name = job.definition.name
        yield f"{name}/{name}.json", portal.datasource(job)
        yield f"{name}/collect.groovy", groovy.collect(job.definition)
        yield f"{name}/ad.groovy", groovy.discover(job.definition)
        yield f"xml/{name}.xml", xml.datasource(job)
    found = dashboard([job.definition for job in jobs])
    yield "dashboard/OpenAI.json", portal.dumped(found)
