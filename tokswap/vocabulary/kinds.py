"""What sort of text a token stands for, and how a tokenizer cuts numbers."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NUMBERS = ("1234567", "90817263", "5550123456789", "42", "2024", "300", "999999", "1000000")
"""Probes of the digit scheme: runs of several lengths, round and not."""

CODE = re.compile(r"[_(){}\[\];=<>/\\*#$@&|^~`]|[a-z][A-Z]|\s{2}|[\n\t]")
"""What is seldom seen in prose: brackets, operators, humps, indentation and ends of lines."""


BYTE_KINDS = ("letters", "digits", "spaces", "line ends", "punctuation", "beyond ASCII")
"""The kinds of the bytes of a text."""


def byte_kind(byte: int) -> str:
    """Name the kind of a byte, one of :data:`BYTE_KINDS`.

    A byte alone tells no more of what lies beyond ASCII, for tokens may hold parts of characters.
    So a byte is of the same kind whatever token it stands in.
    """
    character = chr(byte)
    if byte >= 0x80:
        return "beyond ASCII"
    if character in "\n\r":
        return "line ends"
    if character.isspace():
        return "spaces"
    if character.isdecimal():
        return "digits"
    return "letters" if character.isalpha() else "punctuation"


def text_kind(spelling: bytes) -> str:
    """Name the sort of text that a token stands for.

    Returns:
        One of ``part of a character``, ``spaces``, ``digits``, ``word start`` (letters after a
        space), ``word part`` (letters), ``punctuation`` and ``mixed``.
    """
    try:
        text = spelling.decode()
    except UnicodeDecodeError:
        return "part of a character"
    core = text[1:] if text.startswith(" ") else text
    if not core or core.isspace():
        return "spaces"
    if core.isdecimal():
        return "digits"
    # Marks that combine with letters (Devanagari vowels) are no letters to str.isalpha().
    if any(c.isalpha() for c in core) and all(c.isalpha() or not c.isascii() for c in core):
        return "word start" if text.startswith(" ") else "word part"
    if not any(character.isalnum() for character in core):
        return "punctuation"
    return "mixed"


def is_code(spelling: bytes) -> bool:
    """Tell whether a token looks like a part of program code rather than of prose."""
    try:
        return CODE.search(spelling.decode()) is not None
    except UnicodeDecodeError:
        return False


def _is(kind: str, spelling: bytes) -> bool:
    return text_kind(spelling) == kind


KINDS: Mapping[str, Callable[[bytes], bool]] = {
    "bytes": partial(_is, "part of a character"),
    "digits": partial(_is, "digits"),
    "code": is_code,
    "spaces": partial(_is, "spaces"),
    "word_starts": partial(_is, "word start"),
    "word_parts": partial(_is, "word part"),
    "punctuation": partial(_is, "punctuation"),
}
"""The kinds of tokens that a recipe can name, by a test on a token's bytes; they overlap."""


def count_kinds(spellings: Iterable[bytes]) -> dict[str, int]:
    """Count tokens by the sort of their text, the most frequent first."""
    return dict(Counter(text_kind(spelling) for spelling in spellings).most_common())


def digit_scheme(vocabulary: Vocabulary) -> str:
    """Tell how a tokenizer cuts runs of digits, by trying it.

    A pre-tokenizer that cuts them is believed; where there is none, the cut itself is looked at.

    Returns:
        ``single digits``, ``groups of N from the left`` or ``from the right``, or ``learned
        pieces`` where the merges decide.
    """
    backend = vocabulary.backend
    cuts = {number: _token_lengths(vocabulary, number) for number in NUMBERS}
    if all(max(lengths) == 1 for lengths in cuts.values()):
        return "single digits"
    groups = {number: _pretoken_lengths(backend, number) for number in NUMBERS}
    longest = max(max(lengths) for lengths in groups.values())
    if longest < max(len(number) for number in NUMBERS):
        for side in ("left", "right"):
            if all(groups[n] == _grouped(len(n), longest, side) for n in NUMBERS):
                return f"groups of {longest} from the {side}"
    return "learned pieces"


def _token_lengths(vocabulary: Vocabulary, digits: str) -> list[int]:
    spellings = [vocabulary.spelling[n] or b"" for n in _encode(vocabulary.backend, digits)]
    return [count for s in spellings if (count := sum(chr(byte).isdigit() for byte in s))] or [1]


def _encode(backend: "Tokenizer", text: str) -> list[int]:
    return list(backend.encode(text, add_special_tokens=False).ids)


def _pretoken_lengths(backend: "Tokenizer", digits: str) -> list[int]:
    if backend.pre_tokenizer is None:
        return [len(digits)]
    parts = [part for part, _ in backend.pre_tokenizer.pre_tokenize_str(digits)]
    return [count for part in parts if (count := sum(c.isdigit() for c in part))]


def _grouped(count: int, size: int, side: str) -> list[int]:
    whole, rest = divmod(count, size)
    groups = [size] * whole
    if rest:
        groups.insert(len(groups) if side == "left" else 0, rest)
    return groups
