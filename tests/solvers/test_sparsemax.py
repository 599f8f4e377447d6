"""Sparsemax against a projection onto the simplex found in another way, and what it must keep."""

import pytest
import torch
from torch import Tensor

from tokswap.solvers.sparsemax import sparsemax


def full(scores: Tensor, **settings: int) -> Tensor:
    """The weights as a matrix (B, N)."""
    indices, weights = sparsemax(scores, **settings)
    found = torch.zeros(scores.shape, dtype=torch.float64)
    assert bool((weights[indices < 0] == 0).all())
    return found.scatter_add_(1, indices.clamp_min(0), weights)


def by_bisection(row: Tensor) -> Tensor:
    """The nearest point of the simplex: the scores less what leaves a sum of 1 above zero."""
    row = row.double()
    low, high = float(row.min()) - 1, float(row.max())
    for _ in range(200):
        middle = (low + high) / 2
        if float((row - middle).clamp_min(0).sum()) > 1:
            low = middle
        else:
            high = middle
    return (row - low).clamp_min(0)


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("scale", [1e-4, 0.01, 0.3, 1.0, 50.0])
@pytest.mark.parametrize("columns", [1, 2, 7, 500])
def test_is_the_projection_onto_the_simplex(scale: float, columns: int) -> None:
    scores = normal(20, columns, scale=scale)
    wanted = torch.stack([by_bisection(row) for row in scores])
    torch.testing.assert_close(full(scores), wanted, rtol=0, atol=1e-12)


def test_known_answers() -> None:
    scores = torch.tensor([[0.5, 0.5, -9.0], [1.0, 0.0, 0.0], [0.6, 0.4, 0.0], [0.9, 0.5, 0.1]])
    wanted = [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.6, 0.4, 0.0], [0.7, 0.3, 0.0]]
    torch.testing.assert_close(full(scores), torch.tensor(wanted).double(), rtol=0, atol=1e-7)


@pytest.mark.parametrize("first", [1, 3, 40, 1000])
def test_how_many_are_looked_at_first_changes_nothing(first: int) -> None:
    scores = torch.cat([normal(9, 300, scale=0.02), normal(9, 300), torch.zeros(1, 300)])
    wanted = sparsemax(scores, first=300)
    for found, said in zip(sparsemax(scores, first=first), wanted, strict=True):
        assert torch.equal(found, said)


def test_weights_add_up_to_one_and_follow_the_scores() -> None:
    scores = normal(30, 200, scale=0.1)
    indices, weights = sparsemax(scores)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(30).double())
    assert bool((weights >= 0).all())
    assert bool((weights.diff(dim=1) <= 0).all())
    assert bool((weights[indices >= 0] > 0).all())
    assert bool((indices >= 0).any(dim=0).all())  # no slot that none uses


def test_a_shift_changes_nothing_and_an_order_only_the_order() -> None:
    scores = normal(10, 90, scale=0.2).double()
    torch.testing.assert_close(full(scores + 3.25), full(scores), rtol=0, atol=1e-12)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    assert torch.equal(full(scores[:, order]), full(scores)[:, order])
    assert torch.equal(full(scores[3:4]), full(scores)[3:4])


def test_a_point_of_the_simplex_is_itself() -> None:
    once = full(normal(10, 60, scale=0.3))
    torch.testing.assert_close(full(once), once, rtol=0, atol=1e-12)


def test_large_scores_that_are_alike_do_not_cancel() -> None:
    scores = torch.tensor([[1e8, 1e8 - 0.25, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(full(scores), torch.tensor([[0.625, 0.375, 0.0]]).double())


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_nothing_gives_nothing(shape: tuple[int, int]) -> None:
    indices, weights = sparsemax(torch.zeros(shape))
    assert indices.shape == weights.shape == (shape[0], 0)


def test_refuses_what_is_not_finite() -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        sparsemax(torch.tensor([[1.0, float("nan")]]))
