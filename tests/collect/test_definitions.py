"""Declarations of every DataSource, compared with the schemas, the units and each other."""

import copy
import json

import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from lm_openai import resources
from lm_openai.api.endpoints import COST_DIMENSIONS, USAGE_KINDS
from lm_openai.collect import datasource, evaluation
from lm_openai.config import threshold_files
from lm_openai.model import aggregation, definition, thresholds
from lm_openai.model.report import Instance
from lm_openai.model.units import UNITS
from tests.support.paths import MODULES

FOLDERS = sorted(
    path.parent.name for path in MODULES.glob("*/*.json") if path.stem == path.parent.name
)
RESERVED = set(resources.schema("datasource")["$defs"]["reserved"]["enum"])
CLOSED = {
    "event_type": json.loads((MODULES / "audit_by_event_type" / "watch.json").read_text()),
    "key_type": ("admin", "project"),
}
each = pytest.mark.parametrize("folder", FOLDERS)


def read(folder, name):
    return json.loads((MODULES / folder / name).read_text())


def document(folder):
    return read(folder, f"{folder}.json")


def fault(document, schema):
    """Return JSON path and rule of the most relevant schema error, None if there is none."""
    found = best_match(Draft202012Validator(resources.schema(schema)).iter_errors(document))
    return found and (found.json_path, found.validator)


def names(folder):
    return [datapoint.name for datapoint in datasource.definition(folder).datapoints]


@pytest.mark.parametrize("name", ["datasource", "thresholds"])
def test_the_schemas_are_valid_json_schemas(name):
    Draft202012Validator.check_schema(resources.schema(name))


def test_every_folder_in_modules_is_a_datasource():
    scripts = {path.parent.name for path in MODULES.glob("*/*.py")}
    assert scripts == set(FOLDERS) == set(resources.folders())


@each
def test_a_folder_has_a_script_a_definition_and_thresholds(folder):
    for name in (f"{folder}.py", f"{folder}.json", "thresholds.json"):
        assert (MODULES / folder / name).is_file()
    loaded = datasource.load(folder)
    assert callable(loaded.discover)
    assert callable(loaded.collect)


@each
def test_the_definition_follows_its_schema(folder):
    assert fault(document(folder), "datasource") is None


@each
def test_the_title_is_the_name_in_words(folder):
    declared = document(folder)
    letters = declared["title"].replace(" ", "")
    assert declared["name"].replace("_", "").lower() == letters.lower()


@each
def test_a_datapoint_that_counts_over_the_window_is_declared_as_its_total(folder):
    for point in datasource.definition(folder).datapoints:
        counts = "in the window (openai.window" in point.description and point.unit != "percent"
        assert point.window_total == (counts or "took effect in the window" in point.description)


@each
def test_datapoint_names_are_unique_in_snake_case_and_camel_case(folder):
    spelled = [datapoint.camel.lower() for datapoint in datasource.definition(folder).datapoints]
    assert len(set(spelled)) == len(spelled) == len(set(names(folder)))


@each
def test_no_datapoint_is_a_reserved_word_of_logicmonitor(folder):
    spelled = {datapoint.camel.lower() for datapoint in datasource.definition(folder).datapoints}
    assert spelled.isdisjoint(RESERVED)


@each
def test_graphs_show_declared_datapoints_of_one_unit(folder):
    units = {entry["name"]: entry["unit"] for entry in document(folder)["datapoints"]}
    titles = [graph["title"] for graph in document(folder)["graphs"]]
    assert len(set(titles)) == len(titles)
    for graph in document(folder)["graphs"]:
        assert set(graph["datapoints"]) <= set(units)
        assert len({units[name] for name in graph["datapoints"]}) == 1, graph["title"]


@each
def test_derived_datapoints_use_only_datapoints_declared_before_them(folder):
    known: set[str] = set()
    for datapoint in document(folder)["datapoints"]:
        for rule, parts in datapoint.get("derived", {}).items():
            assert rule in aggregation.RULES
            assert set(parts) <= known
        known.add(datapoint["name"])


@each
def test_min_is_below_max(folder):
    for datapoint in document(folder)["datapoints"]:
        if "min" in datapoint and "max" in datapoint:
            assert datapoint["min"] < datapoint["max"]


@each
def test_a_datasource_with_a_series_declares_a_fold(folder):
    folds = [datapoint.get("fold") for datapoint in document(folder)["datapoints"]]
    assert any(folds) or document(folder)["series_width"] is None


@each
def test_declared_properties_exist_in_the_schema_of_properties(folder):
    schema = resources.schema("properties")
    families = {row["title"] for row in schema["patternProperties"].values()}
    assert set(document(folder)["properties"]) <= set(schema["properties"]) | families


def test_names_and_titles_are_unique_in_the_suite():
    for word in ("name", "title"):
        used = [document(folder)[word].lower() for folder in FOLDERS]
        assert len(set(used)) == len(used)


# Default thresholds


@each
def test_default_thresholds_follow_their_schema_and_name_their_datasource(folder):
    shipped = read(folder, "thresholds.json")
    assert fault(shipped, "thresholds") is None
    assert shipped["datasource"] == document(folder)["name"]


@each
def test_default_thresholds_are_for_declared_datapoints_and_keep_their_order(folder):
    loaded = datasource.definition(folder)
    rules = threshold_files.load(loaded)
    shipped = read(folder, "thresholds.json")["thresholds"]
    assert list(rules.thresholds) == [entry["datapoint"] for entry in shipped]
    assert set(rules.thresholds) <= set(names(folder))
    values = dict.fromkeys(names(folder), 0)
    readings = evaluation.judge(rules, Instance("x", "x", {}), values)
    assert [reading.datapoint for reading in readings] == names(folder)


@each
def test_every_default_threshold_and_every_empty_list_has_a_reason(folder):
    shipped = read(folder, "thresholds.json")
    for entry in shipped["thresholds"]:
        assert len(entry["reason"].split()) >= 8, entry["datapoint"]
    assert shipped["thresholds"] or shipped["reason"]


@each
def test_default_overrides_match_only_values_that_every_organization_has(folder):
    """A default is for all instances, or for a type that is the same in every organization."""
    for override in read(folder, "thresholds.json").get("overrides", ()):
        assert len(override["reason"].split()) >= 8
        for dimension, word in override["match"].items():
            assert word in CLOSED[dimension]


@each
def test_a_default_limit_is_between_min_and_max_of_its_datapoint(folder):
    loaded = datasource.definition(folder)
    for threshold in threshold_files.load(loaded).thresholds.values():
        datapoint = loaded.datapoint(threshold.datapoint)
        ends = [end for end in (datapoint.min, datapoint.max) if end is not None]
        for limit in threshold.limits:
            if limit is not None and len(ends) == 2:
                assert ends[0] <= limit <= ends[1]


# The schema of a definition


def test_the_schema_has_the_units_of_the_suite():
    assert resources.schema("datasource")["$defs"]["unit"]["enum"] == list(UNITS)


def test_the_schema_has_the_operators_and_fields_of_a_threshold():
    defined = resources.schema("thresholds")["$defs"]
    assert defined["operator"]["enum"] == list(thresholds.OPERATORS)
    for kind in ("threshold", "override"):
        fields = set(defined[kind]["properties"]) - {"match"}
        assert fields == set(thresholds.Threshold._fields)


def test_the_schema_has_all_dimensions_of_the_api():
    known = set(resources.schema("datasource")["$defs"]["dimension"]["enum"])
    assert known >= {name for kind in USAGE_KINDS.values() for name in kind.dimensions}
    assert known >= set(COST_DIMENSIONS)


def test_the_schema_has_the_fields_of_the_named_tuples():
    schema = resources.schema("datasource")
    assert set(schema["properties"]) == set(definition.Definition._fields) - {"folder"}
    for name, values in (("datapoint", definition.Datapoint), ("graph", definition.Graph)):
        assert set(schema["$defs"][name]["properties"]) - {"each"} == set(values._fields)
    assert set(schema["$defs"]["datapoint"]["properties"]["derived"]["properties"]) == set(
        aggregation.RULES
    )


@pytest.mark.parametrize("word", sorted(RESERVED))
def test_the_schema_rejects_reserved_words_as_datapoints(word):
    broken = document("images_by_model")
    broken["datapoints"][0]["name"] = word
    assert fault(broken, "datasource") == ("$.datapoints[0].name", "not")


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"name": "SaaS_OpenAI_ImagesByModel"}, "$.name"),
        ({"name": "OpenAI_Images_By_Model"}, "$.name"),
        ({"name": "OpenAI Images"}, "$.name"),
        ({"title": "Images By Model"}, "$.title"),
        ({"title": "OpenAI Images By-Model"}, "$.title"),
        ({"interval": 42}, "$.interval"),
        ({"discovery_interval": 300}, "$.discovery_interval"),
        ({"series_width": "5m"}, "$.series_width"),
        ({"dimensions": ["modell"]}, "$.dimensions[0]"),
        ({"properties": ["aws.region"]}, "$.properties[0]"),
        ({"colour": "red"}, "$"),
    ],
)
def test_the_schema_rejects_an_invalid_document(change, place):
    found = fault(document("images_by_model") | change, "datasource")
    assert found is not None
    assert found[0] == place


@pytest.mark.parametrize(
    "change",
    [
        {"name": "inputTokens"},
        {"name": "input__tokens"},
        {"name": "input-tokens"},
        {"unit": "token"},
        {"fold": "mean"},
        {"description": ""},
        {"min": 0.5},
        {"derived": {"sum": ["images", "num_model_requests"]}},
        {"derived": {"ratio": ["images", "num_model_requests"]}},
        {"kind": "gauge"},
    ],
)
def test_the_schema_rejects_an_invalid_datapoint(change):
    broken = copy.deepcopy(document("images_by_model"))
    broken["datapoints"][0] |= change
    found = fault(broken, "datasource")
    assert found is not None
    assert found[0].startswith("$.datapoints[0]")
