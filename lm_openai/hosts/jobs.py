"""Jobs: what a monitoring system has to run and to judge, one job for each DataSource."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lm_openai import resources
from lm_openai.collect import datasource
from lm_openai.config import threshold_files
from lm_openai.config.site_files import Site
from lm_openai.config.threshold_files import NO_SITE
from lm_openai.model.definition import Datapoint, Definition
from lm_openai.model.report import Instance
from lm_openai.model.thresholds import Override, Rules, Threshold, without_limits
from lm_openai.timespans import HOUR

HEALTH = "collection_health"
"""Folder of the DataSource on whose failure every other job depends."""
OUTAGE_POLLS = 3
"""Failed polls in a row after which the health job's UNKNOWN is notified; no other job's is."""
PLUGINS, SCRIPTS = "/usr/lib/nagios/plugins", "/usr/lib/lm-openai"
"""Folders of the Debian package: the scripts as `check_openai_<folder>`, and as `<folder>.py`."""
PROPERTIES = "/etc/lm-openai/properties"
"""File of the host properties that the shipped files name, with the key or its file."""
COLLECTOR_SECONDS, HOST_SECONDS = 50, 60
"""Seconds that a poll may take (openai.timeout), and after which a monitoring system ends it."""


class Alert(NamedTuple):
    """Datapoint that is judged: its threshold in force, and the overrides for some instances."""

    datapoint: Datapoint
    threshold: Threshold
    overrides: tuple[Override, ...]


class Job(NamedTuple):
    """One DataSource as a monitoring system runs it.

    `interval` is the seconds between two polls, also after a bad one, and never shorter than a
    response is shared: two polls are two responses. The first poll starts `offset` seconds after
    the others' common time.
    """

    definition: Definition
    rules: Rules
    interval: int
    offset: int

    @property
    def check_interval(self) -> int:
        """Return the seconds between two checks of Nagios and Icinga, at most an hour.

        They repeat a check that failed, or that an outage prevented, only then.
        """
        return min(self.interval, HOUR)

    @property
    def plugin(self) -> str:
        """Return the path of the script in the plugin folder that Nagios and Icinga share."""
        return f"{PLUGINS}/check_openai_{self.definition.folder}"

    @property
    def script(self) -> str:
        """Return the path of the script for all other systems."""
        return f"{SCRIPTS}/{self.definition.folder}.py"

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """Return the judged datapoints, in the definition's order."""
        return tuple(
            Alert(datapoint, threshold, overrides)
            for datapoint in self.definition.datapoints
            for threshold, overrides in self._threshold(datapoint.name)
        )

    def _threshold(self, name: str) -> Iterable[tuple[Threshold, tuple[Override, ...]]]:
        overrides = tuple(one for one in self.rules.overrides if one.datapoint == name)
        threshold = self.rules.thresholds.get(name)
        if threshold is None and overrides:
            threshold = without_limits(name, overrides[0].change)
        if threshold is not None and (threshold.on or overrides):
            yield threshold, overrides


class Organization(NamedTuple):
    """One organization of a site.

    `properties` is the path of its file of host properties, `instances` the discovered instances
    of each DataSource by folder, ordered by id.
    """

    name: str
    properties: str
    instances: dict[str, tuple[Instance, ...]]


def jobs(folders: Sequence[str] = (), site: Site = NO_SITE) -> tuple[Job, ...]:
    """Return the jobs of the DataSources in these folders, or of all, with the thresholds in force.

    Raises WrongUsage for a fault in a threshold file.
    """
    chosen = folders or resources.folders()
    definitions = map(datasource.definition, chosen)
    return tuple(
        Job(
            definition,
            threshold_files.load(definition, site=site),
            definition.interval,
            definition.interval * number // len(chosen),
        )
        for number, definition in enumerate(definitions)
    )
