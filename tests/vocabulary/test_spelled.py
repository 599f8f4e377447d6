"""Tokens as words are spelled alike by tokenizers that write them differently."""

from pathlib import Path

import pytest

from tokswap.vocabulary.spelled import cut_into_words, spell, spell_tokens
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

TEXT = "The naïve café costs 1 €.\n\tif x:\n"


def load(shared: Path, name: str) -> Vocabulary:
    path = shared / "tokenizers" / name / "tokenizer.json"
    if not path.is_file():
        pytest.skip(f"needs {path}")
    return load_vocabulary({"tokenizer.json": path}, name=name)


def test_bytes_are_spelled_as_text_and_what_is_none_byte_by_byte() -> None:
    assert spell(" thé".encode()) == " thé"
    assert spell(b"\xe2\x82") == "\uf7e2\uf782"
    assert spell(b"a\xff ") == "a\uf7ff "
    assert spell(b"\\xff") == "\\xff"
    every = [bytes([byte]) for byte in range(256)]
    assert len({spell(byte) for byte in every}) == 256
    for byte in every:
        spell(byte).encode()  # as gensim does, to cut it into n-grams


def test_spaces_are_spaces_in_any_alphabet(shared: Path) -> None:
    byte_level, sentencepiece = load(shared, "gpt2"), load(shared, "llama2")
    for vocabulary in (byte_level, sentencepiece):
        spelled = spell_tokens(vocabulary)
        assert spelled[vocabulary.ids[b" the"]] == " the"
        assert all(spelled[number] is None for number in vocabulary.special)


@pytest.mark.parametrize("name", ["gpt2", "llama2"])
def test_the_words_of_a_text_are_its_tokens(name: str, shared: Path) -> None:
    vocabulary = load(shared, name)
    texts = [TEXT, "", "again"]
    found = cut_into_words(vocabulary, texts)
    joined = ["".join(words) for words in found]
    if name == "llama2":  # with its dummy space, and bytes for what it has no token for
        joined = [text.removeprefix(" ") for text in joined]
    data = "".join(
        chr(ord(c) - 0xF700) if 0xF700 <= ord(c) < 0xF800 else c.encode().decode("latin-1")
        for c in joined[0]
    )
    assert data.encode("latin-1").decode() == TEXT
    assert joined[1:] == ["", "again"]
