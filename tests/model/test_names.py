"""Display names: without unprintable characters, distinct within a poll, and short."""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as some

from lm_openai.model import names
from lm_openai.model.report import Instance


def project(identifier: str, name: str) -> Instance:
    return Instance(identifier, name, {"project_id": identifier}, {"project_name": name})


def pool(identifier: str, name: str, model: str = "gpt-4o") -> Instance:
    dimensions = {"project_id": identifier, "model": model}
    return Instance(
        f"{identifier}/{model}", f"{name} / {model}", dimensions, {"project_name": name}
    )


def aliases(*instances: Instance) -> list[str]:
    return [one.alias for one in names.distinct(instances).values()]


def test_characters_that_turn_the_direction_of_text_are_dropped() -> None:
    turned = Instance("a", "\u202eevil\u2066\u200f x\u061c", {}, {"project_name": "\u202dA"})

    assert names.cleaned(turned) == Instance("a", "evil x", {}, {"project_name": "A"})


def test_control_characters_and_halves_of_surrogates_become_spaces() -> None:
    one = names.cleaned(
        Instance(
            "proj_\x07",
            "A\tB\r\n\x1b[31m\ud83d\u2028\x85end",
            {"project_id": "proj_\x07"},
            {"project_name": "half \udc00"},
        )
    )

    assert one == Instance(
        "proj_\x07", "A B   [31m   end", {"project_id": "proj_ "}, {"project_name": "half  "}
    )


def test_an_alias_without_a_visible_character_is_the_id() -> None:
    assert names.cleaned(project("proj_1", "\x07 \ud83d")).alias == "proj_1"


def test_names_in_every_script_stay() -> None:
    one = project("proj_1", "Größe ☃ 模型 👩‍💻")
    assert names.cleaned(one) == one


def test_twins_get_the_end_of_the_ids_that_their_names_hide() -> None:
    first, second = "proj_5ofDMaDqmp3cnTwHUH6jJXna", "proj_abcDMaDqmp3cnTwHUH6jQ7rs"

    assert aliases(project(first, "Prod"), project(second, "Prod"), project("proj_3", "Test")) == [
        "Prod (6jJXna)",
        "Prod (6jQ7rs)",
        "Test",
    ]
    assert aliases(pool(first, "Prod"), pool(second, "Prod"), pool(second, "Prod", "o3")) == [
        "Prod / gpt-4o (6jJXna)",
        "Prod / gpt-4o (6jQ7rs)",
        "Prod / o3",
    ]


def test_twins_of_several_names_get_a_piece_of_each_id() -> None:
    def key(identifier: str, owner: str) -> Instance:
        dimensions = {"api_key_id": identifier, "project_id": owner, "key_type": "project"}
        shown = {"api_key_name": "ci", "project_name": "Prod"}
        return Instance(identifier, "Prod / ci", dimensions, shown)

    assert aliases(key("key_aaa111", "proj_x1"), key("key_bbb222", "proj_x1")) == [
        "Prod / ci (aaa111/roj_x1)",
        "Prod / ci (bbb222/roj_x1)",
    ]


def test_equal_pieces_grow_until_they_differ() -> None:
    assert aliases(project("proj_1_same66", "P"), project("proj_2_same66", "P")) == [
        "P (roj_1_same66)",
        "P (roj_2_same66)",
    ]


def test_an_instance_without_names_gets_its_own_id() -> None:
    rest = Instance("other", "other", {})

    assert aliases(rest, project("proj_123456", "other")) == ["other (other)", "other (123456)"]


def test_aliases_that_differ_in_spaces_alone_are_twins() -> None:
    assert aliases(project("proj_aaaaaa", "A  B"), project("proj_bbbbbb", "A B")) == [
        "A  B (aaaaaa)",
        "A B (bbbbbb)",
    ]


@given(some.lists(some.sampled_from(["P", "P (proj_1)", "P  (proj_1)", "P (proj_1) (proj_1)"])))
def test_no_two_instances_have_one_alias(chosen: list[str]) -> None:
    found = aliases(*(project(f"proj_{number}", name) for number, name in zip(count(1), chosen)))

    assert len({" ".join(alias.split()) for alias in found}) == len(chosen)


def test_a_long_text_loses_its_middle_and_keeps_its_end() -> None:
    alias = f"{'n' * 400} / gpt-4o-mini (6jJXna)"
    short = names.shortened(alias, 60)

    assert len(short) == 60
    assert short == "n" * 20 + "…" + "n" * 16 + " / gpt-4o-mini (6jJXna)"
    assert names.shortened("x" * 60, 60) == "x" * 60
