"""Entry points of the command line: a script with click's help, and the suite command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import NoReturn

import click

from lm_openai.app import runner, session
from lm_openai.app.options import Options
from lm_openai.app.parameters import KEY, SETTINGS, options, parameter, version
from lm_openai.errors import Failure, WrongUsage
from lm_openai.output import registry
from lm_openai.output.command_line import OPTIONS
from lm_openai.redaction import guard_streams


def script(folder: str, argv: Sequence[str]) -> int:
    """Run one DataSource with click's help and usage errors; return the exit status."""
    from lm_openai.collect import datasource

    known = datasource.definition(folder)
    command = click.Command(
        f"{folder}.py",
        params=[*(parameter(option) for option in OPTIONS), version()],
        callback=lambda **given: runner.run(folder, options(given), session.Surroundings.real()),
        help=f"{known.title}: {known.description}",
        epilog=f"{KEY} `lm-openai doctor` checks it; the README lists all properties.",
        context_settings=SETTINGS,
    )
    return invoke(command, argv)


def invoke(command: click.Command, argv: Sequence[str]) -> int:
    """Run a click command; wrong usage is one sentence, where the wanted format's host reads it."""
    try:
        status = command.main(list(argv), prog_name=command.name, standalone_mode=False)
    except click.ClickException as error:
        sentence = f"{command.name}: {error.format_message()} (see --help)"
        return _fail(WrongUsage(sentence), command, argv)
    except Failure as failure:
        return _fail(failure, command, argv)
    except OSError as error:
        return _fail(runner.unwritable(sys.stdout, error), command, argv)
    except click.Abort:  # click's word for an interrupt
        raise KeyboardInterrupt from None
    except Exception as error:
        wanted = Options(format=wanted_format(argv), verbose="-v" in argv)
        reason = runner.unexpected(error, wanted, session.Surroundings.real())
        return _fail(reason, command, argv)
    return int(status or 0)


def wanted_format(argv: Sequence[str]) -> str:
    """Return the format in argv, even if the rest of argv is wrong; else the default."""
    words = (*argv, "")
    given = [after for word, after in pairwise(words) if word == "--format"]
    given += [word.partition("=")[2] for word in argv if word.startswith("--format=")]
    return next((name for name in given if name in registry.FORMATS), registry.DEFAULT)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the suite command and exit."""
    guard_streams()
    from lm_openai.app.commands import suite

    sys.exit(invoke(suite, sys.argv[1:] if argv is None else argv))


def _fail(failure: Failure, command: click.Command, argv: Sequence[str]) -> int:
    name = command.name or ""
    folder = name.removesuffix(".py") if name.endswith(".py") else ""
    wanted = Options(format=wanted_format(argv))
    return runner.fail(failure, folder, wanted, session.Surroundings.real(polls=False))


if __name__ == "__main__":
    main()
