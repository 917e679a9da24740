"""Any content of a file that people write: it is accepted or refused in one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lm_openai.collect import datasource
from lm_openai.config import key_file, threshold_files
from lm_openai.config.properties import load
from lm_openai.config.registry import table
from lm_openai.config.site_files import read_site
from lm_openai.errors import Failure
from lm_openai.simulator import Simulator
from lm_openai.storage.cache import Cache
from tests.support.audit_feed import AT, events, followed

FOLDER = "rate_limits_by_model"
LEVELS = ("warning", "error", "critical")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**18, 10**30)
    | st.floats()
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
TEXTS = st.sampled_from(
    ["", "1e999", "9" * 30, "-1", "NaN", "5m", "\x00", "\ud800", "[", "proj_1", "http://[", "a/b"]
)
VALUES = JSON | TEXTS
MANY = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sentence(work: Callable[[], object]) -> str:
    """Return the one sentence of a failure, or an empty text; another exception is raised."""
    try:
        work()
    except Failure as failure:
        text = str(failure)
        assert text
        assert "\n" not in text
        return text
    return ""


def written(path: Path, content: Any) -> Path:
    """Write bytes, or a value as JSON, to a private file."""
    path.touch(0o600)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return path


def of_names(*names: str) -> Any:
    """Strategy for objects with some of the fields, each with any value."""
    return st.dictionaries(st.sampled_from(names), VALUES, max_size=5)


LINES = st.lists(
    st.tuples(st.sampled_from(sorted(table())), st.text(max_size=20) | TEXTS).map("=".join),
    max_size=4,
).map(lambda lines: "\n".join(lines).encode(errors="surrogatepass"))
PROPERTIES = st.binary(max_size=50) | LINES | JSON | of_names(*sorted(table()))


@MANY
@given(content=PROPERTIES)
def test_any_properties_file_is_accepted_or_refused(content: Any, tmp_path: Path) -> None:
    path = written(tmp_path / "host", content)
    sentence(lambda: load({}, [str(path)]))


DATAPOINT = st.sampled_from(["tpm_ceiling_utilization", "rpm_limit"]) | VALUES
OVERRIDE = st.fixed_dictionaries(
    {"match": of_names("project_id", "model", "x") | VALUES},
    optional=dict.fromkeys(LEVELS, VALUES),
)
ENTRY = st.fixed_dictionaries(
    {"datapoint": DATAPOINT},
    optional={
        **dict.fromkeys(LEVELS, VALUES),
        "operator": st.sampled_from([">", "<="]) | VALUES,
        "reason": VALUES,
        "consecutive": VALUES,
        "overrides": st.lists(OVERRIDE | VALUES, max_size=2) | VALUES,
    },
)
THRESHOLDS = st.fixed_dictionaries(
    {
        "datasource": st.just("OpenAI_RateLimits_ByModel") | VALUES,
        "thresholds": st.lists(ENTRY | VALUES, max_size=3),
    }
)


@MANY
@example(content=[[]])
@given(content=st.binary(max_size=50) | JSON | THRESHOLDS | st.lists(THRESHOLDS, max_size=2))
def test_any_thresholds_file_is_accepted_or_refused(content: Any, tmp_path: Path) -> None:
    folder = tmp_path / "thresholds.d"
    folder.mkdir(exist_ok=True)
    path = written(folder / "site.json", content)
    definition, cache = datasource.definition(FOLDER), Cache(None, "", lambda: 0.0)
    site = read_site([str(folder)], datasource.problem)

    given_path = sentence(lambda: threshold_files.load(definition, [str(path)], stamps=cache))
    sentence(lambda: threshold_files.load(definition, (), site, cache))

    assert not given_path or str(path) in given_path


@MANY
@given(content=st.binary(max_size=50) | st.text(max_size=20).map(str.encode))
def test_any_key_file_is_accepted_or_refused(content: bytes, tmp_path: Path) -> None:
    path = written(tmp_path / "key", content)
    sentence(lambda: key_file.read(str(path), shared=False))


CURSOR = st.fixed_dictionaries(
    {
        "start": st.integers(AT - 9000, AT + 9000) | VALUES,
        "width": st.integers(-1, 9000) | VALUES,
        "printed": st.dictionaries(st.text(max_size=3), st.integers() | VALUES) | VALUES,
    }
)


@settings(MANY, max_examples=60)
@given(content=st.binary(max_size=50) | JSON | CURSOR)
def test_any_cursor_is_used_or_refused(
    content: Any, demo_with_events: Simulator, tmp_path: Path
) -> None:
    followed(demo_with_events.url, tmp_path)
    (cursor,) = tmp_path.rglob("*.cursor")
    written(cursor, content)

    outcome = followed(demo_with_events.url, tmp_path, now=AT + 60)

    assert "a fault in" not in outcome.stderr
    assert outcome.status in (0, 1)
    events(outcome.stdout)


@pytest.fixture(scope="module")
def demo_with_events() -> Iterator[Simulator]:
    with Simulator(at=AT, projects=2, models=3) as demo:
        yield demo
