"""Bytes of tokens against what the tokenizers library decodes and transformers tabulates."""

from collections.abc import Callable, Iterator

import pytest
from tokenizers import Tokenizer, pre_tokenizers
from transformers.convert_slow_tokenizer import bytes_to_unicode

from tokswap.errors import VocabularyError
from tokswap.vocabulary.spelling import (
    byte_alphabet,
    from_byte_level,
    is_isolated,
    spelling_of,
    steps,
    to_byte_level,
)
from tokswap.vocabulary.tokens import Vocabulary

REAL = ("llama3", "mistral-nemo", "qwen", "gpt2", "llama2", "mistral-v3")
NEVER_IN_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}


def test_byte_alphabet_is_gpt2s() -> None:
    assert byte_alphabet() == bytes_to_unicode()
    assert set(byte_alphabet().values()) == set(pre_tokenizers.ByteLevel.alphabet())


def test_every_byte_makes_the_round_trip() -> None:
    data = bytes(range(256))
    assert from_byte_level(to_byte_level(data)) == data
    assert to_byte_level(b" the\n") == "ĠtheĊ"


def test_literal_text_outside_the_alphabet_is_kept() -> None:
    assert from_byte_level("世界") == "世界".encode()


@pytest.mark.parametrize("name", REAL)
def test_every_real_token_is_what_the_library_decodes(
    real: Callable[[str], Vocabulary], name: str
) -> None:
    wrong = list(mistakes(real(name)))
    assert not wrong, f"{len(wrong)} tokens, such as {wrong[:5]}"


@pytest.mark.parametrize("name", ["byte-level", "split", "prepend", "metaspace", "unigram"])
def test_every_small_token_is_what_the_library_decodes(
    small: Callable[[str], Vocabulary], name: str
) -> None:
    wrong = list(mistakes(small(name)))
    assert not wrong, f"{len(wrong)} tokens, such as {wrong[:5]}"


def mistakes(vocabulary: Vocabulary) -> Iterator[tuple[int, str, bytes | None]]:
    """Decode each ordinary token in a context that makes its bytes whole UTF-8."""
    decoder = Tokenizer.from_str(vocabulary.backend.to_str()).decoder
    byte_level = vocabulary.alphabet == "byte-level"
    spelt = bytes_to_unicode() if byte_level else {n: f"<0x{n:02X}>" for n in range(256)}
    added = {token["id"] for token in vocabulary.specification["added_tokens"]}
    for number, string in enumerate(vocabulary.strings):
        if number in added:
            continue
        claimed = vocabulary.spelling[number]
        if claimed is None:
            yield number, string, claimed
        elif claimed[0] in NEVER_IN_UTF8:
            if string != spelt[claimed[0]]:
                yield number, string, claimed
        else:
            before, after = context(claimed)
            tokens = ["a", *(spelt[b] for b in before), string, *(spelt[b] for b in after)]
            if decoder.decode(tokens) != "a" + (before + claimed + after).decode():
                yield number, string, claimed


def context(data: bytes) -> tuple[bytes, bytes]:
    """Find bytes that make a cut-off character at either end of the data whole."""
    try:
        data.decode()
    except UnicodeDecodeError:
        pass
    else:
        return b"", b""
    # The second byte after E0 and F0 is at least A0 and 90, after ED and F4 at most 9F and 8F.
    lead = (b"", b"\xc3", b"\xe1", b"\xe1\x80", b"\xf1", b"\xf1\x80", b"\xf1\x80\x80")
    tail = (b"", b"\x80", b"\xa0", b"\x80\x80", b"\xa0\x80", b"\x80\x80\x80", b"\x90\x80\x80")
    for before in lead:
        for after in tail:
            try:
                (before + data + after).decode()
            except UnicodeDecodeError:
                continue
            return before, after
    raise AssertionError(f"{data!r} is part of no UTF-8 text")


@pytest.mark.parametrize("name", REAL)
def test_an_encoded_text_is_its_tokens_bytes(real: Callable[[str], Vocabulary], name: str) -> None:
    text = "The naïve café has 1,234 seats.\n\n\tЖизнь, こんにちは! 🦊  two\r\nÅ\u0301 \u00a0end "
    assert joined(real(name), text) == text.encode()


@pytest.mark.parametrize("name", ["byte-level", "split", "prepend", "metaspace"])
def test_a_text_encoded_by_a_small_tokenizer_is_its_tokens_bytes(
    small: Callable[[str], Vocabulary], name: str
) -> None:
    text = "there 🦊 sleeps\n\nthe Привет 世界 dog  naïve"
    assert joined(small(name), text) == text.encode()


def joined(vocabulary: Vocabulary, text: str) -> bytes:
    """The bytes of a text's tokens, without the dummy space that SentencePiece puts in front."""
    ids = vocabulary.backend.encode(text, add_special_tokens=False).ids
    data = b"".join(vocabulary.spelling[number] or b"?" for number in ids)
    return data if vocabulary.alphabet == "byte-level" else data.removeprefix(b" ")


@pytest.mark.parametrize(
    ("name", "string", "data"),
    [
        ("byte-level", "Ġthe", b" the"),
        ("byte-level", "Ċ", b"\n"),
        ("byte-level", "ð", b"\xf0"),
        ("prepend", "▁the", b" the"),
        ("prepend", "<0x0A>", b"\n"),
        ("prepend", "<0xF0>", b"\xf0"),
        ("metaspace", "▁the", b" the"),
        ("unigram", "<0x0A>", b"\n"),
        ("wordpiece", "the", b" the"),
        ("wordpiece", "##ing", b"ing"),
        ("wordpiece", ",", b","),
        ("wordpiece", "世", "世".encode()),
        ("wordpiece", "##世", "世".encode()),
        ("wordpiece", "<code>", b"<code>"),
    ],
)
def test_marks_are_read(
    small: Callable[[str], Vocabulary], name: str, string: str, data: bytes
) -> None:
    vocabulary = small(name)
    assert vocabulary.spelling[vocabulary.by_string[string]] == data


@pytest.mark.parametrize(
    ("name", "alphabet"),
    [("byte-level", "byte-level"), ("split", "byte-level"), ("prepend", "sentencepiece"),
     ("metaspace", "sentencepiece"), ("unigram", "sentencepiece"), ("wordpiece", "wordpiece")],
)  # fmt: skip
def test_alphabets_are_told_apart(
    small: Callable[[str], Vocabulary], name: str, alphabet: str
) -> None:
    assert small(name).alphabet == alphabet


def test_the_pre_tokenizer_tells_where_there_is_no_decoder() -> None:
    level = {"type": "Sequence", "pretokenizers": [{"type": "Split"}, {"type": "ByteLevel"}]}
    alphabet, spell = spelling_of({"model": {"type": "BPE"}, "pre_tokenizer": level})
    assert alphabet == "byte-level"
    assert spell("Ġa") == b" a"


def test_plain_text_has_no_marks() -> None:
    alphabet, spell = spelling_of({"model": {"type": "BPE"}})
    assert alphabet == "text"
    assert spell("▁a<0x0A>") == "▁a<0x0A>".encode()


@pytest.mark.parametrize(
    "said",
    [
        {"model": {"type": "BPE", "end_of_word_suffix": "</w>"}},
        {"model": {"type": "BPE"}, "decoder": {"type": "BPEDecoder", "suffix": "</w>"}},
    ],
)
def test_ends_of_words_are_refused(said: dict[str, object]) -> None:
    with pytest.raises(VocabularyError, match=r"ends of words .*end_of_word_suffix.* use a"):
        spelling_of(said)


def test_steps_are_flattened() -> None:
    inner = {"type": "Sequence", "decoders": [{"type": "Fuse"}]}
    part = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, inner]}
    assert [step["type"] for step in steps(part)] == ["ByteFallback", "Fuse"]
    assert steps(None) == []


@pytest.mark.parametrize("character", [",", "$", "[", "^", "世", "—", "。", "¿"])
def test_isolated_characters_are_those_that_bert_cuts_off(character: str) -> None:
    cut = pre_tokenizers.BertPreTokenizer().pre_tokenize_str(f"a{character}b")
    if "世" not in character:  # its normaliser does that
        assert [part for part, _ in cut] == ["a", character, "b"]
    assert is_isolated(character)


@pytest.mark.parametrize("character", ["a", "7", "é", " ", "п", "こ"])
def test_other_characters_are_not_isolated(character: str) -> None:
    assert not is_isolated(character)
