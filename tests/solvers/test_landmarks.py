"""Relative representations: what a turn cannot change, the optimum, and what is not there."""

import pytest
import torch
from torch import Tensor

from tokswap.solvers.landmarks import Landmarks, farthest, predict_lengths


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def turn(rows: int, columns: int) -> Tensor:
    return torch.linalg.qr(normal(columns, columns, seed=3)).Q[:rows]


@pytest.mark.parametrize("other", [12, 20])
@pytest.mark.parametrize("count", [12, 30])
def test_a_turned_space_gives_the_turned_rows(other: int, count: int) -> None:
    rotation = turn(12, other)
    source, rows = normal(count, 12) * torch.rand(count, 1), normal(9, 12, seed=1)
    weights = Landmarks(source, 7 * source @ rotation).weigh(rows, 7 * rows.norm(dim=1))
    assert weights.shape == (9, count)
    torch.testing.assert_close(
        weights @ (7 * source @ rotation).float(), (7 * rows @ rotation).float(), rtol=0, atol=1e-4
    )


def test_the_weights_are_those_of_least_squares() -> None:
    source, target, rows = normal(6, 9), normal(6, 11, seed=1), normal(5, 9, seed=2)
    units = target / target.norm(dim=1, keepdim=True)
    cosines = torch.nn.functional.cosine_similarity(rows[:, None], source[None], dim=2)
    # argmin |B d - r|² + λ |d|², solved in the space of d
    system = units.T @ units + 0.3 * torch.eye(11)
    direction = torch.linalg.solve(system, units.T @ cosines.T).T
    lengths = torch.arange(1.0, 6.0)
    found = Landmarks(source, target, penalty=0.3).weigh(rows, lengths) @ target.float()
    wanted = direction / direction.norm(dim=1, keepdim=True) * lengths[:, None]
    torch.testing.assert_close(found, wanted.float())


def test_repeated_and_zero_landmarks_and_rows_are_finite() -> None:
    source, target = normal(5, 4), normal(5, 6, seed=1)
    source[1], target[1] = source[0], target[0]
    source[2], target[3] = 0, 0
    rows = torch.cat([normal(3, 4, seed=2), torch.zeros(1, 4)])
    weights = Landmarks(source, target).weigh(rows, torch.ones(4))
    assert bool(weights.isfinite().all())
    assert weights.abs().max() < 100
    assert (weights[3] == 0).all()
    assert (weights[:, 3] == 0).all()
    torch.testing.assert_close((weights[:3] @ target.float()).norm(dim=1), torch.ones(3))


def test_lengths_follow_a_power_of_the_others() -> None:
    lengths = torch.rand(40, generator=torch.Generator().manual_seed(0)) + 0.1
    lengths[7] = 0  # says nothing
    rows = torch.tensor([0.3, 5.0])
    found = predict_lengths(lengths, 3 * lengths**0.5, rows)
    torch.testing.assert_close(found, 3 * rows.double() ** 0.5)
    equal = predict_lengths(torch.ones(5), torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), rows)
    torch.testing.assert_close(equal, torch.full((2,), 4.0).double())
    assert predict_lengths(torch.zeros(3), torch.ones(3), rows).tolist() == [0, 0]


def test_farthest_rows_are_one_of_each_kind() -> None:
    kinds = torch.eye(5).repeat_interleave(4, dim=0)
    rows = kinds * (torch.arange(20)[:, None] % 4 + 1) + 1e-3 * normal(20, 5).float()
    chosen = farthest(rows, 5, first=6)
    assert 6 in chosen.tolist()
    assert sorted((chosen // 4).tolist()) == [0, 1, 2, 3, 4]
    assert farthest(rows, 20, first=0).tolist() == list(range(20))
