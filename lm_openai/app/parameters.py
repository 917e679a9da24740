"""Options of a script as click parameters, built from the option table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from lm_openai import __version__, resources
from lm_openai.app.options import Options
from lm_openai.output.command_line import OPTIONS, Option

KEY = (
    "The admin key comes from OPENAI_ADMIN_KEY, or from openai.admin.key or openai.admin.key.file "
    "in a --properties file."
)
SETTINGS = {"help_option_names": ["-h", "--help"]}
Command = TypeVar("Command", bound=Callable[..., Any])


def with_options(*flags: str) -> Callable[[Command], Command]:
    """Return a decorator that gives a command the named rows of the option table, or all rows."""

    def add(command: Command) -> Command:
        for option in reversed(OPTIONS):
            if not flags or option.flag in flags:
                attach(command, parameter(option))
        return command

    return add


def parameter(option: Option) -> click.Option:
    """Return one row of the option table as a click option."""
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


def folders(words: tuple[str, ...] = ()) -> Callable[..., list[str]]:
    """Return a click completion of the DataSources' folders and `words`."""

    def complete(context: click.Context, argument: click.Parameter, start: str) -> list[str]:
        return [name for name in (*resources.folders(), *words) if name.startswith(start)]

    return complete


def version() -> click.Option:
    """Return the option `--version`, which prints the version and exits."""

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
    """Return Options from click's parameters; an option that is not given keeps its default."""
    return Options(**{name: value for name, value in given.items() if value is not None})
