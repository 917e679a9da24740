"""The command line that people type: help, wrong usage and the suite command."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import click

from lm_openai import __version__, collector
from lm_openai.errors import Failure, WrongUsage
from lm_openai.options import FORMATS, OPTIONS, Option, Options

KEY = (
    "The admin key comes from OPENAI_ADMIN_KEY, or from openai.admin.key or openai.admin.key.file "
    "in a --properties file."
)


def script(folder: str, argv: Sequence[str]) -> int:
    """One DataSource with help and usage errors in words; returns the exit status."""
    from lm_openai import datasource

    source = datasource.load(folder)
    command = click.Command(
        f"{folder}.py",
        params=[*(parameter(option) for option in OPTIONS), version()],
        callback=lambda **given: collector.run(
            folder, options(given), collector.Surroundings.real()
        ),
        help=f"{source.title}: {source.description}",
        epilog=f"{KEY} `lm-openai doctor` tries it; the README has all properties.",
    )
    return invoke(command, argv)


def invoke(command: click.Command, argv: Sequence[str]) -> int:
    """Run a click command; wrong usage is one sentence, where the wanted format's host looks."""
    try:
        status = command.main(list(argv), prog_name=command.name, standalone_mode=False)
    except click.ClickException as error:
        sentence = f"{command.name}: {error.format_message()} (see --help)"
        return _fail(WrongUsage(sentence), command, argv)
    except Failure as failure:
        return _fail(failure, command, argv)
    except OSError as error:
        return _fail(collector.unwritable(sys.stdout, error), command, argv)
    except click.Abort:
        return collector.FAILED
    return int(status or 0)


def wanted_format(argv: Sequence[str]) -> str:
    """The format that the words ask for, however wrong the rest of them is; else the default."""
    words = (*argv, "")
    asked = [after for word, after in pairwise(words) if word == "--format"]
    asked += [word.removeprefix("--format=") for word in argv]
    return next((form for form in asked if form in FORMATS), FORMATS[0])


def _fail(failure: Failure, command: click.Command, argv: Sequence[str]) -> int:
    name = command.name or ""
    folder = name.removesuffix(".py") if name.endswith(".py") else ""
    wanted = Options(format=wanted_format(argv))
    return collector.fail(failure, folder, wanted, collector.Surroundings.real())


def parameter(option: Option) -> click.Option:
    """The click form of one row of the option table."""
    if option.value is None:
        names = f"{option.flag}/{option.negative}" if option.negative else option.flag
        default = None if option.negative else False
        return click.Option([names, option.field], default=default, is_flag=True, help=option.help)
    return click.Option(
        [option.flag, option.field],
        metavar=option.value if not option.choices else None,
        type=click.Choice(option.choices) if option.choices else str,
        multiple=option.many,
        help=option.help,
    )


def attach(command: click.Command | Callable[..., Any], option: click.Option) -> None:
    """Put an option first on a command, or on the function that will become one."""
    if isinstance(command, click.Command):
        command.params.insert(0, option)
    else:
        command.__dict__.setdefault("__click_params__", []).append(option)


def version() -> click.Option:
    """`--version`, which prints and leaves."""

    def show(context: click.Context, _: click.Parameter, wanted: bool) -> None:
        if wanted:
            click.echo(f"lm-openai {__version__}")
            context.exit()

    return click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="print the version and exit",
    )


def options(given: dict[str, Any]) -> Options:
    """Options out of what click read; what was not given keeps its default."""
    return Options(**{name: value for name, value in given.items() if value is not None})


def main(argv: Sequence[str] | None = None) -> None:
    """The suite command as an entry point."""
    from lm_openai.commands import suite

    sys.exit(invoke(suite, sys.argv[1:] if argv is None else argv))


if __name__ == "__main__":
    main()
