"""Sizes and ids in config.json and generation_config.json."""

import copy
from typing import Any

import pytest

from checkpoint.made import alignment, vocabulary
from tokswap.checkpoint.settings import absent_media, add_ends, merged, patch_settings
from tokswap.errors import CheckpointError
from tokswap.vocabulary.align import align
from tokswap.vocabulary.tokens import Vocabulary

BASE = vocabulary(["<s>", "</s>", "<pad>", "a", "b", "c", "<img>", "d"], bos=0, eos=1, pad=2)
DONOR = vocabulary(["a", "c", "x", "d", "y", "z", "</e>", "<s>", "<pad>"], bos=7, eos=6, pad=8)


def patch(
    settings: dict[str, Any], base: Vocabulary = BASE, donor: Vocabulary = DONOR
) -> tuple[dict[str, Any], list[str]]:
    return patch_settings(settings, alignment(base, donor))


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


def test_ids_under_the_older_name_are_changed_too() -> None:
    assert patch({"image_token_index": 7}) == ({"image_token_index": 3}, [])


def test_an_override_by_one_token_takes_over_its_ids() -> None:
    aligned = align(BASE, DONOR, base_rows=10, rows=12, overrides={2: [6], 4: [3, 4]})
    said = {"eos_token_id": [1, 6], "suppress_tokens": [4]}
    assert patch_settings(said, aligned) == (
        {"eos_token_id": [6, 2], "suppress_tokens": []},
        ["suppress_tokens 4"],
    )


def test_flags_and_negative_numbers_are_no_ids() -> None:
    said = {"eos_token_id": -1, "image_token_id": -200, "use_token_id": True, "pad_token_id": -1}
    assert patch(said) == (said, [])
    assert patch({"eos_token_id": [1, -1]}) == ({"eos_token_id": [6, -1]}, [])
    assert patch({"suppress_tokens": [-1, 3]}) == ({"suppress_tokens": [-1, 0]}, [])
    assert patch({"suppress_tokens": [True]}) == ({"suppress_tokens": [True]}, [])


def test_a_list_of_ends_never_becomes_empty() -> None:
    assert patch({"eos_token_id": [6]}) == ({"eos_token_id": [6]}, ["eos_token_id 6"])
    without = vocabulary(["a", "<s>"], bos=1)
    assert patch({"eos_token_id": [1], "top_k": 5}, donor=without) == (
        {"top_k": 5},
        ["eos_token_id 1", "all of eos_token_id"],
    )
    assert patch({"eos_token_id": []}, donor=without) == ({"eos_token_id": []}, [])


def test_ids_whose_names_only_end_in_a_role() -> None:
    said = {"forced_bos_token_id": 0, "forced_eos_token_id": 1, "_pad_token_id": 2}
    assert patch(said)[0] == {
        "forced_bos_token_id": 7,
        "forced_eos_token_id": 6,
        "_pad_token_id": 8,
    }
    # The donor's own end is put into lists of ends, not into what is forced.
    assert patch({"forced_eos_token_id": [7]})[0] == {"forced_eos_token_id": [3]}
    assert patch({"eos_token_ids": [7]})[0] == {"eos_token_ids": [6, 3]}


def test_sequences_that_stand_for_one_another() -> None:
    assert patch({"force_words_ids": [[[3, 5], [4]], [[4]], [7]]}) == (
        {"force_words_ids": [[[0, 1]], [3]]},
        ["force_words_ids [4]", "force_words_ids [4]"],
    )


def test_biases_of_sequences() -> None:
    assert patch({"sequence_bias": [[[3, 5], -10.0], [[4], 2.5], [[7], 1.0]]}) == (
        {"sequence_bias": [[[0, 1], -10.0], [[3], 1.0]]},
        ["sequence_bias [4]"],
    )


def test_ids_that_are_forced_at_places() -> None:
    assert patch({"forced_decoder_ids": [[1, 3], [2, None], [3, 4]]}) == (
        {"forced_decoder_ids": [[1, 0], [2, None]]},
        ["forced_decoder_ids 4"],
    )


def test_ids_by_name() -> None:
    said = {"lang_to_id": {"<a>": 3, "<b>": 4}, "vocabulary_map": {"a": 3, "c": 5}}
    new = {"lang_to_id": {"<a>": 0}, "vocabulary_map": {"a": 0, "c": 1}}
    assert patch(said) == (new, ["lang_to_id 4"])


def test_what_generation_reads_as_text_is_left_alone() -> None:
    said = {"stop_strings": ["a", "</s>"], "transformers_version": "5.23.0"}
    assert patch(said) == (said, [])


@pytest.mark.parametrize("key", ["bad_words_ids", "sequence_bias", "forced_decoder_ids"])
def test_a_form_that_nobody_reads_is_refused(key: str) -> None:
    with pytest.raises(CheckpointError, match=rf"made: {key} holds \[3\], which is none of the"):
        patch({key: [3]})


@pytest.mark.parametrize(
    "key", ["vocab_size", "n_vocab", "text_vocab_size", "padded_vocab_size", "num_vocab",
            "vocab_size_per_layer_input", "vocabulary_size", "src_vocab_size"]
)  # fmt: skip
def test_the_size_has_many_names(key: str) -> None:
    assert patch({key: 10, "deep": {key: 10}})[0] == {key: 12, "deep": {key: 12}}
    assert patch({key: 9})[0] == {key: 9}


@pytest.mark.parametrize(
    "key", ["type_vocab_size", "entity_vocab_size", "audio_vocab_size", "codebook_size",
            "vocab_offset", "ngram_vocab_size_base", "hidden_size"]
)  # fmt: skip
def test_other_sizes_that_are_the_same_number(key: str) -> None:
    assert patch({key: 10})[0] == {key: 10}


def test_pictures_and_sound_have_settings_of_their_own() -> None:
    said = {"vision_config": {"vocab_size": 10, "bos_token_id": 0}, "audio_config": {"n_vocab": 10}}
    assert patch(said) == (said, [])


def test_a_nested_vocabulary_of_another_size_keeps_its_own_ids() -> None:
    said = {"talker_config": {"vocab_size": 4, "eos_token_id": 1, "text_end_token_id": 7}}
    new = {"talker_config": {"vocab_size": 4, "eos_token_id": 1, "text_end_token_id": 3}}
    assert patch(said) == (new, [])
    assert patch({"text_config": {"vocab_size": 4, "eos_token_id": 1}})[0] == {
        "text_config": {"vocab_size": 4, "eos_token_id": 6}
    }


def test_code_of_the_bases_tokenizer_is_forgotten_and_the_models_stays() -> None:
    code = {"AutoConfig": "configuration_x.X", "AutoModelForCausalLM": "modeling_x.X"}
    both = code | {"AutoTokenizer": ["tokenization_x.X", None]}
    assert patch({"auto_map": both})[0] == {"auto_map": code}
    assert patch({"auto_map": both}, donor=BASE)[0] == {"auto_map": both}
    assert patch({"auto_map": {"AutoTokenizer": ["tokenization_x.X", None]}})[0] == {}


def test_ids_of_pictures_that_are_not_to_be_had() -> None:
    said = {
        "image_token_id": 6,
        "vision_start_token_id": 7,
        "video_token_index": -1,
        "eos_token_id": 4,
        "text_config": {"audio_token_id": 4},
        "vision_config": {"image_token_id": 4},
        "vocabulary_map": {"x": 3, "y": 4},
    }
    found = absent_media(said, alignment(BASE, DONOR))
    assert found == {"image_token_id": 6, "audio_token_id": 4, "vocabulary_map": 4}
    assert absent_media({"eos_token_id": 4}, alignment(BASE, DONOR)) == {}


def test_ends_are_added_once() -> None:
    assert add_ends({"eos_token_id": 6}, [3]) == {"eos_token_id": [6, 3]}
    assert add_ends({"eos_token_id": [6, 3]}, [3, 6]) == {"eos_token_id": [6, 3]}
    assert add_ends({"eos_token_id": 3}, [3]) == {"eos_token_id": 3}
    assert add_ends({"top_k": 1}, [3], 6) == {"top_k": 1, "eos_token_id": [6, 3]}
    assert add_ends({"eos_token_id": None}, [3]) == {"eos_token_id": 3}
    assert add_ends({}, [6], 6) == {"eos_token_id": 6}


def test_settings_are_added_at_every_level() -> None:
    said = {"a": 1, "text_config": {"b": 2}, "c": {"d": 3}}
    more = {"text_config": {"vocab_size": 9}, "image_token_index": 4, "c": 5, "new": {"e": 6}}
    assert merged(said, more) == {
        "a": 1,
        "text_config": {"b": 2, "vocab_size": 9},
        "c": 5,
        "image_token_index": 4,
        "new": {"e": 6},
    }
    assert said["text_config"] == {"b": 2}
