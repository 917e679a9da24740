"""Control of a running simulator by requests to its own port: its faults and its clock."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Protocol

from lm_openai.simulator import faults, refusals
from lm_openai.simulator.fault_plan import parse_fault
from lm_openai.simulator.faults import Fault, Response
from lm_openai.simulator.refusals import Refusal

ROOT = "/control/"
DONE = Response(200, json.dumps({}).encode())


class Controlled(Protocol):
    """The part of a simulator that requests control."""

    now: float

    def inject(self, fault: Fault) -> None: ...

    def clear(self) -> None: ...


def respond(simulator: Controlled, method: str, path: str, text: str) -> Response:
    """Do what a request with this body asks for; refuse a wrong one with status 400 or 404."""
    try:
        if (method, path) == ("POST", f"{ROOT}faults"):
            for fault in [parse_fault(line) for line in text.splitlines() if line]:
                simulator.inject(fault)
        elif (method, path) == ("DELETE", f"{ROOT}faults"):
            simulator.clear()
        elif (method, path) == ("PUT", f"{ROOT}now"):
            simulator.now = _moment(text.strip())
        else:
            raise refusals.unknown_url(method, path)
    except ValueError as error:
        return faults.error_response(Refusal(400, str(error)))
    except Refusal as refusal:
        return faults.error_response(refusal)
    return DONE


def _moment(text: str) -> int:
    """Return Unix seconds from Unix seconds or ISO 8601. Raises ValueError for another text."""
    if text.isascii() and text.isdecimal():
        return int(text)
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        raise ValueError(f"{text!r} is not a time; give ISO 8601 or Unix seconds") from None
    return int((found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp())
