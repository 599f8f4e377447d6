"""Documents in prefixes and suffixes."""

import pytest

from tokswap.evaluation.prefixes import cut_splits


@pytest.mark.parametrize("length", [0, 1, 4, 5, 6, 7, 8, 9, 30])
@pytest.mark.parametrize("stride", [1, 3, 7])
@pytest.mark.parametrize("start", [None, 7])
@pytest.mark.parametrize("size", [1, 4, 100])
def test_what_follows_the_first_prefix_is_asked_once(
    length: int, stride: int, start: int | None, size: int
) -> None:
    ids, window = list(range(100, 100 + length)), 8
    parts = [ids[i : i + size] for i in range(0, length, size)]
    splits = list(cut_splits(parts, start, window, stride))
    text = [*([] if start is None else [start]), *ids]
    before = window - stride
    assert [n for split in splits for n in split.suffix] == text[before:]
    for number, split in enumerate(splits):
        assert split.prefix == text[number * stride : number * stride + before]
        assert len(split.suffix) == stride or number == len(splits) - 1
        assert split.suffix
