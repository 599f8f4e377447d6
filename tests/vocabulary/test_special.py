"""Special tokens: their roles, and the base tokens whose rows they take."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tokswap.vocabulary.special import levels, match_special, read_roles


def sources(
    roles: Mapping[str, int],
    strings: Mapping[int, str],
    base_roles: Mapping[str, int],
    base_strings: Mapping[str, int],
) -> dict[int, int | None]:
    found = match_special(roles, strings, base_roles, base_strings)
    return {number: source for number, (source, _reason) in found.items()}


def test_the_role_comes_before_the_string() -> None:
    strings = {0: "<s>", 1: "</s>", 2: "<mask>", 3: "<none>"}
    found = match_special(
        {"bos": 0, "eos": 1}, strings, {"bos": 7, "eos": 8}, {"<s>": 8, "</s>": 7, "<mask>": 9}
    )
    assert found == {
        0: (7, "role bos"),
        1: (8, "role eos"),
        2: (9, "string"),
        3: (None, "no counterpart"),
    }


def test_a_token_that_opens_and_closes_takes_the_end_of_text() -> None:
    assert sources({"bos": 0, "eos": 0}, {0: "<|e|>"}, {"bos": 7, "eos": 8}, {}) == {0: 8}


def test_a_token_that_closes_and_pads_takes_the_end_of_text() -> None:
    base = {"bos": 6, "pad": 7, "eos": 8}
    assert sources({"pad": 0, "eos": 0}, {0: "<|e|>"}, base, {"<|e|>": 7}) == {0: 8}


def test_several_tokens_may_take_one_row() -> None:
    strings = {0: "<s>", 1: "</s>", 2: "<pad>"}
    base = {"bos": 7, "eos": 7, "pad": 7}
    assert sources({"bos": 0, "eos": 1, "pad": 2}, strings, base, {}) == {0: 7, 1: 7, 2: 7}


def test_encoders_and_decoders_meet_by_what_the_tokens_do() -> None:
    strings = {0: "[CLS]", 1: "[SEP]"}
    base = {"bos": 7, "eos": 8}
    assert sources({"cls": 0, "sep": 1}, strings, base, {}) == {0: 7, 1: 8}
    base = {"cls": 7, "sep": 8}
    assert sources({"bos": 0, "eos": 1}, {0: "<s>", 1: "</s>"}, base, {}) == {0: 7, 1: 8}


@pytest.mark.parametrize(
    ("roles", "strings", "base_roles", "base_strings"),
    [
        ({"eos": 0}, {0: "</s>"}, {"bos": 7}, {}),
        ({"eos": 0}, {0: "<|e|>"}, {"bos": 7}, {"<|e|>": 7}),
        ({"eos": 0, "bos": 0}, {0: "<|e|>"}, {"bos": 7}, {"<|e|>": 7}),
        ({"eos": 0, "pad": 0}, {0: "<|e|>"}, {"bos": 7, "pad": 7}, {}),
        ({"eos": 0, "cls": 0}, {0: "<|e|>"}, {"cls": 7}, {}),
        ({"eos": 0, "unk": 0}, {0: "<|e|>"}, {"bos": 7, "unk": 7}, {"<|e|>": 7}),
        ({"eos": 0}, {0: "[CLS]"}, {"cls": 7}, {"[CLS]": 7}),
    ],
)
def test_the_end_of_text_never_takes_a_row_that_only_opens(
    roles: dict[str, int],
    strings: dict[int, str],
    base_roles: dict[str, int],
    base_strings: dict[str, int],
) -> None:
    found = match_special(roles, strings, base_roles, base_strings)
    assert found == {0: (None, "no counterpart")}


def test_the_end_of_text_takes_a_string_that_opens_and_closes() -> None:
    assert sources({"eos": 0}, {0: "<|e|>"}, {"bos": 7, "eos": 7}, {"<|e|>": 7}) == {0: 7}


def test_the_end_of_text_prefers_the_role_to_a_string_that_only_opens() -> None:
    assert sources({"eos": 0}, {0: "<|e|>"}, {"bos": 7, "eos": 8}, {"<|e|>": 7}) == {0: 8}


def test_nothing_but_the_end_of_text_is_held_back() -> None:
    assert sources({"pad": 0, "eos": 1}, {0: "<s>", 1: "</s>"}, {"bos": 7}, {"<s>": 7}) == {
        0: 7,
        1: None,
    }


def files(folder: Path, **contents: object) -> dict[str, Path]:
    for name, said in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(said), encoding="utf-8")
    return {path.name: path for path in folder.iterdir()}


def test_roles_are_read_in_order_of_weight(tmp_path: Path) -> None:
    found = read_roles(
        files(
            tmp_path,
            tokenizer_config={"eos_token": "</s>", "bos_token": {"content": "<s>"}},
            special_tokens_map={"eos_token": "<pad>", "pad_token": {"content": "<pad>"}},
        ),
        {"eos_token_id": 2, "unk_token_id": 3},
        {"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3},
    )
    assert found == {"eos": 1, "bos": 0, "pad": 2, "unk": 3}


def test_what_no_token_has_plays_no_role(tmp_path: Path) -> None:
    said = {"eos_token": "<gone>", "bos_token": None, "pad_token": 3}
    config = {"eos_token_id": 7, "bos_token_id": None, "pad_token_id": []}
    assert read_roles(files(tmp_path, tokenizer_config=said), config, {"a": 0}) == {}


def test_levels_lists_the_outermost_first() -> None:
    inner = {"b": 1}
    config = {"a": 1, "text_config": {"inner": inner}, "x": [1]}
    assert levels(config) == [config, config["text_config"], inner]
