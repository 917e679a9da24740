"""Ready answers of a run: stored for the checks that wait for it and for those that repeat it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress

from lm_openai import files
from lm_openai.app import runner
from lm_openai.app.options import Options
from lm_openai.app.runner import Printed
from lm_openai.app.session import SHARED, Session, Surroundings
from lm_openai.collect.datasource import DataSource
from lm_openai.collect.pipeline import Polled
from lm_openai.errors import ApiFailure, Failure
from lm_openai.model.report import Report
from lm_openai.redaction import redact, strike
from lm_openai.storage.ready import ANY, Question
from lm_openai.timespans import HOUR

MOST_NAMES = 3000
"""Names of instances that one poll answers for; with more, each service polls for itself."""
UNSHARED_SECONDS = 60
FAILED_SECONDS = 5
"""Seconds that a failure, or data with a gap, answers for those who waited; then it is tried again.
"""
ASKED, ASKED_SECONDS = "instances asked for", HOUR
"""Names that checks requested lately: a poll answers for those that are not in use too."""
MOST_ASKED = 1000
Answer = tuple[int, bytes, bytes]
Stored = tuple[Sequence[str], Answer]


class Input(io.StringIO):
    """Standard input that the first stage has read, or the reason why it could not be read."""

    def __init__(self, content: bytes | OSError) -> None:
        super().__init__()
        self._content = content

    def read(self, size: int | None = -1) -> str:
        """Return all of it; raises OSError and UnicodeDecodeError."""
        if isinstance(self._content, OSError):
            raise self._content
        return self._content.decode()


def run(folder: str, options: Options, around: Surroundings, question: Question) -> int:
    """Poll one DataSource as `runner.run` does, and store what it printed for the same question."""
    from lm_openai.collect import datasource

    def poll(opened: list[Session]) -> int:
        source = datasource.load(folder)
        opened.append(Session(options, around))
        return Run(opened[0], question).printed(source)

    def after(failure: Failure) -> None:
        if isinstance(failure, ApiFailure):
            answer = _answer(runner.failed(failure, folder, options))
            question.keep(
                question.awaited, question.now(), FAILED_SECONDS, files.looked(), [(ANY, answer)]
            )
        else:
            question.decline(files.looked(), FAILED_SECONDS)

    try:
        return runner.guarded(folder, options, around, poll, (folder,), after)
    finally:
        question.release()


class Run:
    """One run that others wait for; `question` is what they ask too."""

    def __init__(self, session: Session, question: Question) -> None:
        self._session, self._options, self._question = session, session.options, question

    def printed(self, source: DataSource) -> int:
        """Poll, print and store; return the exit status. Raises Failure."""
        session, only = self._session, self._options.instances
        if not self._shares():
            self._question.decline(files.looked(), UNSHARED_SECONDS)
        self._question.announce(session.properties.seconds("openai.timeout"))
        if len(only) != 1:
            return self._own(source)
        asked = self._asked(only[0])
        if self._question.locked != self._question.files[0]:
            return self._own(source)
        with session.clock_checked():
            polled = session.poll(source, asked)
            report = session.select(polled, only) if only[0] in polled.names else None
        if report is None:
            self._keep_all(polled)
            return self._own(source)
        printed = self._show(report)
        self._keep_all(polled, (only, _answer(printed)))
        return printed.status

    def _shares(self) -> bool:
        """Return True if the settings allow it, and the first stage looks in the right folder."""
        session, question = self._session, self._question
        return (
            session.properties.seconds(SHARED) > 0
            and session.cache.folder == question.place
            and self._options.instances == question.instances
        )

    def _asked(self, instance: str) -> Sequence[str]:
        """Add the instance to those that checks of this DataSource asked for, and return these."""
        cache, name = self._session.cache, f"{ASKED} {self._question.files[0]}"
        with cache.briefly(name):
            asked = {**(cache.get(name) or {}), instance: cache.now()}
            lately = cache.now() - ASKED_SECONDS
            asked = {word: at for word, at in asked.items() if at > lately}
            words = sorted(asked, key=lambda word: -asked[word])[:MOST_ASKED]
            cache.put(name, {word: asked[word] for word in words}, ASKED_SECONDS)
        return words

    def _own(self, source: DataSource) -> int:
        """Poll and print what was asked; store it for the same instances alone."""
        report = self._session.report(source)
        printed = self._show(report)
        self._keep(report, self._question.files[-1], [(self._options.instances, _answer(printed))])
        return printed.status

    def _show(self, report: Report) -> Printed:
        printed = runner.rendered(report, self._options)
        runner.write(printed, self._options, self._session.around)
        return printed

    def _keep_all(self, polled: Polled, *own: Stored) -> None:
        """Store the answers for each instance by each exact name; for too many only `own`."""
        answers = [*self._answers(polled)] if len(polled.names) <= MOST_NAMES else own
        self._keep(self._session.select(polled, ()), self._question.files[0], answers)

    def _answers(self, polled: Polled) -> Iterator[Stored]:
        found: dict[object, Answer] = {}
        for name in polled.names:
            report = self._session.select(polled, (name,))
            shape = (*(row.instance.id for row in report.rows), report.exact, report.incomplete)
            if shape not in found:
                with suppress(Failure):
                    found[shape] = _answer(runner.rendered(report, self._options))
            if shape in found:
                yield (name,), found[shape]

    def _keep(self, report: Report, file: str, answers: Sequence[Stored]) -> None:
        """Store answers until the next poll; those with a gap only for those who waited."""
        question = self._question
        if report.failures:
            question.keep(file, question.now(), FAILED_SECONDS, files.looked(), answers)
        else:
            seconds = self._session.properties.seconds(SHARED)
            question.keep(file, report.time, seconds, files.looked(), answers)


def _answer(printed: Printed) -> Answer:
    """Return the bytes that the streams of a process write, see redaction.guard_streams."""
    texts = strike(printed.text), redact(printed.errors)
    out, err = (text.encode(errors="backslashreplace") for text in texts)
    return printed.status, out, err
