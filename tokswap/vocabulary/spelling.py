"""The bytes of a token, read from what tokenizer.json says about markers.

Three alphabets are in use: byte-level (each byte is one printable character, as in GPT-2),
SentencePiece (text with a visible mark for the space, and ``<0xNN>`` for single bytes), and
WordPiece (word starts are bare, continuations carry a prefix). Which one a tokenizer uses is said
by its decoder, or by its pre-tokenizer where it has no decoder; never by the name of its class.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from tokswap.errors import VocabularyError

Spell = Callable[[str], bytes]
"""Bytes of a token's string."""

BYTE_FALLBACK = re.compile(r"<0x([0-9A-Fa-f]{2})>")


@cache
def byte_alphabet() -> dict[int, str]:
    """Return the printable character that stands for each byte in byte-level vocabularies.

    Printable Latin-1 characters stand for themselves; the 68 others are numbered from U+0100 on,
    in the order of their bytes (Radford et al. 2019, the GPT-2 tokenizer).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {byte: chr(byte) for byte in printable}
    return table | {byte: chr(0x100 + number) for number, byte in enumerate(others)}


def to_byte_level(data: bytes) -> str:
    """Write bytes in the byte-level alphabet."""
    table = byte_alphabet()
    return "".join(table[byte] for byte in data)


def from_byte_level(token: str) -> bytes:
    """Read a byte-level token; one with characters outside the alphabet is literal text."""
    table = _byte_of_character()
    try:
        return bytes(table[character] for character in token)
    except KeyError:
        return token.encode()


@cache
def _byte_of_character() -> dict[str, int]:
    return {character: byte for byte, character in byte_alphabet().items()}


def steps(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Flatten a normalizer, pre-tokenizer or decoder of tokenizer.json into its single steps."""
    if part is None:
        return []
    if part["type"] != "Sequence":
        return [part]
    inner = next(part[key] for key in ("normalizers", "pretokenizers", "decoders") if key in part)
    return [step for item in inner for step in steps(item)]


def spelling_of(specification: Mapping[str, Any]) -> tuple[str, Spell]:
    """Tell which alphabet a tokenizer writes its tokens in.

    Args:
        specification: The parsed tokenizer.json.

    Returns:
        The alphabet's name (``byte-level``, ``sentencepiece``, ``wordpiece`` or ``text``) and the
        function from a token's string to its bytes.

    Raises:
        VocabularyError: If tokens are marked in a way that this program does not know.
    """
    marks = _marking_steps(specification)
    kinds = [step["type"] for step in marks]
    if specification["model"].get("end_of_word_suffix") or "BPEDecoder" in kinds:
        raise VocabularyError(
            "this tokenizer marks the ends of words (end_of_word_suffix), which is not supported; "
            "use a byte-level, SentencePiece or WordPiece tokenizer"
        )
    if "ByteLevel" in kinds:
        return "byte-level", from_byte_level
    if specification["model"].get("type") == "WordPiece":
        prefix = continuing_prefix(specification)
        return "wordpiece", lambda token: _from_wordpiece(token, prefix)
    replacements = _replacements(specification)
    fallback = "ByteFallback" in kinds or bool(specification["model"].get("byte_fallback"))
    name = "sentencepiece" if replacements or fallback else "text"
    return name, lambda token: _from_marked(token, replacements, fallback)


def _marking_steps(specification: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return steps(specification.get("decoder")) or steps(specification.get("pre_tokenizer"))


def _replacements(specification: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the marks that stand for text in tokens, each with what it stands for."""
    found = [
        (step["pattern"]["String"], step["content"])
        for step in steps(specification.get("decoder"))
        if step["type"] == "Replace" and "String" in step["pattern"]
    ]
    marks = _marking_steps(specification)
    return found + [(step["replacement"], " ") for step in marks if step["type"] == "Metaspace"]


def continuing_prefix(specification: Mapping[str, Any]) -> str:
    """Return how a WordPiece token begins that continues a word."""
    return str(specification["model"].get("continuing_subword_prefix") or "##")


def write_token(specification: Mapping[str, Any], text: str) -> str:
    """Write text as a token of the model, as the other tokens of a tokenizer.json are written.

    Args:
        specification: The parsed tokenizer.json.
        text: The token's text; in WordPiece, a space before it makes it the start of a word.

    Returns:
        The token, which :func:`spelling_of` reads as the text where that can be written at all.

    Raises:
        VocabularyError: If tokens are marked in a way that this program does not know.
    """
    alphabet, _ = spelling_of(specification)
    if alphabet == "byte-level":
        return to_byte_level(text.encode())
    if alphabet == "wordpiece":
        starts = text.startswith(" ") and len(text) > 1
        isolated = len(text) == 1 and is_isolated(text)
        return text[1:] if starts else text if isolated else continuing_prefix(specification) + text
    mark = next((mark for mark, stands in _replacements(specification) if stands == " "), " ")
    return text.replace(" ", mark)


def _from_marked(token: str, replacements: list[tuple[str, str]], fallback: bool) -> bytes:
    if fallback and (match := BYTE_FALLBACK.fullmatch(token)):
        return bytes([int(match[1], 16)])
    for mark, text in replacements:
        token = token.replace(mark, text)
    return token.encode()


def _from_wordpiece(token: str, prefix: str) -> bytes:
    """Spell a WordPiece token: a word start brings its space, a continuation does not.

    Punctuation and CJK characters are cut off whether a space stands before them or not, so
    their tokens carry none.
    """
    if token.startswith(prefix) and len(token) > len(prefix):
        return token[len(prefix) :].encode()
    if len(token) == 1 and is_isolated(token):
        return token.encode()
    return b" " + token.encode()


def is_isolated(character: str) -> bool:
    """Tell whether the BERT pre-tokenizer makes a token of its own of this character."""
    ascii_mark = character.isascii() and not character.isalnum() and character > " "
    ideograph = unicodedata.name(character, "").startswith("CJK ")
    return ascii_mark or ideograph or unicodedata.category(character).startswith("P")
