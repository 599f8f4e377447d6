"""The nearest atoms of each target, and weights by which to interpolate between them."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from tokswap.solvers.arguments import check_count, check_pair, check_vectors
from tokswap.solvers.looks import ROWS, largest
from tokswap.solvers.units import unit

Metric = Literal["cosine", "euclidean"]
Scheme = Literal["inverse_distance", "softmax", "barycentric", "least_squares"]

# The memory that the scores (N a target) and the gathered atoms of one block may take.
_BLOCK_BYTES = 256 << 20
# Candidates beyond k that are looked at again in float64.
_SPARE = 16
_CROWDED = 16  # targets whose atoms are put in order one and all at once
# Directions in which the atoms spread this little, next to the most, are taken for rounding:
# weights along them would be noise divided by it. On squares, so it is 3e-4 of a length.
_RANK = 2.0**-23


def nearest(
    targets: Tensor,
    atoms: Tensor,
    k: int,
    *,
    metric: Metric = "cosine",
    block: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Find the ``k`` nearest atoms of each target, all atoms looked at.

    Candidates are found by a matrix product in float32 and told apart in float64. Of atoms that
    are equally far the lowest indices win; where more of them are as near as float32 can tell than
    there are candidates, that goes for all of these.

    Args:
        targets: (M, E) floating point, finite.
        atoms: (N, E) floating point, finite, on the targets' device.
        k: Atoms per target, at least 1.
        metric: ``cosine``: 1 - cos of the angle, 1 for zero vectors; or ``euclidean``.
        block: Targets handled at once; by default as many as fit 256 MB. It changes nothing.
        progress: Called after each block with the number of targets that it finished.

    Returns:
        ``indices`` (M, k) int64 into ``atoms``, the nearest first, and ``distances`` (M, k)
        float64. Where there are fewer than k atoms the slots behind them hold -1 and infinity.

    Raises:
        ValueError: If the shapes or devices disagree, an input is not floating point or not finite,
            or ``k`` or ``block`` is out of range.
    """
    _check(targets, atoms, k, block)
    count, steps = len(targets), min(k, len(atoms))
    indices = torch.full((count, k), -1, dtype=torch.int64, device=targets.device)
    distances = torch.full((count, k), math.inf, dtype=torch.float64, device=targets.device)
    if not steps:
        return indices, distances
    given = atoms.detach()
    # Distances do not change when the middle is taken off, and products round less.
    middle = given.float().mean(dim=0) if metric == "euclidean" else 0.0
    atoms = given.float() - middle if metric == "euclidean" else unit(given.float())
    # Atoms of unit norm, or none, need no offset: the product alone has the cosine's order.
    offsets = atoms.square().sum(dim=1) / 2 if metric == "euclidean" else None
    candidates = min(steps + _SPARE, len(atoms))
    if block is None:
        bytes_each = 5 * len(atoms) + 3 * 8 * candidates * atoms.shape[1]
        block = max(ROWS, _BLOCK_BYTES // bytes_each // ROWS * ROWS)
    # One buffer for all blocks: fresh memory costs a third of the product that is written there.
    space = atoms.new_empty(-(-min(block, count) // ROWS) * ROWS, len(atoms))
    for start in range(0, count, block):
        part = targets[start : start + block].detach()
        search = unit(part.float()) if metric == "cosine" else part.float() - middle
        found = _candidates(search, atoms, offsets, steps, candidates, space)
        far = _distances(part, given, found, metric)
        # By index, then by distance with a stable sort: ties go to the lowest index. Multiples of
        # one atom differ by rounding once they are at unit norm.
        found, order = found.sort(dim=1)
        far = far.gather(1, order)
        key = (far * 1e12).round() if metric == "cosine" else far
        order = key.sort(dim=1, stable=True).indices[:, :steps]
        indices[start : start + block, :steps] = found.gather(1, order)
        distances[start : start + block, :steps] = far.gather(1, order)
        if progress is not None:
            progress(len(part))
    return indices, distances


def weigh(distances: Tensor, scheme: Scheme, *, temperature: float = 0.1) -> Tensor:
    """Weigh neighbours by their distances alone; the weights of a row add up to 1.

    Args:
        distances: (M, k) at least 0, ascending; infinity for unused slots.
        scheme: ``inverse_distance``: 1/d, all of it to the neighbours at distance 0 where there are
            any; ``softmax``: exp(-d / temperature).
        temperature: Of ``softmax``, above 0.

    Returns:
        (M, k) float64.

    Raises:
        ValueError: If the scheme goes by more than the distances.
    """
    first = distances[:, :1]
    if scheme == "inverse_distance":
        raw = torch.where(distances == first, 1.0, first / distances)
    elif scheme == "softmax":
        raw = torch.exp((first - distances) / temperature)
    else:
        raise ValueError(f"{scheme} weights need the rows themselves; use fit")
    raw = torch.where(distances.isfinite(), raw, 0.0)
    return raw / raw.sum(dim=1, keepdim=True).clamp_min(1e-300)


def fit(
    targets: Tensor,
    atoms: Tensor,
    indices: Tensor,
    scheme: Scheme,
    *,
    penalty: float = 0.0,
    block: int | None = None,
) -> Tensor:
    """Weigh neighbours so that their sum comes near the target.

    The smallest weights of those that come nearest (``least_squares``), or, where the weights shall
    add up to 1 (``barycentric``), those nearest to a plain average: w = 1/n + v, with the smallest
    v that adds up to 0. Equal atoms share a weight.

    Args:
        targets: (M, E) floating point.
        atoms: (N, E) floating point, on the targets' device.
        indices: (M, k) the neighbours, with -1 for unused slots behind the used ones.
        scheme: ``barycentric`` or ``least_squares``.
        penalty: Ridge on the weights (on v), in units of the mean square spread of the atoms along
            the directions that are fitted; at least 0.
        block: Targets handled at once; by default as many as fit 256 MB.

    Returns:
        (M, k) float64.

    Raises:
        ValueError: If the scheme goes by the distances.

    Reference:
        Roweis and Saul, "Nonlinear dimensionality reduction by locally linear embedding" (Science
        290, 2000), for weights that add up to 1.
    """
    if scheme not in {"barycentric", "least_squares"}:
        raise ValueError(f"{scheme} weights go by distances; use weigh")
    count, k = indices.shape
    weights = torch.zeros(count, k, dtype=torch.float64, device=targets.device)
    if not k or not len(atoms):
        return weights
    if block is None:
        block = max(1, _BLOCK_BYTES // (4 * 8 * (k + 1) * (atoms.shape[1] + k)))
    for start in range(0, count, block):
        some = indices[start : start + block]
        used = (some >= 0).double()
        rows = atoms[some.clamp_min(0)].double() * used[:, :, None]
        target = targets[start : start + block].double()
        basis = _zero_sums(used) if scheme == "barycentric" else torch.diag_embed(used)
        begin = torch.zeros_like(used)
        if scheme == "barycentric":
            begin = used / used.sum(dim=1, keepdim=True).clamp_min(1)
            target = target - torch.bmm(begin[:, None], rows)[:, 0]
        spread = torch.bmm(basis.mT, rows)
        found = _smallest(torch.bmm(spread, spread.mT), (spread @ target[:, :, None]), penalty)
        weights[start : start + block] = begin + torch.bmm(basis, found)[:, :, 0]
    return weights


def _candidates(
    targets: Tensor,
    atoms: Tensor,
    offsets: Tensor | None,
    steps: int,
    count: int,
    space: Tensor,
) -> Tensor:
    """Return (B, count) atoms that hold the ``steps`` nearest; as few can tell, the first of them.

    The nearest have the largest x·a - |a|²/2, in either metric.
    """
    padding = -len(targets) % ROWS
    scores = space[: len(targets) + padding]
    torch.mm(torch.nn.functional.pad(targets, (0, 0, 0, padding)), atoms.T, out=scores)
    scores = scores[: len(targets)]
    size = targets.norm(dim=1, keepdim=True) * atoms.norm(dim=1).max()
    if offsets is not None:
        scores.sub_(offsets)
        size = size + offsets.max()
    values, found = largest(scores, count)
    values, order = values.sort(dim=1, descending=True)
    found = found.gather(1, order)
    # The rounding of a product, with room: what lies within it of the last of the nearest is a tie.
    slack = 16 * torch.finfo(torch.float32).eps * size
    edges = values[:, steps - 1 : steps]
    crowded = ((values[:, -1:] >= edges - slack)[:, 0] & (count < len(atoms))).nonzero()[:, 0]
    place = torch.arange(len(atoms), device=atoms.device)
    for some in crowded.split(_CROWDED):
        # Surely among the nearest, then as near, then the rest; the lowest index first in each.
        score, edge, room = scores[some], edges[some], slack[some]
        level = (score > edge + room).long() + (score >= edge - room).long()
        key = level * len(atoms) + (len(atoms) - 1 - place)
        found[some] = key.topk(count, dim=1).indices
    return found


def _distances(targets: Tensor, atoms: Tensor, found: Tensor, metric: Metric) -> Tensor:
    """Return the distances of some atoms (B, c) in float64."""
    rows, targets = atoms[found].double(), targets.double()[:, None]
    if metric == "cosine":
        rows, targets = unit(rows), unit(targets)
    nothing = ~(rows.any(dim=2) & targets.any(dim=2))
    square = rows.sub_(targets).square_().sum(dim=2)
    if metric == "euclidean":
        return square.sqrt()
    # |u - v|² / 2 = 1 - cos of unit vectors, without the cancellation; a zero vector is at 1.
    return torch.where(nothing, 1.0, square / 2)


def _smallest(gram: Tensor, against: Tensor, penalty: float) -> Tensor:
    """Solve gram (B, k, k) times x = against (B, k, 1) for the smallest x, with a ridge."""
    values, vectors = torch.linalg.eigh(gram)
    sound = values > _RANK * values[:, -1:].clamp_min(0)
    mean = values.clamp_min(0).sum(dim=1) / sound.sum(dim=1).clamp_min(1)
    inverse = torch.where(sound, 1 / (values + penalty * mean[:, None]).clamp_min(1e-300), 0.0)
    found: Tensor = vectors @ (inverse[:, :, None] * (vectors.mT @ against))
    return found


def _zero_sums(used: Tensor) -> Tensor:
    """Return (B, k, k) projections onto the weights of used slots that add up to 0."""
    share = used / used.sum(dim=1, keepdim=True).clamp_min(1)
    return torch.diag_embed(used) - used[:, :, None] * share[:, None]


def _check(targets: Tensor, atoms: Tensor, k: int, block: int | None) -> None:
    """Check the arguments.

    Raises:
        ValueError: If one cannot be worked with.
    """
    check_pair(targets, atoms)
    check_vectors("atoms", atoms)
    check_count(k)
    if block is not None and block < 1:
        raise ValueError(f"block={block} is no number of targets; give at least 1, or None")
