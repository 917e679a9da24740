"""lm-openai doctor: it finds each problem and names its fix."""

from __future__ import annotations

import io
import json
import os
import re
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
import trustme
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from lm_openai.api.endpoints import USAGE_KINDS, rows_read
from lm_openai.app.doctor import (
    BAD,
    GOOD,
    NOTE,
    Finding,
    findings,
)
from lm_openai.app.options import Options
from lm_openai.app.session import Session, Surroundings
from lm_openai.simulator import (
    ADMIN_KEY,
    NO_AUDIT_KEY,
    NO_MANAGEMENT_KEY,
    NO_USAGE_KEY,
    Simulator,
)
from tests.support.demo_polls import WEDNESDAY
from tests.support.paths import ROOT
from tests.support.surroundings import environment

pytestmark = pytest.mark.slow

NOVEMBER_15 = 1794700800
LOCAL = ["key", "thresholds", "cache"]
Examine = Callable[..., dict[str, Finding]]


@pytest.fixture
def demo() -> Iterator[Simulator]:
    with Simulator(at=WEDNESDAY) as simulator:
        yield simulator


@pytest.fixture
def examined(tmp_path: Path) -> Examine:
    """Function that returns findings by subject; the last one of a subject wins."""

    def examine(
        url: str, key: str = ADMIN_KEY, now: int = WEDNESDAY, **more: str
    ) -> dict[str, Finding]:
        environ = {
            **environment(url, tmp_path / "cache", key),
            "LM_OPENAI_ETC": str(tmp_path / "etc"),
            "LM_OPENAI_TIMEOUT": "30",
            **more,
        }
        around = Surroundings(environ, io.StringIO(), io.StringIO(), io.StringIO(), now)
        return {found.subject: found for found in findings(Session(Options(), around, fresh=True))}

    return examine


@pytest.fixture
def site(tmp_path: Path) -> Callable[[str, object], Path]:
    """Function that writes a threshold file of the site: `site(name, content)`."""

    def put(name: str, content: object) -> Path:
        path = tmp_path / "etc" / "thresholds.d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return put


def test_a_good_key_passes_every_check(demo: Simulator, examined: Examine) -> None:
    found = examined(demo.url)

    assert {finding.verdict for finding in found.values()} == {GOOD}
    assert list(found) == [
        *LOCAL,
        "reach",
        "clock",
        "api.management.read",
        "api.usage.read",
        "api.audit_logs.read",
        "cover",
        "audit",
        "data",
    ]


def test_it_sends_one_request_per_endpoint_and_one_to_reach_the_api(
    demo: Simulator, examined: Examine
) -> None:
    examined(demo.url)

    assert len(demo.requests) == 1 + len([*rows_read(), "costs", *USAGE_KINDS])


# The cover of responses


def lacking_a_day(demo: Simulator, httpserver: HTTPServer) -> None:
    """Serve the demo organization without the costs of 2026-11-15."""

    def passed_on(request: Request) -> Response:
        found = requests.get(
            demo.url + request.path, request.args.to_dict(flat=False), headers=dict(request.headers)
        )
        page = found.json()
        if request.path.endswith("/costs"):
            page["data"] = [one for one in page["data"] if one["start_time"] != NOVEMBER_15]
        return Response(json.dumps(page), found.status_code, content_type="application/json")

    httpserver.expect_request(re.compile("/.*")).respond_with_handler(passed_on)


def test_a_day_that_costs_lack_is_found(
    demo: Simulator, httpserver: HTTPServer, examined: Examine
) -> None:
    lacking_a_day(demo, httpserver)

    cover = examined(httpserver.url_for("").rstrip("/"))["cover"]

    assert cover.verdict == BAD
    assert "2026-11-15T00:00:00Z to 2026-11-16T00:00:00Z" in cover.text


# The key


@pytest.mark.parametrize(
    ("key", "scope", "use"),
    [
        (NO_MANAGEMENT_KEY, "api.management.read", "rate limits"),
        (NO_USAGE_KEY, "api.usage.read", "costs"),
        (NO_AUDIT_KEY, "api.audit_logs.read", "audit feed"),
    ],
)
def test_a_missing_scope_is_named_with_what_needs_it(
    demo: Simulator, examined: Examine, key: str, scope: str, use: str
) -> None:
    found = examined(demo.url, key)

    assert [finding.subject for finding in found.values() if finding.verdict == BAD] == [scope]
    assert f"it needs {scope}" in found[scope].text
    assert use in found[scope].text


def test_a_project_key_is_recognized_by_its_prefix_and_by_the_api(
    demo: Simulator, examined: Examine
) -> None:
    found = examined(demo.url, "sk-proj-abc")

    assert list(found) == [*LOCAL, "reach"]
    assert found["key"].verdict == found["reach"].verdict == BAD
    assert "need an admin key" in found["key"].text
    assert len(demo.requests) == 1


def test_a_revoked_key_is_reported_as_such_and_not_as_a_connection_failure(
    demo: Simulator, examined: Examine
) -> None:
    found = examined(demo.url, "sk-admin-revoked")

    assert found["key"].verdict == GOOD
    assert found["reach"].verdict == BAD
    assert "responds on this machine" in found["reach"].text
    assert "the admin key is wrong or was revoked" in found["reach"].text


def test_a_truncated_key_is_a_note(demo: Simulator, examined: Examine) -> None:
    """It is not an error: a gateway may issue its own keys, and the API decides."""
    found = examined(demo.url, "admin-demo")

    assert found["key"].verdict == NOTE
    assert "copy the whole key again" in found["key"].text
    assert found["reach"].verdict == BAD


def test_no_finding_holds_the_key(demo: Simulator, examined: Examine) -> None:
    for key in (ADMIN_KEY, "sk-proj-abc", "sk-admin-revoked", "admin-demo"):
        assert not [words for _, _, words in examined(demo.url, key).values() if key in words]


# The connection


def test_a_url_without_the_version_is_not_reported_as_unreachable(
    demo: Simulator, examined: Examine
) -> None:
    reach = examined(demo.url.removesuffix("/v1"))["reach"]

    assert reach.verdict == BAD
    assert "Invalid URL (GET /organization/projects)" in reach.text
    assert "check the id and openai.api.url" in reach.text


def test_no_check_runs_after_the_api_is_unreachable(demo: Simulator, examined: Examine) -> None:
    demo.stop()

    found = examined(demo.url, LM_OPENAI_TIMEOUT="2")

    assert list(found) == [*LOCAL, "reach"]
    assert "no connection to the API" in found["reach"].text
    assert "check DNS, firewall, proxy" in found["reach"].text


def test_an_untrusted_certificate_is_named_with_its_fix(examined: Examine) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    with HTTPServer(host="localhost", ssl_context=context) as server:
        found = examined(server.url_for("/v1"))

    assert found["reach"].verdict == BAD
    assert "certificate is not trusted" in found["reach"].text
    assert "openai.ca.file" in found["reach"].text


def test_a_connection_over_tls_is_reported(examined: Examine, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with HTTPServer(host="localhost", ssl_context=context) as server:
        page = {"object": "list", "data": [], "has_more": False}
        server.expect_request("/v1/organization/projects").respond_with_json(page)
        ca_file = str(tmp_path / "ca.pem")
        url = server.url_for("/v1")
        found = examined(url, LM_OPENAI_CA_FILE=ca_file, LM_OPENAI_TIMEOUT="2")

    assert (found["reach"].verdict, found["reach"].text) == (GOOD, "localhost responds over TLS")


def test_a_web_page_instead_of_the_api_is_reported(demo: Simulator, examined: Examine) -> None:
    demo.fault("html")

    reach = examined(demo.url)["reach"]

    assert reach.verdict == BAD
    assert "HTTP 200 with a web page" in reach.text


def test_a_single_failing_usage_kind_is_found(demo: Simulator, examined: Examine) -> None:
    demo.fault("400", "*/usage/images")

    found = examined(demo.url)

    bad = [finding.subject for finding in found.values() if finding.verdict == BAD]
    assert bad == ["usage/images"]


@pytest.mark.parametrize("endpoint", ["costs", "users", "spend_alerts"])
def test_one_failing_endpoint_is_found_although_others_work(
    demo: Simulator, examined: Examine, endpoint: str
) -> None:
    demo.fault("400", f"/v1/organization/{endpoint}")

    found = examined(demo.url)

    assert [finding.subject for finding in found.values() if finding.verdict == BAD] == [endpoint]


# The clock and the data


@pytest.mark.parametrize(
    ("ahead", "verdict", "words"),
    [
        (60, GOOD, "within 60 s"),
        (-60, GOOD, "within 60 s"),
        (61, BAD, "61 seconds ahead of the API's"),
        (-3600, BAD, "60 minutes behind the API's"),
    ],
)
def test_a_clock_that_is_off_by_more_than_a_minute_is_found(
    demo: Simulator, examined: Examine, ahead: int, verdict: str, words: str
) -> None:
    clock = examined(demo.url, now=WEDNESDAY + ahead)["clock"]

    assert clock.verdict == verdict
    assert words in clock.text


def test_an_empty_audit_log_may_mean_that_logging_is_off(
    httpserver: HTTPServer, examined: Examine
) -> None:
    """The demo organization always has events."""
    empty = {"object": "list", "data": [], "has_more": False}
    for name in ("projects", "audit_logs"):
        httpserver.expect_request(f"/v1/organization/{name}").respond_with_json(empty)

    audit = examined(httpserver.url_for("/v1"), LM_OPENAI_TIMEOUT="2")["audit"]

    assert audit.verdict == NOTE
    assert "audit logging is off" in audit.text


def test_the_age_of_the_newest_usage_is_listed_by_kind_lowest_first(examined: Examine) -> None:
    delays = {"completions": 40 * 60, "embeddings": 20 * 60}
    with Simulator(at=WEDNESDAY, lag=0, delays=delays) as late:
        words = examined(late.url)["data"].text

    minutes = dict(part.rsplit(" ", 1) for part in words.partition(": ")[2].split(", "))
    assert (minutes["embeddings"], minutes["completions"]) == ("20", "40")
    assert list(minutes.values()) == sorted(minutes.values(), key=int)


def test_no_usage_at_all_is_a_note(examined: Examine) -> None:
    with Simulator(at=WEDNESDAY, lag=0, delays=dict.fromkeys(USAGE_KINDS, 86400)) as late:
        data = examined(late.url)["data"]

    assert (data.verdict, data.text) == (NOTE, "no usage of any kind in the last 3 hours")


# The cache


def test_a_cache_folder_that_others_can_write_to_is_reported(
    demo: Simulator, examined: Examine, tmp_path: Path
) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)

    cache = examined(demo.url)["cache"]

    assert cache.verdict == NOTE
    assert "others can write in it" in cache.text
    assert "every script sends its own requests" in cache.text


def test_a_file_instead_of_a_cache_folder_is_a_note(
    demo: Simulator, examined: Examine, tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("")

    assert examined(demo.url)["cache"].verdict == NOTE


def test_a_cache_below_a_folder_that_all_can_write_to_is_a_note_with_the_fix(
    demo: Simulator, examined: Examine, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)

    cache = examined(demo.url)["cache"]

    assert cache.verdict == NOTE
    assert f"every user of this host can change the folder {tmp_path}; " in cache.text
    assert f"run: chmod go-w {tmp_path}" in cache.text
    assert not (tmp_path / "cache").exists()


# Files and folders that others could change


def test_files_in_force_are_listed_as_trusted(
    demo: Simulator, examined: Examine, site: Callable[[str, object], Path], tmp_path: Path
) -> None:
    folder = site("costs.json", GOOD_FILE).parent
    key = tmp_path / "key"
    key.write_text(ADMIN_KEY)
    key.chmod(0o600)

    found = examined(demo.url, key="", LM_OPENAI_ADMIN_KEY_FILE=str(key))

    assert found["files"] == Finding(
        "files", GOOD, f"no other user can change {key}, {folder} or the folders above"
    )


def test_a_folder_of_thresholds_that_all_can_write_to_is_a_failure_with_the_fix(
    demo: Simulator, examined: Examine, site: Callable[[str, object], Path]
) -> None:
    folder = site("costs.json", GOOD_FILE).parent
    folder.chmod(0o777)

    found = examined(demo.url)

    assert found["files"].verdict == found["thresholds"].verdict == BAD
    assert found["files"].text.endswith(f"run: chmod go-w {folder}")
    assert f"every user of this host can change the folder {folder}" in found["thresholds"].text


# The site's thresholds


GOOD_FILE = {
    "datasource": "OpenAI_Cost_ByOrganization",
    "thresholds": [{"datapoint": "amount", "operator": ">", "warning": 5000}],
}


def test_the_sites_own_files_are_listed(
    demo: Simulator, examined: Examine, site: Callable[[str, object], Path]
) -> None:
    path = site("costs.json", GOOD_FILE)

    found = examined(demo.url)["thresholds"]

    assert found.verdict == GOOD
    assert str(path) in found.text


def test_a_misspelled_datasource_is_found(
    demo: Simulator, examined: Examine, site: Callable[[str, object], Path]
) -> None:
    path = site("costs.json", [GOOD_FILE, GOOD_FILE | {"datasource": "OpenAI_Cost_ByOrganisation"}])

    found = examined(demo.url)["thresholds"]

    assert found.verdict == BAD
    assert found.text == (
        f"{path}: [1].datasource: unknown DataSource 'OpenAI_Cost_ByOrganisation'; did you mean "
        f"OpenAI_Cost_ByOrganization?; the entry has no effect on any threshold"
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "costs.json"),
        (GOOD_FILE | {"thresholds": [{"datapoint": "amuont", "operator": ">"}]}, "amuont"),
        (GOOD_FILE | {"thresholds": [{"datapoint": "amount", "warning": "80%"}]}, "80%"),
        ({"thresholds": []}, "datasource"),
    ],
)
def test_a_faulty_file_is_reported_once_with_its_position(
    demo: Simulator,
    examined: Examine,
    site: Callable[[str, object], Path],
    content: object,
    words: str,
) -> None:
    site("costs.json", content)

    found = examined(demo.url)["thresholds"]

    assert found.verdict == BAD
    assert "costs.json" in found.text
    assert words in found.text


# The command


@pytest.mark.parametrize(("key", "status"), [(ADMIN_KEY, 0), (NO_AUDIT_KEY, 1)])
def test_the_command_prints_one_line_per_finding_and_fails_if_one_is_bad(
    demo: Simulator, tmp_path: Path, key: str, status: int
) -> None:
    demo.now = time.time()
    lines = command(demo, tmp_path, key, status).splitlines()

    assert lines[0].split() == ["ok", "key", "looks", "like", "an", "admin", "key"]
    assert [line[:4] for line in lines].count("FAIL") == status
    assert {line[:5].strip() for line in lines} <= {GOOD, NOTE, BAD}


def test_the_command_prints_json(demo: Simulator, tmp_path: Path) -> None:
    demo.now = time.time()
    lines = command(demo, tmp_path, ADMIN_KEY, 0, "--format", "json").splitlines()

    assert [Finding(**json.loads(line)).verdict for line in lines] == [GOOD] * len(lines)


def command(demo: Simulator, home: Path, key: str, status: int, *words: str) -> str:
    environ = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OPENAI_ADMIN_KEY": key,
        "OPENAI_BASE_URL": demo.url,
        "LM_OPENAI_CACHE_DIR": str(home / "cache"),
    }
    ran = subprocess.run(
        [sys.executable, "-m", "lm_openai.app.cli", "doctor", *words],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (ran.returncode, ran.stderr) == (status, "")
    return ran.stdout


# Settings that select by id or name


def test_settings_that_select_nothing_are_failures(
    demo: Simulator, site: Callable[[str, object], Path]
) -> None:
    match = {"match": {"project": "Marketng"}, "datapoint": "tpm_utilization", "warning": 50}
    path = site("site.json", {"datasource": "OpenAI_RateLimits_ByProject", "overrides": [match]})
    settings = {
        "LM_OPENAI_PROJECTS_INCLUDE": "Data*,Marketng",
        "LM_OPENAI_MODELS_EXCLUDE": "gpt-4o*",
    }

    found = all_findings(demo.url, path.parents[2], **settings)

    texts = [finding.text for finding in found if finding.subject == "settings"]
    assert texts == [
        "openai.projects.include: 'Marketng' matches no project; did you mean Marketing?",
        f"{path}, override of tpm_utilization: 'Marketng' matches no project; "
        "did you mean Marketing?",
    ]


def test_settings_that_select_something_are_not_mentioned(
    demo: Simulator, examined: Examine
) -> None:
    found = examined(demo.url, LM_OPENAI_PROJECTS_INCLUDE="Data*")

    assert "settings" not in found


def all_findings(url: str, home: Path, **settings: str) -> list[Finding]:
    """Return all findings, several of one subject too."""
    environ = {**environment(url, home / "cache"), "LM_OPENAI_ETC": str(home / "etc"), **settings}
    streams = io.StringIO(), io.StringIO(), io.StringIO()
    around = Surroundings(environ, *streams, WEDNESDAY)
    return list(findings(Session(Options(), around, fresh=True)))
