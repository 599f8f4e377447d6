"""The pieces of a token: how another tokenizer cuts its bytes.

The bytes are cut as they stand: no dummy space in front, no normalisation, no special tokens, and
a token that holds only part of a character is cut all the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers import Tokenizer

from tokswap.vocabulary.spelling import is_isolated, steps, to_byte_level
from tokswap.vocabulary.tokens import Vocabulary, build_tokenizer

MARK = "▁"
"""SentencePiece's mark for the space, which its tokenizers cannot tell from the character."""


def cut(
    vocabulary: Vocabulary, data: Sequence[bytes], *, tokenizer: Tokenizer | None = None
) -> list[list[int]]:
    """Cut each byte string into tokens of a vocabulary.

    Args:
        vocabulary: Whose tokens to use.
        data: Byte strings, whole UTF-8 or not.
        tokenizer: Its :func:`bare_tokenizer`, where that is used more than once: to build it takes
            a second for 128,000 tokens.

    Returns:
        Token ids for each string. Bytes that the vocabulary cannot write are left out, so a list
        may be empty.
    """
    tokenizer = tokenizer or bare_tokenizer(vocabulary)
    if vocabulary.alphabet == "byte-level":
        found = _cut_byte_level(tokenizer, data)
    elif vocabulary.alphabet == "wordpiece":
        found = [_cut_wordpiece(vocabulary, tokenizer, item) for item in data]
    else:
        found = _cut_text(vocabulary, tokenizer, data)
    unwanted = vocabulary.special
    return [[number for number in ids if number not in unwanted] for ids in found]


def bare_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """Build the tokenizer without special tokens, normalisation and the dummy space."""
    specification = dict(vocabulary.specification)
    keep_all = vocabulary.alphabet == "wordpiece"  # without its case folding, all is unknown
    normalizers = [
        step for step in steps(specification.get("normalizer")) if keep_all or _marks_space(step)
    ]
    specification |= {
        "added_tokens": [],
        "post_processor": None,
        "truncation": None,
        "padding": None,
        "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
        "pre_tokenizer": without_prefix(specification.get("pre_tokenizer")),
    }
    return build_tokenizer(specification, vocabulary.name)


def _marks_space(step: Mapping[str, Any]) -> bool:
    return bool(step["type"] == "Replace" and step["pattern"].get("String") == " ")


def without_prefix(part: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Change a pre-tokenizer of tokenizer.json so that it puts no dummy space before a text."""
    if part is None:
        return None
    changes: dict[str, dict[str, Any]] = {
        "ByteLevel": {"add_prefix_space": False},
        "Metaspace": {"prepend_scheme": "never"},
    }
    if part["type"] == "Sequence":
        inner = part["pretokenizers"]
        if "Metaspace" in {item["type"] for item in inner}:
            # What splits at spaces throws them away, and counts on the dummy space for the mark.
            inner = [item for item in inner if item["type"] != "WhitespaceSplit"]
        return {**part, "pretokenizers": [without_prefix(item) for item in inner]}
    return {**part, **changes.get(part["type"], {})}


def _cut_byte_level(tokenizer: Tokenizer, data: Sequence[bytes]) -> list[list[int]]:
    """Cut whole text through the pre-tokenizer, parts of characters by the model alone."""
    texts = {number: text for number, item in enumerate(data) if (text := _text(item)) is not None}
    broken = [number for number in range(len(data)) if number not in texts]
    found: list[list[int]] = [[] for _ in data]
    for number, encoding in zip(texts, tokenizer.encode_batch(list(texts.values())), strict=True):
        found[number] = encoding.ids
    model_alone = Tokenizer(tokenizer.model)
    spelt = [to_byte_level(data[number]) for number in broken]
    for number, encoding in zip(broken, model_alone.encode_batch(spelt), strict=True):
        found[number] = encoding.ids
    return found


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _cut_text(
    vocabulary: Vocabulary, tokenizer: Tokenizer, data: Sequence[bytes]
) -> list[list[int]]:
    """Cut runs of whole characters as text, and every other byte by its byte token."""
    runs: list[tuple[int, str]] = []
    marks = vocabulary.alphabet == "sentencepiece"
    for number, item in enumerate(data):
        text = item.decode(errors="surrogateescape")
        if marks and MARK in text:
            escaped = MARK.encode().decode("ascii", errors="surrogateescape")
            text = text.replace(MARK, escaped)
        runs += [(number, run) for run in _runs(text)]
    texts = [run if _is_whole(run) else "" for _, run in runs]
    found: list[list[int]] = [[] for _ in data]
    for (number, run), encoding in zip(runs, tokenizer.encode_batch(texts), strict=True):
        if _is_whole(run):
            found[number] += encoding.ids
        else:
            token = vocabulary.ids.get(run.encode(errors="surrogateescape"))
            found[number] += [] if token is None else [token]
    return found


def _runs(text: str) -> list[str]:
    """Split text into runs of whole characters and single escaped bytes."""
    parts: list[str] = []
    for character in text:
        if parts and _is_whole(character) and _is_whole(parts[-1]):
            parts[-1] += character
        else:
            parts.append(character)
    return parts


def _is_whole(run: str) -> bool:
    return not "\ud800" <= run[0] <= "\udfff"


def _cut_wordpiece(vocabulary: Vocabulary, tokenizer: Tokenizer, data: bytes) -> list[int]:
    """Cut text by WordPiece: the start of a word by the tokenizer, its continuation greedily."""
    text = data.decode(errors="ignore")
    if not text or text[0].isspace() or is_isolated(text[0]):
        return list(tokenizer.encode(text).ids)
    if tokenizer.normalizer is not None:
        text = tokenizer.normalizer.normalize_str(text)
    inside = len(text)
    for position, character in enumerate(text):
        if character.isspace() or is_isolated(character):
            inside = position
            break
    found: list[int] = []
    word, rest = text[:inside].encode(), text[inside:]
    while word:
        end = next((end for end in range(len(word), 0, -1) if word[:end] in vocabulary.ids), None)
        if end is None:
            return list(tokenizer.encode(text).ids)
        found.append(vocabulary.ids[word[:end]])
        word = word[end:]
    return found + (list(tokenizer.encode(rest).ids) if rest else [])
