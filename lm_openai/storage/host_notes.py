"""Notes on the API that several hosts share through Redis, and those that stay on this host."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from lm_openai.storage.cache import NOTES_TO_LIVE, SharedNotes
from lm_openai.storage.redis_hosts import Hosts
from lm_openai.storage.redis_link import Gone

_READ_EVERY = 1.0
_TRIES, _LONGEST_DELAY = 20, 0.03
"""Edits of the notes while other hosts are faster, and seconds between two of them."""
_KIND = 3
"""Place of the kind of failure in a note (see api.notes.Down)."""
Notebook = dict[str, dict[str, Any]]


class HostNotes:
    """Notes on the API (see api.notes.Store): pauses and outages with HTTP 5xx are in Redis.

    What concerns this host's way to the API, such as DNS, proxy, TLS and connections, stays in
    `local`. `name` is the owned name of the notes, `clock` a monotonic clock in seconds.
    """

    def __init__(
        self,
        local: SharedNotes,
        hosts: Hosts,
        name: bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._local, self._hosts, self._name, self._clock = local, hosts, name, clock
        self._common: Notebook = {}
        self._read_at = float("-inf")

    def read(self) -> Notebook:
        """Return all notes; those of the hosts may be a second old."""
        if self._clock() - self._read_at >= _READ_EVERY:
            self._read_at = self._clock()
            try:
                self._common, _ = self._hosts.notes(self._name)
            except Gone:
                self._common = {}
        return merged(self._local.read(), self._common)

    def change(self, edit: Callable[[Notebook], None]) -> None:
        """Let `edit` change the notes; it may be called again if another host is faster."""
        self._local.change(lambda local: self._divide(local, edit))
        self._read_at = float("-inf")

    def _divide(self, local: Notebook, edit: Callable[[Notebook], None]) -> None:
        """Apply `edit`, put what hosts share in Redis and leave the rest in `local`."""
        before = merged(local, {})
        try:
            for _ in range(_TRIES):
                common, mark = self._hosts.notes(self._name)
                notes = merged(before, common)
                edit(notes)
                own, common = divided(notes)
                if self._hosts.replace(self._name, mark, common, NOTES_TO_LIVE):
                    break
                time.sleep(random.uniform(0, _LONGEST_DELAY))
        except Gone:
            own = merged(before, {})
            edit(own)
        local.clear()
        local.update(own)


def divided(notes: Notebook) -> tuple[Notebook, Notebook]:
    """Return the notes that stay on this host, and those that hosts share."""
    down, claimed = notes.get("down", {}), notes.get("claimed", {})
    own = {key: entry for key, entry in down.items() if entry[_KIND] != "down"}
    return (
        _part({}, own, _only(claimed, lambda key: key in own), notes),
        _part(
            notes.get("pauses", {}),
            _only(down, lambda key: key not in own),
            _only(claimed, lambda key: key not in own),
            notes,
        ),
    )


def merged(own: Notebook, common: Notebook) -> Notebook:
    """Return a copy of both; of the times of the last answers, the later ones."""
    found = {part: {**own.get(part, {}), **common.get(part, {})} for part in {*own, *common}}
    for name, answered in own.get("answered", {}).items():
        found["answered"][name] = max(answered, found["answered"][name])
    return found


def _part(pauses: Any, down: Any, claimed: Any, notes: Notebook) -> Notebook:
    """Return one part of the notes; empty if there is neither a pause nor an outage."""
    if not pauses and not down:
        return {}
    found = {"pauses": pauses, "down": down, "claimed": claimed}
    found["answered"] = notes.get("answered", {})
    return {name: dict(entries) for name, entries in found.items() if entries}


def _only(entries: dict[str, Any], wanted: Callable[[str], bool]) -> dict[str, Any]:
    return {key: entry for key, entry in entries.items() if wanted(key)}
