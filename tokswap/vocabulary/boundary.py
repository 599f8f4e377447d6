"""Which bytes may be one token: what lies within one pre-token, or within one word."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Literal

from tokswap.vocabulary.pieces import bare_tokenizer
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Boundary = Literal["pretokens", "words", "none"]
BOUNDARIES: tuple[Boundary, ...] = ("pretokens", "words", "none")

Holds = Callable[[bytes], bool]
"""Tells whether a boundary holds: whether bytes cross it nowhere."""

WORD = re.compile(r"\s?\S+|\s+")
ESCAPED = re.compile("[\udc80-\udcff]+")
STAND_INS = ("e", "\ufffd")
"""What may stand for a part of a character: a letter, and a sign."""
REMEMBERED = 1 << 17


def holder(
    vocabulary: Vocabulary, mode: Boundary, *, tokenizer: "Tokenizer | None" = None
) -> Holds:
    """Make the rule by which bytes may be one token.

    ``pretokens``: the tokenizer's own pre-tokenizer leaves them whole; where that does not part
    words, as SentencePiece's that see the whole text, they must be one word too. ``words``: no
    space inside, but at their beginning, or nothing but spaces. ``none``: any bytes.

    A part of a character counts as a letter or as a sign, whichever lets the bytes be whole.

    Args:
        vocabulary: Whose pre-tokenizer to ask.
        mode: One of ``BOUNDARIES``.
        tokenizer: Its :func:`bare_tokenizer`, where that is there already.

    Returns:
        The rule; it remembers its answers.
    """
    if mode == "none":
        return lambda _: True
    rules: list[Callable[[str], bool]] = []
    if mode == "pretokens":
        pretoken = partial(_is_pretoken, tokenizer or bare_tokenizer(vocabulary))
        rules = [pretoken] if not pretoken(" one two") else [pretoken, _is_word]
    rules = rules or [_is_word]

    def holds(data: bytes) -> bool:
        return any(all(rule(text) for rule in rules) for text in _texts(data))

    return lru_cache(REMEMBERED)(holds)


def _is_word(text: str) -> bool:
    return WORD.fullmatch(text) is not None


def _is_pretoken(tokenizer: "Tokenizer", text: str) -> bool:
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    if tokenizer.pre_tokenizer is None:
        return True
    return len(tokenizer.pre_tokenizer.pre_tokenize_str(text)) <= 1


def _texts(data: bytes) -> Iterator[str]:
    """Read bytes as text: once, or with each stand-in for what is a part of a character."""
    text = data.decode(errors="surrogateescape")
    if ESCAPED.search(text):
        yield from (ESCAPED.sub(sign, text) for sign in STAND_INS)
    else:
        yield text
