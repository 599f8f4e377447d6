"""The directions in which rows spread most: a table as coordinates times primitive rows."""

import torch
from torch import Tensor

_ROWS = 4096
# Directions with so little of the rows next to the first are rounding; on squares.
_RANK = 1e-12


def primitives(table: Tensor, ids: Tensor, rank: int) -> Tensor:
    """Factorise some rows of a table into coordinates (n, rank) and primitive rows (rank, D).

    They are the right singular vectors of the largest singular values, so that the coordinates of a
    row are its products with them, and no product of that rank comes nearer to the rows.

    Args:
        table: (S, D) floating point.
        ids: (n,) int64, the rows that count.
        rank: How many, at most; fewer where the rows span less.

    Returns:
        (rank, D) float64, orthonormal, on the table's device.
    """
    width = table.shape[1]
    gram = torch.zeros(width, width, dtype=torch.float64, device=table.device)
    for start in range(0, len(ids), _ROWS):
        rows = table.index_select(0, ids[start : start + _ROWS].to(table.device)).double()
        gram += rows.T @ rows
    values, vectors = torch.linalg.eigh(gram)
    told = int((values > _RANK * values[-1:]).sum())
    found: Tensor = vectors[:, width - min(rank, told) :].flip(1).T.contiguous()
    return found


def project(rows: Tensor, primitive: Tensor) -> Tensor:
    """Bring rows (M, D) to what their coordinates say: (M, D) float32."""
    found = torch.empty(rows.shape, device=rows.device)
    for start in range(0, len(rows), _ROWS):
        some = slice(start, start + _ROWS)
        found[some] = rows[some].to(primitive.dtype) @ primitive.T @ primitive
    return found
