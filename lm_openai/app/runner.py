"""One run of a script: from options to printed text and exit status, every failure a sentence."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, TextIO

from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings
from lm_openai.errors import Failure, Unwritable, WrongUsage
from lm_openai.output import registry
from lm_openai.output.registry import Format
from lm_openai.redaction import lines, one_line, redact, sentence, strike

if TYPE_CHECKING:
    from lm_openai.model.report import Gap, Report

DONE, FAILED, WRONG = 0, 1, 2
STATE_UNKNOWN = 3


def run(folder: str, options: Options, around: Surroundings) -> int:
    """Poll one DataSource, print it and return the exit status.

    The status is 0 if the poll succeeded, 1 if it failed and 2 for wrong usage. In a format whose
    exit status is the state (nagios) it is 0 to 3.
    """
    from lm_openai.collect import datasource

    def poll(opened: list[Session]) -> int:
        source = datasource.load(folder)
        opened.append(Session(options, around))
        report = opened[0].report(source)
        if options.verbose:
            opened[0].print_counters()
        return show(report, options, around)

    return guarded(folder, options, around, poll, (folder,))


def guarded(
    folder: str,
    options: Options,
    around: Surroundings,
    work: Callable[[list[Session]], int],
    polled: Sequence[str] = (),
    after: Callable[[Failure], object] = lambda _: None,
) -> int:
    """Return what `work` returns, or print its failure and return that exit status.

    `work` appends the session that it opens to its argument. An unexpected exception is printed as
    a sentence too, never as a bare traceback. `polled` are the folders of the DataSources whose
    output file the failure replaces, if the format wants that. `after` is called with the failure
    that was printed.
    """
    opened: list[Session] = []

    def report(reason: Failure) -> int:
        with suppress(Failure):  # that of the file itself, which is the reason already
            replace_by_failure(gaps(polled, reason, opened), options, around)
        found = fail(reason, folder, options, around, polled)
        after(reason)
        return found

    if around.watchdog is not None:
        around.watchdog.guard(report, status(Failure(), registry.named(options.format)))
    found = _guarded(options, around, work, opened, report)
    if around.watchdog is not None:
        around.watchdog.finish(found)
    return found


def _guarded(
    options: Options,
    around: Surroundings,
    work: Callable[[list[Session]], int],
    opened: list[Session],
    report: Callable[[Failure], int],
) -> int:
    try:
        _refuse_unwritable(options, around)
        return work(opened)
    except Failure as failure:
        reason = failure
    except Exception as error:
        reason = unexpected(error, options, around)
    if opened and options.verbose:
        opened[0].print_counters()
    claim(around)
    return report(reason)


def claim(around: Surroundings) -> None:
    """Wait for the right to print; never return if the watchdog has begun to end the process."""
    if around.watchdog is not None:
        around.watchdog.claim()


class Printed(NamedTuple):
    """Text of a run for stdout, its failures for stderr, and its exit status."""

    text: str
    errors: str
    status: int


def rendered(report: Report, options: Options) -> Printed:
    """Return what a report, or with --discover its instances, is printed as.

    Raises Failure if some data is missing and nothing is left to print.
    """
    form = registry.named(options.format)
    writer = form.writer()
    if options.discover:
        if report.failures:
            raise Failure(
                f"the list of instances is incomplete, so none is printed: {report.failures[0]}"
            )
        text = writer.discover(report)
    else:
        text = writer.write(report)
        if report.failures and not text:
            raise Failure(report.failures[0])
    errors = () if form.errors_on_stdout else report.failures
    is_state = form.exit_is_state and not options.discover
    found = int(writer.status(report)) if is_state else DONE
    return Printed(text, "".join(f"{failure}\n" for failure in errors), found)


def show(report: Report, options: Options, around: Surroundings) -> int:
    """Print a report and return the exit status; raises Failure."""
    printed = rendered(report, options)
    write(printed, options, around)
    if options.verbose and registry.named(options.format).stderr:
        for note in (*_ages(report), *report.notes):
            around.stderr.write(f"{note}\n")
    return printed.status


def write(printed: Printed, options: Options, around: Surroundings) -> None:
    """Print what a run prints, once; raises Failure."""
    claim(around)
    deliver(printed.text, options, around)
    around.stderr.write(printed.errors)


def deliver(text: str, options: Options, around: Surroundings) -> None:
    """Write the text to the file of --output, or to stdout; raises Failure."""
    if options.output is None:
        put(text, around.stdout)
    else:
        from lm_openai.app import output_file

        output_file.replace(options.output, strike(text), registry.named(options.format).mode)


def replace_by_failure(gaps: Iterable[Gap], options: Options, around: Surroundings) -> None:
    """Replace the file of --output by one that reports failed polls, if the format wants that.

    A file of --discover stays, since it does not report polls. Raises Failure.
    """
    form = registry.named(options.format)
    if form.failed_file and options.output is not None and not options.discover:
        deliver(form.writer().write_all((), gaps), options, around)


def put(text: str, stream: TextIO) -> None:
    """Write and flush the whole text; raises Unwritable."""
    refuse_closed(stream)
    try:
        stream.write(text)
        stream.flush()
    except OSError as reason:
        raise unwritable(stream, reason) from None


def refuse_closed(stdout: TextIO) -> None:
    """Raise Unwritable if the process was started with stdout closed."""
    if not stdout.writable():
        raise Unwritable("stdout is closed, so nothing can be printed")


def unwritable(stream: TextIO, reason: OSError) -> Unwritable:
    """Return the error for an unwritable stream and discard the stream's buffer.

    Otherwise Python would flush the buffer again at exit and print a traceback.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return Unwritable(f"the output cannot be written: {reason.strerror}")


def fail(
    failure: Failure,
    folder: str,
    options: Options,
    around: Surroundings,
    polled: Sequence[str] = (),
) -> int:
    """Print a failure where the format's host reads it and return the exit status."""
    printed = failed(failure, folder, options, polled)
    try:
        if printed.text:
            put(printed.text, around.stdout)
        around.stderr.write(printed.errors)
    except Unwritable as unprinted:
        around.stderr.write(f"{_sentence(failure)}; {unprinted}\n")
    return printed.status


def failed(failure: Failure, folder: str, options: Options, polled: Sequence[str] = ()) -> Printed:
    """Return what a failure is printed as; `polled` are the folders of several DataSources."""
    form = registry.named(options.format)
    found, reason = status(failure, form), _sentence(failure)
    if form.errors_on_stdout and not isinstance(failure, Unwritable):
        titles = map(title_of, (form.each and polled) or (folder,))
        text = "".join(form.writer().failed(reason, title) for title in titles)
        return Printed(text, "", found)
    return Printed("", f"{reason}\n", found)


def _sentence(failure: Failure) -> str:
    return one_line(redact(str(failure)))


def title_of(folder: str) -> str:
    """Return a DataSource's title, also for an unknown folder."""
    from lm_openai import resources
    from lm_openai.collect import datasource

    if folder in resources.folders():
        return datasource.definition(folder).title
    return f"openai {folder.replace('_', ' ')}".strip()


def status(failure: Failure, form: Format) -> int:
    """Return the exit status of a failed run."""
    if form.exit_is_state:
        return STATE_UNKNOWN
    return WRONG if isinstance(failure, WrongUsage) else FAILED


def unexpected(error: Exception, options: Options, around: Surroundings) -> Failure:
    """Return an unexpected exception as a failure; -v prints the traceback without secrets."""
    if options.verbose and registry.named(options.format).stderr:
        import traceback

        around.stderr.write(lines("".join(traceback.format_exception(error))))
    scarce = _scarce(error)
    if scarce:
        return Failure(
            f"the system refused {scarce} to this process; raise its limit, see `ulimit -a`, or "
            f"lower openai.concurrency"
        )
    return Failure(
        f"a fault in lm-openai ({type(error).__name__}: {sentence(str(error))}); please report it "
        f"with the output of -v"
    )


def _scarce(error: Exception) -> str:
    """Return what the system has too little of, or ""."""
    if isinstance(error, MemoryError):
        return "more memory"
    if isinstance(error, RuntimeError) and "new thread" in str(error):
        return "another thread"
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return "another open file"
    return ""


def _refuse_unwritable(options: Options, around: Surroundings) -> None:
    """Raise a Failure, before any request, if the output could not be written."""
    if options.output is None:
        refuse_closed(around.stdout)
    else:
        from lm_openai.app import output_file

        output_file.check(options.output)


def gaps(folders: Sequence[str], reason: Failure, opened: Sequence[Session]) -> Iterator[Gap]:
    """Yield the failed polls; without a session, their organization is unknown."""
    from lm_openai.collect import datasource
    from lm_openai.model.report import Gap

    for definition in map(datasource.definition, folders):
        if opened:
            yield opened[0].gap(definition, str(reason))
        else:
            yield Gap(definition, "", str(reason))


def _ages(report: Report) -> Iterator[str]:
    if report.ages:
        ages = ", ".join(f"{kind} {seconds} s" for kind, seconds in report.ages.items())
        yield f"age of the newest data: {ages}"
