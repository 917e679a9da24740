"""Names in the Zabbix template: keys of items, ids that never change, references and durations."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple
from uuid import UUID

from lm_openai.collect.poll import WHOLE
from lm_openai.hosts.jobs import Job
from lm_openai.model.definition import Datapoint, Definition

KEY = "openai.get"
"""Key of the items that poll: the agent's UserParameter, and the external check's script."""
DISCOVER = "discover"
"""Last parameter of the key that polls for the instances."""
ALL = "1/1"
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"))


class Template(NamedTuple):
    """One template: its name, its file and the type of the items that poll."""

    name: str
    file: str
    item_type: str

    def uuid(self, *words: str) -> str:
        """Return the id of a part of the template, which depends on these words alone."""
        text = "\0".join((self.name, *words)).encode()
        return UUID(bytes=blake2b(text, digest_size=16).digest(), version=4).hex

    def item(self, key: str) -> dict[str, str]:
        """Return the reference of a graph or a widget to an item."""
        return {"host": self.name, "key": key}


class Source(NamedTuple):
    """One DataSource in one template.

    A DataSource without dimensions has plain items, any other has prototypes of items, which
    low-level discovery (LLD) turns into those of each instance.
    """

    template: Template
    job: Job

    @property
    def definition(self) -> Definition:
        """Return the DataSource's definition."""
        return self.job.definition

    @property
    def discovers(self) -> bool:
        """Return True if the DataSource has an instance for each thing that it finds."""
        return bool(self.definition.dimensions)

    @property
    def wildvalue(self) -> str:
        """Return the wildvalue of the instance, or the macro that stands for it."""
        return "{#WILDVALUE}" if self.discovers else WHOLE

    def title(self, text: str) -> str:
        """Return a name that begins with the DataSource and the instance."""
        alias = ": {#WILDALIAS}" if self.discovers else ""
        return f"{self.definition.title}{alias}: {text}"

    def poll_key(self, discover: bool = False) -> str:
        """Return the key of the item that polls, or of the rule that discovers.

        The one instance of a DataSource without dimensions is in every part.
        """
        part = "{$OPENAI.PART}" if self.discovers else ALL
        words = [self.definition.folder, "{$OPENAI.PROPERTIES}", part]
        return f"{KEY}[{','.join([*words, DISCOVER] if discover else words)}]"

    def key(self, kind: str, *words: str) -> str:
        """Return the key of an item that reads the document of the item that polls."""
        return f"openai.{kind}[{','.join((self.definition.folder, *words))}]"

    def value_key(self, datapoint: Datapoint) -> str:
        """Return the key of a datapoint's item."""
        return self.key("value", self.wildvalue, datapoint.name)

    @property
    def state_key(self) -> str:
        """Return the key of the item with the state of the instance."""
        return self.key("state", self.wildvalue)

    def past(self, key: str) -> str:
        """Return the reference of an expression to an item's history."""
        return f"/{self.template.name}/{key}"


def duration(seconds: int) -> str:
    """Return seconds as Zabbix writes them.

    >>> duration(300), duration(86400), duration(90)
    ('5m', '1d', '90s')
    """
    for length, unit in _UNITS:
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def span(polls: int, interval: int) -> str:
    """Return the time in which only that many polls in a row have their values.

    It begins half an interval after the poll before them, so that neither a late poll nor an early
    one changes the count.
    """
    return f"{polls * interval - interval // 2}s"
