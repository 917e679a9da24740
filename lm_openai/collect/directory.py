"""Names of ids: lists of projects, users and keys, read once per time to live."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from lm_openai.api.records import Record, project
from lm_openai.collect import api_keys
from lm_openai.collect.once import Once
from lm_openai.collect.source import Source
from lm_openai.errors import ApiFailure
from lm_openai.model.report import NONE
from lm_openai.timespans import HOUR

SECONDS_TO_LIVE, NAMES_TO_LIVE = 900, HOUR
"""Seconds to keep the projects, of which a new one should show soon, and other names."""
NAMED = ("project_id", "user_id", "api_key_id")
"""Dimensions whose ids have names."""


class Directory:
    """Names by dimension; if a list cannot be read, a note says so and ids are printed instead.

    `emails` prints e-mail addresses instead of users' names. `unread` are the dimensions of which
    some names could not be read.
    """

    def __init__(self, source: Source, emails: bool = False) -> None:
        self._source, self._emails = source, emails
        self.notes: list[str] = []
        self.unread: set[str] = set()
        self._names: dict[str, dict[str, str]] = {}
        self._once = Once()

    def projects(self) -> list[Record]:
        """Return all projects, archived ones included, as dicts of records.Project.

        They are read once per poll even if nothing can be cached. Raises ApiFailure.
        """
        read = partial(self._source.shared, SECONDS_TO_LIVE, listed_projects)
        return self._once.get("projects", read)

    def active(self) -> list[str]:
        """Return the ids of the projects that are not archived; raises ApiFailure."""
        return [entry["id"] for entry in self.projects() if not entry["archived"]]

    def archived(self) -> set[str]:
        """Return the ids of the archived projects; raises ApiFailure."""
        return {entry["id"] for entry in self.projects() if entry["archived"]}

    def names(self, dimension: str) -> dict[str, str]:
        """Return the names by id of projects, users or API keys; raises ApiFailure."""
        return self._once.get(dimension, self._lists[dimension])

    def name(self, dimension: str, identifier: str) -> str | None:
        """Return the name of an id, or None if it has none or the dimension has no names."""
        if dimension not in NAMED or identifier == NONE:
            return None
        if dimension not in self._names:
            self._names[dimension] = self._read(dimension)
        return self._names[dimension].get(identifier)

    def label(self, dimension: str, identifier: str) -> str:
        """Return the name of an id, or the id if it has none."""
        return self.name(dimension, identifier) or identifier

    def shared_names(self) -> dict[str, set[str]]:
        """Return by dimension the names, of those read so far, that belong to several ids."""
        counted = {dimension: Counter(names.values()) for dimension, names in self._names.items()}
        return {
            dimension: {name for name, ids in counts.items() if ids > 1}
            for dimension, counts in counted.items()
        }

    def _read(self, dimension: str) -> dict[str, str]:
        try:
            return self.names(dimension)
        except ApiFailure as failure:
            self.notes.append(f"no names for {dimension}, ids are printed instead: {failure}")
            self.unread.add(dimension)
            return {}

    @property
    def _lists(self) -> dict[str, Callable[[], dict[str, str]]]:
        field = "email" if self._emails else "name"
        return {
            "project_id": lambda: {entry["id"]: entry["name"] for entry in self.projects()},
            "user_id": lambda: self._source.shared(NAMES_TO_LIVE, user_names, field),
            "api_key_id": self._key_names,
        }

    def _key_names(self) -> dict[str, str]:
        """Return names of project and admin keys; keys of an unreadable project have none."""
        names, reasons = self._source.shared(NAMES_TO_LIVE, key_names, self.active())
        if reasons:
            self.notes.append(f"no names for some API keys, ids are printed instead: {reasons[0]}")
            self.unread.add("api_key_id")
        return names


def listed_projects(source: Source) -> list[Record]:
    """Return all projects as dicts of records.Project; raises ApiFailure."""
    rows = source.client.list("projects")
    return [project(row)._asdict() for row in rows]


def user_names(source: Source, field: str) -> dict[str, str]:
    """Return the `field` ("name" or "email") of every user by id; raises ApiFailure."""
    users = source.client.list("users")
    return {user["id"]: user[field] for user in users if user.get("id") and user.get(field)}


def key_names(source: Source, projects: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the names of all keys by id, and why the keys of some projects are missing."""
    outcomes = api_keys.all_keys(source, projects).values()
    found = [keys for keys in outcomes if not isinstance(keys, ApiFailure)]
    reasons = [str(failure) for failure in outcomes if isinstance(failure, ApiFailure)]
    return {key.id: key.name for keys in found for key in keys if key.name}, reasons
