"""Several DataSources in one run: which formats take them, and what one failure leaves standing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lm_openai import collector, datasource, writers
from lm_openai.collector import DONE, FAILED, Session, Surroundings
from lm_openai.errors import ApiFailure, WrongUsage
from lm_openai.options import Options
from lm_openai.report import Report

TOGETHER = ("json", "influx", "nagios", "prometheus")


class Gap(NamedTuple):
    """A DataSource that gave no report, and why."""

    folder: str
    title: str
    sentence: str


def run(folders: Sequence[str], options: Options, around: Surroundings) -> int:
    """Poll them one after the other and print what could be learned; 1 only when nothing could.

    One that failed is said on stderr, and in nagios and prometheus also in the output.
    """

    def poll(opened: list[Session]) -> int:
        check(options)
        opened.append(Session(options, around))
        reports, gaps = _polled(folders, opened[0])
        if options.verbose:
            opened[0].say()
        return _show(reports, gaps, opened[0])

    return collector.guarded("", options, around, poll)


def check(options: Options) -> None:
    """Refuse what only one DataSource at a time can take; raises WrongUsage."""
    if options.format not in TOGETHER:
        allowed = ", ".join(TOGETHER)
        raise WrongUsage(f"{options.format} takes one DataSource at a time; {allowed} take several")
    for word, given in (
        ("--discover", options.discover),
        ("--instance", options.instances),
        ("--thresholds", options.thresholds),
    ):
        if given:
            raise WrongUsage(f"{word} takes one DataSource at a time")


def _polled(folders: Sequence[str], session: Session) -> tuple[list[Report], list[Gap]]:
    reports: list[Report] = []
    gaps: list[Gap] = []
    sources = [datasource.load(folder) for folder in folders]
    session.expect(sources)
    for source in sources:
        try:
            reports.append(session.report(source))
        except ApiFailure as failure:
            gaps.append(Gap(source.folder, source.title, str(failure)))
    return reports, gaps


def _show(reports: Sequence[Report], gaps: Sequence[Gap], session: Session) -> int:
    form, out, err = session.options.format, session.around.stdout, session.around.stderr
    writer = writers.writer(form)
    if form == "nagios":
        said = [(gap.sentence, gap.title) for gap in gaps]
        collector.put(writer.write_all(reports, said), out)
        return int(writer.status_all(reports, said))
    missing = [(gap.title, gap.sentence) for gap in gaps]
    missing += [(report.datasource.title, said) for report in reports for said in report.failures]
    err.write("".join(f"{title}: {sentence}\n" for title, sentence in missing))
    if not reports:
        return FAILED
    failed = [(gap.folder, session.properties.organization) for gap in gaps]
    text = writer.write_all(reports, failed) if form == "prometheus" else writer.write_all(reports)
    collector.put(text, out)
    return DONE
