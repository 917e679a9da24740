"""Entry point of a DataSource script, which imports only what its options need."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from lm_openai.app import options


def main(folder: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Run one DataSource as a script and exit with its status.

    A plain poll runs without click. Help, wrong usage and click's own forms go through click.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    plain = options.parse(words)
    if plain is None:
        from lm_openai.app.cli import script

        sys.exit(script(folder, words))
    from lm_openai.app.runner import run
    from lm_openai.app.session import Surroundings

    sys.exit(run(folder, plain, Surroundings.real()))
