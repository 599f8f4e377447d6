"""A vocabulary is known by its tokens, not by the file that holds them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tokswap.names import BUNDLED_FOLDER
from tokswap.vocabulary.identity import content_hash, difference, token_hashes
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

Make = Callable[..., Vocabulary]
TOKENS = ["a", "b", "ab", "<s>", "<0x41>", "▁c"]


def saved_anew(folder: Path, source: Path) -> Vocabulary:
    """Load, use and save a tokenizer with transformers, as fine-tuning does."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer("a text", truncation=True, max_length=8)
    tokenizer.save_pretrained(folder)
    assert (folder / "tokenizer.json").read_bytes() != (source / "tokenizer.json").read_bytes()
    return load_vocabulary({path.name: path for path in folder.iterdir()}, name="saved anew")


@pytest.mark.parametrize("name", ["qwen", "gpt2", "llama2"])
def test_a_real_tokenizer_saved_anew_is_the_same(name: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "tokenizers" / name
    files = {path.name: path for path in folder.iterdir()}
    before = load_vocabulary(files, name=name)
    after = saved_anew(tmp_path, folder)
    assert np.array_equal(token_hashes(before), token_hashes(after))
    assert content_hash(before) == content_hash(after)
    assert before.sha256 != after.sha256


def test_a_role_does_not_change_the_identity(make: Make) -> None:
    plain, with_role = make(TOKENS), make(TOKENS, bos="<s>")
    assert with_role.special - plain.special
    assert content_hash(plain) == content_hash(with_role)


def test_every_token_counts(make: Make) -> None:
    base = make(TOKENS)
    assert len(token_hashes(base)) == len(TOKENS)
    assert len(set(token_hashes(base).tolist())) == len(TOKENS)
    for number in range(len(TOKENS)):
        other = make([*TOKENS[:number], "other", *TOKENS[number + 1 :]])
        found = difference(token_hashes(other), token_hashes(base))
        assert found.changed.tolist() == [number]
        assert not len(found.added) + len(found.removed) + len(found.flagged)
        assert content_hash(other) != content_hash(base)


def test_swapped_ids_are_both_named(make: Make) -> None:
    swapped = make([*TOKENS[1::-1], *TOKENS[2:]])
    assert difference(token_hashes(swapped), token_hashes(make(TOKENS))).changed.tolist() == [0, 1]


def test_added_and_removed_tokens(make: Make) -> None:
    base = make({"a": 0, "b": 1, "c": 4})  # ids 2 and 3 have no token
    more = make({"a": 0, "b": 1, "x": 3, "c": 4, "y": 6})
    found = difference(token_hashes(more), token_hashes(base))
    assert (found.added.tolist(), found.removed.tolist()) == ([3, 6], [])
    found = difference(token_hashes(base), token_hashes(more))
    assert (found.added.tolist(), found.removed.tolist()) == ([], [3, 6])
    assert not len(found.changed)


def test_what_is_special_on_one_side_only_is_told_apart(make: Make) -> None:
    text, control = make(TOKENS), make(TOKENS, special=["<s>"])
    found = difference(token_hashes(control), token_hashes(text))
    assert (found.flagged.tolist(), found.changed.tolist()) == ([3], [])
    assert content_hash(text) != content_hash(control)


def test_the_same_text_in_another_alphabet_is_the_same_token(make: Make) -> None:
    mark, alphabet = make(["▁the", "a"]), make(["Ġthe", "a"], alphabet="byte-level")
    assert np.array_equal(token_hashes(mark), token_hashes(alphabet))


def test_bundled_vocabularies_have_no_two_tokens_of_one_number() -> None:
    files = {path.name: path for path in (BUNDLED_FOLDER / "tiny-llama").iterdir()}
    vocabulary = load_vocabulary(files, name="tiny-llama")
    spelt = len({(data, n in vocabulary.special) for n, data in enumerate(vocabulary.spelling)})
    assert len(set(token_hashes(vocabulary).tolist())) == spelt
    assert json.loads(files["tokenizer.json"].read_text())["added_tokens"]
