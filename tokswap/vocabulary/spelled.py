"""Tokens as words: how a token is spelled for a program that knows text, and text cut into them."""

from collections.abc import Iterable, Sequence

from tokswap.vocabulary.tokens import Vocabulary

BROKEN = 0xF700
"""A byte that is no part of a whole character is spelled by the private-use character above it."""
TEXTS = 1024


def spell(data: bytes) -> str:
    """Spell bytes as text, one way for all tokenizers.

    A space is a space, however the tokenizer marks it, so ``Ġthe`` and ``▁the`` are spelled alike.
    """
    found = []
    for character in data.decode(errors="surrogateescape"):
        code = ord(character)
        found.append(chr(BROKEN + code - 0xDC00) if 0xDC00 <= code <= 0xDCFF else character)
    return "".join(found)


def spell_tokens(vocabulary: Vocabulary) -> list[str | None]:
    """Spell each token of a vocabulary by its id; None for special tokens and ids without one."""
    special = vocabulary.special
    return [
        None if data is None or not data or number in special else spell(data)
        for number, data in enumerate(vocabulary.spelling)
    ]


def plain_texts(vocabulary: Vocabulary, ids: Iterable[int]) -> list[str | None]:
    """Read tokens as texts without the spaces around them, for a program that knows words.

    No text has a special token, one that is part of a character, or nothing but spaces.
    """
    special, spelling = vocabulary.special, vocabulary.spelling
    return [None if number in special else plain_text(spelling[number]) for number in ids]


def plain_text(data: bytes | None) -> str | None:
    """Read one token's bytes as such a text."""
    try:
        return (data or b"").decode().strip() or None
    except UnicodeDecodeError:
        return None


def cut_into_words(vocabulary: Vocabulary, texts: Sequence[str]) -> list[list[str]]:
    """Cut texts into a vocabulary's tokens, as :func:`spell` spells them.

    Args:
        vocabulary: Whose tokenizer to use.
        texts: Documents.

    Returns:
        The tokens of each text; special ones are left out.
    """
    spelled = spell_tokens(vocabulary)
    found: list[list[str]] = []
    for start in range(0, len(texts), TEXTS):
        encodings = vocabulary.backend.encode_batch(
            list(texts[start : start + TEXTS]), add_special_tokens=False
        )
        for encoding in encodings:
            words = (spelled[number] for number in encoding.ids)
            found.append([word for word in words if word is not None])
    return found
