"""Sorts of text, and how numbers are cut."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from tokswap.vocabulary.kinds import BYTE_KINDS, byte_kind, count_kinds, digit_scheme, text_kind
from tokswap.vocabulary.tokens import Vocabulary, load_vocabulary

Load = Callable[[str], Vocabulary]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"\xf0\x9f", "part of a character"),
        (b" \xe4\xb8", "part of a character"),
        (b" ", "spaces"),
        (b"\n\n\t", "spaces"),
        (b"  ", "spaces"),
        (b"7", "digits"),
        (b" 1984", "digits"),
        ("٣".encode(), "digits"),
        (b" the", "word start"),
        (" Привет".encode(), "word start"),
        (b"ing", "word part"),
        ("हिन्दी".encode(), "word part"),
        ("世界".encode(), "word part"),
        (b" --", "punctuation"),
        (b"();", "punctuation"),
        ("。".encode(), "punctuation"),
        (b"'s", "mixed"),
        (b"x1", "mixed"),
        (b"a b", "mixed"),
        (b"  the", "mixed"),
    ],
)
def test_text_kind(text: bytes, kind: str) -> None:
    assert text_kind(text) == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (b"azAZ", "letters"),
        (b"0123456789", "digits"),
        (b" \t\x0b\x0c", "spaces"),
        (b"\n\r", "line ends"),
        (b"!~_{`\x00\x7f", "punctuation"),
        ("é٣世".encode(), "beyond ASCII"),
        (b"\x80\xa0\xff", "beyond ASCII"),
    ],
)
def test_byte_kind(text: bytes, kind: str) -> None:
    assert {byte_kind(byte) for byte in text} == {kind}
    assert kind in BYTE_KINDS


def test_counts_are_sorted() -> None:
    counts = count_kinds([b"a", b" b", b"1", b"c", b" d", b"e"])
    assert list(counts.items()) == [("word part", 3), ("word start", 2), ("digits", 1)]


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("llama3", "groups of 3 from the left"),
        ("mistral-nemo", "single digits"),
        ("qwen", "single digits"),
        ("gpt2", "learned pieces"),
        ("llama2", "single digits"),
        ("mistral-v3", "single digits"),
    ],
)
def test_digit_schemes_of_real_tokenizers(real: Load, name: str, scheme: str) -> None:
    assert digit_scheme(real(name)) == scheme


@pytest.mark.parametrize(
    ("pattern", "scheme"),
    [
        (r"\d{1,3}(?=(?:\d{3})*\b)|\D+", "groups of 3 from the right"),
        (r"\d{1,3}|\D+", "groups of 3 from the left"),
        (r"\d{1,2}|\D+", "groups of 2 from the left"),
        (r"\d+|\D+", "learned pieces"),
        (r"\d|\D+", "single digits"),
    ],
)
def test_digit_schemes_of_pre_tokenizers(tmp_path: Path, pattern: str, scheme: str) -> None:
    digits = {str(number): number for number in range(10)}
    pairs = {f"{first}{second}": 10 + 10 * first + second
             for first in range(10) for second in range(10)}  # fmt: skip
    merges = [(pair[0], pair[1]) for pair in pairs]
    tokenizer = Tokenizer(models.BPE(digits | pairs, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    path = tmp_path / "tokenizer.json"
    path.write_text(tokenizer.to_str(), encoding="utf-8")
    assert digit_scheme(load_vocabulary({path.name: path}, name="x")) == scheme
