"""Relative representations: a row known by its angles to landmarks, and found again by them."""

import torch
from torch import Tensor

from tokswap.solvers.units import unit

# Rows that are held in float64 at once.
_ROWS = 4096
# Directions in which the landmarks spread this little, next to the most, are taken for rounding.
_RANK = 1e-10


def farthest(rows: Tensor, count: int, first: int) -> Tensor:
    """Choose rows that are far from each other by angle, greedily.

    Each is the one whose largest cosine to those chosen before is the least; of equal ones the
    lowest.

    Args:
        rows: (N, E) floating point.
        count: How many, at most N.
        first: The first of them.

    Returns:
        (count,) int64, ascending.
    """
    units = unit(rows.detach().float())
    chosen = torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    nearest = torch.full((len(rows),), -2.0, device=rows.device)
    latest = first
    for _ in range(count):
        chosen[latest] = True
        torch.maximum(nearest, units @ units[latest], out=nearest)
        latest = int(nearest.masked_fill(chosen, torch.inf).argmin())
    return chosen.nonzero()[:, 0]


class Landmarks:
    """L landmarks in a source and a target space.

    A row y of the source is known by its cosines r_l to the landmarks a_l. The row of the target
    with the same cosines to the landmarks b_l there, by least squares, has the direction

        d = Σ w_l b_l / |b_l|,      w = (K + λ)⁻¹ r,      K_lm = cos(b_l, b_m)

    (with B the landmarks at unit norm, d = argmin |B d - r|² + λ |d|², written by its weights). If
    the target is the source turned, mirrored or scaled, the cosines are the same in both, and d is
    the direction itself where the landmarks span the space and λ = 0.

    Args:
        source: (L, E) floating point.
        target: (L, D) floating point, on the source's device.
        penalty: λ, at least 0; K has ones on its diagonal, so it is in units of its mean
            eigenvalue.

    Reference:
        Moschella et al., "Relative representations enable zero-shot latent space communication"
        (2022), https://arxiv.org/abs/2209.15430, for the representation.
    """

    def __init__(self, source: Tensor, target: Tensor, *, penalty: float = 0.0) -> None:
        self._source = unit(source.detach().double())
        units = unit(target.detach().double())
        self._lengths = torch.linalg.vector_norm(target.detach().double(), dim=1)
        self._gram = units @ units.T
        values, vectors = torch.linalg.eigh(self._gram)
        told = values > _RANK * values[-1:]
        inverse = torch.where(told, 1 / (values + penalty), 0.0)
        self._inverse = (vectors * inverse) @ vectors.T

    def weigh(self, rows: Tensor, lengths: Tensor) -> Tensor:
        """Find rows of the target by their cosines to the landmarks.

        Args:
            rows: (M, E) rows of the source.
            lengths: (M,) the lengths that the rows of the target shall have.

        Returns:
            (M, L) float32: the weights of the target's landmarks as given. A row at right angles to
            all landmarks has none.
        """
        made = rows.new_empty(len(rows), len(self._source), dtype=torch.float32)
        scale = torch.where(self._lengths > 0, 1 / self._lengths, 0.0)
        for start in range(0, len(rows), _ROWS):
            some = slice(start, start + _ROWS)
            weights = unit(rows[some].detach().double()) @ self._source.T @ self._inverse
            square = ((weights @ self._gram) * weights).sum(dim=1, keepdim=True).clamp_min(0)
            factor = torch.where(square > 0, lengths[some, None].double() / square.sqrt(), 0.0)
            made[some] = weights * factor * scale
        return made


def predict_lengths(source: Tensor, target: Tensor, rows: Tensor) -> Tensor:
    """Predict lengths in the target from lengths in the source: a line through their logarithms.

    Args:
        source: (N,) lengths in the source.
        target: (N,) lengths of the same rows in the target.
        rows: (M,) lengths in the source, above 0.

    Returns:
        (M,) float64. Without two lengths that differ, the geometric mean of those in the target.
    """
    sound = (source > 0) & (target > 0)
    if not sound.any():
        return torch.zeros(len(rows), dtype=torch.float64, device=rows.device)
    x, y = source[sound].double().log(), target[sound].double().log()
    middle, height = x.mean(), y.mean()
    spread = (x - middle).square().sum()
    # Lengths that differ by rounding alone say nothing of a slope.
    steep = spread > len(x) * 1e-12
    slope = ((x - middle) * (y - height)).sum() / spread if steep else 0.0
    return torch.exp(height + slope * (rows.double().log() - middle))
