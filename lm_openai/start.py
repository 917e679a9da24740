"""Entry points: a DataSource's script, which imports only what it needs, and the suite command."""

from __future__ import annotations

import os
import sys

import lm_openai
from lm_openai.paths import is_datasource
from lm_openai.storage.ready import Question

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

ALLOCATIONS = 50_000
"""Objects that become more before unreachable ones are sought; the imports alone make 700 often."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell reports it: 128 and the number of SIGINT."""


def main(folder: str, argv: Sequence[str] | None = None) -> NoReturn:
    """Run one DataSource as a script and exit with its status; Ctrl-C ends it quietly.

    A repeated check prints the ready answer. A plain poll runs without click. Help, wrong usage and
    click's own forms go through click.
    """
    words = list(sys.argv[1:] if argv is None else argv)

    def click() -> int:
        from lm_openai.app.cli import script

        return script(folder, words)

    status = _status(folder, words, click)
    if argv is None:
        _end(status)
    sys.exit(status)


def suite() -> NoReturn:
    """Run the suite command and exit with its status; Ctrl-C ends it quietly.

    `collect` with one DataSource runs as its script does, which prints the same.
    """

    def click() -> int:
        from lm_openai.app.cli import main

        main()

    words = sys.argv[1:]
    folder, options = _collected(words)
    _end(_status(folder, options, click))


def _collected(words: list[str]) -> tuple[str, list[str]]:
    """Return the DataSource's folder that stands first or last after `collect`, and the rest.

    The folder is "" for any other command, and for a DataSource that has another name.
    """
    if len(words) < 2 or words[0] != "collect":
        return "", []
    first = not words[1].startswith("-")
    folder, options = (words[1], words[2:]) if first else (words[-1], words[1:-1])
    known = folder.isidentifier() and any(
        is_datasource(root, folder) for root in lm_openai.__path__
    )
    return (folder, options) if known else ("", [])


def _status(folder: str, words: list[str], click: Callable[[], int]) -> int:
    """Return the exit status of a run; without a folder, and for what needs click, of `click`."""
    try:
        question = _question(folder, words)
        status = question.answer() if question else None
        if status is not None:
            os._exit(status)  # at once: nothing is open that an exit would have to close
        return _run(folder, words, question, click) if folder else click()
    except KeyboardInterrupt:
        _interrupted()


def _question(folder: str, words: list[str]) -> Question | None:
    """Return the question that a script is asked; None if it always takes the full path."""
    if not folder or None in (sys.stdin, sys.stdout, sys.stderr):
        return None
    try:
        return Question(folder, words, os.environ)
    except ValueError:
        return None


def _run(folder: str, words: list[str], question: Question | None, click: Callable[[], int]) -> int:
    import gc

    gc.set_threshold(ALLOCATIONS)
    from lm_openai.app import options
    from lm_openai.redaction import guard_streams

    guard_streams()
    if question and question.stdin is not None:
        from lm_openai.app.answers import Input

        sys.stdin = Input(question.stdin)

    plain = options.parse(words)
    if plain is None:
        return click()
    from lm_openai.app.session import Surroundings

    if question and question.locked:
        from lm_openai.app import answers

        return answers.run(folder, plain, Surroundings.real(waited=question.waited), question)
    from lm_openai.app.runner import run

    return run(folder, plain, Surroundings.real(waited=question.waited if question else 0.0))


def _end(status: int) -> NoReturn:
    """End the script's process at once: an exit would first free each object of each module."""
    from contextlib import suppress

    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):  # the run reported what it could not write
                stream.flush()
    os._exit(status)


def _interrupted() -> NoReturn:
    """End the process at once: an exit would wait for the threads of running requests."""
    os._exit(INTERRUPTED)


if __name__ == "__main__":
    suite()
