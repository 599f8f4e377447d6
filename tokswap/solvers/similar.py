"""Weights that a temperature makes of similarities: of the parts of a whole, and of neighbours."""

import math

import torch
from torch import Tensor

from tokswap.solvers.units import unit

_ROWS = 8192  # rows that are compared at once
_EPSILON = 1e-5  # that the published code adds to the temperature


def cosines(first: Tensor, one: Tensor, second: Tensor, other: Tensor) -> Tensor:
    """Return the cosines of pairs of vectors, 0 where one of both is zero.

    Args:
        first: (n, E) floating point.
        one: (P,) int64 rows of ``first``.
        second: (m, E) floating point.
        other: (P,) int64 rows of ``second``, one for each of ``one``.

    Returns:
        (P,) float64, on the CPU.
    """
    found = torch.zeros(len(one), dtype=torch.float64)
    for start in range(0, len(one), _ROWS):
        some = slice(start, start + _ROWS)
        pair = (first[one[some]].double(), second[other[some]].double())
        a, b = (unit(rows) for rows in pair)
        found[some] = (a * b).sum(dim=1).cpu()
    return found


def part_weights(
    similarities: Tensor, shares: Tensor, rows: Tensor, count: int, *, temperature: float
) -> Tensor:
    """Weigh the parts of each whole by how alike they are to it and by how much of it they are.

        a = softmax(similarities),    w = softmax((a + shares) / 2 / temperature)

    each over the parts of one whole. The inner softmax has no temperature, so that of similarities
    between -1 and 1 little is left, and lengths decide.

    Args:
        similarities: (P,) float64 of each part to its whole.
        shares: (P,) float64, the length of each part in lengths of its whole.
        rows: (P,) int64, the whole that each is part of.
        count: How many wholes there are; one may have no parts.
        temperature: At least 0: the longest part alone; the higher, the more alike the weights.

    Returns:
        (P,) float64; those of a whole add up to 1.
    """
    alike = _softmax(similarities, rows, count)
    return _softmax((alike + shares) / 2 / (temperature + _EPSILON), rows, count)


def neighbour_weights(
    similarities: Tensor, *, temperature: float, threshold: float | None
) -> Tensor:
    """Weigh neighbours by softmax(similarities / temperature), those below a threshold left out.

    To leave them out after the softmax and to make the sum 1 again, as it is published, gives the
    same weights.

    Args:
        similarities: (M, k) float64, -infinity for unused slots.
        temperature: At least 0: the nearest alone; the higher, the more alike the weights.
        threshold: The least similarity; None for any.

    Returns:
        (M, k) float64; those of a row add up to 1, or are zeros where none remains.
    """
    kept = similarities.isfinite()
    if threshold is not None:
        kept &= similarities >= threshold
    scaled = torch.where(kept, similarities / (temperature + _EPSILON), -math.inf)
    top = scaled.amax(dim=1, keepdim=True)
    raw = torch.exp(scaled - torch.where(top.isfinite(), top, 0.0))
    return raw / raw.sum(dim=1, keepdim=True).clamp_min(1e-300)


def first_others(
    found: Tensor, similarities: Tensor, unwanted: Tensor, k: int
) -> tuple[Tensor, Tensor]:
    """Keep the first k neighbours that are not unwanted.

    Args:
        found: (M, n) int64 neighbours, the nearest first, with -1 for unused slots.
        similarities: (M, n) float64, -infinity for unused slots.
        unwanted: (M, p) int64 which are unwanted in each row.
        k: How many to keep, at most n.

    Returns:
        (M, k) neighbours and their similarities, with -1 and -infinity for unused slots.
    """
    out = torch.zeros_like(found, dtype=torch.bool)
    for column in unwanted.T:
        out |= found == column[:, None]
    order = out.long().sort(dim=1, stable=True).indices[:, :k]
    gone = out.gather(1, order)
    return (
        found.gather(1, order).masked_fill(gone, -1),
        similarities.gather(1, order).masked_fill(gone, -math.inf),
    )


def _softmax(values: Tensor, rows: Tensor, count: int) -> Tensor:
    """The softmax over the values of each row, (P,)."""
    top = values.new_full((count,), -math.inf).scatter_reduce(0, rows, values, "amax")
    raw = torch.exp(values - top[rows])
    return raw / values.new_zeros(count).index_add(0, rows, raw)[rows]
