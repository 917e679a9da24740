"""Any value in any field of any response: the right output or a sentence, never a fault."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm_openai import resources
from lm_openai.api import records
from lm_openai.api.endpoints import COST_DIMENSIONS, LISTS, USAGE_KINDS, UsageKind
from lm_openai.api.records import Bucket
from lm_openai.api.transport import HttpResponse, Transport
from lm_openai.errors import ApiFailure
from lm_openai.output.registry import FORMATS
from lm_openai.simulator import ADMIN_KEY, Simulator
from tests.support import replay
from tests.support.demo_polls import WEDNESDAY

VALUES = (
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "1e999",
    "-0.0",
    "1e-400",
    "99999999999999999999999999",
    "253402300800",
    '""',
    '"NaN"',
    '"Infinity"',
    '"1_000"',
    '"\\u0661"',
    '"0x10"',
    '" 7 "',
    '"\\u0000\\u001b]0;owned\\u0007\\nOK\\u202e"',
    '"\\ud800"',
    f'"{"long " * 20_000}"',
    "[]",
    "{}",
    '[[["a"]]]',
    '{"value": "1", "name": 5}',
    "[" * 300 + "]" * 300,
)
"""Values of JSON that a field may have instead of its own."""
PLACES = ("first", "middle", "last", "every")
ODD_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]")
PAGE_ROWS, PAGE_BUCKETS = "3", "20"
LONGEST_LINE = 700


class Change(NamedTuple):
    """One change of the pages that match: a field, its value as JSON, and the rows that it has."""

    field: str
    value: str
    place: str


UNCHANGED = Change("", "null", "every")


class Wire:
    """Demo organization in small pages, each read once, whose pages a Change can alter."""

    def __init__(self, demo: Simulator) -> None:
        self.demo, self.change, self.fields = demo, UNCHANGED, set[str]()
        self._pages: dict[str, HttpResponse] = {}
        self._get = Transport.get

    def get(
        self, transport: Transport, path: str, query: Sequence[tuple[str, str]]
    ) -> HttpResponse:
        """Return a page as `Transport.get` does, changed."""
        small = PAGE_BUCKETS if "bucket_width" in dict(query) else PAGE_ROWS
        words = [(name, small if name == "limit" else value) for name, value in query]
        asked = f"{path} {words}"
        if asked not in self._pages:
            self._pages[asked] = self._get(transport, path, words, 30)
        found = self._pages[asked]
        if found.status != 200:
            return found
        page = json.loads(found.body)
        self.fields |= set(_names(page))
        rows, field = page.get("data"), self.change.field
        inside = isinstance(rows, list) and rows and field not in page
        _change(_chosen(rows, self.change.place) if inside else page, self.change)
        return found._replace(body=_text(page, self.change).encode())


def _names(part: Any) -> Iterator[str]:
    """Yield the name of each field at each depth."""
    if isinstance(part, dict):
        yield from part
        part = [*part.values()]
    for inner in part if isinstance(part, list) else ():
        yield from _names(inner)


def _chosen(rows: list[Any], place: str) -> list[Any]:
    index = {"first": 0, "middle": len(rows) // 2, "last": -1}
    return rows if place == "every" else [rows[index[place]]]


def _change(part: Any, change: Change) -> None:
    """Mark the field wherever it occurs."""
    if isinstance(part, dict):
        if change.field in part:
            part[change.field] = "CHANGED"
        part = [*part.values()]
    for inner in part if isinstance(part, list) else ():
        _change(inner, change)


def _text(page: Any, change: Change) -> str:
    return json.dumps(page).replace('"CHANGED"', change.value)


@pytest.fixture(scope="module")
def wire() -> Iterator[Wire]:
    with Simulator(at=WEDNESDAY, projects=2, models=3) as demo:
        wire = Wire(demo)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                Transport, "get", lambda self, path, query, _: wire.get(self, path, [*query])
            )
            yield wire


def polled(folder: str, wire: Wire, change: Change, form: str = "json") -> replay.Outcome:
    """Poll once with an empty cache while the pages have the change."""
    wire.change = change
    record = replay.Record(WEDNESDAY, {"openai.org.name": "acme"}, ())
    with TemporaryDirectory() as cache:
        return replay.collected(folder, record, wire.demo.url, Path(cache), form, False, ADMIN_KEY)


@pytest.mark.parametrize("folder", resources.folders())
def test_any_value_in_any_field_is_a_sentence_or_valid_output(folder: str, wire: Wire) -> None:
    wire.fields = set()
    assert polled(folder, wire, UNCHANGED).status == 0
    fields = sorted(wire.fields)

    @settings(max_examples=12)
    @given(
        st.builds(Change, st.sampled_from(fields), st.sampled_from(VALUES), st.sampled_from(PLACES))
    )
    def check(change: Change) -> None:
        outcome = polled(folder, wire, change)
        assert outcome.stdout or outcome.stderr
        assert outcome.status in (0, 1)
        assert "a fault in" not in outcome.stderr
        assert not ODD_CHARACTERS.search(outcome.stdout + outcome.stderr)
        assert all(len(line) <= LONGEST_LINE for line in outcome.stderr.splitlines())
        if outcome.stdout:
            json.loads(outcome.stdout, parse_constant=pytest.fail)

    check()


@pytest.mark.parametrize("form", FORMATS)
def test_half_a_surrogate_in_each_id_is_a_sentence_or_valid_output(form: str, wire: Wire) -> None:
    """Such an id is sent as a part of a path."""
    for place in PLACES:
        outcome = polled("spend_limits_by_project", wire, Change("id", r'"\ud800"', place), form)
        assert "a fault in" not in outcome.stdout + outcome.stderr


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
USAGE_ROW = {"input_tokens": 5, "output_tokens": 1, "num_model_requests": 1, "images": 1}
COMMON = ("id", "name", "email", "model", "type", "status", "effective_at", "interval", "currency")
LIST_ROW = dict.fromkeys(COMMON, "7")


def converted(read: Callable[[], object], name: str, field: str) -> None:
    """Convert a record; its failure names the endpoint and the field."""
    try:
        read()
    except ApiFailure as error:
        failure = error
    else:
        return
    assert failure.kind == "contract"
    assert str(failure).startswith(f"{name}: ")
    assert field in failure.detail


@given(data=st.data(), value=JSON, name=st.sampled_from(sorted(USAGE_KINDS)))
def test_a_row_of_usage_is_read_or_refused_by_name(data: Any, value: Any, name: str) -> None:
    kind = USAGE_KINDS[name]
    field = data.draw(st.sampled_from((*kind.quantities, *kind.dimensions)))
    row = {**dict.fromkeys(kind.quantities, 5), **USAGE_ROW, field: value}
    raw = {"start_time": 0, "end_time": 60, "results": [row]}
    converted(lambda: usage_bucket(raw, kind), f"usage/{name}", field)


def usage_bucket(raw: dict[str, Any], kind: UsageKind) -> Bucket:
    """Return a bucket of usage as the client reads it."""
    endpoint = f"usage/{kind.name}"
    return records.bucket(records.usage(kind, endpoint, None, raw), endpoint)


@given(value=JSON, field=st.sampled_from(["start_time", "end_time", "results"]))
def test_a_bucket_is_read_or_refused_by_name(value: Any, field: str) -> None:
    raw = {"start_time": 0, "end_time": 60, "results": [], field: value}
    kind = USAGE_KINDS["images"]
    # The rows of a list that is not a list of rows have no field.
    named = "" if field == "results" else field
    converted(lambda: usage_bucket({**raw}, kind), "usage/images", named)


@given(
    value=JSON,
    field=st.sampled_from(
        ["value", "currency", "amount", "quantity", "quantity_unit", *COST_DIMENSIONS]
    ),
)
def test_a_cost_is_read_or_refused_by_name(value: Any, field: str) -> None:
    amount = {"value": "1.5", "currency": "usd"}
    row: dict[str, Any] = {"amount": amount}
    (amount if field in amount else row)[field] = value
    raw = {"start_time": 0, "results": [row]}
    named = "" if field == "amount" else field
    converted(lambda: records.costs(raw, "costs"), "costs", named)


@given(data=st.data(), value=JSON, name=st.sampled_from(sorted(LISTS)))
def test_a_row_of_a_list_is_read_or_refused_by_name(data: Any, value: Any, name: str) -> None:
    listing = LISTS[name]
    fields = {*LIST_ROW, *listing.required, *listing.numbers, *listing.flags}
    field = data.draw(st.sampled_from(sorted(fields)))
    row = {**LIST_ROW, field: value}
    converted(lambda: records.listed(row, listing, name), name, field)


@given(
    value=JSON,
    field=st.sampled_from(["threshold_amount", "currency", "interval", "enforcement"]),
)
def test_a_spend_limit_is_read_or_refused_by_name(value: Any, field: str) -> None:
    row = {"threshold_amount": 100, "currency": "usd", "interval": "month", field: value}
    converted(lambda: records.spend_limit(row), "spend_limit", field)
