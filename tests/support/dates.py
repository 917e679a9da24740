"""Dates of the tests' own servers."""

from __future__ import annotations

from werkzeug.serving import WSGIRequestHandler


def send_none() -> None:
    """Keep Werkzeug's servers from sending today's Date, which is not that of most polls."""
    WSGIRequestHandler.send_response = WSGIRequestHandler.send_response_only  # type: ignore[method-assign]
