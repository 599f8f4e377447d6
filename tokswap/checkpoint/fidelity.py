"""Whether a tokenizer that was loaded by its class cuts text as tokenizer.json says.

transformers may build a tokenizer of its own from the vocabulary of a tokenizer.json and leave the
rest of the file unread. Only the ids tell.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PROBE = (
    "The quick brown fox can't jump over 13 lazy dogs; call it naïve.  Two  spaces,\ttabs\n\n"
    "    def area(r: float) -> float:\n        return 3.14159 * r ** 2  # πr²\n\n"
    "1234567890 42 2024-11-22 1,000,000.50 0x1F\r\n"
    "Cafe\u0301 and Café, ﬁne, Ⅷ, ½ — “quotes” … 東京で寿司を食べる。北京欢迎你！ 안녕하세요\n"
    "Привет, мир! שלום مرحبا नमस्ते สวัสดี 👩🏽‍🚀🎉 <0x41> ▁under ĠG\n\n\n   end   "
)
"""Digits, accents in both normal forms, runs of spaces, newlines, code, scripts, emoji, marks."""

TEXTS = (PROBE, "word", " word", "x = 1\n", "", "\n\n", "I'LL HTTPServer iPhone15")
"""What the start and the end of a text can change: the probe text alone has one of each."""


def read_tokenizer(folder: Path) -> "Tokenizer":
    """Read a folder's tokenizer.json as it is, with truncation and padding off."""
    from tokenizers import Tokenizer

    written = Tokenizer.from_file(str(folder / "tokenizer.json"))
    written.no_truncation()
    written.no_padding()
    return written


def tokenizer_faults(written: "Tokenizer", loaded: Any, tokens: Sequence[str]) -> Iterator[str]:
    """Compare a loaded tokenizer's ids and tokens with those of tokenizer.json.

    Args:
        written: From :func:`read_tokenizer`.
        loaded: The tokenizer that transformers made of the same folder.
        tokens: Special and added tokens, each of which is tried alone and within text.

    Yields:
        The first difference, in a sentence without its end.
    """
    name = type(loaded).__name__
    texts = [*TEXTS, *tokens, "".join(f"{token} x{token}x\n" for token in tokens)]
    for add in (False, True):
        wanted = [found.ids for found in written.encode_batch(texts, add_special_tokens=add)]
        try:
            given = loaded(texts, add_special_tokens=add)["input_ids"]
        except Exception as error:  # each class refuses texts by exceptions of its own
            yield f"AutoTokenizer gives {name}, which cannot read plain text ({_line(error)})"
            return
        for one, other in zip(given, wanted, strict=True):
            if list(one) != other:
                place = next(
                    (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
                    min(len(one), len(other)),
                )
                yield (
                    f"AutoTokenizer gives {name}, which cuts text otherwise than tokenizer.json "
                    f"(add_special_tokens={add}, token {place}: {list(one[place : place + 3])} for "
                    f"{other[place : place + 3]})"
                )
                return
    for token, number in getattr(loaded, "added_tokens_encoder", {}).items():
        if written.token_to_id(token) != number:
            yield (
                f"AutoTokenizer gives {name}, which adds {token!r} as token {number}; "
                "tokenizer.json has no such token"
            )
            return


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
