"""From argv to an answer by the quickest way; everything heavier is imported when it is needed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from lm_openai.app import options


def main(folder: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Run one DataSource as a script and exit with its status (DESIGN: "One command line")."""
    words = list(sys.argv[1:] if argv is None else argv)
    plain = options.parse(words)
    if plain is None:
        from lm_openai.app.cli import script

        sys.exit(script(folder, words))
    from lm_openai.app.runner import run
    from lm_openai.app.session import Surroundings

    sys.exit(run(folder, plain, Surroundings.real()))
