"""The base's vocabulary with asked-for tokens behind it, aligned against the base.

To a method these are the missing tokens of a donor, so any method can fill them. What is known of
the base alone is looked up: a question costs what its own tokens cost, and some copying.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from tokswap.vocabulary.align import Alignment, Ids, Kind
from tokswap.vocabulary.pieces import cut
from tokswap.vocabulary.tokens import Vocabulary

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True, eq=False)
class Asked(Alignment):
    """The alignment of a question.

    Attributes:
        itself: The base's vocabulary against itself.
        tokenizer: What cuts tokens into the base's (:func:`bare_tokenizer`).
    """

    itself: Alignment = field(kw_only=True)
    tokenizer: "Tokenizer" = field(kw_only=True)

    @cached_property
    def pieces(self) -> dict[int, list[int]]:
        """See :attr:`Alignment.pieces`."""
        missing = self.missing.tolist()
        data = [self.donor.spelling[number] or b"" for number in missing]
        found = cut_with_rows(self.base, data, self.tokenizer, self.base_rows)
        return dict(zip(missing, found, strict=True))

    @cached_property
    def anchors(self) -> Ids:
        """See :attr:`Alignment.anchors`: those of the base with itself."""
        return self.itself.anchors

    @cached_property
    def used_base_ids(self) -> Ids:
        """See :attr:`Alignment.used_base_ids`."""
        return self.itself.used_base_ids


def ask(own: Alignment, tokenizer: "Tokenizer", tokens: Sequence[bytes]) -> Asked:
    """Put tokens behind the base's, the first with the id ``own.rows``.

    Args:
        own: The base's vocabulary against itself.
        tokenizer: What cuts tokens into the base's.
        tokens: N distinct byte strings, none of which is a base token with a row.
    """
    count = len(tokens)
    return Asked(
        base=own.base,
        donor=_with_tokens(own.base, tokens),
        base_rows=own.base_rows,
        kind=np.concatenate([own.kind, np.full(count, Kind.MISSING, dtype=np.uint8)]),
        source=np.concatenate([own.source, np.full(count, -1, dtype=np.int64)]),
        reasons=own.reasons,
        overrides={},
        itself=own,
        tokenizer=tokenizer,
    )


def cut_with_rows(
    base: Vocabulary, data: Sequence[bytes], tokenizer: "Tokenizer", rows: int
) -> list[list[int]]:
    """Cut byte strings into tokens of the base that have one of so many rows."""
    found = cut(base, data, tokenizer=tokenizer)
    return [[number for number in ids if number < rows] for ids in found]


def _with_tokens(base: Vocabulary, tokens: Sequence[bytes]) -> Vocabulary:
    strings = tuple(_string(base, data) for data in tokens)
    ids = {data: len(base) + place for place, data in enumerate(tokens)}
    return replace(
        base,
        spelling=(*base.spelling, *tokens),
        strings=(*base.strings, *strings),
        ids={**base.ids, **ids},
        specification=_specification(base, strings),
        sha256="",  # there is no such tokenizer.json
    )


def _string(base: Vocabulary, data: bytes) -> str:
    """Write a token as a text that occurs, or as one that does not where it is no text."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = ""
    return text if text and text not in base.by_string else f"<bytes {data.hex(' ')}>"


def _specification(base: Vocabulary, strings: Sequence[str]) -> Mapping[str, Any]:
    """Let the base's tokenizer cut texts with the tokens, for methods that learn from texts."""
    said = base.specification
    behind = max(base.added_ids.values(), default=-1) + 1
    if len(base) != max(behind, len(said["model"]["vocab"])):
        return said  # its ids have gaps, where the tokenizer would put the tokens
    flags = dict.fromkeys(("special", "normalized", "lstrip", "rstrip", "single_word"), False)
    more = [{"id": len(base) + n, "content": text, **flags} for n, text in enumerate(strings)]
    return {**said, "added_tokens": [*(said.get("added_tokens") or []), *more]}
