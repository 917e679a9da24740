"""Admin key in a file of its own: what the file may contain."""

from __future__ import annotations

from lm_openai import files
from lm_openai.config import exposure
from lm_openai.config.registry import KEY_FILE
from lm_openai.config.value_types import TYPES
from lm_openai.errors import WrongUsage
from lm_openai.redaction import learn

_LARGEST = 4096


def read(path: str, *, shared: bool) -> str:
    """Return the key in the file without surrounding white space; raises WrongUsage.

    A file that too many users can access is refused, see `exposure`.
    """
    subject = f"{KEY_FILE}: {path}"
    try:
        text, status = files.read(path, trusted=False)
    except OSError as reason:
        raise exposure.unreadable(subject, path, reason) from None
    exposure.refuse(subject, path, status, secret=not shared)
    form = TYPES["key"]
    try:
        key: str = form.parse(text.decode("ascii").strip() if len(text) <= _LARGEST else "")
    except ValueError:
        raise WrongUsage(f"{subject} must contain {form.allowed}") from None
    learn([key])
    return key
