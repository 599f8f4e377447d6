"""Linear maps against SciPy and scikit-learn, and against answers known beforehand."""

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import Ridge
from torch import Tensor

from tokswap.solvers import linear_map
from tokswap.solvers.linear_map import Moments, moments, procrustes, ridge


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def known(source: Tensor, target: Tensor, *, center: bool = True) -> Moments:
    ids = torch.arange(len(source))
    return moments(source, target, ids, ids, center=center)


def turn(rows: int, columns: int, seed: int = 3) -> Tensor:
    """A matrix with orthonormal rows or columns."""
    q = torch.linalg.qr(normal(max(rows, columns), min(rows, columns), seed=seed)).Q
    return q if rows >= columns else q.T


def test_moments_are_those_of_the_rows_that_correspond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_map, "_ROWS", 7)  # several blocks
    source, target = normal(40, 5) + 3, normal(50, 4, seed=1) - 2
    ids = torch.randperm(40, generator=torch.Generator().manual_seed(2))[:23]
    others = torch.arange(23) + 20
    found = moments(source, target, ids, others)
    x, y = source[ids] - source[ids].mean(dim=0), target[others] - target[others].mean(dim=0)
    assert found.count == 23
    torch.testing.assert_close(found.source, x.T @ x)
    torch.testing.assert_close(found.cross, x.T @ y)
    assert found.target_square == pytest.approx(float(y.square().sum()))
    raw = moments(source, target, ids, others, center=False)
    torch.testing.assert_close(raw.cross, source[ids].T @ target[others])
    assert not raw.source_mean.any()


def test_a_large_mean_does_not_drown_the_rest() -> None:
    source, target = normal(200, 6) + 1e6, normal(200, 6, seed=1)
    found = known(source, target)
    x = source - source.mean(dim=0)
    torch.testing.assert_close(found.source, x.T @ x, rtol=1e-8, atol=1e-6)


def test_procrustes_equals_scipy() -> None:
    source, target = normal(60, 9), normal(60, 9, seed=1)
    matrix, sum_of_values = orthogonal_procrustes(source.numpy(), target.numpy())
    found = procrustes(known(source, target, center=False), scale=False)
    np.testing.assert_allclose(found.matrix, matrix, atol=1e-10)
    scaled = procrustes(known(source, target, center=False))
    factor = sum_of_values / float(source.square().sum())
    np.testing.assert_allclose(scaled.matrix, factor * matrix, atol=1e-10)


@pytest.mark.parametrize(("width", "other"), [(8, 8), (6, 11), (11, 6)])
def test_a_planted_rotation_is_recovered(width: int, other: int) -> None:
    rotation = turn(width, other)
    source = normal(50, width) + 4
    if width > other:  # what the rotation drops does not vary
        source = source @ rotation @ rotation.T
    target = 2.5 * (source - 4) @ rotation - 3
    found = procrustes(known(source, target))
    rows = normal(20, width, seed=5)
    if width > other:
        rows = rows @ rotation @ rotation.T
    wanted = 2.5 * (rows - 4) @ rotation - 3
    if width > other:
        wanted = found.target_mean + 2.5 * (rows - found.source_mean) @ rotation
    torch.testing.assert_close(found.apply(rows), wanted.float(), rtol=1e-5, atol=1e-5)
    unscaled = procrustes(known(source, target), scale=False).matrix
    narrow = unscaled @ unscaled.T if width <= other else unscaled.T @ unscaled
    torch.testing.assert_close(narrow, torch.eye(min(width, other)).double())


@pytest.mark.parametrize("center", [True, False])
@pytest.mark.parametrize("penalty", [1e-3, 0.1, 10.0])
def test_ridge_equals_scikit_learn(penalty: float, center: bool) -> None:
    source, target = normal(80, 7) * torch.arange(1, 8) + 2, normal(80, 5, seed=1) + 1
    found, used = ridge(known(source, target, center=center), penalty=penalty)
    assert used == penalty
    x = source - source.mean(dim=0) if center else source
    reference = Ridge(alpha=penalty * float(x.square().sum()) / 7, fit_intercept=center)
    reference.fit(source.numpy(), target.numpy())
    np.testing.assert_allclose(found.matrix.T, reference.coef_, atol=1e-10)
    rows = normal(10, 7, seed=2)
    np.testing.assert_allclose(found.apply(rows), reference.predict(rows.numpy()), atol=1e-5)


def test_a_planted_map_is_recovered_without_a_penalty() -> None:
    source, matrix = normal(50, 8) + 1, normal(8, 5, seed=1)
    found, _ = ridge(known(source, source @ matrix + 7), penalty=0.0)
    torch.testing.assert_close(found.matrix, matrix)
    rows = normal(9, 8, seed=2)
    torch.testing.assert_close(found.apply(rows), (rows @ matrix + 7).float())


def gcv(source: Tensor, target: Tensor, penalty: float) -> float:
    """Generalised cross-validation from its definition, by the matrix that predicts."""
    x, y = source - source.mean(dim=0), target - target.mean(dim=0)
    weight = penalty * float(x.square().sum()) / x.shape[1]
    hat = x @ torch.linalg.solve(x.T @ x + weight * torch.eye(x.shape[1]), x.T)
    free = len(x) - float(hat.trace()) - 1
    return float((hat @ y - y).square().sum()) / free**2


@pytest.mark.parametrize("noise", [0.001, 0.1, 3.0])
def test_the_penalty_without_a_word_is_that_of_cross_validation(noise: float) -> None:
    source = normal(24, 20) * torch.logspace(0, -2, 20).double()
    target = source @ normal(20, 6, seed=1) + noise * normal(24, 6, seed=2)
    _, penalty = ridge(known(source, target))
    tried = [10 ** (step / 8) for step in range(-64, 33)]
    assert penalty == min(tried, key=lambda tried_one: gcv(source, target, tried_one))


def test_the_more_noise_the_more_penalty_and_the_choice_helps() -> None:
    source, matrix = normal(60, 40), normal(40, 6, seed=1)
    noise, fresh = normal(60, 6, seed=2), normal(200, 40, seed=3)
    chosen = [ridge(known(source, source @ matrix + size * noise))[1] for size in (0.01, 1, 100)]
    assert chosen == sorted(set(chosen))
    target = source @ matrix + 20 * noise

    def error(penalty: float | None) -> float:
        rows = ridge(known(source, target), penalty=penalty)[0].apply(fresh)
        return float((rows - fresh @ matrix).square().mean())

    assert error(None) < min(error(1e-8), error(1e4))


@pytest.mark.parametrize("kind", ["duplicates", "collinear", "few", "one", "zeros"])
def test_rows_that_say_little_give_finite_maps(kind: str) -> None:
    source = {
        "duplicates": normal(1, 9).repeat(30, 1),
        "collinear": normal(30, 1) @ normal(1, 9, seed=1),
        "few": normal(4, 9),
        "one": normal(1, 9),
        "zeros": torch.zeros(30, 9, dtype=torch.float64),
    }[kind]
    target = source @ normal(9, 6, seed=2)
    rows = normal(12, 9, seed=3)
    for center in (True, False):
        found = known(source, target, center=center)
        maps = [procrustes(found), procrustes(found, scale=False)]
        maps += [ridge(found, penalty=penalty)[0] for penalty in (None, 0.0, 1.0)]
        for fitted in maps:
            made = fitted.apply(rows)
            assert bool(made.isfinite().all())
            assert made.abs().max() < 1e3
            assert torch.linalg.matrix_rank(fitted.matrix) <= torch.linalg.matrix_rank(source)
        # Where nothing is known of a direction it goes to the mean; what is known is replayed.
        exact = ridge(found, penalty=0.0)[0].apply(source)
        torch.testing.assert_close(exact, target.float(), rtol=1e-4, atol=1e-4)


def test_rows_are_mapped_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    found = procrustes(known(normal(30, 6), normal(30, 4, seed=1)))
    rows = normal(20, 6, seed=2).bfloat16()
    whole = found.apply(rows)
    monkeypatch.setattr(linear_map, "_ROWS", 3)
    torch.testing.assert_close(found.apply(rows), whole)
    assert whole.dtype == torch.float32
    assert found.apply(rows[:0]).shape == (0, 4)


def test_what_does_not_correspond_is_refused() -> None:
    rows, ids = normal(4, 3), torch.arange(4)
    with pytest.raises(ValueError, match="4 source rows and 3 target rows do not correspond"):
        moments(rows, rows, ids, ids[:3])
    with pytest.raises(ValueError, match="at least one"):
        moments(rows, rows, ids[:0], ids[:0])
    with pytest.raises(ValueError, match="NaN or infinite"):
        moments(rows / 0, rows, ids, ids)
