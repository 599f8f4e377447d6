"""Which bytes may be one token."""

from collections.abc import Callable

import pytest

from tokswap.vocabulary.boundary import Boundary, holder
from tokswap.vocabulary.tokens import Vocabulary

Load = Callable[[str], Vocabulary]
WHOLE = ["the", " the", "the dog", " the dog", "12", "don't", "ok.", "   ", "x\n", "1234"]
CUTS: dict[str, str] = {
    # GPT-2's cut parts letters, digits and signs; Llama 3's also groups of three digits.
    "byte-level": "11001 00101",
    "split": "11001 00100",
    # SentencePiece's do not part signs, and a space begins a word; a whole text is one pre-token
    # for the one without a pre-tokenizer, so words are what is left of it.
    "metaspace": "11001 11011",
    "prepend": "11001 11101",
}


@pytest.mark.parametrize("name", ["byte-level", "split", "prepend"])
def test_pretokens_are_the_tokenizers_own(small: Load, name: str) -> None:
    holds = holder(small(name), "pretokens")
    backend = small(name).backend
    for text in WHOLE:
        if backend.pre_tokenizer is not None:
            assert holds(text.encode()) == (len(backend.pre_tokenizer.pre_tokenize_str(text)) == 1)
        else:
            assert holds(text.encode()) == holder(small(name), "words")(text.encode())


@pytest.mark.parametrize("name", CUTS)
def test_what_is_one_pretoken(small: Load, name: str) -> None:
    holds = holder(small(name), "pretokens")
    said = "".join(str(int(holds(text.encode()))) for text in WHOLE)
    assert said == CUTS[name].replace(" ", "")


@pytest.mark.parametrize("name", ["byte-level", "metaspace"])
def test_words_have_a_space_at_their_beginning_alone(small: Load, name: str) -> None:
    holds = holder(small(name), "words")
    assert all(holds(data) for data in (b"the", b" the", b" don't.", b"   ", b"\n\n", b"\n"))
    assert not any(holds(data) for data in (b"the ", b"the dog", b"  the", b" a\n"))


@pytest.mark.parametrize("mode", ["pretokens", "words"])
def test_parts_of_characters_are_letters_or_signs(small: Load, mode: Boundary) -> None:
    holds = holder(small("byte-level"), mode)
    cafe, fox = " café".encode(), " 🦊".encode()
    for data in (cafe[:-1], cafe[-1:], cafe, fox[:2], fox[:3], fox, fox[2:]):
        assert holds(data), data
    assert not holds("é the".encode()[1:])  # a word behind the end of another
    assert not holds("the é".encode()[:-1])


def test_without_a_boundary_anything_goes(small: Load) -> None:
    holds = holder(small("byte-level"), "none")
    assert holds(b"the dog. The\n\xff fox")
