"""Tokens of two tokenizers over one text: the stretches are the text, and lie as they should."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from tokswap.vocabulary.aligned_text import CutText, cut_texts, overlaps
from tokswap.vocabulary.tokens import Vocabulary

REAL = ["llama3", "mistral-nemo", "qwen", "gpt2", "llama2", "mistral-v3"]
SMALL = ["byte-level", "split", "prepend", "metaspace", "whitespace", "unigram", "wordpiece"]
TEXTS = [
    "The quick brown fox,  jumps over 12345 lazy dogs.\n\n\tdef f(x):\n        return x  \n",
    "naïve café, Привет мир, こんにちは世界, नमस्ते दुनिया, שלום",
    "👩‍👩‍👧 🦊🦊 \U0001f9d1\U0001f3fd‍💻 – ☃",
    " leading", "trailing ", "\n", " ", "a", "", "▁mark", "<s> no special </s><|endoftext|>",
    "cafe\u0301 re\u0301sume\u0301 decomposed, ﬁ ligature, \uff21 full width, \u212b",
    "0 00 000 0000 3.14159 1,000,000 ½",
]  # fmt: skip


def parts(text: str, cut: CutText) -> list[bytes]:
    data = text.encode()
    return [data[a:b] for a, b in zip(cut.starts.tolist(), cut.ends.tolist(), strict=True)]


def check_whole(text: str, cut: CutText) -> None:
    assert len(cut.ids) == len(cut.ends)
    assert (np.diff(cut.ends) >= 0).all()
    if len(cut.ids):
        assert b"".join(parts(text, cut)) == text.encode()


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("text", TEXTS)
def test_the_stretches_are_the_text(name: str, text: str, small: Callable[[str], Vocabulary]):
    (cut,) = cut_texts(small(name), [text])
    ids = small(name).backend.encode(text, add_special_tokens=False).ids
    assert cut.ids.tolist() == ids
    check_whole(text, cut)


@pytest.mark.parametrize("name", REAL)
def test_the_stretches_of_real_tokenizers_are_the_text_and_what_they_write(
    name: str, real: Callable[[str], Vocabulary]
) -> None:
    vocabulary = real(name)
    exact = 0
    for text, cut in zip(TEXTS, cut_texts(vocabulary, TEXTS), strict=True):
        check_whole(text, cut)
        for number, part in zip(cut.ids.tolist(), parts(text, cut), strict=True):
            exact += part in (vocabulary.spelling[number], (vocabulary.spelling[number] or b"")[1:])
    total = sum(len(cut.ids) for cut in cut_texts(vocabulary, TEXTS))
    # Qwen composes characters (NFC); SentencePiece takes the mark in "▁mark" for a space.
    others = {"qwen": 0.1 * total, "llama2": 1, "mistral-v3": 1}
    assert total - exact <= others.get(name, 0)


@pytest.mark.parametrize(("first", "second"), list(pairwise([*REAL, REAL[0]])))
def test_overlaps_of_real_tokenizers_are_the_text(
    first: str, second: str, real: Callable[[str], Vocabulary]
) -> None:
    both = (cut_texts(real(name), TEXTS) for name in (first, second))
    for text, one, other in zip(TEXTS, *both, strict=True):
        found = overlaps(one, other)
        assert (found.length > 0).all()
        assert found.length.sum() == len(text.encode())
        ends = np.cumsum(found.length)
        for cut, places in ((one, found.first), (other, found.second)):
            sums = np.bincount(places, weights=found.length, minlength=len(cut.ids))
            assert (sums == cut.ends - cut.starts).all()
            assert (cut.starts[places] <= ends - found.length).all()
            assert (ends <= cut.ends[places]).all()


def test_the_same_tokenizer_overlaps_with_itself_alone(real: Callable[[str], Vocabulary]) -> None:
    for cut in cut_texts(real("gpt2"), TEXTS):
        found = overlaps(cut, cut)
        assert (found.first == found.second).all()


def test_a_character_that_is_composed_is_shared_by_the_tokens_that_write_it(
    real: Callable[[str], Vocabulary],
) -> None:
    text = "e\u0301\u0302x"  # one character and a mark to Qwen, which composes the first two
    (cut,) = cut_texts(real("qwen"), [text])
    check_whole(text, cut)
    assert parts(text, cut)[-1] == b"x"


def test_a_dummy_space_has_no_stretch(real: Callable[[str], Vocabulary]) -> None:
    (cut,) = cut_texts(real("llama2"), ["世"])
    assert real("llama2").spelling[int(cut.ids[0])] == b" "
    assert parts("世", cut)[0] == b""
    assert cut.starts.tolist()[0] == cut.ends.tolist()[0] == 0


def test_overlaps_by_hand() -> None:
    def cut(*ends: int) -> CutText:
        return CutText(np.arange(len(ends)), np.array(ends))

    found = overlaps(cut(0, 3, 4, 9), cut(2, 9))
    said: Sequence[tuple[int, int, int]] = [(1, 0, 2), (1, 1, 1), (2, 1, 1), (3, 1, 5)]
    columns = (found.first.tolist(), found.second.tolist(), found.length.tolist())
    assert list(zip(*columns, strict=True)) == said
    assert len(overlaps(cut(), cut(3)).length) == 0
