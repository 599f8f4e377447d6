"""Weights by similarity, against the published figures and where the temperature leads."""

import math

import pytest
import torch
from torch import Tensor

from tokswap.solvers.similar import cosines, first_others, neighbour_weights, part_weights


def parts(cosine: list[float], chars: list[int], temperature: float) -> list[float]:
    """The weights of the parts of one whole that they make up."""
    shares = torch.tensor(chars, dtype=torch.float64) / sum(chars)
    rows = torch.zeros(len(chars), dtype=torch.int64)
    said = torch.tensor(cosine, dtype=torch.float64)
    found: list[float] = part_weights(said, shares, rows, 1, temperature=temperature).tolist()
    return found


@pytest.mark.parametrize(
    ("cosine", "chars", "temperature", "wanted"),
    [
        ([0.9, 0.5], [6, 4], 0.3, [0.660, 0.340]),
        ([0.9, 0.5], [6, 4], 1.0, [0.550, 0.450]),
        ([0.9, 0.5], [2, 8], 0.3, [0.338, 0.662]),
        ([0.95, 0.6, 0.55], [3, 3, 4], 0.3, [0.364, 0.296, 0.341]),
        ([0.8] * 4, [1, 1, 1, 7], 0.3, [0.175, 0.175, 0.175, 0.475]),
        ([0.8] * 4, [1, 1, 1, 7], 0.1, [0.043, 0.043, 0.043, 0.870]),
    ],
)
def test_the_published_weights_of_pieces(cosine, chars, temperature, wanted) -> None:
    assert parts(cosine, chars, temperature) == pytest.approx(wanted, abs=6e-4)


def test_a_cold_part_is_the_longest_and_hot_ones_are_alike() -> None:
    assert parts([0.2, 0.2, 0.2], [2, 5, 3], 0.0) == pytest.approx([0, 1, 0])
    assert parts([0.9, -0.9, 0.2], [2, 5, 3], 1e9) == pytest.approx([1 / 3] * 3)


def test_each_whole_is_weighed_alone() -> None:
    rows = torch.tensor([2, 0, 2, 0, 0])
    alike = torch.tensor([0.1, 0.9, 0.7, 0.2, -0.4], dtype=torch.float64)
    shares = torch.tensor([0.4, 0.2, 0.6, 0.5, 0.3], dtype=torch.float64)
    found = part_weights(alike, shares, rows, 4, temperature=0.3)
    for whole in (0, 2):
        here = rows == whole
        own = torch.zeros(int(here.sum()), dtype=torch.int64)
        alone = part_weights(alike[here], shares[here], own, 1, temperature=0.3)
        torch.testing.assert_close(found[here], alone)
        assert float(alone.sum()) == pytest.approx(1)


def near(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_neighbours_are_weighed_by_a_softmax() -> None:
    found = neighbour_weights(near([0.9, 0.6]), temperature=0.3, threshold=None)
    first, second = math.exp(0.9 / 0.30001), math.exp(0.6 / 0.30001)
    wanted = near([first / (first + second), second / (first + second)])
    torch.testing.assert_close(found, wanted)


def test_a_cold_neighbour_is_the_nearest_and_hot_ones_are_alike() -> None:
    cold, hot = (
        neighbour_weights(near([0.9, 0.6, 0.5]), temperature=heat, threshold=None)
        for heat in (0.0, 1e9)
    )
    torch.testing.assert_close(cold, near([1.0, 0.0, 0.0]))
    torch.testing.assert_close(hot, near([1 / 3] * 3))


@pytest.mark.parametrize("temperature", [0.0, 0.05, 0.3, 2.0])
def test_below_the_threshold_nothing_is_left(temperature: float) -> None:
    similar = near([0.9, 0.6, 0.4], [0.5, 0.3, 0.2], [0.4, 0.4, 0.1])
    found = neighbour_weights(similar, temperature=temperature, threshold=0.5)
    pair = neighbour_weights(similar[:1, :2], temperature=temperature, threshold=None)
    torch.testing.assert_close(found, near([*pair[0].tolist(), 0.0], [1, 0, 0], [0, 0, 0]))


def test_unused_slots_weigh_nothing() -> None:
    found = neighbour_weights(
        near([0.3, -math.inf], [-math.inf] * 2), temperature=0.3, threshold=None
    )
    assert found.tolist() == [[1, 0], [0, 0]]


def test_unwanted_neighbours_make_room() -> None:
    found = torch.tensor([[5, 3, 8, 1], [5, 3, 8, 1], [4, -1, -1, -1]])
    similar = near([0.9, 0.8, 0.7, 0.6], [0.9, 0.8, 0.7, 0.6], [0.5] + [-math.inf] * 3)
    unwanted = torch.tensor([[3, 5], [1, -2], [4, -2]])
    ids, left = first_others(found, similar, unwanted, 2)
    assert ids.tolist() == [[8, 1], [5, 3], [-1, -1]]
    assert left.tolist() == [[0.7, 0.6], [0.9, 0.8], [-math.inf] * 2]


def test_cosines_of_pairs() -> None:
    first = torch.tensor([[3.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    second = torch.tensor([[0.0, 2.0], [-1.0, 0.0]])
    one, other = torch.tensor([0, 0, 1, 1, 2]), torch.tensor([0, 1, 0, 1, 0])
    half = math.sqrt(0.5)
    assert cosines(first, one, second, other).tolist() == pytest.approx([0, -1, half, -half, 0])
