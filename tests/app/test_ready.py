"""Ready answers: a repeated check prints what the full path prints, byte for byte."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lm_openai import files, start
from lm_openai.api.endpoints import USAGE_KINDS
from lm_openai.api.tls import CA_VARIABLES
from lm_openai.app import answers, options, runner
from lm_openai.app.session import Surroundings
from lm_openai.config.sources import VARIABLES
from lm_openai.output.command_line import OPTIONS
from lm_openai.output.registry import FORMATS
from lm_openai.simulator import NO_USAGE_KEY, Simulator
from lm_openai.storage import ready
from lm_openai.storage.private_folder import PrivateFolder
from lm_openai.storage.ready import Question
from tests.support.paths import ROOT
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

AT = 1795005296  # 2026-11-18 12:34:56 UTC
MIDNIGHT = 1795046400
FOLDER = "rate_limits"
MANY = 20
Answer = tuple[int, bytes, bytes]


@pytest.fixture(scope="module")
def started() -> Iterator[Simulator]:
    with Simulator(at=AT, projects=3, models=8) as simulator:
        yield simulator


@pytest.fixture
def demo(started: Simulator) -> Simulator:
    started.clear()
    return started


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without the files that other tests of this process read."""
    monkeypatch.setattr(files, "_looked", {})


def settled(path: Path, text: str) -> Path:
    """Write a file, and wait until a further change has another time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    time.sleep(0.03)
    return path


def question(
    words: str | list[str], environ: dict[str, str], now: float = AT, folder: str = FOLDER
) -> Question:
    argv = words.split() if isinstance(words, str) else words
    return Question(folder, argv, environ, lambda: now)


def found(
    words: str | list[str], environ: dict[str, str], now: float = AT, folder: str = FOLDER
) -> Answer | None:
    """Return what the first stage prints; None if it leaves the check to the full path."""
    asked = question(words, environ, now, folder)
    try:
        return asked.found()
    finally:
        asked.release()


def polled(
    words: str | list[str],
    environ: dict[str, str],
    keeps: bool = True,
    now: int = AT,
    folder: str = FOLDER,
) -> Answer:
    """Take the full path and return what it prints; with `keeps` as one that others wait for."""
    asked = question(words, environ, now, folder)
    parsed = options.parse(words.split() if isinstance(words, str) else words)
    assert parsed is not None
    out, err = io.StringIO(), io.StringIO()
    around = Surroundings(environ, io.StringIO(), out, err, now)
    if keeps:
        assert asked.found() is None
        status = answers.run(folder, parsed, around, asked)
    else:
        status = runner.run(folder, parsed, around)
    return status, out.getvalue().encode(), err.getvalue().encode()


FORMS = [f"--format {name}" for name in FORMATS] + [
    "--format json --series",
    "--format influx --no-series",
    "--format zabbix --part 1/3",
    "--format nagios --discover",
    "--format=logicmonitor --discover",
    "--format json --set openai.group.by=project_id",
]


@pytest.mark.parametrize("words", FORMS)
def test_a_repeated_check_prints_the_same_bytes(
    demo: Simulator, tmp_path: Path, words: str
) -> None:
    environ = environment(demo.url, tmp_path)
    first = polled(words, environ)
    demo.clear()
    assert found(words, environ, AT + 49) == first == polled(words, environ, keeps=False)
    assert demo.requests == []


@pytest.mark.parametrize("folder", [FOLDER, "completion_by_model"])
@pytest.mark.parametrize("words", FORMS)
def test_one_poll_answers_for_each_name_of_each_instance(
    demo: Simulator, tmp_path: Path, words: str, folder: str
) -> None:
    environ = environment(demo.url, tmp_path)
    sets = "".join(words.partition("--set")[1:])
    listed = polled(f"--discover --format nagios {sets}", environ, folder=folder)[1].decode()
    names = [name for line in listed.splitlines() for name in line.split("\t")]
    assert len(names) > 1

    polled([*words.split(), "--instance", names[0]], environ, folder=folder)

    for name in names:
        argv = [*words.split(), "--instance", name]
        whole = polled(argv, environ, keeps=False, folder=folder)
        assert found(argv, environ, folder=folder) == whole


def test_an_unknown_instance_costs_the_others_nothing(demo: Simulator, tmp_path: Path) -> None:
    environ = environment(demo.url, tmp_path)
    listed = polled("--discover --format nagios", environ)[1].decode()
    name = listed.split("\t")[0]
    wrong = polled("--format nagios --instance gpt-404", environ)
    assert wrong[0] == 3
    assert found(f"--format nagios --instance {name}", environ) is not None
    assert found("--format nagios --instance gpt-404", environ) is None


def test_with_too_many_instances_each_service_has_its_own_answer(
    demo: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "MOST_NAMES", 1)
    environ = environment(demo.url, tmp_path)
    listed = polled("--discover --format nagios", environ)[1].decode().splitlines()
    for line in listed[:2]:
        words = f"--format nagios --instance {line.split()[0]}"
        first = polled(words, environ)
        assert found(words, environ) == first


def test_a_dormant_instance_has_an_answer_of_its_own(tmp_path: Path) -> None:
    with Simulator(at=AT, lag=0, projects=3, models=8) as demo:
        names = polled("--discover --format nagios", environment(demo.url, tmp_path / "then"))
        name = names[1].decode().split("\t")[0]
        demo.settings = demo.settings._replace(delays=dict.fromkeys(USAGE_KINDS, 12 * 86400))
        words, environ = f"--format json --instance {name}", environment(demo.url, tmp_path / "now")
        first = polled(words, environ)
        assert b'"idle":true' in first[1].replace(b" ", b"")
        assert found(words, environ) == first == polled(words, environ, keeps=False)


def listed(environ: dict[str, str], *more: str) -> list[str]:
    """Return the wildvalues of the pools of rate_limits."""
    words = ["--discover", "--format", "nagios", *more]
    text = polled(words, environ, keeps=False, folder="rate_limits")[1].decode()
    return [line.split("\t")[0] for line in text.splitlines()]


def test_the_next_poll_answers_for_the_dormant_instances_that_checks_asked_for(
    demo: Simulator, tmp_path: Path
) -> None:
    environ = environment(demo.url, tmp_path)
    used = listed(environ)
    unused = {*listed(environ, "--set", "openai.limits.unused=true")} - {*used}
    services = [
        ["--format", "nagios", "--instance", word] for word in (used[0], *sorted(unused)[:2])
    ]
    for words in services:
        polled(words, environ, folder="rate_limits")
    later = AT + 60
    polled(services[0], environ, now=later, folder="rate_limits")
    for words in services:
        ready = found(words, environ, later, "rate_limits")
        assert ready == polled(words, environ, keeps=False, now=later, folder="rate_limits")


CHANGES: dict[str, Callable[[Path, dict[str, str]], object]] = {
    "properties file": lambda home, _: settled(home / "acme.conf", "openai.org.name=other\n"),
    "properties file replaced": lambda home, _: os.replace(
        settled(home / "new", "openai.org.name=acmf\n"), home / "acme.conf"
    ),
    "mode": lambda home, _: (home / "acme.conf").chmod(0o640),
    "key file": lambda home, _: settled(home / "key", "sk-admin-changed"),
    "threshold file added": lambda home, _: settled(home / "thresholds.d/a.json", "[]"),
    "threshold file": lambda home, _: settled(home / "own.json", OWN.replace("80", "81")),
    "user's threshold folder": lambda home, _: (home / ".config/lm-openai/thresholds.d").mkdir(
        parents=True
    ),
    "environment": lambda _, environ: environ.update(LM_OPENAI_GROUP_BY="project_id"),
    "proxy": lambda _, environ: environ.update(https_proxy="http://localhost:1"),
    "CA": lambda _, environ: environ.update(SSL_CERT_FILE="/etc/ssl/cert.pem"),
    "key": lambda _, environ: environ.update(OPENAI_ADMIN_KEY=NO_USAGE_KEY),
    "folder": lambda home, environ: environ.update(LM_OPENAI_CACHE_DIR=str(home / "other")),
}
OWN = """{"datasource": "OpenAI_RateLimits_ByProject", "thresholds": [
  {"datapoint": "tpm_utilization", "operator": ">=", "warning": 80}]}"""


def configured(url: str, home: Path) -> tuple[str, dict[str, str]]:
    """Return the words and the environment of a check with every kind of file."""
    settled(home / "acme.conf", f"openai.org.name=acme\nopenai.admin.key.file={home}/key\n")
    settled(home / "key", environment(url, home)["OPENAI_ADMIN_KEY"])
    settled(home / "own.json", OWN)
    environ = {**environment(url, home), "HOME": str(home)}
    del environ["OPENAI_ADMIN_KEY"]
    return f"--format nagios --properties {home}/acme.conf --thresholds {home}/own.json", environ


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_seen_at_once(demo: Simulator, tmp_path: Path, what: str) -> None:
    words, environ = configured(demo.url, tmp_path)
    first = polled(words, environ)
    assert found(words, environ) == first
    CHANGES[what](tmp_path, environ)
    assert found(words, environ) is None


@pytest.mark.parametrize("more", ["--discover", "--set openai.window=24h", "--instance x"])
def test_other_words_are_another_question(demo: Simulator, tmp_path: Path, more: str) -> None:
    environ = environment(demo.url, tmp_path)
    polled("--format nagios", environ)
    assert found(f"--format nagios {more}", environ) is None
    assert found("--format json", environ) is None


def test_a_new_version_polls_again(
    demo: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = environment(demo.url, tmp_path)
    polled("--format nagios", environ)
    monkeypatch.setattr(ready, "__version__", "0.0.0")
    assert found("--format nagios", environ) is None


@pytest.mark.parametrize(
    ("polled_at", "asked_at", "holds"),
    [
        (AT, AT + 49.9, True),
        (AT, AT + 50, False),
        (AT, AT - 9, True),
        (AT, AT - 11, False),
        (MIDNIGHT - 5, MIDNIGHT - 1, True),
        (MIDNIGHT - 5, MIDNIGHT + 1, False),
    ],
)
def test_an_answer_ends_with_its_time_and_at_midnight(
    tmp_path: Path, polled_at: int, asked_at: float, holds: bool
) -> None:
    with Simulator(at=polled_at, projects=1, models=2) as demo:
        environ = environment(demo.url, tmp_path)
        polled("--format nagios", environ, now=polled_at)
    assert (found("--format nagios", environ, asked_at) is not None) is holds


def stored(folder: Path) -> Path:
    (path,) = folder.glob("*.ready")
    return path


def test_a_damaged_file_never_answers(demo: Simulator, tmp_path: Path) -> None:
    environ = environment(demo.url, tmp_path)
    first = polled("--format nagios", environ)
    path = stored(tmp_path)
    whole = path.read_bytes()
    places = {*range(400), *range(400, len(whole), 97)}
    for place in places:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert found("--format nagios", environ) is None, place
    for place in (0, 1, 40, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place])
        assert found("--format nagios", environ) is None, place
    assert polled("--format nagios", environ) == first == found("--format nagios", environ)


def test_it_holds_no_secret_and_only_its_user_reads_it(demo: Simulator, tmp_path: Path) -> None:
    environ = environment(demo.url, tmp_path)
    polled("--format nagios", environ)
    path = stored(tmp_path)
    assert environ["OPENAI_ADMIN_KEY"].encode() not in path.read_bytes() + bytes(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_others_can_change_is_not_used(demo: Simulator, tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = environment(demo.url, home / "cache")
    polled("--format nagios", environ)
    for folder in (home, home / "cache"):
        folder.chmod(0o777)
        assert found("--format nagios", environ) is None, folder
        folder.chmod(0o700)
    assert found("--format nagios", environ) is not None
    (home / "cache").rename(home / "real")
    (home / "cache").symlink_to("real")
    assert found("--format nagios", environ) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a folder to another user")
def test_a_folder_of_another_user_is_not_used(demo: Simulator, tmp_path: Path) -> None:
    home = tmp_path / "home"
    environ = environment(demo.url, home / "cache")
    polled("--format nagios", environ)
    for folder in (home, home / "cache"):
        os.chown(folder, 4321, 4321)
        assert found("--format nagios", environ) is None, folder
        os.chown(folder, 0, 0)


@pytest.mark.parametrize(
    "words", ["-v", "--at 2026-11-18", "--output x", "--instance a*", "--help", "x", "--set"]
)
def test_some_options_always_take_the_full_path(words: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        question(words, {})


def test_it_reads_argv_and_environment_as_the_full_path_does() -> None:
    switches = [row.flag for row in OPTIONS if row.value is None and row.flag != "-v"]
    assert {*ready.SWITCHES} == {*switches, *options.NEGATIVES}
    names = ["LM_OPENAI_ETC", "LM_OPENAI_TIMEOUT", *VARIABLES, *CA_VARIABLES, "https_proxy"]
    assert [*ready._relevant([*names, "PATH", "NAGIOS_HOSTNAME"])] == names


@pytest.mark.parametrize(
    "setting", ["openai.cache.ttl=0s", "openai.cache.dir={home}/other", "openai.timeout=x"]
)
def test_what_has_no_ready_answer_makes_nobody_wait(
    demo: Simulator, tmp_path: Path, setting: str
) -> None:
    path = settled(tmp_path / "acme.conf", setting.format(home=tmp_path))
    environ = environment(demo.url, tmp_path / "cache")
    polled(f"--properties {path}", environ)
    second = question(f"--properties {path}", environ)
    assert (second.found(), second.locked) == (None, "")


def test_a_failure_answers_those_who_waited(tmp_path: Path) -> None:
    environ = environment("http://localhost:9", tmp_path)
    for words in ("--format json", "--format nagios", "--format nagios --instance x"):
        first = polled(words, environ)
        assert first[0] in (1, 3)
        assert found(words, environ) == first
        assert found(words.replace("x", "y"), environ) == first
        assert found(words, environ, AT + answers.FAILED_SECONDS) is None


def test_data_with_a_gap_answers_those_who_waited(demo: Simulator, tmp_path: Path) -> None:
    environ = environment(demo.url, tmp_path, NO_USAGE_KEY)
    first = polled("--format json", environ)
    assert b"api.usage.read" in first[2] + first[1]
    assert found("--format json", environ) == first
    assert found("--format json", environ, AT + answers.FAILED_SECONDS) is None


def test_it_waits_almost_as_long_as_the_time_limit(tmp_path: Path) -> None:
    PrivateFolder(str(tmp_path / "cache")).descriptor(create=True)
    environ = environment("http://localhost:9", tmp_path / "cache")
    first, second = question("", environ), question("", environ)
    assert (first.found(), first.locked) == (None, first.files[0])
    first.announce(1)
    assert (second.found(), second.locked) == (None, "")
    assert 0.85 <= second.waited < 10
    first.release()
    assert [*(tmp_path / "cache").iterdir()] == []


def test_the_alarm_of_another_program_stays(demo: Simulator, tmp_path: Path) -> None:
    environ = environment(demo.url, tmp_path)
    polled("", environ)
    signal.setitimer(signal.ITIMER_REAL, 600)
    try:
        assert found("", environ) is None
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 500
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def script(*words: str, flags: tuple[str, ...] = ()) -> list[str]:
    return [sys.executable, *flags, str(ROOT / f"modules/{FOLDER}/{FOLDER}.py"), *words]


def collect(*words: str, flags: tuple[str, ...] = ()) -> list[str]:
    """Return the suite command; it is started as on Debian, whose scripts need no site packages."""
    code = f"import sys; sys.path[0] = {str(ROOT)!r}; from lm_openai.start import suite; suite()"
    return [sys.executable, *flags, "-c", code, "collect", FOLDER, *words]


@pytest.mark.parametrize("command", [script, collect])
def test_the_first_stage_imports_almost_nothing(
    tmp_path: Path, command: Callable[..., list[str]]
) -> None:
    with Simulator(projects=1, models=2) as demo:
        environ = environment(demo.url, tmp_path)
        subprocess.run(command("--format", "json"), env=environ, check=True, capture_output=True)
        demo.clear()
        bare, whole = (
            subprocess.run(words, env=environ, check=True, capture_output=True, text=True)
            for words in (
                [sys.executable, "-S", "-X", "importtime", "-c", "import os"],
                command("--format", "json", flags=("-S", "-X", "importtime")),
            )
        )
        assert demo.requests == []
    assert whole.stdout.startswith("{")
    more = {*imported(whole.stderr)} - {*imported(bare.stderr)}
    assert len(more) <= 8, more
    assert all(name.startswith(("lm_openai", "_", "stat", "os")) for name in more), more


@pytest.mark.parametrize("form", FORMATS)
def test_collect_prints_the_bytes_of_the_script_and_shares_its_answer(
    tmp_path: Path, form: str
) -> None:
    words = ("--format", form)
    with Simulator(projects=1, models=2) as demo:
        environ = environment(demo.url, tmp_path)
        first = subprocess.run(collect(*words), env=environ, capture_output=True)
        demo.clear()
        for command in (script(*words), collect(*words)):
            again = subprocess.run(command, env=environ, capture_output=True)
            assert (again.returncode, again.stdout, again.stderr) == (
                first.returncode, first.stdout, first.stderr
            )  # fmt: skip
        assert demo.requests == []
    assert first.stdout


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("collect rate_limits --format json", ("rate_limits", ["--format", "json"])),
        ("collect --format json rate_limits", ("rate_limits", ["--format", "json"])),
        ("collect rate_limits", ("rate_limits", [])),
        ("collect all --format json", ("", [])),
        ("collect ./rate_limits", ("", [])),
        ("collect OpenAI_RateLimits_ByProject", ("", [])),
        ("collect --help", ("", [])),
        ("collect", ("", [])),
        ("show rate_limits", ("", [])),
        ("", ("", [])),
    ],
)
def test_collect_of_one_datasource_is_its_script(words: str, asked: tuple[str, list[str]]) -> None:
    assert start._collected(words.split()) == asked


@pytest.mark.parametrize("words", ["rate_limits completion_by_model", "rate_limits --nothing x"])
def test_collect_leaves_several_datasources_and_wrong_usage_to_click(words: str) -> None:
    folder, rest = start._collected(["collect", *words.split()])
    assert folder == FOLDER
    assert options.parse(rest) is None


def imported(text: str) -> Iterator[str]:
    """Yield the names in what `-X importtime` prints."""
    for line in text.splitlines():
        yield line.rpartition("|")[2].strip()


def test_services_that_start_at_once_make_one_poll(tmp_path: Path) -> None:
    with Simulator(projects=3, models=6, latency=0.1) as demo:
        alone = environment(demo.url, tmp_path / "alone")
        command = script("--format", "nagios", "--discover")
        text = subprocess.run(command, env=alone, capture_output=True, text=True).stdout
        names = [line.split("\t")[0] for line in text.splitlines()]
        demo.clear()
        environ = environment(demo.url, tmp_path / "shared")
        outputs = together(
            [("--format", "nagios", "--instance", names[i % len(names)]) for i in range(MANY)],
            environ,
        )
        sent = Counter((one.path, str(one.query)) for one in demo.requests)
    assert set(sent.values()) == {1}
    assert len(outputs) == MANY
    assert all("UNKNOWN" not in output for output in outputs)
    assert len(list((tmp_path / "shared").glob("*.ready"))) == 1


def together(calls: list[tuple[str, ...]], environ: dict[str, str]) -> list[str]:
    """Start scripts at once and return what each prints."""
    processes = [
        subprocess.Popen(script(*words), env=environ, stdout=subprocess.PIPE, text=True)
        for words in calls
    ]
    return [process.communicate(timeout=60)[0] for process in processes]


def test_properties_from_standard_input_are_part_of_the_question(tmp_path: Path) -> None:
    command = script("--format", "json", "--properties", "-")
    with Simulator(projects=1, models=2) as demo:
        environ = {**environment(demo.url, tmp_path), "LM_OPENAI_CACHE_TTL": "300s"}
        for name, polls in (("first", True), ("other", True), ("other", False), ("first", False)):
            demo.clear()
            text = f"openai.org.name={name}"
            outcome = subprocess.run(
                command, env=environ, input=text, capture_output=True, text=True, check=True
            )
            assert json.loads(outcome.stdout)["organization"] == name
            assert bool(demo.requests) is polls


def test_standard_input_that_is_refused_is_refused_by_the_full_path(
    demo: Simulator, tmp_path: Path
) -> None:
    for content in (b"\xff", b" " * (files.LARGEST + 9)):
        outcome = subprocess.run(
            script("--properties", "-"),
            env=environment(demo.url, tmp_path),
            input=content,
            capture_output=True,
        )
        assert outcome.returncode == 2
        assert b"standard input" in outcome.stderr
