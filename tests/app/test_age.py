"""The command `age`: progress, its shortest watch, and its results after Ctrl-C."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import pytest

from lm_openai.app import age, cli
from lm_openai.app.commands import suite
from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings
from lm_openai.errors import WrongUsage
from lm_openai.simulator import ADMIN_KEY, Simulator

NOON = 1_795_003_200


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=NOON) as simulator:
        yield simulator


@pytest.fixture
def around(demo: Simulator, home: object) -> Surroundings:
    environ = {"OPENAI_ADMIN_KEY": ADMIN_KEY, "OPENAI_BASE_URL": demo.url, "HOME": str(home)}
    return Surroundings(environ, io.StringIO(), io.StringIO(), io.StringIO(), NOON)


def watch(
    length: str, around: Surroundings, demo: Simulator, interrupt: int = 0
) -> Callable[[], int]:
    """Return a run of the command in which each minute lasts 5; interrupted at that minute."""

    def sleep(seconds: float) -> None:
        demo.now += seconds * 5
        if interrupt and demo.now - NOON >= interrupt * 60:
            raise KeyboardInterrupt

    session = Session(Options(), around)
    return lambda: age.run(length, session, lambda: int(demo.now), sleep)


def text(stream: object) -> str:
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_the_watch_prints_progress_and_then_a_table(demo: Simulator, around: Surroundings) -> None:
    assert watch("2h", around, demo)() == 0

    begin, *lines = text(around.stderr).splitlines()
    assert begin == "watching for 2h; Ctrl-C ends it early and keeps the results"
    assert [line.split(",")[0] for line in lines] == [
        f"{minutes} of 120 minutes" for minutes in range(10, 130, 10)
    ]
    assert lines[-1].endswith("kinds so far")
    assert text(around.stdout).splitlines()[1].startswith("completions ")


def test_in_a_terminal_the_progress_is_one_line(demo: Simulator, around: Surroundings) -> None:
    around = around._replace(stderr=Terminal())
    watch("30m", around, demo)()

    assert text(around.stderr).count("\n") == 2
    assert "\r5 of 30 minutes" in text(around.stderr)


def test_an_interrupt_keeps_what_was_measured(demo: Simulator, around: Surroundings) -> None:
    with pytest.raises(KeyboardInterrupt):
        watch("3h", around, demo, interrupt=120)()

    head, first, *_ = text(around.stdout).splitlines()
    assert head.startswith("kind ")
    assert first.startswith("completions ")


def test_an_early_interrupt_says_that_nothing_was_measured(
    demo: Simulator, around: Surroundings
) -> None:
    with pytest.raises(KeyboardInterrupt):
        watch("3h", around, demo, interrupt=5)()

    assert text(around.stdout) == ""
    assert text(around.stderr).endswith("no usage was measured in 0 minutes; watch longer\n")


@pytest.mark.parametrize("length", ["14m", "60s", "0s"])
def test_a_watch_below_15_minutes_is_refused(
    length: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.invoke(suite, ["age", "--watch", length]) == 2

    err = capsys.readouterr().err
    assert err.startswith(f"--watch '{length}': the minimum is 15m, because usage arrives")


def test_15_minutes_are_accepted_and_nonsense_is_not() -> None:
    assert age.duration("15m") == 900
    with pytest.raises(WrongUsage, match="give a duration such as"):
        age.duration("soon")
