"""Run a function as another user of this machine, as a monitoring agent does."""

from __future__ import annotations

import grp  # noqa: F401  # the child process may not read the Python that runs the tests
import json
import os
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.conftest import missing


class User(NamedTuple):
    """A user with one group; the machine may have no names for the numbers."""

    uid: int
    gid: int


def as_user(user: User, work: Callable[[], Any]) -> Any:
    """Return the JSON result of `work()`, called in a child process that belongs to the user.

    The test is skipped unless it runs as root, since only root can become another user.
    """
    if os.geteuid() != 0:
        missing("only root can become the user of a monitoring agent")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _work(user, work, writing)
    os.close(writing)
    with open(reading) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    result, fault = json.loads(text)
    assert not fault, fault
    return result


def _work(user: User, work: Callable[[], Any], writing: int) -> None:
    """Write `[result, traceback]` to the pipe and end the child process."""
    try:
        os.setgroups([])
        os.setgid(user.gid)
        os.setuid(user.uid)
        answer = [work(), ""]
    except BaseException:
        answer = [None, traceback.format_exc()]
    with open(writing, "w") as pipe:
        json.dump(answer, pipe)
    os._exit(0)
