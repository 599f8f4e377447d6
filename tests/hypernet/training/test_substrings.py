"""Substrings counted at once, against counting them one by one."""

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest

from tokswap.hypernet.training.substrings import count_substrings


def one_by_one(words: Mapping[bytes, int], longest: int, stride: int) -> Counter[bytes]:
    found: Counter[bytes] = Counter()
    for word, times in words.items():
        for start in range(0, len(word), stride):
            for end in range(start + 1, min(start + longest, len(word)) + 1):
                found[word[start:end]] += times
    return found


def random_words(rng: np.random.Generator, letters: bytes, count: int) -> dict[bytes, int]:
    words = {
        bytes(rng.choice(list(letters), int(rng.integers(1, 25))).tolist()): int(n)
        for n in rng.integers(1, 9, count)
    }
    assert words
    return words


@pytest.mark.parametrize("stride", [1, 2, 4, 7])
@pytest.mark.parametrize("longest", [1, 3, 15, 40])
@pytest.mark.parametrize("letters", [b"ab", bytes(range(256)), b"\x00\xff"], ids=["ab", "all", "0"])
def test_counts_are_those_of_a_plain_loop(letters: bytes, longest: int, stride: int) -> None:
    words = random_words(np.random.default_rng(len(letters) + longest + stride), letters, 60)
    found = count_substrings(words, longest=longest, stride=stride)
    spelt = found.spelt(np.arange(len(found)))
    assert len(set(spelt)) == len(spelt) == len(found)
    assert [len(part) for part in spelt] == found.lengths.tolist()
    counted = dict(zip(spelt, found.counts.tolist(), strict=True))
    assert counted == one_by_one(words, longest, stride)


def test_the_order_of_the_words_does_not_matter() -> None:
    words = random_words(np.random.default_rng(3), b"abcdefgh", 200)
    there = count_substrings(words, longest=9)
    back = count_substrings(dict(reversed(words.items())), longest=9)
    every = np.arange(len(there))
    assert back.spelt(every) == there.spelt(every)
    assert np.array_equal(back.counts, there.counts)
    assert np.array_equal(back.starts, there.starts)


def test_no_words_have_no_substrings() -> None:
    assert len(count_substrings({}, longest=5)) == 0
    assert len(count_substrings({b"": 3}, longest=5)) == 0


@pytest.mark.parametrize(("longest", "stride"), [(0, 1), (3, 0)])
def test_no_length_and_no_stride_are_refused(longest: int, stride: int) -> None:
    with pytest.raises(ValueError, match="are none"):
        count_substrings({b"word": 1}, longest=longest, stride=stride)
