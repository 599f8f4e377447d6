"""Word alignment on languages whose dictionary is known."""

import numpy as np
import pytest

from tokswap.solvers.word_alignment import align, cells

WORDS = 40


def lines(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    draw = np.random.default_rng(seed)
    dictionary = draw.permutation(WORDS) + 7
    # Some words are frequent, as in any language.
    chances = 1 / np.arange(1, WORDS + 1)
    sizes = draw.integers(1, 9, count)
    first = [draw.choice(WORDS, size, p=chances / chances.sum()) for size in sizes]
    return first, dictionary


def test_a_dictionary_is_found() -> None:
    first, dictionary = lines(400, 1)
    draw = np.random.default_rng(5)
    second = [draw.permutation(dictionary[line]) for line in first]
    found = align(first, second)
    table = np.zeros((WORDS, WORDS + 7))
    table[found.first, found.second] = found.count
    assert (table.argmax(axis=1) == dictionary).all()
    often = np.bincount(np.concatenate(first), minlength=WORDS)
    right = table[np.arange(WORDS), dictionary]
    assert right.sum() > 0.8 * often.sum()  # less what may come from nowhere
    assert (right <= often + 1e-9).all()


def test_what_translates_nothing_is_linked_to_little() -> None:
    first, dictionary = lines(300, 6)
    draw = np.random.default_rng(7)
    particle = 3
    spoken = draw.random(len(first)) < 0.5
    second = [
        np.concatenate([dictionary[line], np.full(int(there), particle)])
        for line, there in zip(first, spoken, strict=True)
    ]
    found = align(first, second)
    linked = found.count[found.second == particle].sum()
    assert linked < 0.07 * spoken.sum()  # 0.08 if it could not come from nowhere


def test_one_to_one_lines_are_counted_exactly() -> None:
    found = align([np.array([3]), np.array([3, 3])], [np.array([5]), np.array([5, 5])])
    assert (found.first.tolist(), found.second.tolist()) == ([3], [5])
    assert found.count.tolist() == pytest.approx([3.0], rel=0.8)  # less what comes from nowhere


def test_the_order_of_lines_and_symbols_changes_nothing() -> None:
    first, dictionary = lines(60, 2)
    second = [dictionary[line] for line in first]
    one = align(first, second)
    draw = np.random.default_rng(3)
    order = draw.permutation(len(first))
    other = align([draw.permutation(first[n]) for n in order], [second[n] for n in order])
    assert (one.first == other.first).all()
    assert (one.second == other.second).all()
    np.testing.assert_allclose(one.count, other.count, rtol=1e-6, atol=1e-12)


def test_the_two_languages_may_be_exchanged() -> None:
    first, dictionary = lines(60, 4)
    second = [dictionary[line][: max(1, len(line) - 1)] for line in first]
    one, other = align(first, second), align(second, first)
    order = np.lexsort((other.first, other.second))
    assert (one.first == other.second[order]).all()
    np.testing.assert_allclose(one.count, other.count[order], rtol=1e-9)


def test_lines_without_symbols_give_nothing() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert len(align([none], [np.array([1])]).count) == 0
    assert len(align([], []).count) == 0
    assert cells([np.array([1, 1, 2])], [np.array([4, 5])]) == 4
