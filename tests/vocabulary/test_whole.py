"""Which texts a tokenizer's own steps leave whole."""

from collections.abc import Callable

import pytest

from tokswap.vocabulary.tokens import Vocabulary
from tokswap.vocabulary.whole import whole_checker

Load = Callable[[str], Vocabulary]
MARKED = ("prepend", "metaspace", "whitespace", "unigram")


@pytest.mark.parametrize("name", ["byte-level", "split", *MARKED, "wordpiece"])
def test_words_are_left_whole_with_and_without_a_space(name: str, small: Load) -> None:
    why_not = whole_checker(small(name))
    for text in (" word", "word", " мир", "世"):
        assert why_not(text) is None, text


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("byte-level", "New York", "the pre-tokenizer cuts it into 'New' and ' York'"),
        ("split", "don't", "the pre-tokenizer cuts it into 'don' and \"'t\""),
        ("split", " 1234", "the pre-tokenizer cuts it into ' ' and '123' and '4'"),
        ("metaspace", "New York", "the pre-tokenizer cuts it into 'New' and ' York'"),
        ("whitespace", "New York", "the pre-tokenizer cuts it into 'New' and ' York'"),
        ("prepend", "a▁b", "its tokens cannot say so; 'a▁b' would be read as 'a b'"),
        ("unigram", "<0x41>", "its tokens cannot say so; '<0x41>' would be read as 'A'"),
        ("prepend", "<0xC3>", r"its tokens cannot say so; '<0xC3>' would be read as b'\xc3'"),
        ("wordpiece", "Word", "the normalizer makes 'word' of it"),
        ("wordpiece", "a-b", "the pre-tokenizer cuts it into 'a' and '-' and 'b'"),
        ("wordpiece", " !", "its tokens cannot say so; '!' would be read as '!'"),
        ("wordpiece", "  ", "the pre-tokenizer leaves nothing of it"),
    ],
)
def test_the_reason_is_told(name: str, text: str, reason: str, small: Load) -> None:
    assert whole_checker(small(name))(text) == reason


def test_where_nothing_cuts_several_words_are_one_text(small: Load) -> None:
    assert whole_checker(small("prepend"))(" New York!\n") is None
