"""Configuration for monitoring systems: shipped files, and those of the command `config`."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from lm_openai.app import site_config
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.hosts.jobs import HEALTH, jobs
from lm_openai.hosts.registry import HOSTS, Host
from tests.support.demo_polls import WEDNESDAY
from tests.support.paths import ROOT
from tests.support.surroundings import environment


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_every_monitoring_system_has_files_and_a_page(host: Host) -> None:
    assert (ROOT / "packaging" / host.name / "README.md").exists()
    texts = host.module().files(jobs())
    assert texts
    for text in texts.values():
        assert text.endswith("\n")
        assert "sk-admin" not in text


def test_every_job_starts_at_a_time_of_its_own_and_judges_what_the_thresholds_say() -> None:
    found = {job.definition.folder: job for job in jobs()}
    starts = [job.offset / job.interval for job in found.values()]
    assert starts == sorted(set(starts))
    limits = {one.datapoint.name: one.threshold for one in found["rate_limits"].alerts}
    assert limits["tpm_utilization"].critical == 95
    assert limits["tpm_utilization"].consecutive == 3
    assert HEALTH in found


def test_a_file_is_written_again_only_if_its_content_changes(tmp_path: Path) -> None:
    def run() -> tuple[int, str]:
        around = Surroundings(environment("http://127.0.0.1:9", tmp_path), *streams(), WEDNESDAY)
        status = site_config.run(HOSTS["telegraf"], (), Options(), str(target), around)
        return status, around.stderr.getvalue()  # type: ignore[attr-defined]

    target = tmp_path / "telegraf.d"
    assert run() == (0, f"{target} changed; run: systemctl reload telegraf\n")
    [file] = target.iterdir()
    assert run() == (0, "")
    file.write_text("edited")
    assert run()[1].startswith(f"{target} changed")
    assert file.read_text() == HOSTS["telegraf"].module().files(jobs())[file.name]


def streams() -> tuple[io.StringIO, io.StringIO, io.StringIO]:
    return io.StringIO(), io.StringIO(), io.StringIO()
