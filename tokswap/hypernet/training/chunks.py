"""Chunks of a text: the shortest parts that two tokenizers both cut off at the same bytes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ends = NDArray[np.int64]


def common_chunks(one: Ends, other: Ends) -> tuple[Ends, Ends, int]:
    """Number the chunks of two cuts of one text.

    Args:
        one: Where each token of the first cut ends, in bytes from the text's beginning; ascending,
            and only as far as the cut was read.
        other: The same of the second cut.

    Returns:
        The chunk of each token of either cut, -1 behind the last end that both have; and how many
        chunks there are.
    """
    common = np.intersect1d(one, other)

    def numbered(ends: Ends) -> Ends:
        places = np.searchsorted(common, ends, side="left")
        return np.where(places < len(common), places, -1).astype(np.int64)

    return numbered(one), numbered(other), len(common)


def token_ends(tokens: Sequence[bytes], text: bytes) -> Ends | None:
    """Tell where each token ends in a text.

    Args:
        tokens: The bytes of the text's tokens; the first may bring a space that the text has not.
        text: The text's bytes.

    Returns:
        Bytes from the text's beginning; None where the tokens do not spell the text.
    """
    spelt = b"".join(tokens)
    if spelt not in {text, b" " + text}:
        return None
    before = len(spelt) - len(text)
    return np.cumsum([len(token) for token in tokens], dtype=np.int64) - before
