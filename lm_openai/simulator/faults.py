"""What can go wrong on request: which answers are spoilt, how, and how often."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from difflib import get_close_matches
from fnmatch import fnmatchcase
from threading import Lock
from typing import Any, NamedTuple

from lm_openai.simulator import refusals
from lm_openai.simulator.refusals import Refusal

GATEWAY_PAGE = "<html><head><title>{0}</title></head><body><h1>{0}</h1></body></html>"
REPEATED = {"next_page", "last_id", "next"}
MEBIBYTE = 1024 * 1024


class Fault(NamedTuple):
    """A fault of a kind (see KINDS) for requests whose path matches the glob `path`.

    `times` is how many answers it spoils (None: all), after leaving the first `skip` alone.
    `retry_after` is that header of a 429 or 503, as it stands; `seconds` the wait of `slow`; `size`
    the MiB of `huge`; `field` what `missing` takes out at every depth; `location` where `redirect`
    leads; `code` the code of `quota`.
    """

    kind: str
    path: str = "*"
    times: int | None = None
    skip: int = 0
    retry_after: str | float | None = None
    seconds: float = 2.0
    size: int = 80
    field: str = "data"
    location: str = "/v1/elsewhere"
    code: str = "insufficient_quota"


class Answer(NamedTuple):
    """What goes over the wire; `cut` bytes are promised in Content-Length and never sent.

    A status of 0 closes the connection without an answer.
    """

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    cut: int = 0
    wait: float = 0.0


class Asked(NamedTuple):
    """What a fault may know of the request: its query, and the scope that its path needs."""

    query: dict[str, list[str]]
    scope: str


class Plan:
    """The faults of one simulator and how often each is still due; safe to use from threads."""

    def __init__(self, faults: tuple[Fault, ...] = ()) -> None:
        self._lock = Lock()
        self._due: list[tuple[Fault, _Count]] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Raises ValueError for a kind that does not exist."""
        if fault.kind not in KINDS and not _is_status(fault.kind):
            raise ValueError(_unknown("fault", fault.kind, [*KINDS, "429", "500", "503"]))
        with self._lock:
            self._due.append((fault, _Count(fault)))

    def clear(self) -> None:
        with self._lock:
            self._due.clear()

    def take(self, path: str, asked: Asked) -> Fault | None:
        """The first fault due for this request; taking it uses it up."""
        with self._lock:
            for fault, count in self._due:
                meant = fnmatchcase(path, fault.path) and _concerns(fault, asked)
                if meant and count.due():
                    return fault
        return None


class _Count:
    """How many requests a fault still leaves alone, and how many it still spoils."""

    def __init__(self, fault: Fault) -> None:
        self.skip = fault.skip
        self.times = fault.times

    def due(self) -> bool:
        if self.skip:
            self.skip -= 1
            return False
        if self.times is None:
            return True
        self.times -= 1
        return self.times >= 0


def parse_fault(text: str) -> Fault:
    """A fault from `KIND[:PATH][:NAME=VALUE]...`, as in `429:*/costs:times=2:retry_after=1`.

    Raises ValueError that names the unknown word.
    """
    kind, *parts = _parts(text)
    words: dict[str, Any] = {"kind": kind}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            name, value = "path", part
        if name not in Fault._fields or name == "kind":
            raise ValueError(_unknown("setting of a fault", name, Fault._fields[1:]))
        words[name] = _converted(name, value)
    fault = Fault(**words)
    Plan((fault,))
    return fault


def spoil(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    """The answer with its fault; `answer` makes the true one and is asked only if needed."""
    if _is_status(fault.kind):
        return _status(fault)
    return KINDS[fault.kind](fault, asked, answer)


def refused(refusal: Refusal, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    return Answer(refusal.status, json.dumps(refusal.body).encode(), headers=headers)


def _status(fault: Fault) -> Answer:
    status = int(fault.kind)
    headers: tuple[tuple[str, str], ...] = ()
    if fault.retry_after is not None:
        headers = (("Retry-After", str(fault.retry_after)),)
    if status == 401:
        return refused(refusals.wrong_key("sk-admin-revoked"))
    known = {429: refusals.throttled, 503: refusals.overloaded}
    return refused(known[status]() if status in known else refusals.failed(status), headers)


def _quota(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    return refused(refusals.quota(fault.code))


def _scope(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    return refused(refusals.missing_scopes([asked.scope], status=401))


def _expired(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    return refused(refusals.bad_page())


def _grouping(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    return refused(refusals.unsupported_grouping())


def _gateway(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    page = GATEWAY_PAGE.format("502 Bad Gateway").encode()
    return Answer(502, page, content_type="text/html")


def _html(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    page = GATEWAY_PAGE.format("Sign in to continue").encode()
    return Answer(200, page, content_type="text/html")


def _truncated(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    whole = answer()
    return whole._replace(body=whole.body[: len(whole.body) // 2])


def _cut(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    whole = answer()
    half = len(whole.body) // 2
    return whole._replace(body=whole.body[:half], cut=len(whole.body) - half)


def _slow(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    return answer()._replace(wait=fault.seconds)


def _repeated_cursor(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    """The page points at itself: the cursor that it was asked with comes back."""
    given = asked.query.get("page") or asked.query.get("after")

    def repeat(page: dict[str, Any]) -> None:
        page["has_more"] = True
        for name in REPEATED & page.keys():
            page[name] = given[-1] if given else page[name] or "page_AAAA"

    return _edited(answer(), repeat)


def _no_cursor(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    def remove(page: dict[str, Any]) -> None:
        page["has_more"] = True
        for name in REPEATED & page.keys():
            page[name] = None

    return _edited(answer(), remove)


def _missing(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    return _edited(answer(), lambda page: _take_out(page, fault.field))


def _take_out(value: Any, field: str) -> None:
    if isinstance(value, dict):
        value.pop(field, None)
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            _take_out(part, field)


def _huge(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    whole = answer()
    return whole._replace(body=b" " * (fault.size * MEBIBYTE) + whole.body)


def _redirect(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    return Answer(302, b"", content_type="text/html", headers=(("Location", fault.location),))


def _closed(fault: Fault, asked: Asked, answer: Callable[[], Answer]) -> Answer:
    return Answer(0, b"")


def _edited(answer: Answer, edit: Callable[[dict[str, Any]], None]) -> Answer:
    page = json.loads(answer.body)
    edit(page)
    return answer._replace(body=json.dumps(page).encode())


def _concerns(fault: Fault, asked: Asked) -> bool:
    """Two kinds wait for the request that they are about."""
    if fault.kind == "expired-page":
        return "page" in asked.query
    if fault.kind == "grouping":
        grouped = ",".join(asked.query.get("group_by", []) + asked.query.get("group_by[]", []))
        by_project = "project_id" in grouped or any(
            name.startswith("project_ids") for name in asked.query
        )
        return "user_id" in grouped and by_project
    return True


def _parts(text: str) -> list[str]:
    """Split at the colons, but not at those inside a value."""
    head, *settings = re.split(r":(?=\w+=)", text)
    return [*head.split(":", 1), *settings]


def _converted(name: str, value: str) -> Any:
    numbers: dict[str, Callable[[str], Any]] = {
        "times": int,
        "skip": int,
        "size": int,
        "seconds": float,
    }
    try:
        return numbers.get(name, str)(value)
    except ValueError:
        raise ValueError(f"{name}={value} of a fault is not a number") from None


def _is_status(kind: str) -> bool:
    return kind.isdigit() and 400 <= int(kind) <= 599


def _unknown(what: str, word: str, known: Any) -> str:
    near = get_close_matches(word, known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
    return f"unknown {what} '{word}': {hint}"


KINDS: dict[str, Callable[[Fault, Asked, Callable[[], Answer]], Answer]] = {
    "quota": _quota,
    "scope": _scope,
    "expired-page": _expired,
    "grouping": _grouping,
    "gateway": _gateway,
    "html": _html,
    "truncated": _truncated,
    "cut": _cut,
    "slow": _slow,
    "repeated-cursor": _repeated_cursor,
    "no-cursor": _no_cursor,
    "missing": _missing,
    "huge": _huge,
    "redirect": _redirect,
    "closed": _closed,
}
"""The kinds by name; besides these, any status from 400 to 599 is a kind."""
