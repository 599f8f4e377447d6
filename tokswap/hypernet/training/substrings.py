"""Counts of the substrings of words, all at once: no loop over words, and none over substrings.

A substring is known by a hash of 64 bits while it is counted, and by its place when it is spelt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
"""The golden ratio in 64 bits, which spreads what differs in few bits over all."""
SHIFT = np.uint64(29)


@dataclass(frozen=True, eq=False)
class Substrings:
    """The substrings of some words.

    Attributes:
        data: The words' bytes, one after the other.
        starts: (U,) int64, where in ``data`` each substring is found.
        lengths: (U,) int64, its bytes.
        counts: (U,) float64, how often it occurs.
    """

    data: bytes
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    counts: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.starts)

    def spelt(self, chosen: NDArray[np.int64]) -> list[bytes]:
        """Give the bytes of some of the substrings."""
        starts = self.starts[chosen].tolist()
        lengths = self.lengths[chosen].tolist()
        data = self.data
        return [data[s : s + n] for s, n in zip(starts, lengths, strict=True)]


def count_substrings(words: Mapping[bytes, int], *, longest: int, stride: int = 1) -> Substrings:
    """Count the substrings of words.

    Args:
        words: How often each word occurs.
        longest: Bytes of the longest substrings that are wanted.
        stride: Substrings begin at each so manyth byte of a word, from its first.

    Returns:
        Each substring once, in no particular order but always the same.

    Raises:
        ValueError: If ``longest`` or ``stride`` is less than 1.
    """
    if longest < 1 or stride < 1:
        raise ValueError(f"substrings of up to {longest} bytes at a stride of {stride} are none")
    spellings: Sequence[bytes] = sorted(words)  # the answer shall not depend on the order
    data = b"".join(spellings)
    sizes = np.fromiter(map(len, spellings), np.int64, len(spellings))
    times = np.fromiter((words[word] for word in spellings), np.float64, len(spellings))
    ends = sizes.cumsum()
    places = np.arange(len(data))
    inside = places - np.repeat(ends - sizes, sizes)
    at = places[inside % stride == 0]
    left = (np.repeat(ends, sizes) - places)[at]
    weight = np.repeat(times, sizes)[at]
    text = np.frombuffer(data, np.uint8).astype(np.uint64)
    key = np.zeros(len(at), np.uint64)
    keys, starts, lengths, weights = [], [], [], []
    for length in range(1, longest + 1):
        long = left >= length
        if not long.any():
            break
        at, left, weight, key = at[long], left[long], weight[long], key[long]
        key = (key + text[at + (length - 1)] + np.uint64(1)) * MULTIPLIER
        key ^= key >> SHIFT
        keys.append(key)
        starts.append(at)
        lengths.append(np.full(len(at), length, np.int64))
        weights.append(weight)
    if not keys:
        none = np.zeros(0, np.int64)
        return Substrings(data, none, none, np.zeros(0))
    _, first, which = np.unique(np.concatenate(keys), return_index=True, return_inverse=True)
    counts = np.bincount(which, weights=np.concatenate(weights)).astype(np.float64)
    return Substrings(data, np.concatenate(starts)[first], np.concatenate(lengths)[first], counts)
