"""The solver against scikit-learn, a reference written here, and answers known beforehand."""

import re
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.linear_model import orthogonal_mp
from torch import Tensor

from solvers.tables import structured
from tokswap.solvers.omp import Mode, Pursuit, orthogonal_matching_pursuit

TIGHT = 1e-8


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit(rows: Tensor) -> Tensor:
    return rows / rows.norm(dim=1, keepdim=True)


def dense(indices: Tensor, weights: Tensor, columns: int) -> Tensor:
    matrix = weights.new_zeros(len(indices), columns)
    return matrix.scatter_add_(1, indices.clamp_min(0), weights)


def naive(target: Tensor, atoms: Tensor, k: int) -> tuple[list[int], Tensor]:
    """Select by the raw inner product, and fit by least squares from scratch at each step."""
    chosen: list[int] = []
    residual = target
    weights = target[:0]
    for _ in range(k):
        scores = (atoms @ residual).abs()
        scores[chosen] = -1
        chosen.append(int(scores.argmax()))
        weights = torch.linalg.lstsq(atoms[chosen].T, target[:, None]).solution[:, 0]
        residual = target - weights @ atoms[chosen]
    return chosen, weights


@pytest.mark.parametrize("k", [1, 3, 16])
def test_equals_scikit_learn_on_unit_atoms(k: int) -> None:
    atoms, targets = unit(normal(120, 40)), normal(25, 40, seed=1)
    found = dense(*orthogonal_matching_pursuit(targets, atoms, k), 120)
    expected = orthogonal_mp(atoms.T.numpy(), targets.T.numpy(), n_nonzero_coefs=k)
    np.testing.assert_allclose(found.numpy(), expected.reshape(120, 25).T, atol=TIGHT)


@pytest.mark.parametrize("normalize", [True, False])
def test_planted_combinations_are_recovered(normalize: bool) -> None:
    atoms = normal(60, 400) * (torch.arange(60, dtype=torch.float64) % 3 + 1)[:, None] ** 0.2
    planted = torch.zeros(30, 60, dtype=torch.float64)
    for row in range(30):
        planted[row, [row, (row + 7) % 60, (row + 29) % 60]] = torch.tensor(
            [2.0, -1.5, 1.0]
        ).double()
    indices, weights = orthogonal_matching_pursuit(planted @ atoms, atoms, 5, normalize=normalize)
    assert (indices[:, 3:] == -1).all()
    assert (weights[:, 3:] == 0).all()
    torch.testing.assert_close(dense(indices, weights, 60), planted, atol=TIGHT, rtol=0)


def test_orthonormal_atoms_give_the_largest_coordinates_in_order() -> None:
    target = torch.tensor([[0.5, -3.0, 0.0, 2.0]])
    indices, weights = orthogonal_matching_pursuit(target, torch.eye(4), 4)
    assert indices.tolist() == [[1, 3, 0, -1]]
    assert weights.tolist() == [[-3.0, 2.0, 0.5, 0.0]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("factor", [1.0, -1.0, 3.0])  # duplicate, opposite, collinear
def test_collinear_atoms_are_one_atom(dtype: torch.dtype, factor: float) -> None:
    line, other = unit(normal(2, 32, dtype=dtype))
    atoms = torch.stack([line, factor * line, line, other, factor * line])
    target = (2 * line + other)[None]
    indices, weights = orthogonal_matching_pursuit(target, atoms, 5)
    assert indices.tolist() == [[0, 3, -1, -1, -1]]
    expected = torch.tensor([[2, 1, 0, 0, 0]], dtype=dtype)
    torch.testing.assert_close(weights, expected, atol=1e-5, rtol=0)


def test_four_equal_atoms_and_a_target_off_their_line() -> None:
    # An absolute tolerance answers this with weights of 1e7.
    atoms = unit(normal(1, 16, dtype=torch.float32)).repeat(4, 1)
    target = atoms[:1] + 0.5 * unit(normal(1, 16, seed=5, dtype=torch.float32))
    indices, weights = orthogonal_matching_pursuit(target, atoms, 3)
    assert indices.tolist() == [[0, -1, -1]]
    torch.testing.assert_close(weights, torch.stack([target[0] @ atoms[0], *torch.zeros(2)])[None])


def test_nearly_collinear_atoms_do_not_share_huge_weights() -> None:
    line, other = torch.linalg.qr(normal(16, 2, dtype=torch.float32)).Q.T
    atoms = torch.stack([line, line + 1e-5 * other])
    indices, weights = orthogonal_matching_pursuit((line + other)[None], atoms, 2)
    assert indices.tolist() == [[1, -1]]
    torch.testing.assert_close(weights, torch.tensor([[1.0, 0.0]]), rtol=0, atol=1e-4)


def test_a_long_atom_taken_does_not_hide_a_short_one() -> None:
    # By raw product, the rounding left in the long atom's score beats the short atom's score.
    line, other = torch.linalg.qr(normal(33, 2, dtype=torch.float32)).Q.T
    atoms = torch.stack([1e7 * line, 1e-3 * other])
    found = orthogonal_matching_pursuit((3 * line + other)[None], atoms, 2, normalize=False)
    assert found[0].tolist() == [[0, 1]]
    torch.testing.assert_close(found[1], torch.tensor([[3e-7, 1e3]]), rtol=1e-4, atol=0)


def test_a_finished_row_stays_finished_while_others_go_on() -> None:
    atoms = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    targets = torch.tensor([[1.0, 0.0], [2.0, 1.0], [0.0, 0.0]])
    indices, weights = orthogonal_matching_pursuit(targets, atoms, 2)
    assert indices.tolist() == [[0, -1], [0, 2], [-1, -1]]
    assert weights.tolist() == [[1.0, 0.0], [2.0, 1.0], [0.0, 0.0]]


def test_the_lowest_of_equal_atoms_is_taken_wherever_they_lie() -> None:
    # Multiples differ by rounding once they are at unit norm, and so do their scores.
    distinct = normal(37, 51, dtype=torch.float32)
    targets = normal(64, 51, seed=1, dtype=torch.float32)
    expected, weights = orthogonal_matching_pursuit(targets, distinct, 12)
    found = orthogonal_matching_pursuit(
        targets, torch.cat([distinct, 3 * distinct, -0.7 * distinct]), 12
    )
    assert torch.equal(found[0], expected)
    torch.testing.assert_close(found[1], weights, rtol=1e-3, atol=1e-4)


def test_zero_atoms_are_never_taken_and_zero_targets_take_none() -> None:
    atoms = torch.cat([torch.zeros(3, 8), normal(4, 8, dtype=torch.float32), torch.zeros(2, 8)])
    targets = torch.cat([torch.zeros(2, 8), normal(3, 8, seed=1, dtype=torch.float32)])
    indices, weights = orthogonal_matching_pursuit(targets, atoms, 6)
    assert (indices[:2] == -1).all()
    assert (weights[:2] == 0).all()
    assert [sorted(row) for row in indices[2:].tolist()] == [[-1, -1, 3, 4, 5, 6]] * 3
    only_zeros, _ = orthogonal_matching_pursuit(targets, torch.zeros(3, 8), 2)
    assert (only_zeros == -1).all()


def test_a_target_orthogonal_to_all_atoms_takes_none() -> None:
    turn = torch.linalg.qr(normal(12, 12, dtype=torch.float32)).Q  # orthogonal only to rounding
    indices, weights = orthogonal_matching_pursuit(turn[:1], turn[1:6], 3)
    assert (indices == -1).all()
    assert (weights == 0).all()


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_k_above_the_rank_stops_at_the_projection(dtype: torch.dtype, normalize: bool) -> None:
    span = normal(4, 20, dtype=dtype)
    atoms = normal(30, 4, seed=1, dtype=dtype) @ span
    targets = normal(10, 20, seed=2, dtype=dtype)
    indices, weights = orthogonal_matching_pursuit(targets, atoms, 10, normalize=normalize)
    assert (indices[:, :4] >= 0).all()
    assert (indices[:, 4:] == -1).all()
    basis = torch.linalg.qr(span.T).Q
    projection = targets @ basis @ basis.T
    tolerance = 1e-4 if dtype == torch.float32 else TIGHT
    fitted = dense(indices, weights, 30) @ atoms
    torch.testing.assert_close(fitted, projection, atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("count", "atoms", "width", "k"),
    [
        (3, 10, 4, 6),
        (3, 2, 9, 5),
        (1, 1, 1, 1),
        (2, 5, 1, 3),
        (1, 5, 4, 2),
        (0, 5, 4, 2),
        (3, 0, 4, 2),
    ],
)
def test_shapes_depend_on_the_sizes_only(count: int, atoms: int, width: int, k: int) -> None:
    targets, table = normal(count, width), normal(atoms, width, seed=1)
    indices, weights = orthogonal_matching_pursuit(targets, table, k)
    assert indices.shape == weights.shape == (count, k)
    assert (indices.dtype, weights.dtype) == (torch.int64, torch.float64)
    used = min(k, atoms, width)
    assert ((indices >= 0).sum(dim=1) == used).all()
    assert (weights[:, used:] == 0).all()
    if used == width:  # enough atoms to be exact
        torch.testing.assert_close(dense(indices, weights, atoms) @ table, targets)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("scale", [2.0**-20, 0.25, 2.0**20])  # exact in binary
def test_scaling_changes_weights_only(scale: float, mode: Mode, normalize: bool) -> None:
    atoms, targets = structured(400, 48), structured(20, 48, seed=1)
    indices, weights = Pursuit(atoms, 8, mode=mode, normalize=normalize).solve(targets)
    short = Pursuit(atoms / 2**14, 8, mode=mode, normalize=normalize)
    found = short.solve(targets * scale)
    assert torch.equal(found[0], indices)
    torch.testing.assert_close(found[1] / (2**14 * scale), weights, rtol=1e-3, atol=1e-5)


def test_the_length_of_single_atoms_does_not_matter_when_normalized() -> None:
    atoms, targets = normal(80, 24), normal(20, 24, seed=1)
    lengths = 10.0 ** (torch.arange(80) % 9 - 4).double()
    indices, weights = orthogonal_matching_pursuit(targets, atoms, 8)
    found = orthogonal_matching_pursuit(targets, atoms * lengths[:, None], 8)
    assert torch.equal(found[0], indices)
    torch.testing.assert_close(found[1] * lengths[indices], weights)


LEAST = re.compile(r"give at least (\d+)")


def least_memory(atoms: Tensor, k: int, mode: Mode) -> int:
    with pytest.raises(ValueError, match=LEAST) as refusal:
        Pursuit(atoms, k, mode=mode, memory=1)
    found = LEAST.search(str(refusal.value))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", ["exact", "fast"])
@pytest.mark.parametrize("factor", [1.0, 1.05])
def test_the_memory_does_not_matter(mode: Mode, factor: float, dtype: torch.dtype) -> None:
    atoms, targets = normal(411, 45, dtype=dtype), normal(300, 45, seed=1, dtype=dtype)
    targets[20:30] = 0
    targets[40:50] = atoms[40:50]  # rows that end early, in the middle of a batch
    whole = Pursuit(atoms, 20, mode=mode).solve(targets)
    finished: list[int] = []
    small = Pursuit(atoms, 20, mode=mode, memory=int(factor * least_memory(atoms, 20, mode)))
    parts = small.solve(targets, progress=finished.append)
    assert torch.equal(parts[0], whole[0])
    assert torch.equal(parts[1], whole[1])
    assert small.batch < 300
    assert finished == [min(small.batch, 300 - start) for start in range(0, 300, small.batch)]
    assert parts[0][45].tolist() == [45] + [-1] * 19


@pytest.mark.parametrize(("mode", "look"), [("exact", ""), ("fast", "product"), ("fast", "gram")])
def test_a_row_does_not_depend_on_the_others(mode: Mode, look: Literal["product", "gram"]) -> None:
    distinct, targets = structured(2000, 64), structured(70, 64, seed=1)
    atoms = torch.cat([distinct, distinct])  # ties, which must fall alike
    pursuit = Pursuit(atoms, 16, mode=mode, look=look or "auto")
    assert pursuit.look == look
    whole = pursuit.solve(targets)
    for rows in (slice(69, 70), slice(3, 20), slice(0, 48)):
        some = pursuit.solve(targets[rows])
        assert torch.equal(some[0], whole[0][rows])
        assert torch.equal(some[1], whole[1][rows])


@pytest.mark.parametrize("normalize", [True, False])
def test_residuals_shrink_and_are_orthogonal_to_the_chosen_atoms(normalize: bool) -> None:
    atoms, targets = normal(150, 60) + 1.0, normal(20, 60, seed=1)
    before = targets.norm(dim=1)
    for k in range(1, 25):
        indices, weights = orthogonal_matching_pursuit(targets, atoms, k, normalize=normalize)
        chosen = atoms[indices]
        residual = targets - torch.einsum("mk,mke->me", weights, chosen)
        assert torch.einsum("me,mke->mk", residual, chosen).abs().max() < TIGHT
        assert (residual.norm(dim=1) <= before + TIGHT).all()
        assert all(len(set(row)) == k for row in indices.tolist())
        before = residual.norm(dim=1)


def test_ill_conditioned_atoms_are_fitted_as_well_in_float32() -> None:
    # All atoms share a part 600 times the rest: after one Gram-Schmidt pass the basis is no longer
    # orthogonal, and the residual about twice that of the second pass.
    atoms, targets = normal(100, 64) + 5000 * unit(normal(1, 64, seed=3)), normal(20, 64, seed=1)
    atoms = atoms.float().double()
    norms = []
    for dtype in (torch.float32, torch.float64):
        indices, weights = orthogonal_matching_pursuit(targets.to(dtype), atoms.to(dtype), 40)
        assert (indices >= 0).all()
        fitted = torch.einsum("mk,mke->me", weights.double(), atoms[indices])
        norms.append((targets - fitted).norm(dim=1).mean().item())
    assert norms[0] == pytest.approx(norms[1], rel=0.1)


def test_the_published_variant_selects_by_raw_products() -> None:
    lengths = 0.25 + 1.5 * torch.rand(90, 1, generator=torch.Generator().manual_seed(2)).double()
    atoms, targets = unit(normal(90, 30)) * lengths, normal(12, 30, seed=1)
    indices, weights = orthogonal_matching_pursuit(targets, atoms, 9, normalize=False)
    for row, target in enumerate(targets):
        chosen, expected = naive(target, atoms, 9)
        assert indices[row].tolist() == chosen
        torch.testing.assert_close(weights[row], expected, atol=TIGHT, rtol=0)
    assert not torch.equal(indices, orthogonal_matching_pursuit(targets, atoms, 9)[0])


@pytest.mark.parametrize("normalize", [True, False])
def test_wild_norms_stay_bounded_in_float32(normalize: bool) -> None:
    lengths = 10.0 ** (torch.arange(200) % 31 - 15).float()  # squares leave float32's range
    atoms = unit(normal(200, 48, dtype=torch.float32)) * lengths[:, None]
    targets = normal(10, 48, seed=1, dtype=torch.float32)
    indices, weights = orthogonal_matching_pursuit(targets, atoms, 32, normalize=normalize)
    parts = (weights * lengths[indices.clamp_min(0)]).double()  # weights of the unit atoms
    assert parts.isfinite().all()
    assert parts.abs().max() < 1e4
    fitted = torch.einsum("mk,mke->me", parts, unit(atoms.double())[indices.clamp_min(0)])
    assert ((targets - fitted).norm(dim=1) <= targets.norm(dim=1)).all()


def test_the_residual_stop_ends_a_row() -> None:
    atoms, targets = normal(90, 30), normal(12, 30, seed=1)
    indices, weights = orthogonal_matching_pursuit(targets, atoms, 30, rtol=0.4)
    relative = (targets - dense(indices, weights, 90) @ atoms).norm(dim=1) / targets.norm(dim=1)
    assert (relative <= 0.4).all()
    for row, used in enumerate((indices >= 0).sum(dim=1).tolist()):
        fewer = dense(*orthogonal_matching_pursuit(targets[row : row + 1], atoms, used - 1), 90)
        assert (targets[row] - fewer @ atoms).norm() > 0.4 * targets[row].norm()


def test_inputs_are_unchanged_and_half_types_are_computed_in_float32() -> None:
    atoms, targets = normal(30, 12).bfloat16(), normal(5, 12, seed=1).bfloat16()
    before = atoms.clone(), targets.clone()
    indices, weights = orthogonal_matching_pursuit(targets, atoms, 4)
    assert torch.equal(atoms, before[0])
    assert torch.equal(targets, before[1])
    expected = orthogonal_matching_pursuit(targets.float(), atoms.float(), 4)
    assert weights.dtype == torch.float32
    assert torch.equal(indices, expected[0])
    assert torch.equal(weights, expected[1])
    untouched = normal(5, 12, seed=1)
    orthogonal_matching_pursuit(untouched, normal(30, 12), 4)
    assert torch.equal(untouched, normal(5, 12, seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.ones(3)}, r"\(3,\) and atoms of shape \(5, 4\)"),
        ({"targets": torch.ones(3, 9)}, r"\(3, 9\) and atoms of shape \(5, 4\)"),
        ({"atoms": torch.ones(5, 4, dtype=torch.int64)}, r"atoms have dtype torch\.int64"),
        ({"targets": torch.full((3, 4), torch.nan)}, "targets hold NaN"),
        ({"atoms": torch.full((5, 4), torch.inf)}, "atoms hold NaN or infinite"),
        ({"k": 0}, "k=0"),
        ({"rtol": -0.1}, r"rtol=-0\.1"),
        ({"rtol": 1.0}, r"rtol=1\.0"),
        ({"ridge": -1.0}, r"ridge=-1\.0"),
        ({"ridge": torch.inf}, "ridge=inf"),
        ({"mode": "slow"}, "mode='slow' is unknown"),
        (
            {"mode": "fast", "look": "gram", "atoms": torch.ones(5, 4).double()},
            "look='gram' cannot",
        ),
        ({"memory": 1}, "memory=1 bytes are too few"),
        ({"atoms": torch.ones(5, 4, device="meta")}, "atoms on meta"),
    ],
)
def test_wrong_arguments_are_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"targets": torch.ones(3, 4), "atoms": torch.ones(5, 4), "k": 2}
    with pytest.raises(ValueError, match=message):
        orthogonal_matching_pursuit(**(arguments | change))  # type: ignore[arg-type]
