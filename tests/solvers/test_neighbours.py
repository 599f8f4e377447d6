"""Nearest atoms against scikit-learn, and weights against answers known beforehand."""

from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from tokswap.solvers.neighbours import Metric, Scheme, fit, nearest, weigh

METRICS = get_args(Metric)
both_metrics = pytest.mark.parametrize("metric", METRICS)
both_fits = pytest.mark.parametrize("scheme", ["barycentric", "least_squares"])


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@both_metrics
@pytest.mark.parametrize("k", [1, 7, 40])
def test_equals_scikit_learn(metric: Metric, k: int) -> None:
    atoms, targets = normal(300, 24) + 1, normal(50, 24, seed=1) + 1
    indices, distances = nearest(targets, atoms, k, metric=metric)
    reference = NearestNeighbors(n_neighbors=k, metric=metric, algorithm="brute")
    reference.fit(atoms.double().numpy())
    wanted = reference.kneighbors(targets.double().numpy())
    np.testing.assert_array_equal(indices, wanted[1])
    np.testing.assert_allclose(distances, wanted[0], rtol=1e-6, atol=1e-9)


@both_metrics
@pytest.mark.parametrize("block", [1, 16, 33])
def test_blocks_change_nothing(metric: Metric, block: int) -> None:
    atoms, targets = normal(100, 16), normal(50, 16, seed=1)
    whole = nearest(targets, atoms, 5, metric=metric)
    parts = nearest(targets, atoms, 5, metric=metric, block=block)
    assert all(torch.equal(one, other) for one, other in zip(whole, parts, strict=True))


@both_metrics
@pytest.mark.parametrize("copies", [3, 60])
def test_the_lowest_of_equal_atoms_win(metric: Metric, copies: int) -> None:
    distinct = normal(20, 16).bfloat16().float()  # whose multiples are exact
    factor = 3.0 if metric == "cosine" else 1.0
    atoms = torch.cat([distinct, *[factor * distinct] * (copies - 1)])
    indices, distances = nearest(normal(30, 16, seed=1), atoms, 2 * copies - 1, metric=metric)
    near = nearest(normal(30, 16, seed=1), distinct, 2, metric=metric)[0]
    for row, (first, second) in zip(indices.tolist(), near.tolist(), strict=True):
        assert row[:copies] == list(range(first, 20 * copies, 20))
        assert row[copies:] == list(range(second, 20 * (copies - 1), 20))
    assert bool((distances.diff(dim=1) >= -1e-12).all())


@both_metrics
def test_more_equal_atoms_than_are_looked_at_again(metric: Metric) -> None:
    distinct, targets = normal(20, 16), normal(30, 16, seed=1)
    near = nearest(targets, distinct, 1, metric=metric)[0]
    indices, _ = nearest(targets, distinct.repeat(60, 1), 30, metric=metric)
    for row, (first,) in zip(indices.tolist(), near.tolist(), strict=True):
        assert row == list(range(first, 20 * 30, 20))


def test_near_atoms_far_from_the_origin_are_told_apart() -> None:
    # Their products with the target differ by less than float32 rounds.
    steps = torch.arange(40, 0, -1)[:, None] * 2.0**-10
    atoms = 1000 + torch.cat([steps, torch.zeros(40, 1)], dim=1)
    indices, distances = nearest(torch.full((1, 2), 1000.0), atoms, 20, metric="euclidean")
    assert indices[0].tolist() == list(range(39, 19, -1))
    assert distances[0].tolist() == [2.0**-10 * step for step in range(1, 21)]


@both_metrics
def test_zeros_and_few_atoms_are_finite(metric: Metric) -> None:
    atoms = torch.cat([torch.zeros(2, 8), normal(2, 8)])
    indices, distances = nearest(torch.cat([torch.zeros(1, 8), atoms[3:]]), atoms, 6, metric=metric)
    assert (indices[:, 4:] == -1).all()
    assert distances[:, 4:].isinf().all()
    assert bool(distances[:, :4].isfinite().all())
    assert indices[1, 0] == 3
    assert distances[1, 0] == 0
    assert (distances[0, :4] == 1).all() == (metric == "cosine")
    for scheme in get_args(Scheme):
        by_rows = scheme in {"barycentric", "least_squares"}
        weights = fit(atoms[:2], atoms, indices, scheme) if by_rows else weigh(distances, scheme)
        assert bool(weights.isfinite().all())
        assert (weights[:, 4:] == 0).all()
    none, _ = nearest(atoms, atoms[:0], 3, metric=metric)
    assert (none == -1).all()


def test_weights_by_distance_are_what_they_say() -> None:
    distances = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, 1.0], [1.0, 1.0, torch.inf]]).double()
    torch.testing.assert_close(
        weigh(distances, "inverse_distance"),
        torch.tensor([[4 / 7, 2 / 7, 1 / 7], [0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]).double(),
    )
    wanted = torch.softmax(-distances / 0.3, dim=1)
    torch.testing.assert_close(weigh(distances, "softmax", temperature=0.3), wanted)
    tiny = weigh(distances, "softmax", temperature=1e-12)  # nothing leaves the range of floats
    assert tiny[0].tolist() == [1, 0, 0]


@both_fits
def test_a_planted_combination_is_found(scheme: Scheme) -> None:
    atoms, planted = normal(30, 20), torch.tensor([0.7, 0.6, -0.3])
    targets = (planted[:, None] * atoms[:3]).sum(dim=0, keepdim=True)
    weights = fit(targets, atoms, torch.tensor([[4, 0, 2, 1, 7]]), scheme)
    wanted = torch.tensor([[0, 0.7, -0.3, 0.6, 0]]).double()
    torch.testing.assert_close(weights, wanted, rtol=0, atol=1e-5)


def test_least_squares_are_numpys() -> None:
    atoms, targets = normal(40, 12, dtype=torch.float64), normal(9, 12, seed=1, dtype=torch.float64)
    indices, _ = nearest(targets, atoms, 5)
    weights = fit(targets, atoms, indices, "least_squares", block=4)
    for row in range(9):
        wanted = np.linalg.lstsq(atoms[indices[row]].T.numpy(), targets[row].numpy())[0]
        np.testing.assert_allclose(weights[row], wanted, atol=1e-10)


def test_barycentric_weights_are_the_constrained_optimum() -> None:
    atoms, targets = normal(40, 12, dtype=torch.float64), normal(9, 12, seed=1, dtype=torch.float64)
    indices, _ = nearest(targets, atoms, 5)
    weights = fit(targets, atoms, indices, "barycentric")
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(9).double())
    # By the conditions of optimality: [2 A Aᵀ, 1; 1ᵀ, 0] [w; m] = [2 A x; 1].
    for row in range(9):
        rows = atoms[indices[row]]
        system = torch.ones(6, 6, dtype=torch.float64)
        system[:5, :5], system[5, 5] = 2 * rows @ rows.T, 0
        wanted = torch.linalg.solve(system, torch.cat([2 * rows @ targets[row], torch.ones(1)]))
        torch.testing.assert_close(weights[row], wanted[:5])


@both_fits
def test_equal_and_nearly_equal_atoms_share_a_weight(scheme: Scheme) -> None:
    line, other, off = torch.linalg.qr(normal(16, 3)).Q.T
    atoms = torch.stack([line, line, line + 1e-6 * off, other])
    weights = fit(((line + other) / 2 + off)[None], atoms, torch.tensor([[0, 1, 2, 3]]), scheme)
    wanted = torch.tensor([[1 / 6, 1 / 6, 1 / 6, 1 / 2]]).double()
    torch.testing.assert_close(weights, wanted, rtol=0, atol=1e-5)


def test_a_penalty_draws_to_zero_or_to_the_average() -> None:
    atoms, targets, indices = normal(30, 20), normal(4, 20, seed=1), torch.arange(5).repeat(4, 1)
    loose = [fit(targets, atoms, indices, "least_squares", penalty=p) for p in (0, 1, 1e9)]
    norms = [float(weights.norm()) for weights in loose]
    assert norms[0] > norms[1] > 1e6 * norms[2]
    stiff = fit(targets, atoms, indices, "barycentric", penalty=1e9)
    torch.testing.assert_close(stiff, torch.full((4, 5), 0.2).double(), rtol=0, atol=1e-6)
    gram = atoms[:5].double() @ atoms[:5].double().T
    ridge = gram + 1.0 * gram.diag().mean() * torch.eye(5)
    wanted = torch.linalg.solve(ridge, atoms[:5].double() @ targets.double().T).T
    torch.testing.assert_close(loose[1], wanted)


def test_more_neighbours_than_dimensions_are_finite() -> None:
    atoms, targets = normal(30, 4), normal(5, 4, seed=1)
    indices, _ = nearest(targets, atoms, 12)
    for scheme in ("barycentric", "least_squares"):
        weights = fit(targets, atoms, indices, scheme)
        found = torch.einsum("mk,mkd->md", weights, atoms[indices].double())
        torch.testing.assert_close(found, targets.double(), rtol=0, atol=1e-5)
        assert weights.abs().max() < 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((normal(2, 3), normal(2, 4), 1), "do not fit"),
        ((normal(2, 3).long(), normal(2, 3), 1), "targets have dtype torch.int64"),
        ((normal(2, 3), normal(2, 3) / 0, 1), "atoms hold NaN or infinite"),
        ((normal(2, 3), normal(2, 3), 0), "k=0 is no number of atoms"),
    ],
)
def test_what_cannot_be_worked_with_is_refused(arguments, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest(*arguments)


def test_each_scheme_has_its_function() -> None:
    with pytest.raises(ValueError, match="use fit"):
        weigh(torch.ones(1, 1), "barycentric")
    with pytest.raises(ValueError, match="use weigh"):
        fit(normal(1, 2), normal(1, 2), torch.zeros(1, 1).long(), "softmax")
