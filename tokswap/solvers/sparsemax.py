"""Sparsemax: the nearest point of the simplex, most of whose weights are zero."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tokswap.solvers.arguments import check_pair, check_vectors
from tokswap.solvers.looks import ROWS
from tokswap.solvers.units import unit

_BLOCK_BYTES = 256 << 20
FIRST = 128
"""Scores that are looked at first; rows whose support may be larger are looked at again."""


def sparsemax(scores: Tensor, *, first: int = FIRST) -> tuple[Tensor, Tensor]:
    """Turn scores into weights: the point w of the simplex with the least |w - scores|².

    With the scores in descending order z_1 ≥ z_2 ≥ …, the support are the first s of them, s being
    the last with 1 + s z_s > z_1 + … + z_s, and w_j = z_j - (z_1 + … + z_s - 1) / s there. A few of
    the largest scores tell whether the support lies among them, so no row is sorted whole but one
    whose scores are all alike.

    Args:
        scores: (B, N) floating point, finite.
        first: Scores of a row that are looked at first. It changes nothing.

    Returns:
        ``indices`` (B, s) int64, in descending order of the scores, with -1 for unused slots, s
        being the largest support; and ``weights`` (B, s) float64, zeros in unused slots. A row's
        weights add up to 1; with no scores at all both are (B, 0).

    Raises:
        ValueError: If scores are not finite.

    Reference:
        Martins and Astudillo, "From softmax to sparsemax" (ICML 2016).
    """
    if not bool(scores.isfinite().all()):
        raise ValueError("scores hold NaN or infinite values; leave those rows out")
    count, columns = scores.shape
    size = min(max(first, 1), columns)
    indices = torch.full((count, size), -1, dtype=torch.int64, device=scores.device)
    weights = torch.zeros(count, size, dtype=torch.float64, device=scores.device)
    open_rows = torch.arange(count if columns else 0, device=scores.device)
    while len(open_rows):
        some = scores if len(open_rows) == count else scores[open_rows]
        values, found = some.topk(size, dim=1)
        # Off the largest: the sums of scores that are large and alike would cancel.
        values = values.double() - values[:, :1].double()
        places = torch.arange(1, size + 1, device=scores.device)
        sums = values.cumsum(dim=1)
        inside = 1 + places * values > sums
        support = inside.sum(dim=1)
        # The support is a beginning of the order; where it ends before the last, it is whole.
        done = (support < size) | (size == columns)
        tau = (sums.gather(1, support[:, None] - 1) - 1) / support[:, None]
        indices[open_rows[done]] = torch.where(inside, found, -1)[done]
        weights[open_rows[done]] = torch.where(inside, values - tau, 0.0)[done]
        open_rows = open_rows[~done]
        if len(open_rows):
            more = min(4 * size, columns) - size
            indices = torch.nn.functional.pad(indices, (0, more), value=-1)
            weights = torch.nn.functional.pad(weights, (0, more))
            size += more
    used = int((indices >= 0).sum(dim=1).max()) if count else 0
    return indices[:, :used], weights[:, :used]


def sparsemax_of_cosines(
    targets: Tensor, atoms: Tensor, *, temperature: float = 1.0, block: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Weigh atoms by the sparsemax of their cosines with each target, a block of targets at a time.

    Args:
        targets: (M, E) floating point, finite.
        atoms: (N, E) floating point, finite, on the targets' device. N is at least 1.
        temperature: Divides the cosines, above 0.
        block: Targets handled at once; by default as many as fit 256 MB. It changes nothing.

    Yields:
        Indices and weights of the block's targets, see :func:`sparsemax`; once at least.

    Raises:
        ValueError: If targets and atoms do not fit, or are not finite.
    """
    check_pair(targets, atoms)
    check_vectors("atoms", atoms)
    atoms = unit(atoms.float())
    if block is None:
        # The scores, and what is copied of them where a support is large.
        block = max(ROWS, _BLOCK_BYTES // (8 * max(len(atoms), 1)) // ROWS * ROWS)
    for start in range(0, max(len(targets), 1), block):
        some = unit(targets[start : start + block].float())
        padded = torch.nn.functional.pad(some, (0, 0, 0, -len(some) % ROWS))
        yield sparsemax((padded @ atoms.T)[: len(some)] / temperature)
