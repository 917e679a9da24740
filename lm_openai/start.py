"""Entry points: a DataSource's script, which imports only what it needs, and the suite command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from lm_openai.redaction import guard_streams

INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell reports it: 128 and the number of SIGINT."""


def main(folder: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Run one DataSource as a script and exit with its status; Ctrl-C ends it quietly.

    A plain poll runs without click. Help, wrong usage and click's own forms go through click.
    """
    guard_streams()
    try:
        status = _run(folder, list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        _interrupted()
    sys.exit(status)


def suite() -> NoReturn:
    """Run the suite command and exit with its status; Ctrl-C ends it quietly."""
    try:
        from lm_openai.app.cli import main

        main()
    except KeyboardInterrupt:
        _interrupted()
    sys.exit()


def _run(folder: str, words: list[str]) -> int:
    from lm_openai.app import options

    plain = options.parse(words)
    if plain is None:
        from lm_openai.app.cli import script

        return script(folder, words)
    from lm_openai.app.runner import run
    from lm_openai.app.session import Surroundings

    return run(folder, plain, Surroundings.real())


def _interrupted() -> NoReturn:
    """End the process at once: an exit would wait for the threads of running requests."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    suite()
