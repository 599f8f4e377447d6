from itertools import pairwise

import pytest

from tokswap.evaluation.windows import WAITING, Window, batches, cut_windows


def parts(ids: list[int], size: int) -> list[list[int]]:
    return [ids[i : i + size] for i in range(0, len(ids), size)]


@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 9, 10, 11, 12, 13, 50])
@pytest.mark.parametrize("stride", [1, 3, 7, 8])
@pytest.mark.parametrize("size", [1, 5, 100])
def test_each_token_is_asked_once_with_enough_before_it(
    length: int, stride: int, size: int
) -> None:
    window = 8
    ids = list(range(100, 100 + length))
    cuts = list(cut_windows(parts(ids, size), 7, window, stride))
    text = [7, *ids]
    position = 1
    for cut in cuts:
        end = position + len(cut.targets)
        assert text[position:end] == cut.targets
        # Each target follows the input that stands at its place from the end.
        assert text[end - 1 - len(cut.inputs) : end - 1] == cut.inputs
        before = len(cut.inputs) - len(cut.targets) + 1
        assert before >= min(position, window - stride + 1)
        assert len(cut.inputs) == min(window, length)
        position = end
    assert position == len(text)
    assert all(len(cut.targets) == stride for cut in cuts[1:-1])


def test_stride_as_long_as_the_window_cuts_without_overlap() -> None:
    cuts = list(cut_windows([list(range(1, 10))], 0, 4, 4))
    assert [cut.inputs for cut in cuts] == [[0, 1, 2, 3], [4, 5, 6, 7], [5, 6, 7, 8]]
    assert [cut.targets for cut in cuts] == [[1, 2, 3, 4], [5, 6, 7, 8], [9]]


def test_without_a_start_token_the_first_is_not_asked() -> None:
    assert list(cut_windows([[5], [6, 7]], None, 4, 2)) == [Window([5, 6], [6, 7])]
    assert list(cut_windows([[5]], None, 4, 2)) == []


def test_windows_come_while_the_ids_are_read() -> None:
    read = 0

    def ids() -> object:
        nonlocal read
        for read in range(1, 101):
            yield [read]

    progress = [(read, cut) for cut in cut_windows(ids(), 0, 8, 4)]
    assert progress[0][0] == 8
    assert all(later[0] - earlier[0] <= 4 for earlier, later in pairwise(progress))


def test_batches_hold_windows_of_one_shape_and_lose_none() -> None:
    windows = [(i, Window([0] * (1 + i % 3), [i])) for i in range(20)]
    found = list(batches(windows, lambda inputs, targets: 4))
    assert all(len({len(cut.inputs) for _, cut in batch}) == 1 for batch in found)
    assert max(len(batch) for batch in found) == 4
    assert sorted(item for batch in found for item in batch) == windows


def test_windows_of_many_shapes_do_not_pile_up() -> None:
    given = 0

    def windows() -> object:
        nonlocal given
        for given in range(1, 3 * WAITING):
            yield given, Window([0] * given, [0])

    first = next(batches(windows(), lambda inputs, targets: 4))
    assert len(first) == 1
    assert given == WAITING
