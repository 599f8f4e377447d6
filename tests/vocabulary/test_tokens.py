"""Vocabularies as they are read from tokenizer.json and the small files beside it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tokswap.errors import NameUnknownError, VocabularyError
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

Make = Callable[..., Vocabulary]
Small = Callable[[str], Vocabulary]


def test_a_plain_token_beats_a_byte_token(make: Make) -> None:
    vocabulary = make(["<0x41>", "<0x42>", "A"])
    assert vocabulary.spelling == (b"A", b"B", b"A")
    assert vocabulary.fallback == {0, 1}
    assert vocabulary.ids == {b"A": 2, b"B": 1}


def test_the_lower_id_beats_the_higher(make: Make) -> None:
    # Byte tokens are written in either case; both stand for the byte.
    assert make(["<0x4A>", "<0x4a>"]).ids == {b"J": 0}


def test_both_spellings_of_a_word_have_the_same_bytes(make: Make) -> None:
    left, right = make(["▁the"]), make(["Ġthe"], alphabet="byte-level")
    assert left.spelling == right.spelling == (b" the",)


def test_byte_tokens_are_plain_text_in_a_byte_level_vocabulary(make: Make) -> None:
    vocabulary = make(["<0x41>"], alphabet="byte-level")
    assert vocabulary.spelling == (b"<0x41>",)
    assert not vocabulary.fallback


def test_special_tokens_are_no_text(make: Make) -> None:
    vocabulary = make(["<s>", "</s>", "a"], special=["<s>", "</s>"], bos="<s>", eos="</s>")
    assert vocabulary.special == {0, 1}
    assert vocabulary.special_ids == {"<s>": 0, "</s>": 1}
    assert vocabulary.ids == {b"a": 2}
    assert vocabulary.roles == {"bos": 0, "eos": 1}


def test_a_token_with_a_role_is_special_though_it_is_not_marked(make: Make) -> None:
    assert make(["</s>", "a"], eos="</s>").special == {0}


def test_an_ordinary_added_token_is_matched_as_it_stands(make: Make) -> None:
    level = make({"a": 0, "Ġx y": 1}, added=["Ġx y"], alphabet="byte-level")
    assert level.spelling == (b"a", "Ġx y".encode())
    assert make(["a", "▁▁"], added=["▁▁"]).spelling[1] == b"  "


def test_gaps_between_ids_are_no_tokens(make: Make) -> None:
    vocabulary = make({"a": 0, "b": 3})
    assert len(vocabulary) == 4
    assert vocabulary.spelling == (b"a", None, None, b"b")
    assert vocabulary.strings == ("a", "", "", "b")


@pytest.mark.parametrize(
    ("model", "added"),
    [
        ({"a": 0, "b": 1}, {"<x>": 2, "<y>": 5}),  # a gap between added tokens
        ({"a": 0, "b": 7}, {"<x>": 8, "<y>": 9}),  # a gap in the model's
        ({"a": 0}, {"<x>": 4, "<y>": 1}),  # out of order
        ({"a": 0, "<x>": 1, "b": 2}, {"<x>": 1, "<y>": 9}),  # one is the model's too
    ],
)
def test_added_tokens_have_the_ids_that_texts_hold(
    model: dict[str, int], added: dict[str, int], make: Make, tmp_path: Path
) -> None:
    said = dict(make(model).specification)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    said["added_tokens"] = [{"id": n, "content": token, **flags} for token, n in added.items()]
    (tmp_path / "tokenizer.json").write_text(json.dumps(said), encoding="utf-8")
    files = {"tokenizer.json": tmp_path / "tokenizer.json"}
    vocabulary = load_vocabulary(files, name="added")
    ids = {token: vocabulary.backend.encode(token).ids for token in added}
    assert ids == {token: [vocabulary.by_string[token]] for token in added}
    assert ids == {token: [number] for token, number in vocabulary.added_ids.items()}
    assert vocabulary.moved == [token for token, number in added.items() if ids[token] != [number]]
    assert vocabulary.moved


def test_no_real_tokenizer_has_moved_ids(real: Small) -> None:
    for name in ("llama3", "mistral-nemo", "qwen", "gpt2", "llama2", "mistral-v3"):
        assert not real(name).moved


def test_the_unknown_token_of_each_model_is_special(small: Small) -> None:
    assert small("unigram").strings[0] == "<unk>"
    assert 0 in small("unigram").special
    assert small("wordpiece").by_string["[UNK]"] in small("wordpiece").special


def test_ids_in_the_config_tell_the_roles_that_are_left_open(make: Make) -> None:
    config = {"text_config": {"eos_token_id": [1, 2], "bos_token_id": 0}}
    tokens = ["<s>", "</s>", "</t>", "a"]
    vocabulary = make(tokens, special=tokens[:3], config=config, eos="</t>")
    assert vocabulary.roles == {"eos": 2, "bos": 0}


@pytest.mark.parametrize("number", [2, 9, -1])
def test_an_id_in_the_config_never_makes_text_special(make: Make, number: int) -> None:
    # transformers writes default ids (bos 1, eos 2) into configs whose tokenizer has text there.
    config = {"bos_token_id": number, "pad_token_id": number}
    vocabulary = make(["<s>", "</s>", '"'], special=["<s>", "</s>"], eos="</s>", config=config)
    assert vocabulary.roles == {"eos": 1}
    assert vocabulary.special == {0, 1}
    assert vocabulary.ids == {b'"': 2}


def test_the_hash_is_the_files(small: Small, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(small("byte-level").specification), encoding="utf-8")
    vocabulary = load_vocabulary({path.name: path}, name="x")
    assert vocabulary.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_backend_does_not_truncate(small: Small, tmp_path: Path) -> None:
    said = dict(small("byte-level").specification)
    said["truncation"] = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst",
                          "stride": 0}  # fmt: skip
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(said), encoding="utf-8")
    vocabulary = load_vocabulary({path.name: path}, name="x")
    assert len(vocabulary.backend.encode("the quick brown fox jumps").ids) > 3


@pytest.mark.parametrize(
    ("text", "string"),
    [("<s>", "<s>"), (" the", "▁the"), ("▁the", "▁the"), ("\1", "<0x01>"), ("<0x0A>", "<0x0A>")],
)
def test_a_token_is_found_by_what_people_write(small: Small, text: str, string: str) -> None:
    vocabulary = small("prepend")
    assert vocabulary.find(text) == vocabulary.by_string[string]


def test_a_token_that_is_none_is_shown_as_it_is_cut(small: Small) -> None:
    with pytest.raises(NameUnknownError, match=r"'zzz' is not one token of prepend.* cuts it as "):
        small("prepend").find("zzz")


def test_tokens_are_shown_for_people(make: Make) -> None:
    vocabulary = make({"<s>": 0, "▁the": 1, "<0xF0>": 2, "x": 4}, special=["<s>"])
    shown = [vocabulary.show(number) for number in range(6)]
    assert shown == ["<s>", "' the'", "b'\\xf0'", "(no token 3)", "'x'", "(no token 5)"]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "x: tokenizer.json is not valid .* fetch it again"),
        ("[]", "x: tokenizer.json is not valid"),
        ('{"model": {}}', "x: tokenizer.json is not valid .*vocab"),
        ('{"model": {"type": "WordLevel", "vocab": {"a": 0}}}', "WordLevel.* supported are BPE"),
        (
            '{"model": {"type": "BPE", "vocab": {}, "end_of_word_suffix": "</w>"}}',
            "x: this tokenizer marks the ends of words",
        ),
    ],
)
def test_a_tokenizer_that_cannot_be_read_is_refused(
    tmp_path: Path, said: str, message: str
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(said, encoding="utf-8")
    with pytest.raises(VocabularyError, match=message):
        load_vocabulary({path.name: path}, name="x")


@pytest.mark.parametrize("said", ["{", "[]"])
@pytest.mark.parametrize("name", ["tokenizer_config.json", "special_tokens_map.json"])
def test_a_malformed_small_file_is_refused_by_name(tmp_path: Path, said: str, name: str) -> None:
    files = {file: tmp_path / file for file in ("tokenizer.json", name)}
    files["tokenizer.json"].write_text('{"model": {"type": "BPE", "vocab": {"a": 0}}}')
    files[name].write_text(said)
    with pytest.raises(VocabularyError, match=f"x: {name} is not valid .*fetch it again"):
        load_vocabulary(files, name="x")


def test_a_folder_without_tokenizer_json_is_told_how_to_get_one() -> None:
    with pytest.raises(VocabularyError, match=r"x has no tokenizer\.json.*save_pretrained"):
        load_vocabulary({}, name="x")
