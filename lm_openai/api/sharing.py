"""Sharing of responses: the place from which a client takes a response before it requests one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from lm_openai.api.transport import HttpResponse


class Responses(Protocol):
    """Place of the responses that several clients share."""

    def response(
        self,
        path: str,
        query: Sequence[tuple[str, str]],
        fetch: Callable[[], HttpResponse],
        left: Callable[[], float],
    ) -> HttpResponse:
        """Return the response to a GET, with status 200.

        It is the shared one or what `fetch` returns; `left` returns the seconds that a client may
        wait for another one's. Raises ApiFailure, that of `fetch` too.
        """
