"""Several DataSources in one run: their reports, and the gaps of failed polls."""

from __future__ import annotations

from collections.abc import Sequence

from lm_openai.app import runner
from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings
from lm_openai.collect import datasource
from lm_openai.errors import Failure, WrongUsage
from lm_openai.model.report import Gap, Report
from lm_openai.output import registry


def run(folders: Sequence[str], options: Options, around: Surroundings) -> int:
    """Poll DataSources one after the other, print them and return the exit status.

    A poll that fails is reported on stderr, and in the output if the format has a place for it.
    The status is 1 only if every poll failed.
    """

    def poll(opened: list[Session]) -> int:
        check(options)
        opened.append(Session(options, around))
        reports, gaps = polled(folders, opened[0])
        if options.verbose:
            opened[0].print_counters()
        return _show(reports, gaps, opened[0])

    return runner.guarded("", options, around, poll, folders)


def check(options: Options) -> None:
    """Refuse formats and options that accept only one DataSource; raises WrongUsage."""
    if not registry.named(options.format).together:
        allowed = registry.names([row for row in registry.FORMATS.values() if row.together])
        raise WrongUsage(f"{options.format} accepts only one DataSource; {allowed} accept several")
    for flag, given in (
        ("--discover", options.discover),
        ("--instance", options.instances),
        ("--datapoint", options.datapoints),
        ("--thresholds", options.thresholds),
    ):
        if given:
            raise WrongUsage(f"{flag} accepts only one DataSource")


def polled(folders: Sequence[str], session: Session) -> tuple[list[Report], list[Gap]]:
    """Poll DataSources one after the other; a failed poll is a gap and stops no other.

    Raises WrongUsage for settings with which none can be polled.
    """
    reports: list[Report] = []
    gaps: list[Gap] = []
    session.connect()
    for source in map(datasource.load, folders):
        try:
            reports.append(session.report(source))
        except Failure as failure:
            gaps.append(session.gap(source.definition, str(failure)))
    return reports, gaps


def _show(reports: Sequence[Report], gaps: Sequence[Gap], session: Session) -> int:
    form = registry.named(session.options.format)
    writer = form.writer()
    text = writer.write_all(reports, gaps) if reports or form.errors_on_stdout else ""
    runner.claim(session.around)
    if not form.errors_on_stdout:
        session.around.stderr.write("".join(failures(reports, gaps)))
        if not reports:
            runner.replace_by_failure(gaps, session.options, session.around)
            return runner.FAILED
    runner.deliver(text, session.options, session.around)
    return int(writer.status_all(reports, gaps)) if form.exit_is_state else runner.DONE


def failures(reports: Sequence[Report], gaps: Sequence[Gap]) -> list[str]:
    """Return a line for each failed poll and each failed part of a report."""
    lines = [f"{gap.definition.title}: {gap.sentence}\n" for gap in gaps]
    for report in reports:
        lines += [f"{report.definition.title}: {sentence}\n" for sentence in report.failures]
    return lines
