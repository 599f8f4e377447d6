"""A base's tokenizer rewritten byte-level, so that its model cuts any bytes: a network's own.

The ids of the base's tokens stay. What is appended behind them has no rows in the base, so the
network has rows of its own for it: bytes without a token, and the beginnings of characters, which
merges pass through.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from tokswap.errors import VocabularyError
from tokswap.vocabulary.spelling import byte_alphabet, steps, to_byte_level
from tokswap.vocabulary.tokens import Vocabulary

SELDOM, NEVER = -1e5, -1e8
"""Scores of Unigram's bytes, taken only where there is nothing else, and of special tokens."""

LONGEST_WORD = 1 << 20
"""Characters of a word up to which WordPiece cuts it rather than call it unknown."""

MARK = "▁"
"""SentencePiece's mark for the space."""

BYTE_LEVEL: Mapping[str, Any] = {"type": "ByteLevel", "add_prefix_space": False,
                                 "trim_offsets": True, "use_regex": False}  # fmt: skip


def byte_level(base: Vocabulary) -> tuple[dict[str, Any], int]:
    """Rewrite a tokenizer so that its model cuts bytes written in the byte-level alphabet.

    A token that the base's model can reach is reached from its bytes. Of tokens with the same
    bytes (``A`` and ``<0x41>``) that is the plain one; the others cannot be reached. Special
    tokens keep their strings.

    Args:
        base: The tokenizer.

    Returns:
        The content of the new tokenizer.json, and how many tokens were appended. A byte-level
        tokenizer that has all 256 bytes is given back as it is.

    Raises:
        VocabularyError: If its tokens are marked in a way that is not supported.

    Reference:
        Minixhofer, Ponti and Vulić (NeurIPS 2024), https://arxiv.org/abs/2405.07883.
    """
    specification = dict(base.specification)
    model = dict(specification["model"])
    kind = model.get("type", "BPE")
    alphabet = byte_alphabet().values()
    if base.alphabet == "byte-level" and all(byte in base.by_string for byte in alphabet):
        return specification, 0
    if kind == "BPE" and model.get("continuing_subword_prefix"):
        raise VocabularyError(
            f"{base.name} marks the continuations of words in a BPE model "
            "(continuing_subword_prefix), which is not supported; use a byte-level, SentencePiece "
            "or WordPiece tokenizer"
        )
    table = dict(sorted(_strings(base).items(), key=lambda item: item[1]))
    _append(table, alphabet)
    if base.alphabet == "byte-level":
        model["vocab"] = table
    elif kind == "Unigram":
        model |= {"vocab": _scores(model, base, table), "byte_fallback": False}
    elif kind == "WordPiece":
        model |= {"vocab": table, "continuing_subword_prefix": ""}
        model["max_input_chars_per_word"] = LONGEST_WORD
    else:
        merges = _merges(model, base, table)
        model |= {"vocab": table, "merges": merges, "byte_fallback": False, "dropout": None}
    specification |= {"model": model, "added_tokens": _added_tokens(base, table)}
    if base.alphabet != "byte-level":
        specification |= _surroundings(specification)
    return specification, max(table.values()) + 1 - len(base)


def _strings(base: Vocabulary) -> dict[str, int]:
    """Give each token its new string, and the ids by them."""
    table: dict[str, int] = {}
    added = set(base.added_ids.values())
    others: list[int] = []
    # An added token is matched in the text as it stands, so its string is never byte-level.
    for number in sorted(base.special | added):
        string = base.strings[number] if number in base.special else _text(base, number)
        table[string] = number
    for number, data in enumerate(base.spelling):
        if data is None or number in base.special or number in added:
            continue
        if base.alphabet == "byte-level":
            table.setdefault(base.strings[number], number)
        elif (base.ids.get(data) != number or not data) or to_byte_level(data) in table:
            others.append(number)
        else:
            table[to_byte_level(data)] = number
    greedy = base.specification["model"].get("type", "BPE") != "BPE"
    alphabet = set(byte_alphabet().values())
    for number in others:
        string = base.strings[number]
        # A space is no character of the alphabet, so no bytes lead to a string that has one.
        while string in table or (greedy and set(string) <= alphabet):
            string += " "
        table[string] = number
    return table


def _text(base: Vocabulary, number: int) -> str:
    """Write an added token that is text: the text that it is matched as."""
    try:
        return (base.spelling[number] or b"").decode()
    except UnicodeDecodeError:
        return base.strings[number]


def _append(table: dict[str, int], strings: Iterable[str]) -> None:
    """Number the strings that are not there yet, from the highest id on."""
    following = max(table.values(), default=-1) + 1
    for string in strings:
        if string not in table:
            table[string] = following
            following += 1


def _merges(model: Mapping[str, Any], base: Vocabulary, table: dict[str, int]) -> list[str]:
    """Write the merges over bytes, those that make the characters first.

    A merge that makes a character begins at its first byte, so it never joins two characters, and
    with the characters whole the base's merges do what they do in the base.
    """
    inside = base.special | set(base.added_ids.values())
    characters = [
        data
        for number, data in enumerate(base.spelling)
        if data and len(data) > 1 and number not in inside and len(_whole(data)) == 1
    ]
    found: dict[str, None] = {}
    for size in range(1, 4):
        for data in (item for item in characters if len(item) > size):
            _append_merge(found, data[:size], data[size : size + 1])
    _append(table, (merge.replace(" ", "") for merge in found))
    spelt = {string: base.spelling[number] or b"" for string, number in base.by_string.items()}
    for merge in model.get("merges") or []:
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        if left in spelt and right in spelt and to_byte_level(spelt[left] + spelt[right]) in table:
            _append_merge(found, spelt[left], spelt[right])
    return list(found)


def _append_merge(found: dict[str, None], left: bytes, right: bytes) -> None:
    # Byte-level strings have no spaces, and every release of tokenizers reads this form.
    found.setdefault(f"{to_byte_level(left)} {to_byte_level(right)}")


def _whole(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return ""


def _scores(
    model: Mapping[str, Any], base: Vocabulary, table: Mapping[str, int]
) -> list[tuple[str, float]]:
    """Write Unigram's tokens in the order of their ids."""
    scores = {number: float(score) for number, (_, score) in enumerate(model["vocab"])}
    scores |= dict.fromkeys(base.fallback, SELDOM)
    scores |= dict.fromkeys(base.special | set(base.added_ids.values()), NEVER)
    ordered = sorted(table.items(), key=lambda item: item[1])
    return [(string, scores.get(number, SELDOM)) for string, number in ordered]


def _added_tokens(base: Vocabulary, table: Mapping[str, int]) -> list[dict[str, Any]]:
    string_of = {number: string for string, number in table.items()}
    said = {t["content"]: t for t in base.specification.get("added_tokens") or []}
    return [
        {**said[string], "id": number, "content": string_of[number]}
        for string, number in sorted(base.added_ids.items(), key=lambda item: item[1])
        if string in said
    ]


def _surroundings(specification: Mapping[str, Any]) -> dict[str, Any]:
    """Write what stands around the model: the base's steps with spaces in the place of marks.

    Text is cut as the base cuts it, but for WordPiece's punctuation, which gets a space in front.
    """
    normalizers, before = [], []
    prefix = specification["model"].get("type") == "WordPiece"
    for step in steps(specification.get("normalizer")):
        content = {
            key: step[key].replace(MARK, " ") for key in ("content", "prepend") if key in step
        }
        if step.get("pattern") != {"String": content.get("content")}:
            normalizers.append({**step, **content})
    for step in steps(specification.get("pre_tokenizer")):
        if step["type"] != "Metaspace":
            before.append(step)
            continue
        prefix = prefix or step.get("prepend_scheme", "always") != "never"
        if step.get("split", True):
            before.append({"type": "Split", "pattern": {"String": " "},
                           "behavior": "MergedWithNext", "invert": False})  # fmt: skip
    prefixed = prefix or any(step["type"] == "Prepend" for step in normalizers)
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefixed else []
    return {
        "normalizer": {"type": "Sequence", "normalizers": normalizers} if normalizers else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [*before, {**BYTE_LEVEL, "add_prefix_space": prefix}],
        },
        "decoder": {"type": "Sequence", "decoders": [dict(BYTE_LEVEL), *strip]},
    }
