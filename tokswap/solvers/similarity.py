"""Averages of rows by how similar they are: weights that are cosines, the negative ones cut."""

import torch
from torch import Tensor

from tokswap.solvers.arguments import check_pair, check_vectors
from tokswap.solvers.looks import ROWS
from tokswap.solvers.units import unit

# The memory that the cosines of one block may take.
_BLOCK_BYTES = 256 << 20


def share(cosines: Tensor) -> Tensor:
    """Weigh by cosines: their positive parts, next to the sum of them.

    Args:
        cosines: (M, k) floating point; the negative infinity for unused slots.

    Returns:
        (M, k) in their type; each row adds up to 1. Where none is above 0, the largest has all of
        the weight, the first of them where several are.
    """
    positive = cosines.clamp_min(0)
    total = positive.sum(dim=1, keepdim=True)
    largest = torch.nn.functional.one_hot(cosines.argmax(dim=1), cosines.shape[1])
    return torch.where(total > 0, positive / total.clamp_min(1e-30), largest.to(cosines.dtype))


def average(targets: Tensor, atoms: Tensor, rows: Tensor, *, block: int | None = None) -> Tensor:
    """Average all rows by the cosines of their atoms to each target, as :func:`share` weighs them.

    Args:
        targets: (M, E) floating point, finite.
        atoms: (N, E) floating point, finite, on the targets' device; at least one.
        rows: (N, D) floating point, on the same device.
        block: Targets handled at once; by default as many as fit 256 MB.

    Returns:
        (M, D) float32.

    Raises:
        ValueError: If the shapes or devices disagree, or there is no atom.
    """
    check_pair(targets, atoms)
    check_vectors("atoms", atoms)
    if not len(atoms) or len(rows) != len(atoms):
        raise ValueError(f"{len(rows)} rows for {len(atoms)} atoms; give one for each of some")
    units, rows = unit(atoms.detach().float()), rows.detach().float()
    found = rows.new_empty(len(targets), rows.shape[1])
    if block is None:
        block = max(ROWS, _BLOCK_BYTES // (12 * len(atoms)) // ROWS * ROWS)
    for start in range(0, len(targets), block):
        part = unit(targets[start : start + block].detach().float())
        # Products of few rows round otherwise than those of many.
        padded = torch.nn.functional.pad(part, (0, 0, 0, -len(part) % ROWS))
        found[start : start + block] = (share(padded @ units.T) @ rows)[: len(part)]
    return found
