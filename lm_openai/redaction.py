"""What must never be shown, wherever it was set, and text without it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from lm_openai.settings import PREFIX, VARIABLES, user_info

if TYPE_CHECKING:
    from lm_openai.properties import Properties

KEY = re.compile(r"\bsk-[\w-]{12,}")


def secrets(environ: Mapping[str, str], properties: Properties | None) -> tuple[str, ...]:
    """All that is known, longest first; without properties, which may be what broke, the
    environment's alone."""
    found = {*_surrounding(environ), *(properties.secrets() if properties else ())}
    return tuple(sorted(filter(None, found), key=len, reverse=True))


def struck(text: str, secrets: Iterable[str]) -> str:
    """`text` without any secret, nor anything that looks like a key."""
    for secret in secrets:
        text = text.replace(secret, "***")
    return KEY.sub("sk-…", text)


def _surrounding(environ: Mapping[str, str]) -> Iterator[str]:
    """Keys and passwords of ours, and what a proxy's URL holds."""
    for name, text in environ.items():
        ours = name in VARIABLES or name.startswith(PREFIX)
        if ours and name.endswith(("_KEY", "_PASS")):
            yield text.strip()
        elif ours or name.lower().endswith("_proxy"):
            yield from user_info(text if "://" in text else f"http://{text}")
