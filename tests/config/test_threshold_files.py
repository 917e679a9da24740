"""Loading, merging and evaluating thresholds, with a DataSource made for these tests."""

import json
import subprocess
import sys
from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lm_openai
from lm_openai.collect import datasource
from lm_openai.collect.evaluation import effective, judge
from lm_openai.config.site_files import read_site
from lm_openai.config.threshold_files import load
from lm_openai.errors import WrongUsage
from lm_openai.model.report import Instance
from lm_openai.model.thresholds import (
    CRITICAL,
    ERROR,
    OK,
    OPERATORS,
    WARNING,
    Override,
    Rules,
    Threshold,
    describe,
)
from lm_openai.paths import threshold_folders
from tests.support.paths import ROOT

NAME = "OpenAI_Probe_ByProject"
DEFINITION = {
    "name": NAME,
    "title": "OpenAI Probe By Project",
    "description": "For tests.",
    "interval": 300,
    "discovery_interval": 3600,
    "dimensions": ["project_id", "model"],
    "series_width": None,
    "properties": [],
    "datapoints": [
        {"name": "share", "unit": "percent", "description": "A share"},
        {"name": "days_left", "unit": "days", "description": "Days"},
        {"name": "output_tokens", "unit": "tokens", "description": "Tokens"},
    ],
    "graphs": [],
}
SHIPPED = {
    "datasource": NAME,
    "thresholds": [
        {
            "datapoint": "share",
            "operator": ">=",
            "warning": 80,
            "error": 90,
            "critical": 95,
            "consecutive": 3,
            "reason": "as practice has it",
        },
        {"datapoint": "days_left", "operator": "<=", "warning": 14, "error": 7, "critical": 3},
    ],
}
WEB = Instance(
    "proj_1/gpt-5",
    "Web shop / gpt-5",
    {"project_id": "proj_1", "model": "gpt-5"},
    {"project_name": "Web shop"},
)
BATCH = Instance(
    "proj_2/gpt-5-mini",
    "batch-night / gpt-5-mini",
    {"project_id": "proj_2", "model": "gpt-5-mini"},
    {"project_name": "batch-night"},
)


class Stamps(dict[str, Any]):
    """In-memory store of checked files, like the cache, that counts its writes."""

    puts = 0

    def put(self, name, value, ttl):
        assert ttl > 0
        self.puts += 1
        self[name] = value


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """Definition of a DataSource in a temporary folder, loaded like all others."""
    root = tmp_path_factory.mktemp("probe")
    folder = root / "modules" / "probe"
    folder.mkdir(parents=True)
    (folder / "probe.py").write_text("def discover(poll): ...\ndef collect(poll, found): ...\n")
    (folder / "probe.json").write_text(json.dumps(DEFINITION))
    (folder / "thresholds.json").write_text(json.dumps(SHIPPED))
    modules = import_module("lm_openai.modules")
    lm_openai.__path__.append(str(root))
    modules.__path__.append(str(root / "modules"))
    yield datasource.definition("probe")
    modules.__path__.remove(str(root / "modules"))
    lm_openai.__path__.remove(str(root))


@pytest.fixture
def site(tmp_path):
    """Function that writes a site file and returns its path; text is written unchanged."""

    def write(content, name="site.json"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def thresholds(*entries):
    return {"datasource": NAME, "thresholds": list(entries)}


def override(**entry):
    return {"datasource": NAME, "overrides": [entry]}


def unknown(name):
    """Return why a name is not that of a DataSource, or ""."""
    return "" if name in (NAME, "OpenAI_Other") else f"unknown DataSource {name}"


def refusal(probe, path, **more):
    with pytest.raises(WrongUsage) as caught:
        load(probe, [path], **more)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(path), text
    return text.removeprefix(path).removeprefix(": ")


def limits(rules, instance=WEB, datapoint="share"):
    return effective(rules, instance)[datapoint].limits


# Levels of one threshold


@pytest.mark.parametrize(
    ("sign", "value", "level"),
    [
        (">", 80, OK),
        (">", 81, WARNING),
        (">=", 80, WARNING),
        (">=", 79.999999, OK),
        (">=", 94.999999, ERROR),
        (">=", 95.0, CRITICAL),
        ("=", 90, ERROR),
        ("=", 91, OK),
    ],
)
def test_a_value_gets_the_highest_level_that_it_reaches(sign, value, level):
    threshold = Threshold("share", sign, Decimal(80), Decimal(90), Decimal(95))
    assert threshold.level(value) == level


@pytest.mark.parametrize(
    ("sign", "value", "level"),
    [
        ("<", 14, OK),
        ("<", 13.9, WARNING),
        ("<=", 14, WARNING),
        ("<=", 3, CRITICAL),
        ("<=", 3.1, ERROR),
    ],
)
def test_a_threshold_with_less_than_alarms_below_its_limits(sign, value, level):
    threshold = Threshold("days_left", sign, Decimal(14), Decimal(7), Decimal(3))
    assert threshold.level(value) == level


def test_not_equal_alarms_on_every_other_value():
    threshold = Threshold("share", "!=", None, None, Decimal(1))
    assert [threshold.level(value) for value in (0, 1, 1.0, Decimal("1.00"), 2)] == [3, 0, 0, 0, 3]


def test_a_level_that_is_off_is_never_reached():
    threshold = Threshold("share", ">=", Decimal(80), None, None)
    assert threshold.level(1000) == WARNING
    assert Threshold("share", ">=", None, None, None).level(1000) == OK


@pytest.mark.parametrize("sign", OPERATORS)
@pytest.mark.parametrize("value", [float("nan"), Decimal("nan")])
def test_nan_reaches_the_highest_level_that_has_a_limit(sign, value):
    assert Threshold("share", sign, Decimal(1), Decimal(1), None).level(value) == ERROR


def test_a_float_is_compared_as_it_prints():
    assert Threshold("share", ">=", Decimal("0.3"), None, None).level(0.3) == WARNING
    assert Threshold("share", "=", Decimal("0.1"), None, None).level(0.1) == WARNING
    assert Threshold("share", ">", Decimal("0.1"), None, None).level(0.1) == OK


@given(
    sign=st.sampled_from([">", ">=", "<", "<="]),
    limits=st.lists(st.integers(-100, 100), min_size=3, max_size=3),
    worse=st.integers(-120, 120),
    step=st.integers(0, 50),
)
def test_a_worse_value_never_has_a_lower_level(sign, limits, worse, step):
    rising = sign.startswith(">")
    warning, error, critical = map(Decimal, sorted(limits, reverse=not rising))
    threshold = Threshold("share", sign, warning, error, critical)
    better = worse - step if rising else worse + step
    assert threshold.level(better) <= threshold.level(worse)


@given(
    sign=st.sampled_from(sorted(OPERATORS)),
    limits=st.lists(st.none() | st.integers(-3, 3), min_size=3, max_size=3),
    value=st.integers(-4, 4),
)
def test_the_level_is_the_highest_whose_limit_alarms(sign, limits, value):
    alarms = {
        ">": lambda limit: value > limit,
        ">=": lambda limit: value >= limit,
        "<": lambda limit: value < limit,
        "<=": lambda limit: value <= limit,
        "=": lambda limit: value == limit,
        "!=": lambda limit: value != limit,
    }[sign]
    warning, error, critical = (None if limit is None else Decimal(limit) for limit in limits)
    alarming = [
        level for level, limit in enumerate(limits, 1) if limit is not None and alarms(limit)
    ]
    threshold = Threshold("share", sign, warning, error, critical)
    assert threshold.level(value) == max(alarming, default=OK)


# Merging


def test_without_site_files_the_shipped_thresholds_are_in_force(probe):
    rules = load(probe)
    assert rules.datasource == NAME
    assert limits(rules) == (80, 90, 95)
    assert effective(rules, WEB)["share"].reason == "as practice has it"
    assert rules.sources == {"share": "default", "days_left": "default"}


def test_an_absent_level_inherits_and_null_switches_it_off(probe, site):
    path = site(thresholds({"datapoint": "share", "warning": 70.5, "error": None}))
    rules = load(probe, [path])
    merged = rules.thresholds["share"]
    assert merged == Threshold(
        "share", ">=", Decimal("70.5"), None, Decimal(95), 3, "as practice has it"
    )
    assert rules.sources["share"] == path


def test_a_later_file_wins_level_by_level(probe, site):
    first = site(thresholds({"datapoint": "share", "warning": 60, "error": 85}), "a.json")
    second = site(thresholds({"datapoint": "share", "error": 88}), "b.json")
    assert limits(load(probe, [first, second])) == (60, 88, 95)


def test_a_datapoint_without_a_shipped_threshold_can_get_one(probe, site):
    path = site(thresholds({"datapoint": "output_tokens", "operator": ">", "warning": 1000000}))
    assert load(probe, [path]).thresholds["output_tokens"] == Threshold(
        "output_tokens", ">", Decimal(1000000), None, None
    )


def test_a_new_threshold_without_an_operator_is_refused(probe, site):
    path = site(thresholds({"datapoint": "output_tokens", "warning": 1}))
    assert refusal(probe, path) == (
        'thresholds[0]: "operator" is missing; output_tokens has no threshold to inherit it from'
    )


@pytest.mark.parametrize(
    ("entry", "fault"),
    [
        (
            {"datapoint": "share", "warning": 92},
            "share are >= 92 90 95; they must not fall",
        ),
        (
            {"datapoint": "share", "operator": "<"},
            "share are < 80 90 95; they must not rise",
        ),
        ({"datapoint": "days_left", "critical": 8}, "days_left are <= 14 7 8; "),
        ({"datapoint": "share", "error": None, "critical": 79}, "share are >= 80 - 79; "),
        (
            {"datapoint": "share", "operator": "!="},
            "share are != 80 90 95; they must be one",
        ),
    ],
)
def test_limits_in_the_wrong_order_for_the_operator_are_refused(probe, site, entry, fault):
    assert refusal(probe, site(thresholds(entry))).startswith(
        f"thresholds[0]: the merged limits of {fault}"
    )


def test_equal_limits_are_in_order(probe, site):
    path = site(thresholds({"datapoint": "share", "warning": 95, "error": 95}))
    rules = load(probe, [path])
    assert rules.thresholds["share"].level(95) == CRITICAL
    assert rules.thresholds["share"].level(94) == OK


def test_one_datapoint_twice_in_one_file_is_refused(probe, site):
    path = site(
        thresholds({"datapoint": "share", "error": 91}, {"datapoint": "share", "error": 92})
    )
    assert refusal(probe, path) == (
        "thresholds[1].datapoint: share already has a threshold in thresholds[0]"
    )


ENTRY = st.fixed_dictionaries(
    {},
    optional={level: st.none() | st.integers(0, 5) for level in ("warning", "error", "critical")},
)


@given(entries=st.lists(ENTRY, max_size=4))
def test_each_level_comes_from_the_last_file_that_sets_it(probe, tmp_path_factory, entries):
    folder = tmp_path_factory.mktemp("merge")
    expected = {"warning": 80, "error": 90, "critical": 95}
    paths, in_order = [], True
    for number, entry in enumerate(entries):
        path = folder / f"{number}.json"
        path.write_text(json.dumps(thresholds({"datapoint": "share", **entry})))
        paths.append(str(path))
        expected |= entry
        given_limits = [limit for limit in expected.values() if limit is not None]
        in_order = in_order and given_limits == sorted(given_limits)
    if in_order:
        assert limits(load(probe, paths)) == tuple(expected.values())
    else:
        with pytest.raises(WrongUsage):
            load(probe, paths)


# Overrides


def test_an_override_applies_only_where_every_dimension_matches(probe, site):
    path = site(
        override(match={"project": "batch-*", "model": "gpt-5*"}, datapoint="share", critical=99)
    )
    rules = load(probe, [path])
    assert limits(rules, BATCH) == (80, 90, 99)
    assert limits(rules, WEB) == (80, 90, 95)


@pytest.mark.parametrize(
    ("match", "matches"),
    [
        ({"project": "Web shop"}, True),
        ({"project": "proj_1"}, True),
        ({"project_id": "Web*"}, True),
        ({"project": "web*"}, False),
        ({"project": "Web"}, False),
        ({"model": "gpt-[45]"}, True),
        ({"project": "Web shop", "model": "gpt-4*"}, False),
    ],
)
def test_a_glob_is_compared_with_id_and_name(probe, site, match, matches):
    rules = load(probe, [site(override(match=match, datapoint="share", warning=1))])
    assert (limits(rules)[0] == 1) is matches


def test_a_name_with_glob_characters_matches_itself(probe, site):
    named = WEB._replace(names={"project_name": "Web [prod]"})
    rules = load(
        probe, [site(override(match={"project": "Web [prod]"}, datapoint="share", warning=1))]
    )
    assert limits(rules, named)[0] == 1


def test_an_instance_that_lacks_a_dimension_does_not_match_it(probe, site):
    rules = load(probe, [site(override(match={"model": "*"}, datapoint="share", warning=1))])
    assert limits(rules, Instance("organization", "Acme", {}))[0] == 80


def test_the_last_matching_override_wins_level_by_level(probe, site):
    path = site(
        {
            "datasource": NAME,
            "overrides": [
                {"match": {"model": "*"}, "datapoint": "share", "warning": 10, "error": 85},
                {"match": {"project": "proj_1"}, "datapoint": "share", "error": 92},
                {"match": {"project": "proj_2"}, "datapoint": "share", "error": None},
            ],
        }
    )
    rules = load(probe, [path])
    assert limits(rules, WEB) == (10, 92, 95)
    assert limits(rules, BATCH) == (10, None, 95)


def test_overrides_win_over_the_thresholds_of_later_files(probe, site):
    first = site(override(match={"model": "*"}, datapoint="share", critical=99), "a.json")
    second = site(thresholds({"datapoint": "share", "critical": 97}), "b.json")
    assert limits(load(probe, [first, second])) == (80, 90, 99)


def test_an_override_can_add_a_threshold_to_a_datapoint_without_one(probe, site):
    entry = {"match": {"project": "proj_1"}, "datapoint": "output_tokens", "warning": 5}
    rules = load(probe, [site(override(**entry, operator=">"))])
    assert limits(rules, WEB, "output_tokens") == (5, None, None)
    assert "output_tokens" not in effective(rules, BATCH)
    assert refusal(probe, site(override(**entry))).startswith('overrides[0]: "operator" is missing')


def test_an_override_in_the_wrong_order_is_refused_with_its_position(probe, site):
    first = site(override(match={"model": "*"}, datapoint="share", critical=91), "a.json")
    second = site(thresholds({"datapoint": "share", "error": 93}), "b.json")
    load(probe, [first])
    with pytest.raises(WrongUsage) as caught:
        load(probe, [first, second])
    assert str(caught.value).startswith(
        f"{first}: overrides[0]: the merged limits of share are >= 80 93 91; "
    )


@given(
    changes=st.lists(st.tuples(st.sampled_from(["proj_1", "proj_2", "*"]), ENTRY), max_size=5),
    instance=st.sampled_from([WEB, BATCH]),
)
def test_each_level_comes_from_the_last_matching_override(changes, instance):
    base = Threshold("share", ">=", Decimal(80), Decimal(90), Decimal(95))
    overrides = tuple(
        Override((("project_id", glob),), "share", change, "x") for glob, change in changes
    )
    expected = {"warning": 80, "error": 90, "critical": 95}
    for glob, change in changes:
        if glob in ("*", instance.dimensions["project_id"]):
            expected |= change
    rules = Rules(NAME, {"share": base}, overrides)
    assert limits(rules, instance) == tuple(expected.values())
    assert rules.thresholds == {"share": base}


# Evaluation


def test_readings_keep_the_order_and_carry_the_threshold_of_their_instance(probe, site):
    path = site(override(match={"project": "batch-*"}, datapoint="share", warning=60))
    rules = load(probe, [path])
    readings = judge(rules, BATCH, {"output_tokens": 7, "days_left": 20.0, "share": 61.5})
    assert [(reading.datapoint, reading.value, reading.level) for reading in readings] == [
        ("output_tokens", 7, OK),
        ("days_left", 20.0, OK),
        ("share", 61.5, WARNING),
    ]
    tokens, days, share = readings
    assert tokens.threshold is None
    assert days.threshold == rules.thresholds["days_left"]
    assert days.breach is None
    assert share.threshold == rules.thresholds["share"]._replace(warning=Decimal(60))
    assert share.breach == (WARNING, share.threshold)


def test_a_threshold_with_all_levels_off_is_absent(probe, site):
    off = dict.fromkeys(("warning", "error", "critical"))
    rules = load(probe, [site(thresholds({"datapoint": "share", **off}))])
    (reading,) = judge(rules, WEB, {"share": 1000})
    assert (reading.threshold, reading.breach, reading.level) == (None, None, OK)


def test_a_level_switched_off_for_all_can_be_set_for_one(probe, site):
    path = site(
        {
            "datasource": NAME,
            "thresholds": [
                {"datapoint": "share", "warning": None, "error": None, "critical": None}
            ],
            "overrides": [{"match": {"project": "Web shop"}, "datapoint": "share", "error": 50}],
        }
    )
    rules = load(probe, [path])
    assert [judge(rules, instance, {"share": 50})[0].level for instance in (WEB, BATCH)] == [2, 0]


def test_describe_lists_thresholds_with_their_instances_and_files(probe, site):
    entry = {"match": {"project": "batch-*", "model": "gpt-5*"}, "datapoint": "share"}
    path = site(override(**entry, critical=99))
    lines = [
        (line.match, *line.threshold.limits, line.source) for line in describe(load(probe, [path]))
    ]
    expected: list[tuple[object, ...]] = [
        ("", 80, 90, 95, "default"),
        ("project=batch-*, model=gpt-5*", 80, 90, 99, path),
        ("", 14, 7, 3, "default"),
    ]
    assert lines == expected


# Folders and files


def test_the_folders_of_a_site_come_from_the_environment():
    assert threshold_folders({}) == ("/etc/lm-openai/thresholds.d",)
    assert threshold_folders({"HOME": "/home/ada", "LM_OPENAI_ETC": "", "XDG_CONFIG_HOME": ""}) == (
        "/etc/lm-openai/thresholds.d",
        "/home/ada/.config/lm-openai/thresholds.d",
    )
    assert threshold_folders(
        {"HOME": "/home/ada", "LM_OPENAI_ETC": "/srv/etc", "XDG_CONFIG_HOME": "/cfg"}
    ) == ("/srv/etc/thresholds.d", "/cfg/lm-openai/thresholds.d")


def test_folders_are_read_in_order_then_files_by_name_and_options_last(probe, site, tmp_path):
    def warns(number):
        return thresholds({"datapoint": "share", "warning": number})

    site(warns(10), "etc/b.json")
    site(warns(20), "etc/a.json")
    site(warns(30), "etc/.hidden.json")
    site("not read", "etc/notes.txt")
    folders = [str(tmp_path / "etc"), str(tmp_path / "missing"), str(tmp_path / "home")]
    assert limits(load(probe, site=read_site(folders, unknown)))[0] == 10
    site(warns(40), "home/0.json")
    assert limits(load(probe, site=read_site(folders, unknown)))[0] == 40
    assert limits(load(probe, [site(warns(50))], read_site(folders, unknown)))[0] == 50


GOOD = {"datasource": NAME, "thresholds": [{"datapoint": "share", "warning": 5}]}
BROKEN_FILES = {
    "not JSON": ('{"datasource": ', "line 1, column 16: not JSON (Expecting value); the file"),
    "twice a name": (
        '{"datasource": "a", "datasource": "b"}',
        'not JSON ("datasource" appears twice in one object); the file',
    ),
    "no object": ("17", "17 is not an object; the entry"),
    "no name": ({"thresholds": []}, '"datasource" is missing; the entry'),
    "a number for a name": ({"datasource": 1}, "datasource: 1 is not a string; the entry"),
    "an empty name": ({"datasource": ""}, "datasource: must not be empty; the entry"),
    "an unknown name": (
        {"datasource": "OpenAI_Prob"},
        "datasource: unknown DataSource OpenAI_Prob; the entry",
    ),
    "an unknown name in a list": (
        [GOOD, {"datasource": "OpenAI_Prob"}],
        "[1].datasource: unknown DataSource OpenAI_Prob; the entry",
    ),
}


@pytest.mark.parametrize("kind", BROKEN_FILES)
def test_what_names_no_datasource_is_a_fault_and_other_entries_apply(probe, site, tmp_path, kind):
    content, sentence = BROKEN_FILES[kind]
    path = site(content, "etc/a.json")
    site(GOOD, "etc/b.json")
    found = read_site([str(tmp_path / "etc")], unknown)
    assert found.faults == (f"{path}: {sentence} has no effect on any threshold",)
    assert limits(load(probe, site=found)) == (5, 90, 95)


@pytest.mark.parametrize(
    "entry",
    [
        {"datasource": "OpenAI_Other", "threshold": "oops"},
        {"datasource": "OpenAI_Other", "thresholds": [{"datapoint": "cats", "warning": 1}]},
        {"datasource": "OpenAI_Other", "thresholds": "oops"},
    ],
)
def test_an_error_in_an_entry_of_another_datasource_does_not_matter(probe, site, tmp_path, entry):
    site(entry, "etc/other.json")
    site([entry, GOOD], "etc/both.json")
    site([], "etc/empty.json")
    found = read_site([str(tmp_path / "etc")], unknown)
    assert found.faults == ()
    assert limits(load(probe, site=found)) == (5, 90, 95)


def test_an_error_in_an_entry_of_the_datasource_is_refused(probe, site, tmp_path):
    path = site([GOOD, thresholds({"datapoint": "share", "warning": "80%"})], "etc/probe.json")
    with pytest.raises(WrongUsage) as caught:
        load(probe, site=read_site([str(tmp_path / "etc")], unknown))
    assert str(caught.value) == f'{path}: [1].thresholds[0].warning: "80%" is not a number'


def test_a_file_that_cannot_be_read_is_a_fault(probe, tmp_path):
    (tmp_path / "folder.json").mkdir()
    found = read_site([str(tmp_path)], unknown)
    assert found.faults == (
        f"{tmp_path}/folder.json: cannot be read (it is a folder, not a regular file; name a "
        "file); the file has no effect on any threshold",
    )
    assert limits(load(probe, site=found)) == (80, 90, 95)


@pytest.mark.parametrize("name", ["probe", NAME, "OpenAI Probe By Project"])
def test_an_entry_names_its_datasource_by_folder_logicmodule_name_or_title(
    probe, site, tmp_path, name
):
    path = site(GOOD | {"datasource": name}, "etc/probe.json")
    assert limits(load(probe, site=read_site([str(tmp_path / "etc")], datasource.problem)))[0] == 5
    assert limits(load(probe, [path]))[0] == 5


def test_an_option_that_names_a_file_for_another_datasource_is_refused(probe, site):
    path = site({"datasource": "OpenAI_Other", "thresholds": []})
    assert refusal(probe, path) == f"is for OpenAI_Other, not for {NAME}"


def test_one_file_may_hold_a_list_for_several_datasources(probe, site):
    entry = {"datapoint": "share", "warning": "high"}
    others = {"datasource": "OpenAI_Other", "thresholds": [{"datapoint": "cats", "warning": 1}]}
    path = site([others, thresholds({"datapoint": "share", "warning": 5})])
    assert limits(load(probe, [path])) == (5, 90, 95)
    path = site([others, thresholds(entry)])
    assert refusal(probe, path) == '[1].thresholds[0].warning: "high" is not a number'


def test_a_folder_without_read_permission_is_a_fault(probe, tmp_path, monkeypatch):
    def closed(folder):
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr("os.listdir", closed)
    found = read_site([str(tmp_path)], unknown)
    assert found.faults == (
        f"{tmp_path}: cannot be read (Permission denied); what it contains has no effect on any "
        "threshold",
    )
    assert limits(load(probe, site=found)) == (80, 90, 95)


# Errors in a file


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            thresholds({"datapoint": "share", "warning": "80%"}),
            'thresholds[0].warning: "80%" is not a number',
        ),
        (
            thresholds({"datapoint": "share", "error": True}),
            "thresholds[0].error: true is not a number",
        ),
        (
            thresholds({"datapoint": "share", "warnning": 80}),
            'thresholds[0]: unknown field "warnning"; did you mean warning?',
        ),
        (
            thresholds({"datapoint": "shares"}),
            f'thresholds[0].datapoint: {NAME} has no datapoint "shares"; did you mean share?',
        ),
        (
            thresholds({"datapoint": "qqq"}),
            f'thresholds[0].datapoint: {NAME} has no datapoint "qqq"; '
            "expected one of share, days_left, output_tokens",
        ),
        (
            thresholds({"datapoint": "share", "operator": "=>"}),
            'thresholds[0].operator: "=>" is not one of >, >=, <, <=, =, !=',
        ),
        (
            thresholds({"datapoint": "share", "consecutive": 0}),
            "thresholds[0].consecutive: 0 is below the minimum of 1",
        ),
        (
            thresholds({"datapoint": "share", "consecutive": 1.5}),
            "thresholds[0].consecutive: 1.5 is not a whole number",
        ),
        (thresholds({"warning": 1}), 'thresholds[0]: "datapoint" is missing'),
        (
            override(match={"projct": "x"}, datapoint="share"),
            f'overrides[0].match.projct: {NAME} has no dimension "projct"; did you mean project?',
        ),
        (override(match={}, datapoint="share"), "overrides[0].match: must not be empty"),
        (
            override(match={"model": 5}, datapoint="share"),
            "overrides[0].match.model: 5 is not a string",
        ),
        ({"thresholds": []}, '"datasource" is missing'),
        ("17", "17 is not an object"),
        ('{"datasource": 1}', "datasource: 1 is not a string"),
        ('{\n "datasource": }', "line 2, column 16: not JSON (Expecting value)"),
        ('{"datasource": "a", "datasource": "b"}', 'not JSON ("datasource" appears twice'),
        ('{"warning": NaN}', "not JSON (NaN is not allowed)"),
        ("", "line 1, column 1: not JSON"),
    ],
)
def test_a_bad_file_is_refused_with_path_position_and_one_sentence(probe, site, content, sentence):
    assert refusal(probe, site(content)).startswith(sentence)


def test_a_binary_or_missing_file_is_refused(probe, tmp_path):
    path = tmp_path / "binary.json"
    path.write_bytes(b'{"datasource": "\xff\xfe"}')
    assert refusal(probe, str(path)).startswith("not JSON (")
    assert refusal(probe, str(tmp_path / "none.json")) == (
        "cannot be read (No such file or directory)"
    )


def test_every_api_dimension_may_match_if_the_grouping_can_be_chosen(probe, site):
    path = site(override(match={"user": "ada*"}, datapoint="share", warning=1))
    assert "has no dimension" in refusal(probe, path)
    grouped = probe._replace(properties=("openai.group.by",))
    (found,) = load(grouped, [path]).overrides
    assert found.match == (("user_id", "ada*"),)


# Checking a file once


def test_a_file_is_checked_again_only_when_it_changed(probe, site):
    stamps = Stamps()
    path = site(thresholds({"datapoint": "share", "warning": 70}))
    for _ in range(3):
        load(probe, [path], stamps=stamps)
    assert stamps.puts == 1
    path = site(thresholds({"datapoint": "share", "warning": 7}))
    assert limits(load(probe, [path], stamps=stamps))[0] == 7
    assert stamps.puts == 2


def test_a_bad_file_is_checked_every_time(probe, site):
    stamps = Stamps()
    path = site(thresholds({"datapoint": "share", "warning": "80%"}))
    for _ in range(2):
        assert "is not a number" in refusal(probe, path, stamps=stamps)
    assert stamps.puts == 0


def test_jsonschema_is_imported_only_for_a_file_not_checked_before(site, tmp_path):
    entry = {"datapoint": "images", "operator": ">", "warning": 1000}
    path = site({"datasource": "OpenAI_Images_ByModel", "thresholds": [entry]})
    program = """
import sys
from lm_openai.storage import cache
from lm_openai.collect import datasource
from lm_openai.config import threshold_files
path, folder = sys.argv[1:]
stamps = cache.Cache(folder, "tests", lambda: 1.0)
images = datasource.definition("images_by_model")
threshold_files.load(images)
print("jsonschema" in sys.modules)
print(threshold_files.load(images, [path], stamps=stamps).thresholds["images"].warning)
print("jsonschema" in sys.modules, "difflib" in sys.modules)
"""

    def shown():
        command = [sys.executable, "-c", program, path, str(tmp_path / "cache")]
        run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        return run.stdout.split()

    assert shown() == ["False", "1000", "True", "False"]
    assert shown() == ["False", "1000", "False", "False"]
