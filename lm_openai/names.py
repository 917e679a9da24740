"""What ids are called: lists read once per time to live, never one look-up per row."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lm_openai import keys
from lm_openai.errors import ApiFailure
from lm_openai.records import Record, project

if TYPE_CHECKING:
    from lm_openai.cache import Cache
    from lm_openai.client import Client
    from lm_openai.properties import Properties

SECONDS_TO_LIVE = 900
NONE = "none"


class Names:
    """Names by dimension; a list that cannot be read leaves a note and the ids stand in."""

    def __init__(self, client: Client, cache: Cache, properties: Properties) -> None:
        self.client, self.cache, self.properties = client, cache, properties
        self.notes: list[str] = []
        self._known: dict[str, dict[str, str]] = {}
        self._listed: list[Record] | None = None

    def projects(self) -> list[Record]:
        """All projects, archived ones too, as records.Project has them; raises ApiFailure.

        Read once, also where no cache can be kept.
        """
        if self._listed is None:
            self._listed = self.cache.remember("projects", SECONDS_TO_LIVE, self._projects)
        return self._listed

    def active(self) -> list[str]:
        """The ids of the projects that are not archived; raises ApiFailure."""
        return [entry["id"] for entry in self.projects() if not entry["archived"]]

    def of(self, dimension: str, identifier: str) -> str | None:
        """The name of one id, or None where the dimension has no names or the id no entry."""
        if dimension not in self._lists or identifier == NONE:
            return None
        if dimension not in self._known:
            self._known[dimension] = self._read(dimension)
        return self._known[dimension].get(identifier)

    def _read(self, dimension: str) -> dict[str, str]:
        try:
            return self._lists[dimension]()
        except ApiFailure as failure:
            self.notes.append(f"{dimension} stays without names: {failure}")
            return {}

    @property
    def _lists(self) -> dict[str, Callable[[], dict[str, str]]]:
        remember = self.cache.remember
        return {
            "project_id": lambda: {entry["id"]: entry["name"] for entry in self.projects()},
            "user_id": lambda: remember("users", SECONDS_TO_LIVE, self._users),
            "api_key_id": lambda: remember("keys", SECONDS_TO_LIVE, self._keys),
        }

    def _projects(self) -> list[Record]:
        rows = self.client.list("projects", include_archived=True)
        return [project(row)._asdict() for row in rows]

    def _users(self) -> dict[str, str]:
        field = "email" if self.properties.flag("openai.users.email") else "name"
        return {user["id"]: user[field] for user in self.client.list("users") if user.get(field)}

    def _keys(self) -> dict[str, str]:
        """Project keys and admin keys; the keys of a project that cannot be read stay ids."""
        answers = keys.every(self.client, self.cache, self.active()).values()
        failures = [answer for answer in answers if isinstance(answer, ApiFailure)]
        if failures:
            self.notes.append(f"some keys stay without names: {failures[0]}")
        return {
            key.id: key.name
            for answer in answers
            if not isinstance(answer, ApiFailure)
            for key in answer
            if key.name
        }
