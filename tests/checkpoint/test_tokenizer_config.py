"""tokenizer_config.json: the donor's, but for what would be wrong beside another model."""

import json

import pytest

from tokswap.checkpoint.tokenizer_config import (
    CLASS,
    NO_CODE,
    adopt,
    base_length,
    with_class,
    with_no_code,
)

UNSAID = 1000000000000000019884624838656  # what transformers writes where there is no limit
CONFIG = {"max_position_embeddings": 4096}


def test_nothing_changes_where_nothing_must() -> None:
    donor = {"model_max_length": UNSAID, "padding_side": "left", "tokenizer_class": "X", "z": [1]}
    assert adopt(donor, {"model_max_length": UNSAID}, CONFIG).settings is None
    assert adopt({}, {}, {}).settings is None
    limited = donor | {"model_max_length": 512}
    assert adopt(limited, {"model_max_length": 512}, CONFIG).settings is None


@pytest.mark.parametrize(
    ("base", "config", "length"),
    [
        ({"model_max_length": 2048}, CONFIG, 2048),
        ({"model_max_length": UNSAID}, CONFIG, 4096),
        ({}, CONFIG, 4096),
        ({}, {"text_config": {"max_position_embeddings": 128}}, 128),
        ({}, {"n_positions": 1024}, 1024),
        ({"model_max_length": None}, {}, None),
        ({}, {"max_position_embeddings": True, "text_config": None}, None),
    ],
)
def test_the_length_is_the_bases(base: dict, config: dict, length: int | None) -> None:
    assert base_length(base, config) == length
    for donor in ({"model_max_length": 131072}, {"model_max_length": 1e20}):
        said = adopt({"a": 1, **donor, "padding_side": "left"}, base, config)
        assert said.content.get("model_max_length") == length
        assert said.content["padding_side"] == "left"
        assert len(said.changes) == 1
    said = adopt({}, base, config)
    assert said.content == (
        {} if base.get("model_max_length") is None else {"model_max_length": length}
    )


def test_keys_keep_their_order_and_their_values() -> None:
    flags = {"7": {"content": "<x>", "lstrip": True, "normalized": False, "special": True}}
    donor = {
        "z": 1,
        "model_max_length": 9,
        "added_tokens_decoder": flags,
        "truncation_side": "left",
        "tokenizer_class": "GPT2Tokenizer",
        "a": None,
    }
    before = json.dumps(donor)
    said = with_no_code(adopt(donor, {}, CONFIG))
    assert list(said.content) == [*donor, "auto_map"]
    changed = {"model_max_length": 4096, "tokenizer_class": CLASS, "auto_map": NO_CODE}
    assert said.content == donor | changed
    assert len(said.changes) == 3
    assert json.dumps(donor) == before


def test_code_and_paths_of_the_donors_are_not_named() -> None:
    donor = {
        "auto_map": {"AutoTokenizer": ["tokenization_x.XTokenizer", None]},
        "tokenizer_class": "XTokenizer",
        "name_or_path": "someone/model",
        "tokenizer_file": "/home/someone/tokenizer.json",
        "vocab_file": "C:\\models\\vocab.json",
        "spm_file": "../spiece.model",
        "merges_file": "merges.txt",
    }
    said = adopt(donor, {}, {}, known=False)
    assert said.content == {
        "tokenizer_class": CLASS,
        "name_or_path": "someone/model",
        "merges_file": "merges.txt",
    }
    assert len(said.changes) == 5
    assert adopt(donor, {}, {}).content["tokenizer_class"] == "XTokenizer"


def test_a_class_that_is_there_is_not_named_again() -> None:
    said = adopt({"tokenizer_class": CLASS}, {}, {})
    assert with_class(said) is said
    assert with_no_code(said).changes == ("auto_map without code",)
