"""Sizes and ids in config.json and generation_config.json."""

import copy
from typing import Any

from tokswap.checkpoint.ids import TokenIds
from tokswap.checkpoint.settings import patch_settings
from tokswap.vocabulary.align import Alignment, align
from tokswap.vocabulary.tokens import Vocabulary


def vocabulary(tokens: list[str | None], **roles: int) -> Vocabulary:
    """Make a vocabulary of these tokens; those in angle brackets are special."""
    special = {n for n, token in enumerate(tokens) if token and token.startswith("<")}
    spelling = tuple(None if token is None else token.encode() for token in tokens)
    return Vocabulary(
        name="made",
        alphabet="text",
        spelling=spelling,
        strings=tuple(token or "" for token in tokens),
        special=frozenset(special),
        fallback=frozenset(),
        ids={s: n for n, s in enumerate(spelling) if s is not None and n not in special},
        roles=roles,
        specification={},
        sha256=repr((tokens, roles)),
    )


BASE = vocabulary(["<s>", "</s>", "<pad>", "a", "b", "c", "<img>", "d"], bos=0, eos=1, pad=2)
DONOR = vocabulary(["a", "c", "x", "d", "y", "z", "</e>", "<s>", "<pad>"], bos=7, eos=6, pad=8)


def patch(
    settings: dict[str, Any], base: Vocabulary = BASE, donor: Vocabulary = DONOR
) -> tuple[dict[str, Any], list[str]]:
    return patch_settings(settings, alignment(base, donor))


def alignment(base: Vocabulary, donor: Vocabulary) -> Alignment:
    return align(base, donor, base_rows=len(base) + 2, rows=len(donor) + 3)


def test_sizes_at_every_level() -> None:
    said = {
        "vocab_size": 10,
        "text_config": {"vocab_size": 10, "inner": {"vocab_size": 10}},
        "vision_config": {"vocab_size": 99},
        "hidden_size": 10,
    }
    expected = copy.deepcopy(said)
    expected["vocab_size"] = 12
    expected["text_config"] = {"vocab_size": 12, "inner": {"vocab_size": 12}}
    assert patch(said) == (expected, [])


def test_the_settings_given_are_left_as_they_are() -> None:
    said = {"vocab_size": 10, "text_config": {"eos_token_id": [1]}, "suppress_tokens": [3]}
    before = copy.deepcopy(said)
    patch(said)
    assert said == before


def test_ids_are_changed_by_role_and_by_row() -> None:
    said = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2, "decoder_start_token_id": 7}
    new = {"bos_token_id": 7, "eos_token_id": 6, "pad_token_id": 8, "decoder_start_token_id": 3}
    assert patch(said) == (new, [])
    assert patch({"text_config": said}) == ({"text_config": new}, [])


def test_lists_of_ends_stay_lists() -> None:
    assert patch({"eos_token_id": [1]}) == ({"eos_token_id": [6]}, [])
    assert patch({"eos_token_id": [1, 7, 2]}) == ({"eos_token_id": [6, 3, 8]}, [])


def test_an_end_without_counterpart_is_dropped_and_told() -> None:
    assert patch({"eos_token_id": [4, 1, 6]}) == (
        {"eos_token_id": [6]},
        ["eos_token_id 4", "eos_token_id 6"],
    )
    assert patch({"image_token_id": 6}) == ({"image_token_id": -1}, ["image_token_id 6"])


def test_the_donors_own_end_is_always_there() -> None:
    assert patch({"eos_token_id": [7]}) == ({"eos_token_id": [6, 3]}, [])
    assert patch({"eos_token_id": 4}) == ({"eos_token_id": 6}, ["eos_token_id 4"])


def test_what_is_null_stays_null() -> None:
    said = {"pad_token_id": None, "bos_token_id": None, "suppress_tokens": None}
    assert patch(said) == (said, [])


def test_a_role_that_the_donor_lacks_is_dropped() -> None:
    donor = vocabulary(["a", "</e>"], eos=1)
    assert patch({"bos_token_id": 0}, donor=donor) == ({"bos_token_id": None}, ["bos_token_id 0"])


def test_suppressed_tokens() -> None:
    assert patch({"suppress_tokens": [3, 4, 7], "begin_suppress_tokens": [5]}) == (
        {"suppress_tokens": [0, 3], "begin_suppress_tokens": [1]},
        ["suppress_tokens 4"],
    )


def test_bad_words() -> None:
    assert patch({"bad_words_ids": [[3, 5], [3, 4], [7]], "force_words_ids": [[6]]}) == (
        {"bad_words_ids": [[0, 1], [3]], "force_words_ids": []},
        ["bad_words_ids [3, 4]", "force_words_ids [6]"],
    )


def test_other_numbers_are_left_alone() -> None:
    said = {"hidden_size": 3, "max_length": 20, "top_k": 5, "rope": {"factor": 1.0}, "xs": [1, 2]}
    assert patch(said) == (said, [])


def test_the_class_of_the_bases_tokenizer_is_forgotten() -> None:
    assert patch({"tokenizer_class": "LlamaTokenizer"}) == ({}, [])
    said = {"tokenizer_class": "LlamaTokenizer"}
    assert patch(said, donor=BASE) == (said, [])


def test_a_base_on_its_own_tokenizer_keeps_every_setting() -> None:
    base = vocabulary(["<s>", "</s>", "<pad>", "a", None, "b", "<t>"], bos=0, eos=1, pad=2)
    said = {
        "vocab_size": 9,
        "tokenizer_class": "X",
        "bos_token_id": 0,
        "eos_token_id": 6,  # another end than the tokenizer's
        "pad_token_id": None,
        "image_token_id": 8,  # a row without a token
        "text_config": {"vocab_size": 9, "eos_token_id": [6, 1], "pad_token_id": 4},
        "suppress_tokens": [3, 5, 6, 7],
        "bad_words_ids": [[3, 5], [6]],
    }
    same = align(base, base, base_rows=9, rows=9)
    assert patch_settings(said, same) == (said, [])
    assert patch_settings({"eos_token_id": [6]}, same) == ({"eos_token_id": [6]}, [])


def test_the_new_id_of_a_row_that_several_tokens_took() -> None:
    base = vocabulary(["<e>", "a"], bos=0, eos=0)
    donor = vocabulary(["<s>", "</s>", "a"], bos=0, eos=1)
    ids = TokenIds(align(base, donor, base_rows=2, rows=3))
    assert ids.new(0, "bos") == 0
    assert ids.new(0, "eos") == 1
    assert ids.new(0) == 0
    assert ids.new(1) == 2
    assert ids.new(5) is None
    said = {"bos_token_id": 0, "eos_token_id": 0}
    assert patch(said, base, donor)[0] == {"bos_token_id": 0, "eos_token_id": 1}


def test_ids_under_the_older_name_are_changed_too() -> None:
    assert patch({"image_token_index": 7}) == ({"image_token_index": 3}, [])


def test_an_override_by_one_token_takes_over_its_ids() -> None:
    aligned = align(BASE, DONOR, base_rows=10, rows=12, overrides={2: [6], 4: [3, 4]})
    said = {"eos_token_id": [1, 6], "suppress_tokens": [4]}
    assert patch_settings(said, aligned) == (
        {"eos_token_id": [6, 2], "suppress_tokens": []},
        ["suppress_tokens 4"],
    )
