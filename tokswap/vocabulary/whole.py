"""Whether a tokenizer's own steps leave a text whole, so that a token of it can come of it."""

from collections.abc import Callable, Mapping
from typing import Any

from tokswap.vocabulary.pieces import without_prefix
from tokswap.vocabulary.spelling import continuing_prefix, spelling_of, steps, write_token
from tokswap.vocabulary.tokens import Vocabulary, build_tokenizer

AT_THE_ENDS = ("Prepend", "Strip")
"""Normalizers that change the ends of a text and nothing within it."""


def whole_checker(vocabulary: Vocabulary) -> Callable[[str], str | None]:
    """Make a function that says why no token of a vocabulary could ever be made of a text.

    A text is looked at as it would stand within a longer one: what is done to the ends of a text
    does not count.

    Returns:
        A function from a text to the reason, None where there is none.

    Raises:
        VocabularyError: If the tokenizers library cannot build the tokenizer.
    """
    specification = vocabulary.specification
    _, spell = spelling_of(specification)
    normalize, split = _steps_of(vocabulary)
    prefix = continuing_prefix(specification) if vocabulary.alphabet == "wordpiece" else ""

    def why_not(text: str) -> str | None:
        token = write_token(specification, text)
        if spell(token) != text.encode():
            return f"its tokens cannot say so; {token!r} would be read as {_shown(spell(token))}"
        normal = normalize(text)
        parts = split(normal)
        if [part for part, _ in parts] == [token.removeprefix(prefix)]:
            return None
        if normal.strip() != text.strip() and normal != token:
            return f"the normalizer makes {normal!r} of it"
        shown = " and ".join(repr(normal[start:end]) for _, (start, end) in parts)
        return f"the pre-tokenizer {f'cuts it into {shown}' if parts else 'leaves nothing of it'}"

    return why_not


Parts = list[tuple[str, tuple[int, int]]]


def _steps_of(vocabulary: Vocabulary) -> tuple[Callable[[str], str], Callable[[str], Parts]]:
    """Take a tokenizer's normalizer and pre-tokenizer for text that stands within a longer one."""
    specification: Mapping[str, Any] = vocabulary.specification
    normalizers = [
        step for step in steps(specification.get("normalizer")) if step["type"] not in AT_THE_ENDS
    ]
    bare = build_tokenizer(
        {
            **specification,
            "added_tokens": [],
            "post_processor": None,
            "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
            "pre_tokenizer": without_prefix(specification.get("pre_tokenizer")),
        },
        vocabulary.name,
    )
    normalizer, pre_tokenizer = bare.normalizer, bare.pre_tokenizer

    def normalize(text: str) -> str:
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def split(text: str) -> Parts:
        if pre_tokenizer is None:
            return [(text, (0, len(text)))]
        return list(pre_tokenizer.pre_tokenize_str(text))

    return normalize, split


def _shown(data: bytes) -> str:
    try:
        return repr(data.decode())
    except UnicodeDecodeError:
        return repr(data)
