"""Orthogonal matching pursuit: each target as a combination of a few atoms, found greedily."""

from collections.abc import Callable

import torch
from torch import Tensor

# The memory that the scores (N a target) and the bases (k x E a target) of one block may take.
_BLOCK_BYTES = 256 << 20
# A matrix product rounds a row in the same way in every tall product, but not in one of a few rows
# (seen below 8 rows with MKL), so blocks are padded: a target's atoms must not depend on its block.
_ROWS = 16


def orthogonal_matching_pursuit(
    targets: Tensor,
    atoms: Tensor,
    k: int,
    *,
    normalize: bool = True,
    rtol: float = 1e-4,
    block: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Approximate each target by a weighted sum of at most ``k`` atoms.

    Each step takes the atom that correlates best with what is left of the target, never one twice,
    and then fits the target anew on all atoms taken so far (least squares). Scores that differ by
    rounding only are ties, and the lowest index wins. A row ends early when its residual is small,
    or when no atom can make it smaller.

    Everything is computed in the targets' dtype (half types: float32), on the targets' device.

    Args:
        targets: (M, E) vectors to approximate, floating point, finite.
        atoms: (N, E) vectors to combine, on the targets' device. They need not be of unit norm,
            distinct or independent; zero atoms are never taken.
        k: Atoms per target, at least 1.
        normalize: Select by the angle to the residual (the textbook's algorithm, which takes the
            atoms at unit norm). ``False`` selects by the raw inner product, so that long atoms win;
            the published figures of OMP transplantation used that.
        rtol: A residual of at most ``rtol`` times the target's norm ends the row; at least 0, below
            1. Values below the dtype's rounding are raised to it.
        block: Targets handled at once; by default as many as fit 256 MB. Larger blocks need more
            memory; the atoms found are the same (the weights to rounding).
        progress: Called after each block with the number of targets that it finished.

    Returns:
        ``indices`` (M, k) int64 into ``atoms`` in the order of selection, and ``weights`` (M, k),
        which refer to the atoms as given. Unused slots, all of them behind the used ones, have
        index -1 and weight 0.

    Raises:
        ValueError: If the shapes or devices disagree, an input is not floating point or not finite,
            or ``k``, ``rtol`` or ``block`` is out of range.

    Reference:
        Pati, Rezaiifar and Krishnaprasad, "Orthogonal matching pursuit" (Asilomar, 1993). For
        tokens: Goddard and Fernandes Neto (2025), https://arxiv.org/abs/2506.06607.
    """
    _check(targets, atoms, k, rtol, block)
    dtype = torch.float64 if targets.dtype == torch.float64 else torch.float32
    rtol = max(rtol, 8 * torch.finfo(dtype).eps)

    count = len(targets)
    indices = torch.full((count, k), -1, dtype=torch.int64, device=targets.device)
    weights = torch.zeros((count, k), dtype=dtype, device=targets.device)
    steps = min(k, *atoms.shape)  # more atoms than dimensions cannot be independent
    if not steps:
        return indices, weights
    atoms = atoms.detach().to(dtype)
    units, norms = _normalized(atoms)
    selectors = units if normalize else atoms
    if block is None:
        block = _BLOCK_BYTES // (dtype.itemsize * (len(atoms) + steps * atoms.shape[1] + 1))
        block = max(_ROWS, block // _ROWS * _ROWS)
    for start in range(0, count, block):
        rows = slice(start, min(start + block, count))
        part, lengths = _normalized(targets[rows].detach().to(dtype))
        picked, solved = _pursue(part, units, selectors, steps, rtol)
        # From unit target and unit atoms back to those given.
        indices[rows, :steps] = picked
        weights[rows, :steps] = solved * lengths[:, None] / norms[picked.clamp_min(0)]
        if progress is not None:
            progress(len(part))
    return indices, weights


def _pursue(
    targets: Tensor, units: Tensor, selectors: Tensor, steps: int, rtol: float
) -> tuple[Tensor, Tensor]:
    """Run all steps for one block of unit (or zero) targets (B, E) and unit atoms (N, E).

    Rows that are finished stay in the block with a zero residual: their picks are discarded.
    """
    count, width = targets.shape
    eps = torch.finfo(targets.dtype).eps
    size = -(-count // _ROWS) * _ROWS
    residual = torch.nn.functional.pad(targets, (0, 0, 0, size - count))
    length = torch.linalg.vector_norm(residual, dim=1)
    active = length > 0
    picked = torch.full((size, steps), -1, dtype=torch.int64, device=targets.device)
    # (B, k, E) rather than (B, E, k): its products are twice as fast on a CPU.
    basis = residual.new_zeros((size, steps, width))
    triangle = torch.eye(steps, dtype=targets.dtype, device=targets.device).repeat(size, 1, 1)
    along = residual.new_zeros((size, steps))
    scores = residual.new_empty((size, len(units)))
    for step in range(steps):
        if not active.any():
            break
        torch.mm(residual, selectors.T, out=scores).abs_()
        scores.scatter_(1, picked[:, :step].clamp_min(0), -1.0)
        # Equal atoms get scores that differ by rounding: the first of the nearly best is taken.
        best = scores.amax(dim=1, keepdim=True) * (1 - 16 * eps)
        choice = torch.ge(scores, best).view(torch.uint8).argmax(dim=1)

        atom = units[choice]
        new, overlap = atom[:, None, :], residual.new_zeros((size, step, 1))
        earlier = basis[:, :step]
        for _ in range(2 if step else 0):  # "twice is enough" (Kahan, Parlett) to be orthogonal
            shift = torch.bmm(earlier, new.mT)
            new = torch.baddbmm(new, shift.mT, earlier, alpha=-1)
            overlap += shift
        new = new[:, 0]
        gap = torch.linalg.vector_norm(new, dim=1)
        # The residual is orthogonal to the basis, so an atom's correlation with it is at most
        # `gap`, the part of the atom outside the span. If the best atom has next to none, all
        # others correlate as little: none can help, and the weights would be rounding noise over
        # `gap`. (By raw product: none that is not shorter than the best by a factor 1/sqrt(eps).)
        # The second condition: what is left is orthogonal to all atoms, as it is to zero atoms.
        match = (atom * residual).sum(dim=1).abs()
        active = active & (gap > eps**0.5) & (match > 8 * eps * length)

        new = torch.where(active[:, None], new / gap.clamp_min(eps)[:, None], 0)
        move = (new * residual).sum(dim=1)
        residual = residual - move[:, None] * new
        length = torch.linalg.vector_norm(residual, dim=1)
        picked[:, step] = torch.where(active, choice, -1)
        basis[:, step] = new
        along[:, step] = move
        # A finished row has 1 here and 0 in `along`: weight 0 without a special case.
        triangle[:, :step, step] = overlap[:, :, 0]
        triangle[:, step, step] = torch.where(active, gap, 1)
        active = active & (length > rtol)
    solved = torch.linalg.solve_triangular(triangle, along[:, :, None], upper=True)[:, :, 0]
    return picked[:count], solved[:count]


def _normalized(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows at unit norm (zero rows stay zero), and their norms (1 for zero rows)."""
    # Through the largest entry, because squares of large or small entries leave float32's range.
    top = rows.abs().amax(dim=1, keepdim=True)
    scaled = rows / torch.where(top > 0, top, 1)
    norms = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    norms = torch.where(top > 0, norms, 1)
    return scaled / norms, (norms * torch.where(top > 0, top, 1))[:, 0]


def _check(targets: Tensor, atoms: Tensor, k: int, rtol: float, block: int | None) -> None:
    """Check the arguments.

    Raises:
        ValueError: If one cannot be worked with.
    """
    if targets.ndim != 2 or atoms.ndim != 2 or targets.shape[1] != atoms.shape[1]:
        raise ValueError(
            f"targets of shape {tuple(targets.shape)} and atoms of shape {tuple(atoms.shape)} "
            "do not fit; give (M, E) and (N, E)"
        )
    if targets.device != atoms.device:
        raise ValueError(
            f"targets are on {targets.device} and atoms on {atoms.device}; move them to one device"
        )
    for name, tensor in (("targets", targets), ("atoms", atoms)):
        if not tensor.is_floating_point():
            raise ValueError(f"{name} have dtype {tensor.dtype}; give floating-point vectors")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} hold NaN or infinite values; leave those rows out")
    if k < 1:
        raise ValueError(f"k={k} is no number of atoms; give at least 1")
    if not 0 <= rtol < 1:
        raise ValueError(f"rtol={rtol} is out of range; give 0 <= rtol < 1")
    if block is not None and block < 1:
        raise ValueError(f"block={block} is no number of targets; give at least 1, or None")
