"""A linear map from one space to another, fitted to rows that correspond."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

# Rows that are held in float64 at once.
_ROWS = 4096
# Penalties that are tried where none is given, in units of the mean eigenvalue.
_PENALTIES = [10 ** (step / 8) for step in range(-64, 33)]


@dataclass(frozen=True, eq=False)
class Moments:
    """What a fit needs to know of N rows x_i of width E and the rows y_i of width D beside them.

    Attributes:
        count: N.
        center: Whether the means are taken off.
        source_mean: (E,) the mean of the x_i, or zeros where it is not taken off.
        target_mean: (D,) the mean of the y_i, or zeros.
        source: (E, E) sum of the products of x_i with itself, off the mean.
        cross: (E, D) sum of the products of x_i with y_i, off their means.
        target_square: The sum of the |y_i|², off the mean.
    """

    count: int
    center: bool
    source_mean: Tensor
    target_mean: Tensor
    source: Tensor
    cross: Tensor
    target_square: float


@dataclass(frozen=True, eq=False)
class LinearMap:
    """y = target_mean + (x - source_mean) @ matrix, in float64.

    Attributes:
        matrix: (E, D).
        source_mean: (E,).
        target_mean: (D,).
    """

    matrix: Tensor
    source_mean: Tensor
    target_mean: Tensor

    def apply(self, rows: Tensor) -> Tensor:
        """Map rows (M, E), in blocks: (M, D) float32 on the rows' device."""
        made = rows.new_empty(len(rows), self.matrix.shape[1], dtype=torch.float32)
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS].to(self.matrix.device, torch.float64)
            found = torch.addmm(self.target_mean, block - self.source_mean, self.matrix)
            made[start : start + _ROWS] = found.to(made.device)
        return made


def moments(
    source: Tensor,
    target: Tensor,
    source_ids: Tensor,
    target_ids: Tensor,
    *,
    center: bool = True,
    device: str | torch.device = "cpu",
) -> Moments:
    """Sum up the rows that correspond, block by block, in float64.

    Args:
        source: (R, E) floating point, any type.
        target: (S, D) floating point.
        source_ids: (N,) int64, at least one.
        target_ids: (N,) int64: row ``target_ids[i]`` of the target is beside row ``source_ids[i]``
            of the source.
        center: Take the means off, so that an affine map is fitted.
        device: Where to compute; it must know float64.

    Raises:
        ValueError: If there are no rows, their numbers differ, or they are not finite.
    """
    count = len(source_ids)
    if not count or count != len(target_ids):
        raise ValueError(
            f"{count} source rows and {len(target_ids)} target rows do not correspond; give one "
            "for each, at least one"
        )

    def blocks() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, count, _ROWS):
            some = slice(start, start + _ROWS)
            yield (
                source.detach().index_select(0, source_ids[some]).to(device, torch.float64),
                target.detach().index_select(0, target_ids[some]).to(device, torch.float64),
            )

    widths = source.shape[1], target.shape[1]
    means = [torch.zeros(width, dtype=torch.float64, device=device) for width in widths]
    if center:
        for x, y in blocks():
            means[0] += x.sum(dim=0) / count
            means[1] += y.sum(dim=0) / count
    # A second pass over centred rows: the products less those of the means would cancel.
    gram = torch.zeros(widths[0], widths[0], dtype=torch.float64, device=device)
    cross = torch.zeros(widths, dtype=torch.float64, device=device)
    square = 0.0
    for x, y in blocks():
        x -= means[0]  # noqa: PLW2901 - the block is this loop's own
        y -= means[1]  # noqa: PLW2901
        gram.addmm_(x.T, x)
        cross.addmm_(x.T, y)
        square += float(y.square().sum())
    if not (gram.isfinite().all() and cross.isfinite().all() and math.isfinite(square)):
        raise ValueError("rows hold NaN or infinite values; leave those rows out")
    return Moments(count, center, means[0], means[1], gram, cross, square)


def procrustes(known: Moments, *, scale: bool = True) -> LinearMap:
    """Fit the rotation (or reflection) that turns the source's rows towards the target's.

    With C = Σ x_i y_iᵀ = U S Vᵀ it is R = U Vᵀ, which has the largest Σ y_i · x_i R of all
    matrices with orthonormal rows or columns; where E ≤ D lengths are kept, and it has the least
    Σ |x_i R - y_i|² too. Directions of which the rows say nothing (S = 0) are mapped to zero.

    Args:
        known: Of the rows that correspond.
        scale: Multiply by the factor of least squares; without it, by 1.

    Reference:
        Schönemann, "A generalized solution of the orthogonal Procrustes problem" (Psychometrika 31,
        1966).
    """
    u, values, v = torch.linalg.svd(known.cross, full_matrices=False)
    told = values > max(known.cross.shape) * torch.finfo(torch.float64).eps * values[:1]
    matrix = (u * told) @ v
    if scale:
        # <X R, Y> / |X R|²
        square = (matrix * (known.source @ matrix)).sum()
        matrix *= values[told].sum() / square if square > 0 else 1.0
    return LinearMap(matrix, known.source_mean, known.target_mean)


def ridge(known: Moments, *, penalty: float | None = None) -> tuple[LinearMap, float]:
    """Fit the matrix A with the least Σ |x_i A - y_i|² + λ |A|².

    λ is ``penalty`` times the mean eigenvalue of Σ x_i x_iᵀ, so that it does not depend on the
    number of rows or their lengths. Directions of which the rows say nothing are mapped to zero.

    Args:
        known: Of the rows that correspond.
        penalty: At least 0; None takes the one with the least error by generalised
            cross-validation, N |X A - Y|² / (N - df)² with df = Σ s_i / (s_i + λ) over the
            eigenvalues s_i, and one more for the mean.

    Returns:
        The map, and the penalty.

    Reference:
        Golub, Heath and Wahba, "Generalized cross-validation as a method for choosing a good ridge
        parameter" (Technometrics 21, 1979).
    """
    values, vectors = torch.linalg.eigh(known.source)
    values = values.clamp_min(0)
    told = values > len(values) * torch.finfo(torch.float64).eps * values[-1:]
    turned = vectors.T @ known.cross
    unit = float(values.mean())
    if penalty is None:
        squares = turned.square().sum(dim=1)[told]
        penalty = min(_PENALTIES, key=lambda p: _gcv(known, values[told], squares, p * unit))
    inverse = torch.where(told, 1 / (values + penalty * unit), 0.0)
    matrix = vectors @ (inverse[:, None] * turned)
    return LinearMap(matrix, known.source_mean, known.target_mean), penalty


def _gcv(known: Moments, values: Tensor, squares: Tensor, weight: float) -> float:
    """Return the error by generalised cross-validation of one λ; infinity where all is fitted."""
    kept = values / (values + weight)
    free = known.count - float(kept.sum()) - int(known.center)
    if free <= 1e-6 * known.count:
        return math.inf
    # |X A - Y|² = |Y|² - Σ z_i² (s_i + 2 λ) / (s_i + λ)², with z = Vᵀ Xᵀ Y
    gone = float((squares * (values + 2 * weight) / (values + weight).square()).sum())
    return max(known.target_square - gone, 0.0) / free**2
