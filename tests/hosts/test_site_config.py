"""Configuration for monitoring systems: shipped files, and those of the command `config`."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lm_openai.app import cli, output_file, site_config
from lm_openai.app.commands import suite
from lm_openai.app.options import Options
from lm_openai.app.session import Surroundings
from lm_openai.hosts.jobs import HEALTH, jobs
from lm_openai.hosts.registry import HOSTS, Host
from lm_openai.simulator import ADMIN_KEY, Simulator
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
    file = target / "lm-openai.conf"
    assert run() == (0, "")
    file.write_text("edited")
    assert run()[1].startswith(f"{target} changed")
    assert file.read_text() == HOSTS["telegraf"].module().files(jobs())[file.name]


def test_a_datasource_is_left_out(tmp_path: Path) -> None:
    words = ["config", "telegraf", "--output", str(tmp_path), "--without"]
    assert cli.invoke(suite, [*words, "OpenAI_RateLimits_ByProject"]) == 0
    text = (tmp_path / "lm-openai.conf").read_text()
    assert "/rate_limits.py" not in text
    assert "/rate_limits_by_model.py" in text
    resident = (tmp_path / "lm-openai-execd.toml").read_text()
    assert '"rate_limits"' not in resident
    assert '"rate_limits_by_model"' in resident


def test_text_that_is_written_in_another_form_is_no_change(tmp_path: Path) -> None:
    """Half of a surrogate pair, which a name in the API may have, is written as its escape."""
    path = str(tmp_path / "file")
    text = "Söhne \ud83d\n"
    assert not output_file.holds(path, text)
    output_file.replace(path, text, 0o644)
    assert Path(path).read_bytes() == b"S\xc3\xb6hne \\ud83d\n"
    assert output_file.holds(path, text)
    assert not output_file.holds(path, text.replace("\n", "\r\n"))


@pytest.mark.parametrize(
    "words", [("rate_limits", "--without", "rate_limits"), ("--without", "all")]
)
def test_no_datasource_is_not_all(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.invoke(suite, ["config", "telegraf", "--output", str(tmp_path), *words]) == 2
    assert "--without leaves no DataSource" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_settings_that_the_checks_would_not_know_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.invoke(suite, ["config", "nagios", "--set", "openai.window=1h"]) == 2
    assert re.search("No such option.* '?--set", capsys.readouterr().err)


@pytest.mark.parametrize("flag", ["--properties", "--timeout", "--at"])
def test_options_of_the_discovery_are_refused_where_there_is_none(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.invoke(suite, ["config", "telegraf", "--output", str(tmp_path), flag, "9"]) == 2
    assert f"{flag} has no effect" in capsys.readouterr().err
    assert not [*tmp_path.iterdir()]


def test_a_faulty_threshold_file_leaves_the_files_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LM_OPENAI_ETC", str(tmp_path))
    (tmp_path / "thresholds.d").mkdir()
    (tmp_path / "thresholds.d" / "site.json").write_text("{")
    assert cli.invoke(suite, ["config", "telegraf", "--output", str(tmp_path / "out")]) == 2
    assert "site.json" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def streams() -> tuple[io.StringIO, io.StringIO, io.StringIO]:
    return io.StringIO(), io.StringIO(), io.StringIO()


DISCOVERING = [host for host in HOSTS.values() if host.discovers]
FOLDERS = ("cost_by_project", "rate_limits")


class Site:
    """Files of host properties, one for each demo organization, and the configuration of a host."""

    def __init__(self, folder: Path, demos: dict[str, Simulator]) -> None:
        self._environ = {"LM_OPENAI_CACHE_DIR": str(folder), "LM_OPENAI_ETC": str(folder)}
        self.target = folder / "site.cfg"
        self.properties = tuple(str(folder / f"{name}.properties") for name in demos)
        for path, (name, demo) in zip(self.properties, demos.items()):
            lines = f"openai.org.name={name}\nopenai.admin.key={ADMIN_KEY}\n"
            Path(path).write_text(f"{lines}openai.api.url={demo.url}\nopenai.cache.ttl=0s\n")
            Path(path).chmod(0o600)

    def run(self, host: Host, *paths: str) -> tuple[int, str, str]:
        """Return status, stdout and stderr of `config`; all files without `paths`."""
        stdin, out, err = streams()
        around = Surroundings(self._environ, stdin, out, err, WEDNESDAY)
        options = Options(properties=paths or self.properties)
        status = site_config.run(host, FOLDERS, options, str(self.target), around)
        return status, out.getvalue(), err.getvalue()


@pytest.fixture
def demos() -> Iterator[dict[str, Simulator]]:
    with (
        Simulator(at=WEDNESDAY, projects=2, models=2) as first,
        Simulator(at=WEDNESDAY, projects=3, models=2, seed=2) as second,
    ):
        yield {"acme": first, "Other-Org": second}


@pytest.mark.parametrize("host", DISCOVERING, ids=lambda host: host.name)
def test_the_file_has_the_instances_of_each_organization_and_the_health_of_both(
    host: Host, tmp_path: Path, demos: dict[str, Simulator]
) -> None:
    site = Site(tmp_path, demos)
    assert site.run(host) == (0, "", f"{site.target} changed; run: {host.reload}\n")
    text = site.target.read_text()
    for path, demo in zip(site.properties, demos.values()):
        assert path in text
        for project in demo.organization.projects:
            assert project.id in text
    assert HEALTH in text
    assert ADMIN_KEY not in text


@pytest.mark.parametrize("host", DISCOVERING, ids=lambda host: host.name)
def test_cron_prints_nothing_and_changes_nothing_without_a_new_instance(
    host: Host, tmp_path: Path, demos: dict[str, Simulator]
) -> None:
    site = Site(tmp_path, demos)
    site.run(host)
    before = site.target.stat()
    assert site.run(host) == (0, "", "")
    after = site.target.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("host", DISCOVERING, ids=lambda host: host.name)
@pytest.mark.parametrize("path", ["*", "*/usage/completions", "*/costs"])
def test_an_incomplete_discovery_of_one_organization_leaves_the_file_as_it_is(
    host: Host, path: str, tmp_path: Path, demos: dict[str, Simulator]
) -> None:
    site = Site(tmp_path, demos)
    site.run(host)
    before = site.target.read_bytes()
    _, second = demos.values()
    second.fault("400", path)

    status, out, err = site.run(host)

    assert (status, out) == (1, "")
    assert " of Other-Org: the list of instances is incomplete, so nothing is written" in err
    assert err.count("\n") == 1
    assert site.target.read_bytes() == before


@pytest.mark.parametrize("host", DISCOVERING, ids=lambda host: host.name)
def test_two_files_of_one_organization_are_refused(
    host: Host, tmp_path: Path, demos: dict[str, Simulator]
) -> None:
    site = Site(tmp_path, demos)
    first = site.properties[0]
    status, _, err = site.run(host, first, first)
    assert status == 2
    assert "openai.org.name 'acme' is that of another file too" in err
    assert site.run(host, "-")[2].startswith("--properties -: the checks cannot read stdin")
    assert not site.target.exists()
