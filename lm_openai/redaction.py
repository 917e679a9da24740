"""Text without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable

KEY = re.compile(r"\bsk-[\w-]{12,}")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return `text` without any of the secrets and without anything that looks like a key."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return KEY.sub("sk-…", text)
