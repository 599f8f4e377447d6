"""Chunks: what two cuts of a text have in common, on random cuts."""

import numpy as np
import pytest

from tokswap.hypernet.training.chunks import common_chunks, token_ends


def random_ends(rng: np.random.Generator, size: int) -> np.ndarray:
    inner = rng.choice(np.arange(1, size), int(rng.integers(0, size - 1)), replace=False)
    return np.array([*sorted(inner.tolist()), size], dtype=np.int64)


@pytest.mark.parametrize("seed", range(40))
def test_chunks_are_the_shortest_common_parts(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(2, 40))
    # Either cut may have been read to some token only.
    cuts = [random_ends(rng, size) for _ in range(2)]
    cuts = [cut[: int(rng.integers(1, len(cut) + 1))] for cut in cuts]
    *numbers, count = common_chunks(*cuts)
    common = sorted(set(cuts[0].tolist()) & set(cuts[1].tolist()))
    assert count == len(common)
    for ends, chunks in zip(cuts, numbers, strict=True):
        assert len(chunks) == len(ends)
        for end, chunk in zip(ends.tolist(), chunks.tolist(), strict=True):
            # A token is in the first chunk that does not end before the token does.
            holding = [n for n, place in enumerate(common) if place >= end]
            assert chunk == (holding[0] if holding else -1)
        for chunk, place in enumerate(common):  # and no chunk is without its last token
            assert ends[chunks == chunk].max() == place


def test_a_cut_against_itself_has_a_chunk_for_each_token() -> None:
    ends = np.array([2, 3, 7])
    one, other, count = common_chunks(ends, ends)
    assert one.tolist() == other.tolist() == [0, 1, 2]
    assert count == 3


def test_cuts_with_nothing_in_common_have_no_chunks() -> None:
    one, other, count = common_chunks(np.array([1, 3]), np.array([2, 4]))
    assert (one.tolist(), other.tolist(), count) == ([-1, -1], [-1, -1], 0)


@pytest.mark.parametrize(
    ("tokens", "text", "ends"),
    [
        ([b"ab", b"c"], b"abc", [2, 3]),
        ([b" ab", b"c"], b"abc", [2, 3]),  # SentencePiece sets a space before
        ([b" ", b"ab", b"c"], b"abc", [0, 2, 3]),
        ([b"  ", b"a"], b" a", [1, 2]),  # and before one that is there
        ([b"\xc3", b"\xa9"], "é".encode(), [1, 2]),
        ([], b"", []),
        ([b"ab"], b"abc", None),
        ([b"ab", b"d"], b"abc", None),
        ([b"xabc"], b"abc", None),
        ([b"  abc"], b"abc", None),
        ([b"abc", b""], b"<s>abc", None),
    ],
)
def test_ends_of_tokens(tokens: list[bytes], text: bytes, ends: list[int] | None) -> None:
    found = token_ends(tokens, text)
    assert (None if found is None else found.tolist()) == ends
